"""A time limit pauses each run after its own time, and a run goes on from there exactly."""

from __future__ import annotations

import copy
import io
import math
import pickle
import time
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from fengine import Events, Loop, State, Status, outputs
from fengine.features import time_limit
from fengine.metrics import mean
from fengine.testing import FakeClock
from fengine.training import TensorBatches, training_step
from tests.features.digests import digest
from tests.features.peers import ignite_trainer

TEN = [1.0] * 10


def numbered(batch: float) -> float:
    return batch


def taking(clock: FakeClock) -> Loop[float, float, None]:
    """Make a loop whose step takes as many seconds as its batch says."""

    def step(batch: float) -> float:
        clock.advance(batch)
        return batch

    return Loop(outputs(step))


@pytest.mark.parametrize(
    ("seconds", "reached"), [(0.5, 1), (1, 1), (1.5, 2), (5, 5), (9.5, 10), (10, 10), (11, 10)]
)
def test_a_run_is_paused_after_the_iteration_in_which_its_time_is_over(
    seconds: float, reached: int
) -> None:
    clock = FakeClock(now=1000.0)
    final = (taking(clock) | time_limit(seconds, clock=clock)).run(TEN)
    assert final.iteration == reached
    paused = seconds <= 10
    assert final.status is (Status.INTERRUPTED if paused else Status.COMPLETED)
    assert final.event == (Events.ITERATION_COMPLETED if paused else Events.COMPLETED)


def test_each_run_and_each_that_goes_on_has_all_of_the_time() -> None:
    clock = FakeClock()
    loop = taking(clock) | time_limit(4, clock=clock)
    state = loop.run(TEN, max_epochs=2)
    reached = [state.iteration]
    while state.status is Status.INTERRUPTED:
        clock.advance(100)  # nobody runs meanwhile
        state = loop.resume(state, TEN)
        reached.append(state.iteration)
    assert reached == [4, 8, 12, 16, 20, 20]
    assert state.status is Status.COMPLETED
    assert loop.run(TEN).iteration == 4


@pytest.mark.parametrize(
    "event",
    [
        Events.STARTED,
        Events.EPOCH_STARTED,
        Events.GET_BATCH_STARTED,
        Events.GET_BATCH_COMPLETED,
        Events.ITERATION_STARTED,
        Events.ITERATION_COMPLETED,
        Events.EPOCH_COMPLETED,
    ],
)
def test_a_run_that_goes_on_anywhere_counts_anew(event: Any) -> None:
    clock = FakeClock()
    plain = taking(FakeClock())
    states = [m.state for m in plain.iterate(TEN, max_epochs=2) if m.event == event]
    limited = taking(clock) | time_limit(4, clock=clock)
    # Right before the step it hears of nothing until that one is done.
    assert limited.resume(states[0], TEN).iteration == states[0].iteration + 4


def test_time_between_the_first_event_and_the_first_step_counts() -> None:
    clock = FakeClock()

    def slow(state: State[float, float]) -> State[float, float]:
        clock.advance(3)
        return state

    limit = time_limit(5, clock=clock)
    loop = (taking(clock) | limit).on(Events.GET_BATCH_COMPLETED(once=1), slow)
    assert loop.run(TEN).iteration == 2

    def wait(batch: None) -> None:
        clock.advance(1)

    assert (Loop(outputs(wait)) | limit).run(epoch_length=9).iteration == 5


def test_two_runs_at_once_have_their_own_time() -> None:
    clock = FakeClock()
    loop: Loop[float, float, None] = Loop(outputs(numbered)) | time_limit(5, clock=clock)
    first, second = loop.iterate(TEN), loop.iterate(TEN)

    def advance(moments: Any) -> State[float, float]:
        return next(m.state for m in moments if m.event is Events.ITERATION_COMPLETED)

    advance(first)
    clock.advance(3)
    advance(second)
    clock.advance(3)
    assert advance(first).requests.interrupt is not None
    assert advance(second).requests.interrupt is None
    clock.advance(2)
    assert advance(second).requests.interrupt is not None
    assert [list(run)[-1].state.status for run in (first, second)] == [Status.INTERRUPTED] * 2


def test_a_run_within_a_handler_has_its_own_time() -> None:
    clock = FakeClock()
    loop = taking(clock) | time_limit(4, clock=clock)
    inner: list[int] = []

    def run(state: State[float, float]) -> State[float, float]:
        inner.append(loop.run(TEN).iteration)
        return state

    assert loop.on(Events.ITERATION_COMPLETED(once=1), run).run(TEN).iteration == 2
    assert inner == [4]


def test_what_runs_have_left_is_forgotten() -> None:
    clock = FakeClock()
    limit = time_limit(4, clock=clock)
    loop = taking(clock) | limit
    for _ in range(5):
        next(loop.iterate(TEN))  # which is dropped
        loop.run(TEN)
    assert len(limit._begun) <= 2


def test_another_request_wins_over_it() -> None:
    clock = FakeClock()
    loop = taking(clock) | time_limit(4, clock=clock)
    final = loop.on(Events.ITERATION_COMPLETED(once=4), State.terminate).run(TEN)
    assert (final.status, final.iteration) == (Status.TERMINATED, 4)


def make() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))
    return model, torch.optim.Adam(model.parameters(), lr=0.05)


def data() -> TensorBatches[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(20, 4, generator=generator), torch.randn(20, 1, generator=generator)
    return TensorBatches(x, y, batch_size=4, seed=0)


@pytest.mark.parametrize("seconds", [1, 2, 3, 7])
def test_runs_that_go_on_in_new_processes_are_together_one_without_a_limit(seconds: int) -> None:
    model, optimizer = make()
    torch.manual_seed(7)
    loop = Loop(training_step(model, optimizer, mse_loss)) | mean("loss")
    whole = loop.run(data(), max_epochs=3)
    wanted = digest(model, optimizer)

    file, number = io.BytesIO(), 0
    while True:
        model, optimizer = make()
        clock = FakeClock()

        def tick(state: State[Any, Tensor], clock: FakeClock = clock) -> State[Any, Tensor]:
            clock.advance(1)
            return state

        loop = Loop(training_step(model, optimizer, mse_loss)) | mean("loss")
        loop = loop.on(Events.ITERATION_COMPLETED, tick) | time_limit(seconds, clock=clock)
        if number == 0:
            torch.manual_seed(7)
            state = loop.run(data(), max_epochs=3)
        else:
            snapshot = loop.read(torch.load(io.BytesIO(file.getvalue())))
            state = loop.resume(snapshot, data())
        if state.status is not Status.INTERRUPTED:
            break
        number += 1
        file = io.BytesIO()
        torch.save(loop.snapshot(state).to_dict(), file)
    assert number == 15 // seconds
    assert digest(model, optimizer) == wanted
    assert (state.iteration, state.metrics, state.status) == (15, whole.metrics, whole.status)


def test_pytorch_ignite_ends_where_this_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    from ignite.engine import Engine
    from ignite.engine import Events as IgniteEvents
    from ignite.handlers import TimeLimit

    clock = FakeClock()
    monkeypatch.setattr("ignite.handlers.time_limit.time.time", clock)
    model, optimizer = make()
    engine = ignite_trainer(model, optimizer)

    def tick(engine: Engine) -> None:
        clock.advance(0.75)

    engine.add_event_handler(IgniteEvents.ITERATION_COMPLETED, tick)
    engine.add_event_handler(IgniteEvents.ITERATION_COMPLETED, TimeLimit(2))
    engine.run(data(), max_epochs=1)

    ours = FakeClock()
    final = (taking(ours) | time_limit(2, clock=ours)).run([0.75] * 5)
    assert final.iteration == engine.state.iteration == 3


def test_a_clock_that_fails_is_named() -> None:
    def broken() -> float:
        raise OSError("no time")

    loop = Loop(outputs(numbered)) | time_limit(1, clock=broken)
    with pytest.raises(OSError, match="no time") as caught:
        loop.run(TEN)
    assert "time_limit(1, clock=" in caught.value.__notes__[0]


def test_it_prints_compares_and_pickles() -> None:
    assert repr(time_limit(60)) == "time_limit(60)"
    clock = FakeClock()
    assert repr(time_limit(0.5, clock=clock)) == "time_limit(0.5, clock=FakeClock(now=0.0))"
    assert time_limit(60) == time_limit(60) != time_limit(61)
    assert hash(time_limit(60)) == hash(time_limit(60))
    assert time_limit(60) != time_limit(60, clock=time.perf_counter)
    loop = Loop(outputs(numbered)) | time_limit(60)
    assert loop == Loop(outputs(numbered)) | time_limit(60)
    assert pickle.loads(pickle.dumps(loop)) == loop
    assert "1. time_limit(60), counting" in str(loop)
    for copied in (copy.deepcopy(time_limit(5, clock=clock)), time_limit(5, clock=clock)):
        own: Any = copied.clock
        assert (taking(own) | copied).run(TEN).iteration == 5


def test_a_copy_has_no_time_of_runs_that_were_under_way() -> None:
    limit = time_limit(60)
    loop = Loop(outputs(numbered)) | limit
    moments = loop.iterate(TEN)
    next(moments)
    again = pickle.loads(pickle.dumps(limit))
    assert (len(limit._begun), len(again._begun)) == (1, 0)


def test_wrong_arguments_are_refused() -> None:
    for number in (0, 0.0, -1, math.nan, -math.inf):
        with pytest.raises(ValueError, match=r"seconds=.* is not above 0"):
            time_limit(number)
    for other in (True, "60", None):
        with pytest.raises(TypeError, match=r"seconds=.* is not a number"):
            time_limit(other)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"clock takes \(\), so it must be callable"):
        time_limit(1, clock=1.0)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="has the signature"):
        time_limit(1, clock=numbered)  # type: ignore[arg-type]
    endless = time_limit(math.inf)
    assert (Loop(outputs(numbered)) | endless).run(TEN).status is Status.COMPLETED
