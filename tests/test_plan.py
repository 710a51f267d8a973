"""A plan says what a run would do: the same events, and the calls that a run makes."""

from __future__ import annotations

from collections import Counter
from typing import Any, TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fengine import DataExhausted, Event, Events, Loop, State, outputs, stages, tap
from fengine.testing import filters

AnyLoop: TypeAlias = Loop[Any, Any, None]
HALVED = Event("halved")


def half(state: State[int, float]) -> float:
    return state.batch / 2


def rounded(value: float) -> float:
    return round(value)


def note(state: State[Any, Any, Any]) -> State[Any, Any, Any]:
    return state


STEPS: st.SearchStrategy[Any] = st.sampled_from(
    [outputs(abs), stages(half).emit(HALVED).then(rounded)]
)
LENGTHS = st.integers(1, 4)


@given(STEPS, LENGTHS, st.none() | LENGTHS, st.integers(1, 9), filters(), st.data())
def test_a_plan_is_the_run_that_follows(
    step: Any, length: int, max_epochs: int | None, max_iters: int, one: Any, data: st.DataObject
) -> None:
    limits: dict[str, Any] = {"max_epochs": max_epochs} if max_epochs else {"max_iters": max_iters}
    event = data.draw(st.sampled_from([Events.ITERATION_COMPLETED, Events.GET_BATCH_STARTED]))
    calls = Counter[tuple[Any, int]]()

    def count(state: State[Any, Any, Any]) -> None:
        calls[(state.event, state.iteration)] += 1

    loop = AnyLoop(step).on(event(one), tap(count))
    plan = loop.plan(epoch_length=length, **limits)
    run = list(loop.iterate(list(range(length)), **limits))
    assert [(f.event, f.epoch, f.iteration) for f in plan] == [
        (m.event, m.state.epoch, m.state.iteration) for m in run
    ]
    sure = Counter((f.event, f.iteration) for f in plan for _ in f.handlers)
    perhaps = Counter((f.event, f.iteration) for f in plan for _ in f.perhaps)
    assert calls - sure <= perhaps
    assert sure <= calls
    assert (not sure and not perhaps) == bool(plan.never())


def test_nothing_of_the_users_runs() -> None:
    def fail(*given: object) -> Any:
        raise AssertionError

    loop = AnyLoop(outputs(fail)).on(Events.STARTED, fail)
    loop = loop.on(Events.STARTED(when=fail), fail)
    first = next(iter(loop.plan(epoch_length=2)))
    assert (first.handlers, first.perhaps) == ((fail,), (fail,))


def test_a_counter_of_the_users_is_not_foreseen() -> None:
    chunk = Event("chunk", attr="chunk")
    loop = AnyLoop(stages(half).emit(chunk).then(rounded)).on(chunk(once=7), note)
    assert [f.perhaps for f in loop.plan(epoch_length=2) if f.event == chunk] == [(note,)] * 2


def test_data_that_ends_ends_the_plan_as_it_ends_the_run() -> None:
    loop = AnyLoop(outputs(abs))
    plan = loop.plan(epoch_length=4, max_epochs=3, batches=6)
    assert plan.empty_epochs() == range(3, 4)
    seen: list[Any] = []
    with pytest.raises(DataExhausted):
        seen.extend(m.event for m in loop.iterate(iter(range(6)), epoch_length=4, max_epochs=3))
    planned = [firing.event for firing in plan]
    assert Counter(planned)[Events.ITERATION_COMPLETED] == 6
    assert planned[-2:] == [Events.EXCEPTION_RAISED, Events.EXITED]


def test_a_plan_of_ten_to_the_thirty_epochs_begins_at_once() -> None:
    plan = AnyLoop(outputs(abs)).plan(epoch_length=10**30, max_epochs=10**30, batches=5)
    assert next(iter(plan)).event is Events.STARTED
    assert plan.empty_epochs() == range(2, 10**30 + 1)


def test_it_prints_what_is_called_how_often() -> None:
    loop = (
        AnyLoop(outputs(abs))
        .on(Events.EPOCH_COMPLETED(every=2), State.terminate)
        .on(Events.EPOCH_COMPLETED(every=9) | Events.TERMINATE, State.interrupt)
    )
    shown = str(loop.plan(epoch_length=4, max_epochs=5, batches=12))
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert "Events.ITERATION_COMPLETED 12" in lines
    assert any(line.startswith("State.terminate") and line.endswith(": 1") for line in lines)
    assert lines[-2].startswith("never called: State.interrupt")
    assert lines[-1] == "no batch in 2 of 5 epochs, from epoch 4 on: the data gives 12"


@pytest.mark.parametrize("limits", [{"max_epochs": 0}, {"max_epochs": 1, "max_iters": 1}])
def test_limits_that_make_no_sense_are_refused(limits: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="max_epochs"):
        AnyLoop(outputs(abs)).plan(epoch_length=2, **limits)


def test_a_loop_joined_with_itself_calls_each_handler_twice() -> None:
    loop = AnyLoop().on(Events.EPOCH_COMPLETED, note).on(Events.EPOCH_COMPLETED(every=9), note)
    plan = (AnyLoop(outputs(abs)) | loop | loop).plan(epoch_length=2, max_epochs=3)
    assert [line for line in str(plan).splitlines() if line.endswith(": 3")] != []
    assert len(plan.never()) == 2


@pytest.mark.parametrize(
    ("batches", "error"), [(-1, ValueError), (True, TypeError), ("x", TypeError)]
)
def test_the_number_of_batches_is_one(batches: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="batches="):
        AnyLoop(outputs(abs)).plan(epoch_length=2, batches=batches)


def test_a_run_of_which_no_end_is_known_says_so() -> None:
    loop = AnyLoop(outputs(abs)).on(Events.ITERATION_COMPLETED(once=9), State.terminate)
    plan = loop.plan(epoch_length=None, max_epochs=1)
    assert not plan.has_end
    assert str(plan).startswith("no end known")
    assert plan.never() == ()
    assert len(plan.empty_epochs()) == 0
    called = next(firing for firing in plan if firing.handlers)
    assert called.iteration == 9


@pytest.mark.parametrize("known", [{"max_iters": 4}, {"batches": 4}], ids=str)
def test_its_end_may_be_known_from_elsewhere(known: Any) -> None:
    loop = AnyLoop(outputs(abs)).on(Events.ITERATION_COMPLETED(once=9), State.terminate)
    plan = loop.plan(epoch_length=None, **known)
    assert plan.has_end
    assert max(firing.iteration for firing in plan) == 4
    assert len(plan.never()) == 1
    assert "Events.ITERATION_COMPLETED                4" in str(plan)
