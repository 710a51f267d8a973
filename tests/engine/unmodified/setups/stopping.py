"""Handlers that end a run: early stopping, a number that is none, a time limit."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from ignite.engine import Engine, Events
from ignite.handlers import EarlyStopping, TerminateOnNan, TimeLimit

from tests.engine.unmodified.setups import setup
from tests.engine.unmodified.setups.common import clock, echo, plain, trace

SCORES = [0.1, 0.5, 0.6, 0.6, 0.61, 0.4, 0.65, 0.7, 0.7, 0.7, 0.2, 0.1, 0.0]


def stopped(attach_reset: bool = False, **options: Any) -> Any:
    """Run a training that is evaluated in each epoch, twice; tell where it was stopped."""
    trainer, evaluator = Engine(echo), Engine(echo)
    noted = trace(trainer)
    handler = EarlyStopping(
        score_function=lambda engine: engine.state.metrics["score"], trainer=trainer, **options
    )

    @evaluator.on(Events.COMPLETED)
    def score(engine: Engine) -> None:
        engine.state.metrics["score"] = SCORES[trainer.state.epoch - 1]

    if attach_reset:
        handler.attach(evaluator, reset_engine=trainer)
    else:
        evaluator.add_event_handler(Events.COMPLETED, handler)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run([0]))
    results = []
    for _ in range(2):
        trainer.run([0, 1], max_epochs=len(SCORES))
        results.append([trainer.state.epoch, plain(handler.state_dict()), len(noted)])
    return [results, noted]


@setup("handlers/early_stopping.py")
def early_stopping() -> Any:
    return stopped(patience=2)


@setup("handlers/early_stopping.py")
def early_stopping_that_is_reset() -> Any:
    return stopped(patience=3, attach_reset=True)


@setup("handlers/early_stopping.py")
def early_stopping_by_a_threshold() -> Any:
    return [
        stopped(patience=2, threshold=0.05, cumulative=True),
        stopped(patience=4, threshold=0.1, threshold_mode="rel", mode="min"),
    ]


@setup("handlers/early_stopping.py")
def early_stopping_wants_an_engine() -> Any:
    try:
        EarlyStopping(patience=1, score_function=lambda engine: 0.0, trainer=None)  # type: ignore[arg-type]
    except TypeError as error:
        return type(error).__name__
    return None


@setup("handlers/terminate_on_nan.py")
def end_at_what_is_no_number() -> Any:
    reached = []
    for bad in (math.nan, torch.tensor([1.0, math.inf]), {"loss": (1.0, torch.tensor(math.nan))}):
        engine = Engine(echo)
        noted = trace(engine)
        engine.add_event_handler(Events.ITERATION_COMPLETED, TerminateOnNan())
        engine.run([1.0, 2.0, bad, 3.0], max_epochs=2)
        reached.append([engine.state.iteration, noted])
    return reached


@setup("handlers/terminate_on_nan.py")
def end_at_what_a_transform_finds() -> Any:
    engine = Engine(echo)
    handler = TerminateOnNan(output_transform=lambda output: output["loss"])
    engine.add_event_handler(Events.ITERATION_COMPLETED(every=2), handler)
    engine.run([{"loss": loss} for loss in (math.nan, 1.0, math.nan, -math.inf, 1.0)])
    return engine.state.iteration


@setup("handlers/time_limit.py")
def end_after_some_time() -> Any:
    engine = Engine(echo)
    noted = trace(engine)
    with mock.patch("ignite.handlers.time_limit.time", SimpleNamespace(time=clock())):
        engine.add_event_handler(Events.ITERATION_COMPLETED, TimeLimit(limit_sec=3))
        engine.run([0] * 3, max_epochs=3)
    return [engine.state.epoch, engine.state.iteration, noted]
