"""Laws of transitions, handlers and tables: nothing changes in place, joins do what they say."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, TypeAlias

import attrs
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fengine import (
    Event,
    Events,
    Handler,
    Limits,
    Loop,
    Recovery,
    Registration,
    State,
    Table,
    compose,
    every,
    focus,
    outputs,
    tap,
    when,
)
from fengine.core.events import AnyEvent
from fengine.core.missing import MISSING
from fengine.core.outcome import Failure
from fengine.core.registration import members
from fengine.core.state import with_output, with_requests
from fengine.core.table import count, count_in_epoch
from fengine.run.box import Box
from fengine.run.obeying import recovered
from fengine.run.place import note_end_of_pass, note_restart, without_batch
from fengine.testing import filtered, handlers, own_events, requests, states
from tests.firing import fire

Any_: TypeAlias = State[Any, Any, Any]
AnyHandler: TypeAlias = Handler[Any, Any, Any]

STATES = states(st.integers(), st.lists(st.floats()), st.integers())
HANDLERS = handlers()
EVENTS = st.sampled_from(Events.all()) | own_events()

TRANSITIONS: dict[str, Callable[[Any_], Any_]] = {
    "without_batch": without_batch,
    "with_limits": lambda state: state.with_limits(max_epochs=1000),
    "with_output": lambda state: with_output(state, "output"),
    "with_requests": lambda state: with_requests(state, State().requests),
    "evolve": lambda state: state.evolve(user=1, output=2, batch=3, metrics={"loss": 4.0}),
    "with_metric": lambda state: state.with_metric("loss", 0.5),
    "with_attribute": lambda state: state.with_attribute("chunk", 2),
    "terminate": lambda state: state.terminate(),
    "terminate_epoch": lambda state: state.terminate_epoch(skip_epoch_completed=True),
    "interrupt": lambda state: state.interrupt(),
    "recover": lambda state: state.recover(Recovery.SKIP_BATCH),
}


def stop(box: Box[Any, Any, Any]) -> None:
    box.ask(terminate=None, recovery=Recovery.SKIP_BATCH)


# What is done to a run in place: the registers that change, by the move that changes them. Of the
# notes, it is each by its name.
MOVES: dict[str, tuple[Callable[[Box[Any, Any, Any]], object], set[str]]] = {
    "begin_epoch": (
        lambda box: box.begin_epoch(heard=True),
        {"epoch", "batches", "event", "_handled", "_offset", "_counts_before"},
    ),
    "stand_at": (lambda box: box.stand_at(Events.TERMINATE, heard=False), {"event", "counts"}),
    "stand at mapped": (
        lambda box: box.stand_at(Event("chunk", attr="chunk"), heard=False),
        {"event"},
    ),
    "learn_epoch_length": (lambda box: box.learn_epoch_length(), {"limits", "length_of_data"}),
    "limit": (lambda box: box.limit("epoch_length", 0), {"limits", "length_of_data"}),
    "ask": (stop, {"requests"}),
    "recovered": (recovered, {"requests", "failure", "event"}),
    "end of pass": (note_end_of_pass, {"_exhausted"}),
    "restart": (note_restart, {"_offset", "passes", "_drawn_before", "_exhausted"}),
}


@attrs.frozen
class Record:
    part: int
    rest: int = 0


def renew(state: Any_) -> Any_:
    return state.evolve(user=state.user + 1)


@given(STATES, st.sampled_from(sorted(TRANSITIONS)))
def test_a_transition_never_changes_its_argument(state: Any_, name: str) -> None:
    before = copy.deepcopy(state)
    TRANSITIONS[name](state)
    assert state == before


@given(STATES, handlers())
def test_a_combinator_never_changes_its_argument(state: Any_, handler: AnyHandler) -> None:
    state = state.evolve(user=Record(state.user))
    before = copy.deepcopy(state)
    join: AnyHandler = compose(
        handler, when(lambda state: True, handler), tap(handler), focus("part", renew)
    )
    join(state)
    assert state == before


@given(STATES, st.sampled_from(sorted(MOVES)))
def test_a_picture_of_a_run_never_changes_and_a_move_writes_its_registers_only(
    state: Any_, name: str
) -> None:
    move, written = MOVES[name]
    before = copy.deepcopy(state)
    box = Box(state)
    picture = box.state
    move(box)
    assert state == picture == before
    after = box.state
    assert type(after) is State
    registers, registers_before = registers_of(after), registers_of(picture)
    changed = {name for name, value in registers.items() if registers_before[name] is not value}
    assert changed <= written


def registers_of(state: Any_) -> dict[str, object]:
    """Return the registers of a run, with each of its notes as one."""
    fields = vars(state) | attrs.asdict(state._notes, recurse=False)
    del fields["_notes"]
    return fields


@given(STATES)
def test_a_box_gives_back_the_state_that_it_was_given(state: Any_) -> None:
    box: Box[Any, Any, Any] = Box(State())
    box.state = state
    assert box.state == state
    box.iteration += 1
    assert box.state == attrs.evolve(state, iteration=state.iteration + 1)


@given(STATES, st.integers())
def test_evolving_is_what_attrs_does(state: Any_, value: int) -> None:
    evolved = state.evolve(user=value, output=value, batch=value)
    assert evolved == attrs.evolve(state, user=value, output=value, batch=value)
    assert state.evolve(output=MISSING) == state
    failed = attrs.evolve(state, notes=attrs.evolve(state._notes, failure=Failure.AT_EVENT))
    assert failed.evolve(user=value).failure is Failure.AT_EVENT


def count_on(state: Any_) -> Any_:
    """Change what events of the user's are counted by."""
    for name in ("chunk", "loaded", "computed", "updated"):
        state = state.with_attribute(name, state.attributes.get(name, 0) + 1)
    return state


@st.composite
def entries(draw: st.DrawFn, event: AnyEvent) -> Registration[Any, Any, Any]:
    """Draw a registration for one event, with a filter or without."""
    chosen: Any = event if draw(st.booleans()) else draw(filtered([event]))
    (single, filter), *_ = members(chosen)
    return Registration(single, filter, Lifted(draw(HANDLERS | st.just(count_on))))


@attrs.frozen
class Lifted:
    """Take a payload too, so that one handler suits every event."""

    handler: AnyHandler

    def __call__(self, state: Any_, payload: object = None) -> Any_:
        assert type(state) is State
        return self.handler(state)


TABLES = st.lists(EVENTS.flatmap(entries), max_size=4).map(lambda few: Table(tuple(few)))


@given(TABLES, STATES, st.data())
def test_firing_is_threading_by_hand(
    table: Table[Any, Any, Any], state: Any_, draw: st.DataObject
) -> None:
    event = draw.draw(EVENTS)
    by_hand = state
    for registration in table.registrations:
        if registration.event.name != event.name:
            continue
        where = (count(event, by_hand), count_in_epoch(event, by_hand), by_hand)
        if registration.filter is None or registration.filter.holds(*where):
            by_hand = registration.handler(by_hand)
    assert fire(table.compiled(), event, state) == by_hand


@given(
    st.lists(st.tuples(st.sampled_from([None, every(2), every(3)]), st.booleans()), max_size=6),
    st.integers(0, 6),
)
def test_a_filter_asks_for_the_count_that_the_handlers_before_it_left(
    listening: list[tuple[Any, bool]], begun: int
) -> None:
    event = Event("tick", attr="chunk")
    seen: list[tuple[int, int]] = []
    expected: list[tuple[int, int]] = []
    table: Table[Any, Any, Any] = Table()
    counted = begun
    for place, (filter, counts) in enumerate(listening):

        def note(state: Any_, place: int = place, counts: bool = counts) -> Any_:
            seen.append((place, state.attributes["chunk"]))
            return count_on(state) if counts else state

        table = table.adding(Registration(event, filter, note))
        if filter is None or filter.holds(counted, counted):
            expected.append((place, counted))
            counted += counts
    fire(table.compiled(), event, State(user=None).with_attribute("chunk", begun))
    assert seen == expected


@given(TABLES, STATES, EVENTS)
def test_without_handlers_the_state_stays(
    table: Table[Any, Any, Any], state: Any_, event: AnyEvent
) -> None:
    assert fire({}, event, state) == state
    others = [entry for entry in table.registrations if entry.event.name != event.name]
    assert fire(Table(tuple(others)).compiled(), event, state) == state


@given(TABLES, st.data())
def test_adding_and_removing_is_the_identity(
    table: Table[Any, Any, Any], draw: st.DataObject
) -> None:
    before = copy.deepcopy(table)
    one = draw.draw(EVENTS.flatmap(entries))
    added = table.adding(one)
    assert added.without(one) == table == before
    assert added.registrations == (*table.registrations, one)


@given(st.sampled_from([event for event in Events.all() if isinstance(event, Event)]), st.data())
def test_on_and_without_are_inverse(event: Event, draw: st.DataObject) -> None:
    loop: Loop[Any, Any, Any] = Loop(outputs(abs)).on(Events.STARTED, State.terminate)
    heard: Any = draw.draw(st.just(event) | filtered([event]))
    several = heard | Events.STARTED
    handler = draw.draw(handlers())
    assert loop.on(several, handler).without(several, handler) == loop


@given(st.lists(own_events(), min_size=1, max_size=3, unique_by=lambda event: event.name))
def test_what_one_loop_registers_no_other_sees(own: list[AnyEvent]) -> None:
    loop: Loop[Any, Any] = Loop(outputs(abs))
    other: Loop[Any, Any] = Loop(outputs(abs))
    knowing = loop.register(*own)
    for event in own:
        assert event in knowing.registry
        assert event not in loop.registry
        assert event not in other.registry
        with pytest.raises(ValueError, match=event.name):
            other.on(event, Lifted(State.terminate))
    assert other == loop


@given(handlers(), handlers(), handlers(), STATES)
def test_composing_is_associative_and_has_an_identity(
    f: AnyHandler, g: AnyHandler, h: AnyHandler, state: Any_
) -> None:
    assert compose(f, compose(g, h)) == compose(compose(f, g), h) == compose(f, g, h)
    assert compose(compose(), f) == compose(f, compose()) == compose(f) == f
    assert compose(f, g)(state) == g(f(state))
    assert compose()(state) is state


@given(handlers(), STATES)
def test_when_and_tap_mean_what_they_say(handler: AnyHandler, state: Any_) -> None:
    always: AnyHandler = when(lambda state: True, handler)
    never: AnyHandler = when(lambda state: False, handler)
    assert always(state) == handler(state)
    assert never(state) is state
    assert tap(handler)(state) is state


@given(STATES, st.integers())
def test_focus_changes_one_field_and_keeps_what_else_the_handler_did(
    state: Any_, rest: int
) -> None:
    whole = state.evolve(user=Record(state.user, rest))
    focused = focus("part", compose(renew, State.terminate))(whole)
    assert focused == whole.terminate().evolve(user=Record(state.user + 1, rest))


@given(requests(), STATES)
def test_a_request_is_asked_for_once(asked: Any, state: Any_) -> None:
    assume(asked.terminate is None)
    once = attrs.evolve(state, requests=asked).terminate()
    assert once.terminate() == once
    assert once.requests == attrs.evolve(asked, terminate=once.requests.terminate)


@given(st.integers(1, 9), st.integers(1, 60))
def test_every_n_fires_floor_k_by_n_times(n: int, k: int) -> None:
    loop = Loop[Any, Any, int](outputs(lambda batch: batch)).on(
        Events.ITERATION_COMPLETED(every=n), renew
    )
    assert loop.run(user=0, epoch_length=k).user == k // n
    halves = loop.on(Events.ITERATION_COMPLETED(every=n, of="epoch"), renew)
    assert halves.run(user=0, epoch_length=k, max_epochs=2).user == 2 * k // n + 2 * (k // n)


@given(st.integers(1, 10**30))
def test_limits_hold_numbers_of_any_size(number: int) -> None:
    assert attrs.evolve(Limits(), max_epochs=number).max_epochs == number
