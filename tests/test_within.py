"""A run of stages is within their context, however it ends, and a pause is no end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import attrs
import pytest

from fengine import END_RUN, Event, Events, Loop, Stages, State, stages
from fengine.features import evaluation

HALVED = Event("halved")


@attrs.frozen
class Noting:
    """Note in a list when the context is entered and left."""

    notes: list[str] = attrs.field(factory=list)

    @contextmanager
    def __call__(self) -> Iterator[None]:
        self.notes.append("in")
        try:
            yield
        finally:
            self.notes.append("out")


def half(state: State[int, int]) -> float:
    return 1 / state.batch


def make(noting: Noting) -> Stages[int, int, int, None]:
    first: Stages[int, int, float, None] = stages(half)
    return first.within(noting).emit(HALVED).then(round)


def test_it_is_entered_once_a_run_and_left_at_its_end() -> None:
    noting = Noting()
    loop = Loop(make(noting))
    loop.run([1, 2], max_epochs=3)
    assert noting.notes == ["in", "out"]
    paused = next(m for m in loop.iterate([1, 2]) if m.event == HALVED)
    noting.notes.clear()
    loop.resume(paused.state, [1, 2])
    assert noting.notes == ["in", "out"]


def test_it_is_left_where_the_step_fails_and_where_the_run_recovers() -> None:
    noting = Noting()
    loop = Loop(make(noting))
    with pytest.raises(ZeroDivisionError):
        loop.run([1, 0])
    assert noting.notes == ["in", "out"]
    noting.notes.clear()

    def give_up(state: State[int, int], error: BaseException) -> State[int, int]:
        return state.recover(END_RUN)

    loop.on(Events.EXCEPTION_RAISED, give_up).run([1, 0])
    assert noting.notes == ["in", "out"]


def test_a_pause_does_not_leave_it_and_a_dropped_run_does() -> None:
    noting = Noting()
    moments = Loop(make(noting)).iterate([1, 2])
    assert noting.notes == []
    next(moments)
    next(moments)
    assert noting.notes == ["in"]
    moments.close()
    assert noting.notes == ["in", "out"]


def test_a_run_within_a_handler_has_its_own() -> None:
    noting = Noting()
    inner = Loop(make(noting))
    outer: Loop[int, int] = Loop(make(noting))
    (outer | evaluation(inner, [1])).run([1])
    assert noting.notes == ["in", "in", "out", "out"]


def test_a_plain_call_is_within_it_and_it_is_part_of_the_value() -> None:
    noting = Noting()
    assert make(noting)(State(batch=1)).output == 1
    assert noting.notes == ["in", "out"]
    assert make(noting) == make(noting) != make(Noting(["other"]))


def test_what_makes_no_context_is_refused() -> None:
    wrong: Any = 3
    with pytest.raises(TypeError, match="context"):
        stages(half).within(wrong)


def test_a_later_context_is_around_the_earlier_one() -> None:
    notes: list[str] = []

    @attrs.frozen
    class Named:
        name: str

        @contextmanager
        def __call__(self) -> Iterator[None]:
            notes.append(f"in {self.name}")
            yield
            notes.append(f"out {self.name}")

    first: Stages[int, int, float, None] = stages(half)
    Loop(first.then(round).within(Named("inner")).within(Named("outer"))).run([1])
    assert notes == ["in outer", "in inner", "out inner", "out outer"]


def test_what_a_context_holds_lasts_from_moment_to_moment() -> None:
    drawn: list[int] = []

    @contextmanager
    def counting() -> Iterator[None]:
        numbers.append(0)
        yield
        numbers.pop()

    numbers: list[int] = []

    def count(state: State[int, int]) -> int:
        numbers[-1] += 1
        return numbers[-1]

    step: Stages[int, int, int, None] = stages(count)
    loop = Loop(step.within(counting))
    for moment in loop.iterate([1, 2, 3]):
        if moment.event is Events.ITERATION_COMPLETED:
            drawn.append(moment.state.output)
    assert drawn == [1, 2, loop.run([1, 2, 3]).output]


@pytest.mark.parametrize("drop", [True, False])
def test_the_data_is_closed_within_it(drop: bool) -> None:
    noting = Noting()

    class Closing:
        def __iter__(self) -> Iterator[int]:
            try:
                yield from [1, 2]
            finally:
                noting.notes.append("closed")

    moments = Loop(make(noting)).iterate(Closing())
    for moment in moments:
        if drop and moment.state.iteration:
            moments.close()
    assert noting.notes == ["in", "closed", "out"]


def test_a_run_that_has_ended_enters_nothing() -> None:
    noting = Noting()
    loop = Loop(make(noting))
    final = loop.run([1])
    noting.notes.clear()
    assert loop.resume(final, [1]) == final
    assert list(loop.iterate([1], after=final)) == []
    assert noting.notes == []
