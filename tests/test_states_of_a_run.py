"""A run takes back its own states: not those of another run, nor one with other limits."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Generator
from typing import Any

import attrs
import pytest

from fengine import (
    Event,
    Events,
    Limits,
    Loop,
    Recovery,
    State,
    compose,
    diff,
    outputs,
    stages,
    when,
)
from fengine.testing import assert_pure
from tests.firing import fire

DATA = [1, 2, 3]
CHUNK = Event("chunk")
DOUBLE: Any = outputs(lambda batch: 2 * batch)


def states_of(loop: Any, event: Any) -> list[Any]:
    return [moment.state for moment in loop.iterate(DATA) if moment.event == event]


def returning(state: Any) -> Callable[[Any], Any]:
    def swap(_: Any) -> Any:
        return state

    return swap


PLACES = [Events.STARTED, Events.ITERATION_COMPLETED(once=1), Events.EPOCH_COMPLETED]


@pytest.mark.parametrize("event", PLACES, ids=repr)
def test_a_state_of_another_run_is_refused(event: Any) -> None:
    plain = event if isinstance(event, Event) else next(iter(event))[0]
    other = states_of(Loop(DOUBLE), plain)[0]
    for changed in (other, other.with_metric("m", 1.0), other.terminate()):
        for handler in (returning(changed), compose(returning(changed), State.interrupt)):
            loop: Any = Loop(DOUBLE).on(event, handler)
            for run in (loop.run, lambda data, run=loop: list(run.iterate(data))):
                with pytest.raises(ValueError, match="a State of another run, at the same place"):
                    run(DATA)


def test_so_it_is_in_a_run_that_goes_on() -> None:
    first, *_ = states_of(Loop(DOUBLE), Events.ITERATION_COMPLETED)
    loop: Any = Loop(DOUBLE).on(Events.ITERATION_COMPLETED(once=1), returning(first))
    paused = Loop(DOUBLE).on(Events.ITERATION_STARTED(once=1), State.interrupt).run(DATA)
    with pytest.raises(ValueError, match="another run"):
        loop.resume(paused, DATA)


def test_a_state_from_before_the_pause_is_one_of_another_run() -> None:
    kept: list[Any] = []

    def keep(state: Any) -> Any:
        kept.append(state)
        return state.interrupt() if len(kept) == 1 else kept[0]

    loop: Any = Loop(DOUBLE).on(Events.ITERATION_COMPLETED(once=1), keep)
    paused = loop.run(DATA)
    assert loop.resume(paused, DATA).iteration == 3  # the event is done with
    with pytest.raises(ValueError, match="another run"):
        loop.run(DATA)


def test_so_it_is_of_a_step_and_between_its_stages() -> None:
    first, *_ = states_of(Loop(DOUBLE), Events.ITERATION_COMPLETED)

    def step(state: Any) -> Any:
        return first

    with pytest.raises(ValueError, match=r"step .*step.* a State of another run"):
        Loop(step).run(DATA)

    halved = Event("halved")
    staged: Any = Loop(stages(lambda state: state.batch / 2).emit(halved).then(round))
    other, *_ = states_of(staged, halved)
    with pytest.raises(ValueError, match="another run"):
        staged.on(halved, returning(other)).run(DATA)


def test_the_next_handler_sees_a_state_of_its_run_whatever_the_one_before_returned() -> None:
    other = states_of(Loop(DOUBLE), Events.EPOCH_COMPLETED)[0]
    loop: Any = (
        Loop(DOUBLE)
        .on(Events.EPOCH_COMPLETED, lambda state: attrs.evolve(state, user=1))
        .on(Events.EPOCH_COMPLETED, returning(other))
    )
    with pytest.raises(ValueError, match="another run"):
        loop.run(DATA)


def test_a_state_without_a_mark_is_accepted() -> None:
    for change in (
        lambda state: attrs.evolve(state, user=1),
        lambda state: pickle.loads(pickle.dumps(state)).evolve(user=1),
        lambda state: copy.deepcopy(state.evolve(user=1)),
        lambda state: State.from_dict(state.evolve(user=1).to_dict(batch=int)),
        lambda state: State(
            event=state.event,
            epoch=1,
            batches=3,
            iteration=3,
            user=1,
            limits=state.limits,
            output=6,
            batch=3,
            status=state.status,
            requests=state.requests,
        ),
    ):
        loop: Any = Loop(DOUBLE).on(Events.EPOCH_COMPLETED, change)
        assert loop.run(DATA).user == 1
        assert list(loop.iterate(DATA))[-1].state.user == 1


def test_a_plain_step_may_make_a_state_of_new_fields() -> None:
    def step(state: Any) -> Any:
        return attrs.evolve(state, output=2 * state.batch)

    assert Loop(step).run(DATA) == Loop(DOUBLE).run(DATA)


def test_the_mark_is_no_part_of_the_value() -> None:
    first, again = (Loop(DOUBLE).run(DATA) for _ in range(2))
    assert first == again
    assert not diff(first, again)
    assert repr(first) == repr(again)
    assert first.to_dict() == again.to_dict()
    assert pickle.dumps(first) == pickle.dumps(again)
    assert pickle.loads(pickle.dumps(first)) == first


@pytest.mark.parametrize(
    "change",
    [
        lambda state: attrs.evolve(state, limits=Limits(max_epochs=9, epoch_length=3)),
        lambda state: attrs.evolve(state, limits=Limits(max_epochs=1, epoch_length=2)),
        lambda state: state.with_limits(max_iters=9),
        when(lambda state: True, lambda state: state.with_limits(max_epochs=9)),
    ],
    ids=range(4),
)
def test_other_limits_are_refused(change: Any) -> None:
    def step(state: Any) -> Any:
        return change(attrs.evolve(state, output=1))

    for loop in (Loop(DOUBLE).on(Events.ITERATION_COMPLETED(once=1), change), Loop(step)):
        with pytest.raises(ValueError, match="a State with other limits") as caught:
            loop.run(DATA)
        assert "loop.resume(state.with_limits(...), data)" in str(caught.value)


def test_a_loop_within_a_handler_is_a_run_of_its_own() -> None:
    inner: Any = Loop(DOUBLE).on(Events.EPOCH_COMPLETED, lambda state: state.evolve(user="inner"))

    def run_inside(state: Any) -> Any:
        return state.evolve(user=inner.run(DATA).user)

    loop: Any = Loop(DOUBLE).on(Events.EPOCH_COMPLETED, run_inside)
    assert loop.run(DATA).user == "inner"
    mixed: Any = Loop(DOUBLE).on(
        Events.EPOCH_COMPLETED, lambda _: states_of(inner, Events.EPOCH_COMPLETED)[0]
    )
    with pytest.raises(ValueError, match="another run"):
        mixed.run(DATA)


def test_handlers_are_tested_with_states_of_a_run_as_before() -> None:
    state = states_of(Loop(DOUBLE), Events.EPOCH_COMPLETED)[0]
    assert_pure(State.terminate, [state])
    table: Any = Loop(DOUBLE).on(Events.EPOCH_COMPLETED, State.terminate).table.compiled()
    assert fire(table, Events.EPOCH_COMPLETED, state) == state.terminate()
    made = State[Any, Any](event=Events.EPOCH_COMPLETED)
    assert fire(table, Events.EPOCH_COMPLETED, made) == made.terminate()


@pytest.mark.parametrize("way", ["returns another", "returns it", "raises", "fires"])
def test_a_state_that_a_step_kept_stays_as_it_is(way: str) -> None:
    kept: list[tuple[State[Any, Any, Any], State[Any, Any, Any]]] = []

    def step(state: State[Any, Any, Any]) -> State[Any, Any, Any]:
        kept.append((state, copy.deepcopy(state)))
        if way == "raises" and state.iteration == 2:
            raise OSError("once")
        return state if way == "returns it" else state.evolve(output=state.batch)

    def firing(state: State[Any, Any, Any]) -> Generator[Any, Any, Any]:
        kept.append((state, copy.deepcopy(state)))
        state = yield CHUNK, state.evolve(output=1)
        return state

    def skip(state: State[Any, Any, Any], error: BaseException) -> State[Any, Any, Any]:
        return state.recover(Recovery.SKIP_BATCH)

    loop: Any = Loop(firing).register(CHUNK) if way == "fires" else Loop(step)
    loop.on(Events.EXCEPTION_RAISED, skip).run([1, 2, 3], max_epochs=2)
    assert len(kept) == 6
    for state, as_it_was in kept:
        assert vars(state) == vars(as_it_was)
