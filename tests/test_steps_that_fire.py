"""Steps that fire: a generator fires events of its own, any number of times within an iteration."""

from __future__ import annotations

import json
from collections.abc import Generator
from functools import partial
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fengine import (
    Event,
    Events,
    Loop,
    PayloadEvent,
    State,
    Status,
    last_state,
)
from fengine.testing import assert_resume_exact

Batch = tuple[int, ...]
Kept = tuple[int, ...]
Run = State[Batch, int, Kept]
Firing = Generator[tuple[Event, Run], Run, Run]

CHUNK = Event("chunk")
HALF = Event("half", attr="half")


def summing(state: Run) -> Firing:
    """Sum up a batch, and fire CHUNK after each number of it."""
    total = 0
    for number in state.batch:
        total += number
        state = yield CHUNK, state.evolve(output=total)
    return state.evolve(output=total)


def keep(state: Run) -> Run:
    return state.evolve(user=(*state.user, state.output))


LOOP: Loop[Batch, int, Kept] = Loop(summing).register(CHUNK)
KEEPING = LOOP.on(CHUNK, keep)
DATA: list[Batch] = [(1, 2), (), (3, 4, 5)]


def test_a_step_fires_as_often_as_it_wants() -> None:
    final = KEEPING.run(DATA, user=())
    assert final.user == (1, 3, 3, 7, 12)
    assert final.output == 12
    assert final.counts["chunk"] == 5


def test_firings_are_counted_and_filtered() -> None:
    loop = LOOP.on(CHUNK(every=2), keep)
    assert loop.run(DATA, user=()).user == (3, 7)
    in_epoch = LOOP.on(CHUNK(once=1, of="epoch"), keep)
    assert in_epoch.run(DATA, user=(), max_epochs=2).user == (1, 1)


def test_an_event_that_maps_to_an_attribute_counts_with_it() -> None:
    def halving(state: Run) -> Firing:
        for place in range(2):
            state = yield HALF, state.with_attribute("half", place)
        return state.evolve(output=0)

    loop: Loop[Batch, int, Kept] = Loop(halving).register(HALF)
    seen: list[int] = []

    def see(state: Run) -> Run:
        seen.append(state.attributes["half"])
        return state

    loop.on(HALF(once=1), see).run(DATA, user=())
    assert seen == [1, 1, 1]


def test_iterate_shows_each_firing() -> None:
    moments = list(LOOP.iterate(DATA, user=()))
    assert [one.state.output for one in moments if one.event is CHUNK] == [1, 3, 3, 7, 12]
    assert [one.state.counts["chunk"] for one in moments if one.event is CHUNK] == [1, 2, 3, 4, 5]


def test_a_loop_in_words_has_the_events_where_they_fire() -> None:
    loop = KEEPING.on(Events.ITERATION_COMPLETED, keep).on(Events.ITERATION_STARTED, keep)
    events = [line.strip() for line in str(loop).splitlines() if line.startswith("  ")][::2]
    assert events == ["Events.ITERATION_STARTED", "Event('chunk')", "Events.ITERATION_COMPLETED"]


def test_a_plan_says_that_the_step_decides() -> None:
    plan = KEEPING.on(CHUNK(every=3), partial(keep)).plan(epoch_length=2)
    firing = next(one for one in plan if one.event is CHUNK)
    assert firing.handlers == ()
    assert len(firing.perhaps) == 2
    assert plan.never() == ()
    assert [line.split() for line in str(plan).splitlines() if "chunk" in line] == [
        ["Event('chunk')", "any"]
    ]


batches = st.lists(st.lists(st.integers(-9, 9), max_size=2).map(tuple), min_size=1, max_size=3)


@given(batches, st.integers(1, 2))
def test_a_run_goes_on_within_a_step(data: list[Batch], epochs: int) -> None:
    assert_resume_exact(lambda: (KEEPING, data, {"user": (), "max_epochs": epochs}))


@given(batches, st.integers(1, 2))
def test_a_run_goes_on_within_a_step_from_plain_data(data: list[Batch], epochs: int) -> None:
    whole = KEEPING.run(data, user=(), max_epochs=epochs)
    for moment in KEEPING.iterate(data, user=(), max_epochs=epochs):
        plain = json.loads(json.dumps(moment.state.to_dict(batch=list)))
        again: Any = State.from_dict(plain, events=KEEPING.registry, user=tuple, batch=tuple)
        assert KEEPING.resume(again, data) == whole


def test_a_handler_that_fails_runs_again_and_those_before_do_not() -> None:
    broken = True

    def fail_at_four(state: Run) -> Run:
        if broken and state.output == 7:
            raise OSError("once")
        return state

    loop = KEEPING.on(CHUNK, fail_at_four)
    with pytest.raises(OSError, match="once") as caught:
        loop.run(DATA, user=())
    left: Any = last_state(caught.value)
    assert (left.event, left.user) == (CHUNK, (1, 3, 3, 7))
    broken = False
    assert loop.resume(left, DATA).user == (1, 3, 3, 7, 12)


def test_a_request_waits_for_the_end_of_the_iteration() -> None:
    final = KEEPING.on(CHUNK(once=1), State.terminate).run(DATA, user=())
    assert (final.user, final.output, final.status) == ((1, 3), 3, Status.TERMINATED)


def test_handlers_see_the_state_of_the_step_and_the_step_sees_theirs() -> None:
    def doubling(state: Run) -> Firing:
        state = yield CHUNK, state.evolve(output=1)
        return state.evolve(output=10 * len(state.user))

    loop: Loop[Batch, int, Kept] = Loop(doubling).register(CHUNK)
    assert loop.on(CHUNK, keep).on(CHUNK, keep).run([()], user=()).output == 20


class Weights:
    def __init__(self) -> None:
        self.number = 0

    def state_dict(self) -> dict[str, Any]:
        return {"number": self.number}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.number = state_dict["number"]


def test_within_a_step_that_changes_something_outside_no_run_goes_on() -> None:
    loop = KEEPING.with_external(weights=Weights())
    within = next(one for one in loop.iterate(DATA, user=()) if one.event is CHUNK)
    with pytest.raises(ValueError, match="within the step"):
        loop.snapshot(within.state)
    with pytest.raises(ValueError, match="within the step"):
        loop.resume(within.state, DATA)
    assert_resume_exact(lambda: (loop, DATA, {"user": ()}))


def broken_step(kind: str) -> Any:
    def step(state: Run) -> Any:
        if kind == "no pair":
            yield CHUNK
        elif kind == "not registered":
            state = yield Event("other"), state
        elif kind == "built in":
            state = yield Events.ITERATION_COMPLETED, state
        elif kind == "payload":
            state = yield PayloadEvent("loss"), state
        elif kind == "filtered":
            state = yield CHUNK(every=2), state
        elif kind == "forgets":
            yield CHUNK, state
        elif kind == "moves":
            state = yield CHUNK, attrs.evolve(state, iteration=7)
        elif kind == "returns nothing":
            state = yield CHUNK, state
            return None
        return state

    return step


@pytest.mark.parametrize(
    ("kind", "error", "said"),
    [
        ("no pair", TypeError, "state = yield event, state"),
        ("not registered", ValueError, "register"),
        ("built in", TypeError, "event of your own"),
        ("payload", TypeError, "event of your own"),
        ("filtered", TypeError, "event of your own"),
        ("forgets", ValueError, "state = yield event, state"),
        ("moves", ValueError, "iteration"),
        ("returns nothing", TypeError, "returns a State"),
    ],
)
def test_a_step_that_is_wrong_learns_how_to_be_right(
    kind: str, error: type[Exception], said: str
) -> None:
    loop: Loop[Batch, int, Kept] = Loop(broken_step(kind)).register(CHUNK)
    with pytest.raises(error, match=said):
        loop.on(CHUNK, lambda state: state.evolve(user=(1,))).run(DATA, user=())


def test_a_step_that_does_something_else_is_refused_where_it_goes_on() -> None:
    other = False

    def changing(state: Run) -> Firing:
        if not other:
            state = yield CHUNK, state
            state = yield CHUNK, state
        return state.evolve(output=0)

    loop: Loop[Batch, int, Kept] = Loop(changing).register(CHUNK)
    moments = [one for one in loop.iterate(DATA, user=()) if one.event is CHUNK]
    other = True
    with pytest.raises(ValueError, match="only if the step does the same again"):
        loop.resume(moments[1].state, DATA)


def test_a_generator_is_closed_where_a_handler_fails_or_the_run_is_dropped() -> None:
    closed: list[str] = []

    def careful(state: Run) -> Firing:
        try:
            state = yield CHUNK, state
        finally:
            closed.append("closed")
        return state.evolve(output=0)

    loop: Loop[Batch, int, Kept] = Loop(careful).register(CHUNK)

    def fail(state: Run) -> Run:
        raise OSError("handler")

    with pytest.raises(OSError, match="handler"):
        loop.on(CHUNK, fail).run(DATA, user=())
    assert closed == ["closed"]
    moments = loop.iterate(DATA, user=())
    next(one for one in moments if one.event is CHUNK)
    moments.close()
    assert closed == ["closed", "closed"]
