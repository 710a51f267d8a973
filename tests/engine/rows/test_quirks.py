"""Quirks of version 0.5.5, Q-01 to Q-30: what is fixed gives its new result, the rest is matched.

Q-18 to Q-20 are those of the supervised and the deterministic engines, and checked with them.
"""

from __future__ import annotations

import re
import typing
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from fengine.engine import Engine, State
from tests.engine.rows.differences import with_records
from tests.engine.rows.sides import (
    EPOCH,
    EPOCH_AGAIN,
    IGNITE,
    ONE,
    Side,
    Tale,
    everywhere,
    fail,
    here,
    interrupt,
    outcome,
    own_events,
    take,
    tale,
    terminate,
)
from tests.engine.rows.table import Check, Rows

row: Final = Rows()

DOCS: Final = Path(__file__).parents[3] / "docs"


@row("Q-07")
def limits_that_are_no_number_of_epochs() -> None:
    """A fresh run takes them; once the state has a limit, one below 1 is refused."""
    for number in (0, -1):
        everywhere(partial(tale, max_epochs=number), "S C")
        everywhere(partial(tale, max_iters=number), "S C")
    everywhere(lambda side: tale(side, max_epochs=1.5), f"S {EPOCH} {EPOCH_AGAIN} C")

    def again(side: Side) -> object:
        told = Tale(side)
        return told.run([0], 1)[-1], told.run([0], 0)

    everywhere(again, ("C", "!ValueError"))


@row("Q-11")
def filters_on_events_without_a_counter() -> None:
    """Here they count the firings, of one's own events too."""

    def program(side: Side) -> object:
        told, fired = Tale(side), list[str]()
        events, engine = side.events, told.engine
        engine.register_events("text")
        text = side.package.CallableEventWithFilter("text", None, "text")
        for event in (events.INTERRUPT, events.TERMINATE, events.DATALOADER_STOP_ITERATION, text):
            engine.add_event_handler(event(once=2), fired.append, event.name)
        told.deeds = {"IC1": interrupt, "IC2": interrupt}
        for _ in range(3):
            told.run([0], 3)
        for _ in range(2):
            engine.fire_event("text")
        return fired

    here(program, ["INTERRUPT", "DATALOADER_STOP_ITERATION", "text"])


@row("Q-12")
def events_are_equal_by_name() -> None:
    def program(side: Side) -> object:
        tick, started = own_events(side).TICK, side.events.STARTED
        return tick == "TICK", tick == "tick", tick == own_events(side).TICK, tick == started

    everywhere(program, (True, False, True, False))


@row("Q-13")
def a_handle_removes_all_registrations() -> None:
    def program(side: Side) -> object:
        engine, calls = side.engine(), list[int]()

        def handler(number: int) -> None:
            calls.append(number)

        handles = [engine.add_event_handler(side.events.STARTED, handler, n) for n in (1, 2)]
        engine.run([1])
        handles[0].remove()
        handles[1].remove()
        engine.run([1])
        return calls

    everywhere(program, [1, 2])


@row("Q-14")
def the_count_of_a_cut_epoch_by_its_name() -> None:
    def program(side: Side) -> object:
        engine, counts = side.engine(lambda engine, batch: engine.terminate_epoch()), list[int]()

        def handler(engine: Any, iter_counter: int) -> None:
            counts.append(iter_counter)

        engine.add_event_handler(side.events.TERMINATE_SINGLE_EPOCH, handler)
        engine.run([1, 2], max_epochs=2)
        return counts

    everywhere(program, [1, 1])


@row("Q-15")
def what_follows_a_stop_is_documented_as_it_is() -> None:
    """The table of stops in docs/loop.md holds for the Engine, on either side."""
    words = {
        "TERMINATE": "T",
        "COMPLETED": "C",
        "TERMINATE_SINGLE_EPOCH": "TE",
        "EPOCH_COMPLETED": "EC",
    }
    text = (DOCS / "loop.md").read_text(encoding="utf-8")
    lines = re.findall(r"^\| `(terminate.*?)\((.*?)\)` \| ([^|]+) \| (yes|no) \|", text, re.M)
    assert len(lines) == 4
    for method, argument, fires, completed in lines:
        given = {argument.partition("=")[0]: True} if argument else {}
        first = [words[name] for name in re.findall("[A-Z_]{5,}", fires)]
        last = ["EC"] if completed == "yes" else []
        expected = first + last + (["C"] if method == "terminate_epoch" else [])

        def program(side: Side, method: str = method, given: Any = given) -> object:
            told = Tale(side, {"IC1": lambda engine: getattr(engine, method)(**given)})
            return told.run(max_epochs=1).removeprefix(f"S ES {ONE} ").split()

        everywhere(program, expected)


@row("Q-21")
def batch_events_have_the_number_of_the_last_iteration() -> None:
    def program(side: Side) -> object:
        engine, fired = side.engine(), list[tuple[str, int]]()
        for event in (side.events.GET_BATCH_STARTED, side.events.GET_BATCH_COMPLETED):
            engine.add_event_handler(
                event(once=2), lambda name: fired.append((name, engine.state.epoch)), event.name
            )
        engine.run(iter([0, 1]), max_epochs=1)
        return fired

    # The first of them fires twice: before a batch, and where none comes.
    everywhere(program, [("GET_BATCH_STARTED", 1)])


@row("Q-23")
def types() -> None:
    """What `on` decorates keeps its type, `output` has any; tests/typing has the programs."""
    of_on = typing.get_type_hints(Engine.on)["return"]
    (given,), returned = typing.get_args(of_on)
    assert given is returned
    assert isinstance(given, typing.TypeVar)
    output: Any = vars(State)["output"]
    assert typing.get_type_hints(output.fget)["return"] is Any
    assert "__setattr__" in vars(State)


@row("Q-24")
def looking_at_the_handlers_of_exceptions_takes_none() -> None:
    def program(side: Side) -> object:
        engine = side.engine(fail)
        assert len(engine._event_handlers[side.events.EXCEPTION_RAISED]) == 0
        return outcome(lambda: type(engine.run([1])).__name__)

    assert program(IGNITE) == "State"
    here(program, "Fault")


@row("Q-25")
def events_are_registered_all_or_none() -> None:
    def program(side: Side) -> object:
        engine = side.engine()
        return outcome(engine.register_events, "good", ["bad"]), engine.has_registered_events(
            "good"
        )

    assert program(IGNITE) == ("TypeError", True)
    here(program, ("TypeError", False))


@row("Q-26")
def events_with_arguments_fired_by_hand() -> None:
    """The handlers need what only a run can give, so calling them fails, here as there."""

    def program(side: Side) -> object:
        engine = side.engine()
        engine.add_event_handler(side.events.EXCEPTION_RAISED, take)
        return outcome(engine.fire_event, side.events.EXCEPTION_RAISED)

    everywhere(program, "TypeError")


@row("Q-28")
def the_rest_of_a_terminated_epoch_is_skipped() -> None:
    def program(side: Side) -> object:
        told = Tale(side, {"IC1": terminate})
        told.run([0, 1, 2], 2)
        told.run([0, 1, 2], 2)
        return told.batches, told.engine.state.epoch

    everywhere(program, ([0, 0, 1, 2], 2))


ROWS: Final = with_records(row, r"Q-\d+")


@pytest.mark.parametrize("check", ROWS.params())
def test_quirk(check: Check) -> None:
    check()
