"""Rows E-01 to E-49, W-01 and W-02: what is refused, and what is not; what warns."""

from __future__ import annotations

import gc
import logging
import weakref
from typing import Any

import numpy as np
import pytest
from typing_extensions import override

from tests.engine.rows.calls import Unsized
from tests.engine.rows.refusals import REFUSALS, Refusal
from tests.engine.rows.sides import (
    AS_DOCUMENTED,
    AS_IGNITE,
    IGNITE,
    SIDES,
    Side,
    Tale,
    everywhere,
    here,
    outcome,
    own_events,
    play,
    take,
    terminate_epoch,
)
from tests.engine.rows.table import Check, Rows

rows = Rows()


@pytest.mark.parametrize("side", SIDES, ids=[side.name for side in SIDES])
@pytest.mark.parametrize("refusal", REFUSALS, ids=str)
def test_refusal(refusal: Refusal, side: Side) -> None:
    if side not in refusal.by:
        play(refusal.call, side)
        return
    with pytest.raises(refusal.error) as caught:
        play(refusal.call, side)
    missing = [words for words in refusal.words if words not in str(caught.value)]
    assert side is IGNITE or missing == []


@rows("E-04")
def built_in_functions_with_a_signature_are_handlers() -> None:
    def program(side: Side) -> object:
        engine = side.engine()
        for handler in (print, len):
            engine.add_event_handler(side.events.INTERRUPT, handler)
        return [engine.has_event_handler(handler) for handler in (print, len)]

    everywhere(program, [True, True])


@rows("E-06", "E-11")
def what_is_refused_in_part_is_refused_as_a_whole() -> None:
    def program(side: Side) -> object:
        engine, own = side.engine(), own_events(side)
        refused = [
            outcome(engine.register_events, "good", ["unhashable"]),
            outcome(engine.add_event_handler, side.events.STARTED | own.TICK, repr),
        ]
        return refused, engine.has_registered_events("good"), engine.has_event_handler(repr)

    assert program(IGNITE) == (["TypeError", "ValueError"], True, True)
    here(program, (["TypeError", "ValueError"], False, False))


class Noting(logging.Handler):
    """Note the levels of what is logged."""

    def __init__(self, levels: list[str]) -> None:
        super().__init__()
        self.levels = levels

    @override
    def emit(self, record: logging.LogRecord) -> None:
        self.levels.append(record.levelname)


@rows("E-07")
def an_unknown_event_is_logged_as_an_error() -> None:
    def program(side: Side) -> object:
        levels: list[str] = []
        engine = side.engine()
        engine.logger = logging.getLogger(f"{__name__}.{side.name}")
        engine.logger.propagate = False
        engine.logger.handlers = [Noting(levels)]
        return outcome(engine.add_event_handler, "no", repr), levels

    everywhere(program, ("ValueError", ["ERROR"]))


@rows("E-09")
def a_handler_of_exceptions_is_given_the_exception_and_its_engine_by_name() -> None:
    def program(side: Side) -> object:
        given: list[list[str]] = []

        def both(first: Any, error: Exception) -> None:
            given.append([type(first).__name__, type(error).__name__])

        def error_only(error: Exception) -> None:
            given.append([type(error).__name__])

        def engine_only(engine: Any) -> None:
            given.append([type(engine).__name__])

        engine = side.engine(lambda engine, batch: 1 / 0)
        for handler in (both, error_only, engine_only):
            engine.add_event_handler(side.events.EXCEPTION_RAISED, handler)
        engine.run([1])
        return given

    given = [["Engine", "ZeroDivisionError"], ["ZeroDivisionError"]]
    assert program(IGNITE) == [*given, ["ZeroDivisionError"]]
    here(program, [*given, ["Engine"]])


@rows("E-10")
def a_handler_of_terminate_single_epoch_names_its_parameter_as_it_likes() -> None:
    def program(side: Side) -> object:
        tale, given = Tale(side, {"IC2": terminate_epoch}), list[int]()

        def named(engine: Any, iter_counter: int) -> None:
            given.append(iter_counter)

        def other(engine: Any, n: int) -> None:
            given.append(10 * n)

        for handler in (named, other):
            tale.engine.add_event_handler(side.events.TERMINATE_SINGLE_EPOCH, handler)
        return tale.run((0, 1, 2), 1).split()[-1], given

    assert program(IGNITE) == ("!TypeError", [2])
    here(program, ("C", [2, 20]))


@rows("E-13")
def a_weak_reference_that_is_an_argument_stays_one() -> None:
    def program(side: Side) -> object:
        engine, given = side.engine(), list[object]()
        dead = weakref.ref(Side("short-lived", None))
        engine.add_event_handler(side.events.STARTED, given.append, dead)
        return outcome(engine.fire_event, side.events.STARTED) or given == [dead]

    assert program(IGNITE) == "RuntimeError"
    here(program, True)


@rows("E-16")
def a_handler_with_a_filter_lives_as_long_as_it_is_registered() -> None:
    def program(side: Side) -> object:
        engine = side.engine()
        handle = engine.add_event_handler(side.events.STARTED(every=2), lambda engine: None)
        gc.collect()
        handler = handle.handler()._parent()
        handle.remove()
        return callable(handler), engine.has_event_handler(handler)

    everywhere(program, (True, False))


@rows("E-19", "E-20")
def other_integers_and_sequences_are_taken() -> None:
    def program(side: Side) -> object:
        event = side.events.STARTED
        filters = [event(every=np.int64(3)), event(once=(2, 5)), event(once=range(1, 4))]
        found = [[n for n in range(7) if one.filter(None, n)] for one in filters]
        return [*found, event(every=True).filter]

    everywhere(program, [[0, 3, 6], [2, 5], [1, 2, 3], None])


@rows("E-25")
def firings_of_an_event_without_a_counter_are_counted() -> None:
    def program(side: Side) -> object:
        engine, own, calls = side.engine(), own_events(side), list[int]()
        engine.register_events(*own)
        engine.add_event_handler(own.TICK(every=2), calls.append, 1)
        fired = [outcome(engine.fire_event, own.TICK) for _ in range(5)]
        return calls if set(fired) == {None} else fired[0]

    assert program(IGNITE) == "RuntimeError"
    here(program, [1, 1])


@rows("E-27")
def an_epoch_that_ends_before_its_first_batch_is_an_exception_or_has_one() -> None:
    def program(side: Side) -> object:
        deeds = {"S1": terminate_epoch}, {"ES1": terminate_epoch}
        return [Tale(side, deed, take).run(max_epochs=1) for deed in deeds]

    assert program(IGNITE) == program(AS_IGNITE) == ["S E", "S ES E"]
    assert program(AS_DOCUMENTED) == 2 * ["S ES BS BC IS IC TE EC C"]


@rows("E-32")
def a_limit_of_a_new_state_may_be_0() -> None:
    everywhere(lambda side: Tale(side).run([1], 0), "S C")


@rows("E-37")
def data_whose_len_raises_a_type_error_has_an_unknown_length() -> None:
    everywhere(lambda side: side.engine().run(Unsized(TypeError())).iteration, 1)


@rows("E-40")
def data_that_is_refused_is_not_kept() -> None:
    def program(side: Side) -> object:
        engine = side.engine()
        return outcome(engine.set_data, 7), engine.state.dataloader

    assert program(IGNITE) == ("TypeError", 7)
    here(program, ("TypeError", None))


@rows("E-48")
def a_state_dict_that_is_refused_changes_nothing_and_one_without_a_limit_is_taken() -> None:
    def program(side: Side) -> object:
        engine = side.engine()
        engine.load_state_dict({"epoch": 1, "epoch_length": 3, "max_epochs": None})
        refused = outcome(engine.load_state_dict, {"epoch": 4, "epoch_length": 2, "max_epochs": 3})
        return refused, engine.state.epoch, engine.state.epoch_length

    assert program(IGNITE) == ("ValueError", 4, 2)
    here(program, ("ValueError", 1, 3))


@rows("W-01")
def the_default_filter_warns_and_holds() -> None:
    def program(side: Side) -> object:
        with pytest.warns(UserWarning, match="filter"):
            return side.package.CallableEventWithFilter.default_event_filter(None, 3)

    everywhere(program, True)


@rows("W-02")
def data_that_has_run_dry_warns_in_each_epoch_but_the_last() -> None:
    dry = "ES BS DS W EC ES BS DS W EC ES BS DS EC"
    everywhere(
        lambda side: Tale(side).run(iter([0, 1]), 4, epoch_length=2),
        f"S ES BS BC IS IC BS BC IS IC EC {dry} C",
    )
    for side in (AS_DOCUMENTED, AS_IGNITE):
        with pytest.warns(UserWarning, match="no batch in epoch 2, .* max_epochs=3"):
            side.engine().run(iter([0]), 3, epoch_length=1)


@pytest.mark.parametrize("check", rows.params())
def test_row(check: Check) -> None:
    check()
