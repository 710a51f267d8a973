"""Stages that are fused: one function in their place, where nothing within them is to be done."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fengine import Event, Events, Loop, PayloadEvent, Stages, State, last_state, stages
from fengine.core.steps import fused as as_one

HALVED: PayloadEvent[float] = PayloadEvent("halved", attr="iteration")
ROUNDED = Event("rounded", attr="iteration")
UNCOUNTED = Event("uncounted")

AnyState = State[Any, Any, Any]


class Calls(list[str]):
    """Which of the two ways was taken."""

    def half(self, state: AnyState) -> float:
        self.append("stages")
        return float(state.batch / 2)

    def whole(self, batch: int) -> int:
        self.append("fused")
        return round(batch / 2)

    def step(self) -> Any:
        halved: Stages[Any, Any, float, Any] = stages(self.half)
        made: Any = halved.emit(HALVED).then(round).emit(ROUNDED)
        return as_one(made, self.whole)


def keep(state: AnyState, payload: object = None) -> AnyState:
    return state


@given(st.lists(st.integers(), min_size=1, max_size=5), st.integers(1, 3), st.booleans())
def test_a_run_of_what_is_fused_equals_one_of_its_stages(
    batches: list[int], epochs: int, pausing: bool
) -> None:
    fused, apart = Calls(), Calls()
    loop: Any = Loop(fused.step())
    other: Any = Loop(apart.step()).on(HALVED, keep)
    if pausing:
        loop, other = (
            one.on(Events.ITERATION_COMPLETED(once=2), State.interrupt) for one in (loop, other)
        )
    ends = [one.run(batches, max_epochs=epochs) for one in (loop, other)]
    assert ends[0] == ends[1]
    assert set(fused) == {"fused"}
    assert set(apart) == {"stages"}
    assert loop.resume(ends[0], batches) == other.resume(ends[1], batches)


def test_all_events_of_a_pulled_run_fire() -> None:
    calls = Calls()
    loop: Any = Loop(calls.step())
    events = [moment.event for moment in loop.iterate([4])]
    assert HALVED in events
    assert ROUNDED in events
    assert set(calls) == {"stages"}


def test_what_stands_between_the_stages_goes_on_by_them() -> None:
    calls = Calls()
    loop: Any = Loop(calls.step())
    between = next(one.state for one in loop.iterate([4, 6]) if one.event is HALVED)
    calls.clear()
    assert loop.resume(between, [4, 6]) == loop.run([4, 6])
    assert calls[0] == "stages"


def test_an_event_that_is_counted_is_due() -> None:
    calls = Calls()
    step: Any = stages(calls.half).emit(UNCOUNTED).then(round)
    final: Any = Loop(as_one(step, calls.whole)).run([4, 6])
    assert final.counts["uncounted"] == 2
    assert set(calls) == {"stages"}


def test_what_is_added_drops_the_function() -> None:
    calls = Calls()
    for longer in (calls.step().then(abs), calls.step().emit(UNCOUNTED)):
        calls.clear()
        Loop(longer).run([4, 6])
        assert set(calls) == {"stages"}
    calls.clear()
    Loop(calls.step().within(nullcontext)).run([4, 6])
    assert set(calls) == {"fused"}


def test_what_a_fused_function_raises_leaves_the_state_before_it() -> None:
    step: Any = stages(lambda state: state.batch)
    loop: Any = Loop(as_one(step.emit(ROUNDED), lambda batch: 1 // batch))
    with pytest.raises(ZeroDivisionError) as raised:
        loop.run([1, 0])
    assert "in the step at epoch 1, iteration 2" in raised.value.__notes__
    assert last_state(raised.value).event is Events.ITERATION_STARTED
