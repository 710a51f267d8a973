"""Rules of exceptions and of handlers that change handlers, R-13 to R-20."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import pytest

from tests.engine.rows.differences import with_records
from tests.engine.rows.sides import (
    EPOCH,
    ONE,
    WHOLE,
    Deed,
    Side,
    Tale,
    everywhere,
    fail,
    here,
    take,
    terminate,
    terminate_epoch,
)
from tests.engine.rows.table import Check, Rows

row: Final = Rows()


def stop(*args: Any) -> None:
    raise StopIteration


def taken(word: str, deed: Deed = fail) -> Any:
    """Make a program in which what is raised at an event is taken."""
    leads_to: dict[str, dict[str, Deed]] = {
        "TE1": {"IC1": terminate_epoch},
        "T1": {"IC1": terminate},
    }

    def program(side: Side) -> object:
        told = Tale(side, {word: deed, **leads_to.get(word, {})}, take)
        return told.run([0, 1]), told.batches

    return program


REST: Final = f"E EC ES {ONE} BS DS BC IS IC EC C"  # after the first batch of two
TAKEN_WITHIN: Final = {
    "BS1": (f"S ES BS E EC {EPOCH} C", [0, 1]),
    "BC1": (f"S ES BS BC {REST}", [1, 0]),
    "IS1": (f"S ES BS BC IS {REST}", [1, 0]),
    "P1": (f"S ES BS BC IS {REST}", [0, 1, 0]),
    "IC1": (f"S ES {ONE} {REST}", [0, 1, 0]),
    "DS1": (f"S {EPOCH} ES BS DS E EC C", [0, 1]),
}
TAKEN_OUTSIDE: Final = {
    "S1": ("S E", []),
    "ES1": ("S ES E", []),
    "EC1": (f"S {EPOCH} E", [0, 1]),
    "TE1": (f"S ES {ONE} TE E", [0]),
    "T1": (f"S ES {ONE} T E", [0]),
    "C1": (f"{WHOLE} E", [0, 1, 0, 1]),
}


@row("R-13")
def taken_within_an_epoch() -> None:
    for word, expected in TAKEN_WITHIN.items():
        everywhere(taken(word), expected)

    def of_the_data(side: Side) -> object:
        told = Tale(side, {}, take)
        return told.run(Breaking(), epoch_length=2), told.batches

    everywhere(of_the_data, (f"S ES {ONE} BS E EC ES BS DS BC IS IC BS DS BC IS IC EC C", [0] * 3))


class Breaking:
    """Data that breaks after its first batch, the first time."""

    def __init__(self) -> None:
        self.broken = False

    def __iter__(self) -> Any:
        yield 0
        if not self.broken:
            self.broken = True
            fail()


class Unreadable:
    def __iter__(self) -> Any:
        fail()


@row("R-14")
def taken_outside_of_an_epoch() -> None:
    for word, expected in TAKEN_OUTSIDE.items():
        everywhere(taken(word), expected)
    everywhere(lambda side: Tale(side, {}, take).run(Unreadable()), "S ES E")


@row("R-15")
def raised_again_outside() -> None:
    everywhere(lambda side: Tale(side, {"EC1": fail}, fail).run(), f"S {EPOCH} E !Fault")


def press_ctrl_c(engine: Any) -> None:
    raise KeyboardInterrupt


def leave_the_program(engine: Any) -> None:
    raise SystemExit


def words_of(program: Any, side: Side) -> object:
    words, _ = program(side)
    return words


@row("R-16")
def what_is_no_exception() -> None:
    for deed in (press_ctrl_c, leave_the_program):
        for word, told in {"P1": "S ES BS BC IS E", "EC1": f"S {EPOCH} E"}.items():
            everywhere(partial(words_of, taken(word, deed)), told)
    left = "S ES BS BC IS !KeyboardInterrupt"
    everywhere(lambda side: Tale(side, {"P1": press_ctrl_c}).run(), left)


@row("R-17")
def stop_iteration_is_taken_like_any_other() -> None:
    for word in ("IS1", "P1", "IC1"):
        everywhere(taken(word, stop), TAKEN_WITHIN[word])
    for word, expected in TAKEN_OUTSIDE.items():
        everywhere(taken(word, stop), expected)
    # Where the other takes it for the end of the data.
    for word in ("BS1", "BC1"):
        here(taken(word, stop), TAKEN_WITHIN[word])


@row("R-18")
def terminate_in_the_handler_of_an_exception() -> None:
    def answered(word: str) -> Any:
        def program(side: Side) -> object:
            told = Tale(side, {word: fail}, lambda engine, error: engine.terminate())
            return told.run(), told.engine.should_terminate

        return program

    everywhere(answered("P1"), ("S ES BS BC IS E EC T C", True))
    everywhere(answered("EC1"), (f"S {EPOCH} E", True))


@row("R-19")
def handlers_that_change_while_they_run() -> None:
    def removed(side: Side) -> object:
        engine, calls = side.engine(), list[str]()
        event = side.events.STARTED

        def later() -> None:
            calls.append("later")

        def first() -> None:
            calls.append("first")
            if engine.has_event_handler(later):
                engine.remove_event_handler(later, event)

        engine.add_event_handler(event, first)
        engine.add_event_handler(event, later)
        engine.run([1])
        engine.run([1])
        return calls

    everywhere(removed, ["first", "later", "first"])

    def replaced(side: Side) -> object:
        engine, calls = side.engine(), list[str]()
        event = side.events.STARTED

        def replace() -> None:
            handlers = engine._event_handlers[event]
            handlers[1] = (lambda: calls.append("other"), (), {})
            handlers.append((lambda: calls.append("last"), (), {}))

        engine.add_event_handler(event, replace)
        engine.add_event_handler(event, lambda: calls.append("later"))
        engine.run([1])
        return calls

    everywhere(replaced, ["other", "last"])


ROWS: Final = with_records(row, r"R-1[3-9]|R-20")


@pytest.mark.parametrize("check", ROWS.params())
def test_failure_rule(check: Check) -> None:
    check()
