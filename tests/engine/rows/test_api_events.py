"""Rows A-030 to A-041: the classes of events, and the filters."""

from __future__ import annotations

import itertools
import pickle
from enum import Enum
from typing import Any

import ignite.engine
import pytest

from fengine.engine import Events
from tests.engine.rows.sides import IGNITE, Side, everywhere, here
from tests.engine.rows.table import Check, Rows

rows = Rows()


def always(engine: Any, event: int) -> bool:
    return True


@rows("A-030")
def an_event_has_a_value_a_filter_and_a_name() -> None:
    def program(side: Side) -> object:
        plain = side.package.CallableEventWithFilter("value", name="NAME")
        filtered = side.package.CallableEventWithFilter("value", always, "NAME")
        return plain.value, plain.name, plain.filter, filtered.filter

    everywhere(program, ("value", "NAME", None, always))


@rows("A-031")
def calling_an_event_gives_another_one_whose_filter_replaces() -> None:
    def program(side: Side) -> object:
        event = side.events.EPOCH_STARTED
        filtered = event(every=2)
        again = filtered(once=3)
        assert isinstance(filtered, side.package.CallableEventWithFilter)
        assert {(one.name, one.value) for one in (event, filtered, again)} == {
            ("EPOCH_STARTED", "epoch_started")
        }
        return [
            one.filter and [count for count in range(1, 7) if one.filter(None, count)]
            for one in (event, filtered, again)
        ]

    everywhere(program, [None, [2, 4, 6], [3]])


def counts(**filters: Any) -> list[int]:
    """Give the counts that a filter lets through, the same for every side."""

    def program(side: Side) -> list[int]:
        event_filter = side.events.ITERATION_STARTED(**filters).filter
        return [count for count in range(40) if event_filter is None or event_filter(None, count)]

    given = program(IGNITE)
    here(program, given)
    return given


@rows("A-032")
def every_lets_multiples_through() -> None:
    assert counts(every=7) == [0, 7, 14, 21, 28, 35]
    assert counts(every=1) == list(range(40))
    everywhere(lambda side: side.events.STARTED(every=1).filter, None)


@rows("A-033")
def once_lets_one_count_through_or_several() -> None:
    assert counts(once=5) == [5]
    assert counts(once=[3, 1, 30]) == [1, 3, 30]


@rows("A-034")
def before_and_after_are_strict() -> None:
    assert counts(before=4) == [1, 2, 3]
    assert counts(after=35) == [36, 37, 38, 39]
    assert counts(before=9, after=6) == [7, 8]
    assert counts(before=0) == []
    assert counts(after=0) == list(range(1, 40))


@rows("A-035")
def every_is_counted_from_behind_after() -> None:
    assert counts(every=5, before=25, after=8) == [9, 14, 19, 24]
    values = (None, 0, 1, 4, 9)
    for every, before, after in itertools.product((1, 2, 3, 7), values, values):
        bounds = {"before": before, "after": after}
        counts(every=every, **{name: one for name, one in bounds.items() if one is not None})


@rows("A-036")
def a_filter_is_asked_with_the_engine_and_the_counter_as_it_is_then() -> None:
    def program(side: Side) -> object:
        engine, asked = side.engine(), []

        def note(*arguments: Any) -> bool:
            asked.append(arguments)
            return False

        def jump(engine: Any) -> None:
            engine.state.iteration += 10

        engine.add_event_handler(side.events.ITERATION_STARTED, jump)
        engine.add_event_handler(side.events.ITERATION_STARTED(event_filter=note), print)
        engine.run([1, 2])
        assert {one for one, _ in asked} == {engine}
        return [count for _, count in asked]

    everywhere(program, [11, 22])


@rows("A-037")
def filters_can_be_made_without_an_event() -> None:
    def program(side: Side) -> object:
        kind = side.package.CallableEventWithFilter
        filters = [
            kind.every_event_filter(3),
            kind.once_event_filter([2, 5]),
            kind.before_and_after_event_filter(before=4),
            kind.before_and_after_event_filter(4, 1),
            kind.before_and_after_event_filter(),
            kind.every_before_and_after_event_filter(2, before=6),
            kind.every_before_and_after_event_filter(2, 9, 3),
        ]
        return [[count for count in range(10) if one(None, count)] for one in filters]

    given = program(IGNITE)
    assert given == [
        [0, 3, 6, 9],
        [2, 5],
        [1, 2, 3],
        [2, 3],
        list(range(1, 10)),
        [1, 3, 5],
        [4, 6, 8],
    ]
    here(program, given)
    for event in (Events.STARTED(every=3), Events.STARTED(once=2), Events.STARTED(before=2)):
        assert pickle.loads(pickle.dumps(event.filter)) == event.filter


@rows("A-038")
def events_are_equal_by_name() -> None:
    def program(side: Side) -> list[bool]:
        started = side.events.STARTED

        class Mine(side.package.EventEnum):  # type: ignore[misc, name-defined]  # of either package
            STARTED = "mine"

        return [
            started == "STARTED",
            started == "started",
            started == started(every=2),
            started(every=2) == started(once=5),
            started == Mine.STARTED,
            started == side.events.COMPLETED,
            hash(started) == hash("STARTED") == hash(started(every=2)),
            started in {"STARTED": 1},
        ]

    everywhere(program, [True, False, True, True, True, False, True, True])
    assert Events.STARTED == ignite.engine.Events.STARTED
    assert ignite.engine.Events.STARTED == Events.STARTED


@rows("A-039")
def events_are_joined_and_shown() -> None:
    def program(side: Side) -> list[str]:
        joined = side.events.STARTED | side.events.COMPLETED(event_filter=always)
        assert isinstance(joined, side.package.EventsList)
        return [repr(event) for event in joined]

    everywhere(program, ["Events.STARTED", f"Events.COMPLETED(filter={always})"])


@rows("A-040")
def members_of_an_event_enum_are_events() -> None:
    def program(side: Side) -> object:
        class Mine(side.package.EventEnum):  # type: ignore[misc, name-defined]  # of either package
            FOO = "foo"
            BAR = "bar"

        foo = Mine.FOO
        assert isinstance(foo, Enum)
        assert isinstance(foo, side.package.CallableEventWithFilter)
        assert list(foo | Mine.BAR | side.events.STARTED) == [foo, Mine.BAR, side.events.STARTED]
        return foo.name, foo.value, Mine("bar") is Mine.BAR, foo.filter, foo(once=3).filter(None, 3)

    everywhere(program, ("FOO", "foo", True, None, True))


@rows("A-041")
def a_list_of_events_is_ordered_and_joined_to_another_one() -> None:
    def program(side: Side) -> object:
        first, second, third = list(side.events)[:3]
        joined = first | second
        longer = joined | third
        assert (longer[0], longer[2], list(longer)) == (first, third, [first, second, third])
        return len(side.package.EventsList()), len(longer), len(joined), longer is joined

    # Fixed here: joining changes the list on the left.
    assert program(IGNITE) == (0, 3, 3, True)
    here(program, (0, 3, 2, False))


@pytest.mark.parametrize("check", rows.params())
def test_row(check: Check) -> None:
    check()
