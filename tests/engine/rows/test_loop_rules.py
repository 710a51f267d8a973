"""Rules of the loop, R-01 to R-05 and R-21 to R-26: data, limits, and what a run begins with.

Each is told in words, and told alike by pytorch-ignite where nothing else is said.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import attrs
import pytest

from tests.engine.rows.differences import with_records
from tests.engine.rows.sides import (
    AGAIN,
    AS_DOCUMENTED,
    EPOCH,
    ONE,
    SIDES,
    WHOLE,
    Side,
    Tale,
    everywhere,
    put,
    tale,
    terminate_epoch,
)
from tests.engine.rows.table import Check, Rows

row: Final = Rows()


@attrs.frozen
class Watched:
    """Data whose iterations are told as well."""

    told: Tale
    batches: tuple[int, ...] = (0, 1)

    def __iter__(self) -> Iterator[int]:
        self.told.words.append("iter")
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


@attrs.frozen
class Empty:
    """Data that can be iterated again and again, and gives nothing."""

    def __iter__(self) -> Iterator[int]:
        return iter(())


# Data


@row("R-01")
def one_iterator_serves_all_epochs() -> None:
    everywhere(tale, WHOLE)
    everywhere(
        lambda side: tale(side, data=[0, 1, 2], epoch_length=2),
        f"S {EPOCH} ES {ONE} {AGAIN} EC C",
    )


@row("R-02")
def when_the_data_is_iterated() -> None:
    def program(side: Side) -> object:
        told = Tale(side)
        told.deeds = {
            "DS1": lambda engine: setattr(engine.state, "dataloader", Watched(told, (7, 8))),
            "IC3": terminate_epoch,
        }
        return told.run(Watched(told), 3), told.batches

    epoch = EPOCH.removeprefix("ES ")
    words = f"S ES iter {epoch} ES BS DS iter BC IS IC TE iter EC {EPOCH} C"
    everywhere(program, (words, [0, 1, 7, 7, 8]))


@row("R-03")
def an_unknown_length_is_found_out() -> None:
    def program(side: Side) -> object:
        told = Tale(side)
        return told.run(iter([0, 1]), 1), told.engine.state.epoch_length

    everywhere(program, (f"S ES {ONE} {ONE} BS EC C", 2))


@row("R-04")
def an_iterator_that_is_used_up() -> None:
    everywhere(
        lambda side: tale(side, data=iter([0]), max_epochs=4),
        f"S ES {ONE} BS EC ES BS DS W EC ES BS DS W EC ES BS DS EC C",
    )


@row("R-24")
def without_data() -> None:
    def program(side: Side) -> object:
        told = Tale(side)
        return told.run(None), told.run(None, epoch_length=1), told.run(None), told.batches

    words = "S ES IS IC EC ES IS IC EC C"
    everywhere(program, ("!ValueError", words, words, [None] * 4))


@row("R-26")
def data_that_gives_nothing() -> None:
    known = "S ES BS DS W EC ES BS DS EC C"
    everywhere(lambda side: tale(side, data=Empty(), epoch_length=2), known)

    for side in SIDES:
        told = Tale(side)
        # The documented engine warns.
        assert told.run(Empty()) == f"S ES BS{' W' if side is AS_DOCUMENTED else ''} EC C"
        assert told.engine.state.epoch_length == 0


# Limits


@row("R-05")
def max_iters() -> None:
    def program(side: Side) -> object:
        told = Tale(side)
        return told.run(max_iters=3), told.engine.should_terminate

    everywhere(lambda side: tale(side, max_iters=2), f"S {EPOCH} C")
    everywhere(program, (f"S {EPOCH} ES {AGAIN} T C", True))


@row("R-21")
def what_is_written_in_a_run() -> None:
    def written(deeds: dict[str, Any]) -> Any:
        def program(side: Side) -> object:
            told = Tale(side, deeds)
            told.run([0, 1, 2])
            return told.batches, told.engine.state.epoch, told.engine.state.iteration

        return program

    everywhere(written({"IS2": put(batch=7)}), ([0, 7, 2, 0, 1, 2], 2, 6))
    everywhere(written({"IC1": put(max_epochs=1)}), ([0, 1, 2], 1, 3))
    everywhere(written({"IC1": put(epoch=2)}), ([0, 1, 2], 2, 3))
    everywhere(written({"IC1": put(iteration=5)}), ([0, 1, 2], 1, 7))
    everywhere(written({"IC1": put(epoch_length=2)}), ([0, 1, 2, 0], 2, 4))
    everywhere(written({"EC1": put(max_epochs=None, max_iters=4)}), ([0, 1, 2, 0], 2, 4))


@row("R-22")
def a_run_behind_a_completed_one() -> None:
    def program(side: Side) -> object:
        told, seen = Tale(side), list[object]()
        for max_epochs in (2, 2, 3, 1, None):
            words = told.run([0], max_epochs)
            seen.append(words if "!" in words else (words.count("EC"), told.engine.state.epoch))
        told.engine.state.max_epochs = None
        told.run([0], max_iters=2)
        seen.append(told.run([0], None).count("EC"))
        return seen, told.engine.state.max_epochs, told.engine.state.max_iters

    seen = [(2, 2), (2, 2), (1, 3), "!ValueError", (1, 1), 1]
    everywhere(program, (seen, 1, None))


@row("R-23")
def a_run_behind_a_loaded_state() -> None:
    def program(side: Side) -> object:
        seen = []
        for iteration, max_epochs in ((5, None), (6, None), (4, 2)):
            told = Tale(side)
            told.engine.load_state_dict(
                {"iteration": iteration, "epoch_length": 2, "max_epochs": 3}
            )
            told.run([0, 1], max_epochs)
            seen.append((told.batches, told.engine.state.epoch, told.engine.state.max_epochs))
        return seen

    everywhere(program, [([0], 3, 3), ([0, 1], 1, 1), ([0, 1, 0, 1], 2, 2)])


@row("R-25")
def filters_count_from_the_start() -> None:
    def program(side: Side) -> object:
        told, fired = Tale(side), list[int]()
        event = side.events.ITERATION_COMPLETED(every=3)
        told.engine.add_event_handler(event, lambda e: fired.append(e.state.iteration))
        told.engine.load_state_dict({"iteration": 4, "epoch_length": 4, "max_epochs": 3})
        told.run([0, 1, 2, 3], None)
        return fired

    everywhere(program, [6, 9, 12])


ROWS: Final = with_records(row, r"R-0[1-5]|R-2[1-6]")


@pytest.mark.parametrize("check", ROWS.params())
def test_loop_rule(check: Check) -> None:
    check()
