"""Runs to log: what they set differs from epoch to epoch, as it does in trainings."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import attrs

from fengine import Events, Loop, Moment, State, When, outputs
from fengine.features import log_to
from fengine.metrics import mean
from fengine.writers import OpensWriter

EVERYWHERE: When = (
    Events.STARTED
    | Events.EPOCH_STARTED
    | Events.GET_BATCH_STARTED
    | Events.GET_BATCH_COMPLETED
    | Events.ITERATION_STARTED
    | Events.ITERATION_COMPLETED
    | Events.EPOCH_COMPLETED
    | Events.COMPLETED
)
DATA = (1, 2, 3)


def as_float(batch: int) -> float:
    return float(batch)


def late(state: State[int, float]) -> State[int, float]:
    """Set a metric for the first time in the second epoch, and two that are no finite numbers."""
    if state.epoch < 2:
        return state
    state = state.with_metric("an,odd\nname", 0.1 * state.epoch)
    return state.with_metric("nan", float("nan")).with_metric("inf", float("-inf"))


def loop_with(*logs: OpensWriter, at: When, **more: Any) -> Loop[int, float, None]:
    """Make a loop that logs what it sets."""
    loop = Loop(outputs(as_float)) | mean("loss", over=Events.ITERATION_COMPLETED) | mean("all")
    return loop.on(Events.EPOCH_COMPLETED, late) | log_to(*logs, at=at, **more)


def moments(loop: Loop[int, float, None]) -> Generator[Moment[int, float, None], None, None]:
    """Run three epochs."""
    return loop.iterate(DATA, max_epochs=3)


@attrs.frozen
class Cut:
    """Say after which event a run is written down, and how many more there are before it dies."""

    after: int
    beyond: int


def go_on_after(cut: Cut, loop: Loop[int, float, None], again: Loop[int, float, None]) -> None:
    """Run a loop to its death beyond a cut, and go on from the cut with another one."""
    run = moments(loop)
    written: object = None
    for number, moment in enumerate(run, start=1):
        if number == cut.after:
            written = loop.snapshot(moment.state).to_dict()
        if number == cut.after + cut.beyond:
            break
    run.close()
    again.resume(again.read(written), DATA)
