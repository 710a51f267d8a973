"""Tracebacks: between the line that runs a training and the user's own code stand two of ours."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import fengine
from fengine import Events, Loop, State, outputs
from fengine.engine import Engine
from fengine.engine import Events as EngineEvents
from fengine.features import evaluation
from fengine.training import evaluation_step, training_step

PACKAGE = str(Path(fengine.__file__).parent)
PAIRS = [(torch.ones(2, 1), torch.ones(2, 1))]


def failing(*given: Any) -> Any:
    raise ZeroDivisionError


def same(batch: int) -> int:
    return batch


def of_handler() -> None:
    loop: Loop[int, int, None] = Loop(outputs(same))
    loop.on(Events.ITERATION_COMPLETED, failing).run([1])


def of_step() -> None:
    Loop(outputs(failing)).run([1])


def of_stage() -> None:
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    Loop(training_step(model, optimizer, failing)).run(PAIRS)


def of_handler_within_evaluation() -> None:
    model = nn.Linear(1, 1)
    step = training_step(model, torch.optim.SGD(model.parameters(), 0.1), nn.MSELoss())
    inner = Loop(evaluation_step(model)).on(Events.ITERATION_COMPLETED, failing)
    (Loop(step) | evaluation(inner, PAIRS)).run(PAIRS)


def of_resumed_run() -> None:
    loop: Loop[int, int, None] = Loop(outputs(same))
    half = loop.on(Events.ITERATION_COMPLETED, State.interrupt).run([1, 2])
    loop.on(Events.ITERATION_COMPLETED, failing).resume(half, [1, 2])


def of_moments() -> None:
    loop: Loop[int, int, None] = Loop(outputs(same))
    for _ in loop.on(Events.ITERATION_COMPLETED, failing).iterate([1]):
        pass


def of_engine() -> None:
    engine = Engine(lambda engine, batch: batch)
    engine.add_event_handler(EngineEvents.ITERATION_COMPLETED, failing)
    engine.run([1])


@pytest.mark.parametrize(
    "run",
    [
        of_handler,
        of_step,
        of_stage,
        of_handler_within_evaluation,
        of_resumed_run,
        of_moments,
        of_engine,
    ],
)
def test_at_most_two_frames_of_ours_stand_between_those_of_the_user(
    run: Callable[[], None],
) -> None:
    with pytest.raises(ZeroDivisionError) as raised:
        run()
    files = [frame.filename for frame in traceback.extract_tb(raised.value.__traceback__)]
    assert files[-1] == files[0] == __file__
    assert sum(file.startswith(PACKAGE) for file in files) <= 2


def test_an_exception_of_ours_keeps_its_frames() -> None:
    with pytest.raises(TypeError, match="returned") as raised:
        Loop(outputs(same)).on(Events.STARTED, lambda state: 1).run([1])  # type: ignore[arg-type, return-value]  # returns no state
    frames = traceback.extract_tb(raised.value.__traceback__)
    assert sum(frame.filename.startswith(PACKAGE) for frame in frames) > 2
