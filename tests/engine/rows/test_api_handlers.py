"""Rows A-070 to A-073 and A-090 to A-098: handles, and how handlers are added, found and called."""

from __future__ import annotations

import gc
import inspect
from typing import Any

import pytest

from tests.engine.rows.sides import Side, everywhere, identity, own_events
from tests.engine.rows.table import Check, Rows

rows = Rows()


# RemovableEventHandle


def handler(engine: Any) -> None:
    engine.state.calls = getattr(engine.state, "calls", 0) + 1


@rows("A-070")
def a_handle_knows_event_handler_and_engine() -> None:
    def program(side: Side) -> object:
        engine, started = side.engine(), side.events.STARTED
        plain = engine.add_event_handler(started, handler)
        filtered = engine.add_event_handler(started(every=2), handler)
        own = side.package.RemovableEventHandle(started, handler, engine)
        return [
            (plain.event_name, plain.handler(), plain.engine() is engine),
            (filtered.handler() is handler, filtered.handler()._parent() is handler),
            (own.event_name, own.handler(), own.engine() is engine),
        ]

    known = ("STARTED", handler, True)
    everywhere(program, [known, (False, True), known])


@rows("A-071")
def remove_takes_all_registrations_at_its_events_away_and_may_be_repeated() -> None:
    def program(side: Side) -> object:
        engine, events = side.engine(), side.events
        engine.add_event_handler(events.STARTED(every=1), handler)
        engine.add_event_handler(events.EPOCH_COMPLETED, handler)
        both = engine.add_event_handler(events.STARTED | events.COMPLETED, handler)
        for _ in range(2):
            both.remove()
        left = [
            engine.has_event_handler(handler, event)
            for event in (events.STARTED, events.COMPLETED, events.EPOCH_COMPLETED)
        ]
        handle = engine.add_event_handler(events.STARTED, handler)
        engine.remove_event_handler(handler, events.STARTED)
        handle.remove()
        del engine
        handle.remove()
        return left

    everywhere(program, [False, False, True])


@rows("A-072")
def a_handle_removes_at_the_end_of_a_with_statement() -> None:
    def program(side: Side) -> object:
        engine = side.engine()
        handle = engine.add_event_handler(side.events.STARTED, handler)
        with handle as entered:
            assert entered is handle
            engine.run([1])
        engine.run([1])
        engine.add_event_handler(side.events.STARTED, handler)
        with handle:
            engine.run([1])
        engine.run([1])
        return engine.state.calls

    everywhere(program, 2)


@rows("A-073")
def a_handle_keeps_neither_engine_nor_handler_alive() -> None:
    class Own:
        def __call__(self, engine: Any) -> None:
            pass

    def program(side: Side) -> object:
        engine, own = side.engine(), Own()
        handles = [
            engine.add_event_handler(side.events.STARTED, own),
            engine.add_event_handler(side.events.STARTED(every=2), Own()),
        ]
        del engine, own
        gc.collect()  # which pytorch-ignite needs where a handler has a filter
        return [(handle.engine(), handle.handler()) for handle in handles]

    everywhere(program, [(None, None), (None, None)])


# Engine


def nothing() -> None:
    """Be a handler."""


@rows("A-090")
def an_engine_is_made_of_its_process_function() -> None:
    def program(side: Side) -> object:
        engine = side.package.Engine(identity)
        assert all(engine.has_registered_events(event) for event in side.events)
        name, *_ = inspect.signature(side.package.Engine).parameters
        return name, engine.state.iteration

    everywhere(program, ("process_function", 0))


@rows("A-091")
def events_are_registered_with_their_counters() -> None:
    def program(side: Side) -> object:
        engine, own = side.engine(), own_events(side)
        engine.register_events(own.TICK, "text", event_to_attr={own.TICK: "ticks", own.TOCK: "no"})
        engine.register_events(own.TICK, "text")
        engine.state.ticks += 1
        known = [engine.has_registered_events(one) for one in (own.TICK, "text", own.TOCK)]
        return known, engine.state.ticks, hasattr(engine.state, "no")

    everywhere(program, ([True, True, False], 1, False))


@rows("A-092")
def any_value_can_be_asked_for_as_an_event() -> None:
    def program(side: Side) -> object:
        asked: tuple[object, ...] = (
            side.events.STARTED,
            side.events.STARTED(every=2),
            "STARTED",
            "no",
            None,
            [],
            1,
        )
        return [side.engine().has_registered_events(one) for one in asked]

    everywhere(program, [True, True, True, False, False, False, False])


@rows("A-093")
def handlers_run_in_order_with_the_engine_if_they_take_it() -> None:
    def program(side: Side) -> object:
        engine, calls = side.engine(), list[object]()

        def taking(first: Any, *args: Any, **kwargs: Any) -> None:
            calls.append((first is engine, args, kwargs))

        for event in (side.events.STARTED, side.events.STARTED | side.events.COMPLETED):
            engine.add_event_handler(event, taking, 1, two=2)
        engine.add_event_handler(side.events.STARTED, lambda: calls.append("without"))
        engine.run([1])
        return calls

    given = (True, (1,), {"two": 2})
    everywhere(program, [given, given, "without", given])


@rows("A-094")
def on_gives_the_function_back() -> None:
    def program(side: Side) -> object:
        engine, calls = side.engine(), list[str]()

        def note(name: str) -> None:
            calls.append(name)

        decorated = engine.on(side.events.COMPLETED, "last")(note)
        assert engine.on(side.events.STARTED, "first")(decorated) is decorated is note
        engine.run([1])
        return calls

    everywhere(program, ["first", "last"])


@rows("A-095")
def a_handler_is_found_at_one_event_or_at_any() -> None:
    def program(side: Side) -> object:
        engine, events = side.engine(), side.events
        engine.add_event_handler(events.STARTED(every=2), nothing)
        asked = (None, events.STARTED, "STARTED", events.STARTED(once=1), events.COMPLETED)
        found = [engine.has_event_handler(nothing, event) for event in asked]
        return [*found, engine.has_event_handler(nothing, events.STARTED | events.COMPLETED)]

    everywhere(program, [True, True, True, True, False, False])


@rows("A-096")
def removing_a_handler_takes_all_its_registrations_at_the_event() -> None:
    def program(side: Side) -> object:
        engine, events = side.engine(), side.events
        for event in (events.STARTED, events.STARTED(every=2), events.COMPLETED):
            engine.add_event_handler(event, nothing)
        engine.remove_event_handler(nothing, events.STARTED)
        return [engine.has_event_handler(nothing, one) for one in (events.STARTED, "COMPLETED")]

    everywhere(program, [False, True])


@rows("A-097")
def an_event_can_be_fired_at_any_time() -> None:
    def program(side: Side) -> object:
        engine, calls = side.engine(), list[str]()
        engine.register_events("text")
        engine.add_event_handler("text", calls.append, "text")
        engine.add_event_handler(side.events.STARTED, calls.append, "started")
        engine.fire_event("text")
        engine.fire_event(side.events.STARTED(every=2))
        return calls

    everywhere(program, ["text", "started"])


@rows("A-098")
def what_an_event_adds_comes_behind_the_engine_and_wins() -> None:
    def program(side: Side) -> object:
        engine, calls = side.engine(), list[object]()

        def handler(engine: Any, *args: Any, **kwargs: Any) -> None:
            calls.append((args, kwargs))

        engine.register_events("text")
        engine.add_event_handler("text", handler, 1, one=1, two=1)
        engine._fire_event("text", 2, two=2, three=2)
        return [*calls, engine.last_event_name]

    everywhere(program, [((2, 1), {"one": 1, "two": 2, "three": 2}), "text"])


@pytest.mark.parametrize("check", rows.params())
def test_row(check: Check) -> None:
    check()
