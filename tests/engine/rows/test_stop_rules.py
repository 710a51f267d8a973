"""Rules of stops and pauses, R-06 to R-12 and R-27.

Each is told in words, and told alike by pytorch-ignite where nothing else is said.
"""

from __future__ import annotations

from typing import Any, Final

import pytest

from tests.engine.rows.differences import with_records
from tests.engine.rows.sides import (
    AGAIN,
    EPOCH,
    EPOCH_AGAIN,
    IGNITE,
    ONE,
    WHOLE,
    Side,
    Tale,
    everywhere,
    fail,
    here,
    interrupt,
    take,
    tale,
    terminate,
    terminate_epoch,
)
from tests.engine.rows.table import Check, Rows

row: Final = Rows()


# Stops


@row("R-06")
def terminate_leaves_the_epoch() -> None:
    def program(side: Side) -> object:
        told = Tale(side, {"IC2": terminate})
        first, second = told.run([0, 1, 2]), told.run([0, 1, 2])
        return first, second, told.batches, told.engine.state.iteration

    second = f"S ES {ONE} {ONE} {ONE} EC C"
    everywhere(program, (f"S ES {ONE} {ONE} T C", second, [0, 1, 0, 1, 2], 5))


@row("R-07")
def terminate_in_odd_places() -> None:
    def before(side: Side) -> object:
        told = Tale(side, {"C1": terminate})
        terminate(told.engine)
        return told.run(), told.engine.should_terminate

    everywhere(before, (WHOLE, True))
    everywhere(
        lambda side: tale(side, {"IC1": terminate_epoch, "TE1": terminate}), f"S ES {ONE} TE EC T C"
    )
    everywhere(lambda side: tale(side, {"EC1": terminate}), f"S {EPOCH} T C")


def ask_all(engine: Any) -> None:
    terminate(engine)
    terminate_epoch(engine)
    interrupt(engine)


def ask_two(engine: Any) -> None:
    terminate_epoch(engine)
    interrupt(engine)


@row("R-08")
def what_is_asked_for_together() -> None:
    def all_three(side: Side) -> object:
        told = Tale(side, {"IC1": ask_all})
        first = told.run(), told.engine.should_interrupt
        return *first, told.run([0, 1], 3)

    everywhere(all_three, (f"S ES {ONE} T C", True, f"S {EPOCH} {EPOCH_AGAIN} C"))
    everywhere(lambda side: tale(side, {"IC1": ask_two}), f"S ES {ONE} TE EC IN")


@row("R-09")
def terminate_epoch_in_odd_places() -> None:
    def completed(side: Side) -> object:
        told = Tale(side, {"C1": terminate_epoch})
        return told.run(), told.engine.should_terminate_single_epoch, told.run()

    everywhere(completed, (WHOLE, True, WHOLE))
    everywhere(lambda side: tale(side, {"EC1": terminate_epoch}), WHOLE)
    everywhere(lambda side: tale(side, {"IC3": terminate_epoch}), f"S {EPOCH} ES {AGAIN} TE EC C")


# Pauses

# Every event of the run, and the process function.
EVERYWHERE: Final = ("S1", "ES2", "BS1", "BS4", "BC1", "IS3", "P2", "IC1", "IC4", "EC1", "EC2")


@row("R-10")
def a_pause_at_any_event() -> None:
    """The words before the pause and after it are those of the whole run."""

    def paused(side: Side) -> object:
        seen = []
        for word in EVERYWHERE:
            told = Tale(side, {word: interrupt})
            first, pause, nothing = told.run().partition(" IN")
            seen.append((f"{first} {told.run()}", pause, nothing, told.batches))
        return seen

    everywhere(paused, [(WHOLE, " IN", "", [0, 1, 0, 1])] * len(EVERYWHERE))

    def other_limits(side: Side) -> object:
        told = Tale(side, {"IC1": interrupt})
        told.run()
        return told.run([], 0), told.run([7], 3), told.engine.state.epoch, told.batches

    words = f"{ONE} EC {EPOCH_AGAIN} {EPOCH_AGAIN} C"
    everywhere(other_limits, ("!ValueError", words, 3, [0, 1, 0, 1, 0, 1]))


@row("R-11")
def a_pause_in_odd_places() -> None:
    def program(word: str) -> Any:
        def run(side: Side) -> object:
            told = Tale(side, {word: interrupt, "IN1": interrupt})
            return told.run(), told.run(), told.engine.should_interrupt

        return run

    everywhere(program("EC2"), (f"{WHOLE[:-2]} IN", "C", False))
    everywhere(program("IC1"), (f"S ES {ONE} IN", f"{ONE} EC {EPOCH_AGAIN} C", False))
    everywhere(program("C1"), (WHOLE, WHOLE, False))


@row("R-12")
def a_pause_where_the_data_has_ended() -> None:
    def program(side: Side) -> object:
        told = Tale(side, {"DS1": interrupt})
        return told.run(), told.run()

    everywhere(program, (f"S {EPOCH} ES BS DS IN", f"{ONE} {ONE} EC C"))


def ask_both(engine: Any) -> None:
    terminate_epoch(engine)
    terminate(engine)


@row("R-27")
def without_pauses() -> None:
    """The same loop runs, under either semantics and in pytorch-ignite."""

    def program(side: Side) -> object:
        seen = []
        for deeds in ({"IC1": ask_both}, {"IC1": terminate_epoch}, {"P1": fail}, {}):
            for enabled in (True, False):
                told = Tale(side, deeds, take)
                told.engine.interrupt_resume_enabled = enabled
                seen.append((told.run(), told.batches))
        assert seen[0::2] == seen[1::2]
        return seen

    expected = program(IGNITE)
    here(program, expected)


ROWS: Final = with_records(row, r"R-(0[6-9]|1[0-2]|27)")


@pytest.mark.parametrize("check", ROWS.params())
def test_stop_rule(check: Check) -> None:
    check()
