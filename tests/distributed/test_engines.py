"""Engines on several ranks: what any asks, all obey, and no handler takes an exception."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
import torch
from torch import nn

from fengine.distributed import PeerFailed, Ranks, RanksDiverged
from fengine.engine import Engine, Events
from fengine.testing import in_threads
from fengine.training import TensorBatches
from tests.distributed.models import mlp, rows, shared
from tests.distributed.processes import on_ranks, values


def engine_of(ranks: Ranks) -> Engine:
    return Engine(lambda engine, batch: batch, ranks=ranks)


# Handlers of GET_BATCH_STARTED are numbered by the iterations before, as documented.
@pytest.mark.parametrize(
    ("event", "more"), [(Events.GET_BATCH_STARTED, 1), (Events.ITERATION_COMPLETED, 0)]
)
@pytest.mark.parametrize(
    ("what", "expected"),
    [("terminate", (1, 3)), ("terminate_epoch", (3, 15)), ("interrupt", (1, 3))],
)
def test_what_one_rank_asks_all_obey(
    event: Any, more: int, what: str, expected: tuple[int, int]
) -> None:
    def run(ranks: Ranks) -> tuple[int, int]:
        engine = engine_of(ranks)

        @engine.on(event(once=3))
        def ask(engine: Engine) -> None:
            if ranks.rank == 1:
                getattr(engine, what)()

        state = engine.run(list(range(6)), max_epochs=3)
        return state.epoch, state.iteration

    epoch, iteration = expected
    assert in_threads(2, run) == [(epoch, iteration + more)] * 2


def test_an_interrupted_engine_goes_on_on_all_ranks() -> None:
    def run(ranks: Ranks) -> list[int]:
        engine = engine_of(ranks)

        @engine.on(Events.ITERATION_COMPLETED(every=4))
        def ask(engine: Engine) -> None:
            if ranks.rank == engine.state.epoch % 2:
                engine.interrupt()

        return [engine.run(list(range(5)), max_epochs=2).iteration for _ in range(3)]

    assert in_threads(2, run) == [[4, 8, 10]] * 2


def test_no_handler_takes_an_exception_on_one_rank() -> None:
    def run(ranks: Ranks) -> None:
        engine = engine_of(ranks)
        taken: list[BaseException] = []
        engine.add_event_handler(Events.EXCEPTION_RAISED, lambda engine, error: taken.append(error))

        @engine.on(Events.ITERATION_COMPLETED(once=3))
        def fail(engine: Engine) -> None:
            if ranks.rank == 1:
                raise ValueError("too late")

        try:
            engine.run(list(range(6)), max_epochs=3)
        finally:
            assert len(taken) == 1

    first, second = in_threads(2, run)
    assert isinstance(first, PeerFailed)
    assert first.what == "ValueError: too late at epoch 1, iteration 3"
    assert isinstance(second, ValueError)
    assert "one of 2 ranks cannot go on by itself" in "".join(second.__notes__)


def test_engines_with_other_limits_are_refused() -> None:
    def run(ranks: Ranks) -> object:
        return engine_of(ranks).run([1, 2], max_epochs=3 - ranks.rank)

    for error in in_threads(2, run):
        assert isinstance(error, RanksDiverged)
        assert "max_epochs is 3 on rank 0, and 2 on rank 1" in str(error)


def test_metrics_of_engines_have_to_be_the_same() -> None:
    def run(ranks: Ranks) -> object:
        engine = engine_of(ranks)

        @engine.on(Events.EPOCH_COMPLETED)
        def report(engine: Engine) -> None:
            engine.state.metrics["score"] = float(ranks.rank)

        return engine.run([1, 2])

    for error in in_threads(2, run):
        assert isinstance(error, RanksDiverged)
        assert "score" in str(error)


def test_what_are_no_ranks_is_refused() -> None:
    with pytest.raises(TypeError, match="are no ranks"):
        Engine(lambda engine, batch: None, ranks=2)  # type: ignore[arg-type]


def training(ranks: Ranks, fails: bool) -> tuple[int, list[float]]:
    model = shared(mlp(), ranks)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    def step(engine: Engine, batch: Any) -> float:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(batch[0]), batch[1])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss.item()

    engine = Engine(step, ranks=ranks)

    @engine.on(Events.ITERATION_COMPLETED(once=4))
    def stop(engine: Engine) -> None:
        if ranks.rank == 1 and fails:
            os.kill(os.getpid(), signal.SIGKILL)
        if ranks.rank == 1:
            engine.terminate()

    state = engine.run(TensorBatches(*rows(), batch_size=8, seed=0, ranks=ranks), max_epochs=2)
    return state.iteration, [one.sum().item() for one in model.parameters()]


def test_an_engine_trains_one_model_on_all_ranks() -> None:
    one, other = values(on_ranks(2, training, False))
    assert one == other
    assert one[0] == 4
    first, second = on_ranks(2, training, True, grace=0.5)
    assert (first.error, first.rank, second.code) == ("PeerFailed", 1, -signal.SIGKILL)
