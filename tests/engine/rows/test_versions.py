"""Where version 0.2.1, which is documented, and 0.5.5 differ, C-01 to C-40: what is done here.

The documentation decides where it speaks; elsewhere 0.5.5 as it is. C-35 to C-38 are those of the
supervised factories, and checked with them.
"""

from __future__ import annotations

import logging
from enum import Enum
from functools import partial
from typing import Any, Final

import pytest

import fengine.engine
from tests.engine.rows.differences import with_records
from tests.engine.rows.sides import (
    EPOCH,
    IGNITE,
    ONE,
    WHOLE,
    Side,
    Tale,
    everywhere,
    fail,
    here,
    identity,
    outcome,
    put,
    take,
    tale,
    terminate,
    terminate_epoch,
)
from tests.engine.rows.table import Check, Rows

row: Final = Rows()


@row("C-01")
def the_state_before_a_run() -> None:
    everywhere(lambda side: (side.engine().state.epoch, side.engine().state.iteration), (0, 0))


@row("C-02")
def one_state_for_all_runs() -> None:
    def program(side: Side) -> object:
        engine = side.engine()
        state = engine.state
        state.mine, state.metrics["loss"] = "mine", 1.0
        runs = [engine.run([1]), engine.run([1])]
        return [one is state for one in runs], state.mine, state.metrics

    everywhere(program, ([True, True], "mine", {"loss": 1.0}))


@row("C-05")
def data_may_be_left_out() -> None:
    everywhere(lambda side: side.engine().run(max_iters=3, epoch_length=2).iteration, 3)


@row("C-06")
def terminate_in_started() -> None:
    everywhere(lambda side: tale(side, {"S1": terminate}), "S T C")


@row("C-08", "C-09")
def terminate_behind_the_step() -> None:
    for word in ("P1", "IC1"):
        everywhere(partial(tale, deeds={word: terminate}), f"S ES {ONE} T C")
    everywhere(lambda side: tale(side, {"EC1": terminate}), f"S {EPOCH} T C")


@row("C-10")
def completed_behind_a_stop() -> None:
    def silently(engine: Any) -> None:
        engine.terminate(skip_completed=True)

    everywhere(lambda side: tale(side, {"IC1": silently}), f"S ES {ONE} T")


@row("C-13")
def terminate_epoch_in_epoch_completed() -> None:
    everywhere(lambda side: tale(side, {"EC1": terminate_epoch}), WHOLE)


@row("C-17")
def an_iterator_for_several_epochs() -> None:
    words = f"S ES {ONE} BS EC ES BS DS W EC ES BS DS EC C"
    everywhere(lambda side: tale(side, data=iter([0]), max_epochs=3), words)


@row("C-18")
def data_that_cannot_be_iterated() -> None:
    everywhere(lambda side: Tale(side, {}, take).run(7), "!TypeError")


@row("C-20")
def firing_an_unknown_event() -> None:
    everywhere(lambda side: outcome(side.engine().fire_event, "unknown"), "ValueError")


@row("C-21", "C-22")
def what_register_events_takes() -> None:
    def program(side: Side) -> object:
        engine = side.engine()
        engine.register_events("a", "b", event_to_attr={"a": "a_count", "c": "c_count"})
        unknown: Any = {"attributes": {}}
        return (
            [hasattr(engine.state, name) for name in ("a_count", "b_count", "c_count")],
            outcome(engine.register_events, "d", **unknown),
        )

    everywhere(program, ([True, False, False], "TypeError"))


@row("C-23")
def a_handler_without_the_engine() -> None:
    def program(side: Side) -> object:
        engine, calls = side.engine(), list[int]()
        engine.add_event_handler(side.events.STARTED, calls.append, 7)
        engine.run([1])
        return calls

    everywhere(program, [7])


@row("C-25")
def the_iterator_behind_a_taken_exception() -> None:
    def program(side: Side) -> object:
        told = Tale(side, {"P2": fail}, take)
        told.run([0, 1, 2])
        return told.batches

    everywhere(program, [0, 1, 2, 0, 1])


@row("C-26")
def a_handler_that_raises_again() -> None:
    """Twice in either version; here once, as C4 says."""

    def program(side: Side) -> object:
        return Tale(side, {"P1": fail}, fail).run()

    assert program(IGNITE) == "S ES BS BC IS E E !Fault"
    here(program, "S ES BS BC IS E !Fault")


@row("C-27")
def a_stop_iteration_of_the_process_function() -> None:
    """Itself in the documented version, and here, as C5 says."""

    def stop(engine: Any) -> None:
        raise StopIteration

    here(lambda side: tale(side, {"P1": stop}), "S ES BS BC IS !StopIteration")


@row("C-28")
def a_batch_written_before_the_step() -> None:
    def program(side: Side) -> object:
        told = Tale(side, {"IS1": put(batch=7)})
        told.run(max_epochs=1)
        return told.batches

    everywhere(program, [7, 1])


@row("C-29")
def the_output_between_iterations() -> None:
    def program(side: Side) -> object:
        engine, seen = side.engine(), list[object]()
        for event in (side.events.GET_BATCH_STARTED, side.events.ITERATION_STARTED):
            engine.add_event_handler(event, lambda e: seen.append(e.state.output))
        engine.run([7, 8])
        return seen

    everywhere(program, [None, None, 7, None])


@row("C-30", "C-31")
def a_state_made_by_hand() -> None:
    fields = [
        "iteration",
        "epoch",
        "epoch_length",
        "max_epochs",
        "max_iters",
        "output",
        "batch",
        "dataloader",
        "seed",
    ]
    everywhere(lambda side: side.package.State(iteration=5).iteration, 5)
    everywhere(
        lambda side: [getattr(side.package.State(), name) for name in fields], [0, 0] + [None] * 7
    )
    times = {"EPOCH_COMPLETED": None, "COMPLETED": None}
    everywhere(lambda side: (side.package.State().metrics, side.package.State().times), ({}, times))


@row("C-32", "C-33")
def events_are_equal_by_name_and_members() -> None:
    def program(side: Side) -> object:
        started = side.events.STARTED
        equal = started == "STARTED", hash(started) == hash("STARTED"), started == started(every=2)
        member = isinstance(started, Enum), side.events("started") is started
        return equal, member, side.events["STARTED"] is started

    everywhere(program, ((True, True, True), (True, True), True))


@row("C-34")
def the_logger() -> None:
    engine = fengine.engine.Engine(identity)
    assert engine.logger is logging.getLogger("fengine.engine.engine.Engine")
    assert logging.getLogger("fengine.engine").handlers != []


@row("C-39")
def errors_name_the_class() -> None:
    class Trainer(fengine.engine.Engine):
        pass

    for kind in (fengine.engine.Engine, Trainer):
        with pytest.raises(ValueError, match=f"is not an event of this {kind.__name__}"):
            kind(identity).fire_event("unknown")


@row("C-40")
def no_epochs() -> None:
    everywhere(lambda side: tale(side, max_epochs=0), "S C")


ROWS: Final = with_records(row, r"C-\d+")


@pytest.mark.parametrize("check", ROWS.params())
def test_version(check: Check) -> None:
    check()
