"""Stages that write the state: `into`, what goes on from there, and where a run goes on."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from typing import Any

import pytest

from fengine import Event, Events, Loop, PayloadEvent, State, stages
from fengine.testing import assert_resume_exact

AnyState = State[Any, Any, Any]

DOUBLED = PayloadEvent[int]("doubled", attr="iteration")
WRITTEN = PayloadEvent[int]("written", attr="iteration")
CALLS: list[str] = []


def double(state: AnyState) -> int:
    CALLS.append("double")
    return 2 * int(state.batch)


def write(state: AnyState, value: int) -> AnyState:
    CALLS.append("write")
    return state.evolve(user=state.user + value)


def read(state: AnyState) -> int:
    return int(state.user)


def negate(value: int) -> int:
    return -value


STEP = stages(double).emit(DOUBLED).into(write, read).emit(WRITTEN).then(negate)


def test_a_stage_writes_into_the_state_that_handlers_have_left() -> None:
    def add(state: AnyState, value: int) -> AnyState:
        return state.evolve(user=state.user + 100)

    loop: Loop[int, int, int] = Loop(STEP)
    final = loop.run([1, 2], user=0)
    assert (final.user, final.output) == (6, -6)
    final = loop.on(DOUBLED, add).run([1, 2], user=0)
    assert (final.user, final.output) == (206, -206)
    # What goes on is read after the handlers of each event that follows.
    final = loop.on(WRITTEN, add).run([1, 2], user=0)
    assert (final.user, final.output) == (206, -206)


def test_it_is_the_same_called_by_hand() -> None:
    state = STEP(State(batch=3, user=1))
    assert (state.user, state.output, state.event) == (7, -7, Events.ITERATION_COMPLETED)
    shown = re.sub(r" \(test_stages_that_write\.py:\d+\)", "", repr(STEP))
    assert shown == (
        f"stages(double).emit({DOUBLED!r}).into(write, read).emit({WRITTEN!r}).then(negate)"
    )
    assert pickle.loads(pickle.dumps(STEP)) == STEP


@pytest.mark.parametrize("event", [None, DOUBLED, WRITTEN])
def test_a_run_goes_on_at_every_moment(event: PayloadEvent[int] | None) -> None:
    def add(state: AnyState, value: int) -> AnyState:
        return state.evolve(user=10 * state.user + value)

    loop: Loop[int, int, int] = Loop(STEP)
    loop = loop if event is None else loop.on(event, add)
    assert_resume_exact(lambda: (loop, [1, 2, 3], {"user": 0, "max_epochs": 2}))


def test_what_is_written_is_not_done_again() -> None:
    loop: Loop[int, int, int] = Loop(STEP)
    moments = list(loop.iterate([1], user=0))
    for moment in moments:
        CALLS.clear()
        assert loop.resume(moment.state, [1]) == moments[-1].state
        if moment.event is WRITTEN:
            assert CALLS == []
        if moment.event is DOUBLED:
            assert CALLS == ["double", "write"]


def test_a_pause_after_the_writing_goes_on_from_it() -> None:
    def pause(state: AnyState, value: int) -> AnyState:
        return state.interrupt() if state.iteration == 1 else state

    loop: Loop[int, int, int] = Loop(STEP)
    paused = loop.on(WRITTEN, pause).run([1, 2], user=0)
    assert paused.user == 2
    final = loop.resume(paused, [1, 2])
    assert (final.user, final.output) == (6, -6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda state, value: None, "returned NoneType; what writes a value into the state"),
        (lambda state, value: State(iteration=7), "returned a State of another place"),
    ],
)
def test_what_is_no_state_of_the_run_is_refused(
    make: Callable[[AnyState, int], Any], message: str
) -> None:
    loop: Loop[int, int, int] = Loop(stages(double).into(make, read))
    with pytest.raises((TypeError, ValueError), match=message):
        loop.run([1], user=0)


def test_functions_that_take_something_else_are_refused() -> None:
    with pytest.raises(TypeError, match="write of into"):
        stages(double).into(read, read)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="read of into"):
        stages(double).into(write, write)  # type: ignore[arg-type]


def test_an_exception_of_the_users_in_a_writing_stage_leaves_the_state_before() -> None:
    def stop(state: AnyState, value: int) -> AnyState:
        raise StopIteration("mine")

    loop: Loop[int, int, int] = Loop(stages(double).emit(Event("d")).into(stop, read))
    with pytest.raises(RuntimeError, match="user code raised StopIteration"):
        loop.run([1], user=0)
