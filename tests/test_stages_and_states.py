"""A stage returns a value; one that returns a State is refused, since its changes would be lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fengine import Event, Loop, State, last_state, stages

AnyState = State[Any, Any, Any]


def changing(state: AnyState) -> AnyState:
    return state.evolve(user=state.user + 1)


def same(state: AnyState) -> AnyState:
    return state


def user_of(state: AnyState) -> Any:
    return state.user


def changing_value(value: Any) -> AnyState:
    return State(user=value)


STEPS: list[Any] = [
    stages(changing),
    stages(changing).emit(Event("changed")).then(user_of),
    stages(user_of).then(changing_value),
]


def run(step: Any) -> object:
    return Loop(step).run([1], user=0)


def iterate(step: Any) -> object:
    return [*Loop(step).iterate([1], user=0)]


def call(step: Any) -> object:
    return step(State(batch=1, user=0))


@pytest.mark.parametrize("deed", [run, iterate, call])
@pytest.mark.parametrize("step", STEPS)
def test_a_stage_that_returns_another_state_is_refused(
    step: Any, deed: Callable[[Any], object]
) -> None:
    with pytest.raises(TypeError, match=r"stage changing\w* \(.*would be lost") as raised:
        deed(step)
    assert "Loop(step)" in str(raised.value)
    if deed is not call:
        state: AnyState = last_state(raised.value)
        assert state.user == 0


def test_a_stage_may_pass_on_the_state_that_it_got() -> None:
    loop: Any = Loop(stages(same).emit(Event("passed")).then(user_of))
    assert loop.run([1], user=7).output == 7


def test_a_plain_step_changes_the_state() -> None:
    assert Loop[int, Any, int](changing).run([1, 2], user=0).user == 2
