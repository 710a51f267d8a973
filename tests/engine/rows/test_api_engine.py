"""Rows A-080 to A-088: the attributes of an engine, and what a subclass may replace."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from fengine.engine import Engine
from tests.engine.rows.sides import (
    Side,
    everywhere,
    identity,
    interrupt,
    outcome,
    terminate,
    terminate_epoch,
)
from tests.engine.rows.table import Check, Rows

rows = Rows()


@rows("A-080")
def interrupt_is_forbidden_by_class_subclass_or_instance() -> None:
    def program(side: Side) -> object:
        class Sub(side.package.Engine):  # type: ignore[misc, name-defined]  # of either package
            interrupt_resume_enabled = False

        engine = side.engine()
        outcomes = [outcome(engine.interrupt), outcome(Sub(identity).interrupt)]
        engine.interrupt_resume_enabled = False
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(side.package.Engine, "interrupt_resume_enabled", False)
            outcomes.append(outcome(side.engine().interrupt))
        return [*outcomes, outcome(engine.interrupt), side.package.Engine.interrupt_resume_enabled]

    everywhere(program, [None, *3 * ["RuntimeError"], True])


@rows("A-081")
def the_logger_is_named_for_module_and_class_and_can_be_replaced() -> None:
    def program(side: Side) -> object:
        class Sub(side.package.Engine):  # type: ignore[misc, name-defined]  # of either package
            pass

        module = side.package.Engine.__module__
        names = [kind(identity).logger.name for kind in (side.package.Engine, Sub)]
        engine = side.engine()
        engine.logger = mine = logging.getLogger("mine")
        engine.run([1])
        return names == [f"{module}.Engine", f"{module}.Sub"], engine.logger is mine

    everywhere(program, (True, True))
    assert Engine.__module__ == "fengine.engine.engine"


@rows("A-082")
def the_state_is_there_from_the_beginning_and_can_be_assigned() -> None:
    def program(side: Side) -> object:
        engine = side.engine()
        assert type(engine.state) is side.package.State
        engine.state = side.package.State(epoch=1, iteration=2, epoch_length=2, max_epochs=3)
        engine.run([1, 2])
        return engine.state.epoch, engine.state.iteration

    everywhere(program, (3, 6))


@rows("A-083")
def the_last_event_is_what_was_fired_last_whatever_is_written_then() -> None:
    def program(side: Side) -> object:
        engine = side.engine()
        engine.register_events("mine")
        last, seen = [engine.last_event_name], list[object]()
        engine.add_event_handler(
            side.events.ITERATION_STARTED, lambda engine: seen.append(engine.last_event_name)
        )
        last.append(engine.run([1]) and engine.last_event_name)
        engine.fire_event("mine")
        engine.state.iteration = 7
        return [*last, engine.last_event_name, *seen]

    everywhere(program, [None, "COMPLETED", "mine", "ITERATION_STARTED"])


def flags(side: Side, name: str, ask: Any, at: tuple[str, ...]) -> list[object]:
    """Give a flag where it is asked for, at some events after it, and when the run is over."""
    engine, seen = side.engine(), list[object]()

    def note() -> None:
        seen.append(getattr(engine, name))

    ask(engine)
    note()
    for event in at:
        engine.add_event_handler(side.events[event], note)
    engine.add_event_handler(side.events.ITERATION_COMPLETED(once=1), lambda: ask(engine))
    engine.add_event_handler(side.events.ITERATION_COMPLETED(once=1), note)
    engine.run([1, 2], max_epochs=2)
    note()
    return seen


@rows("A-084")
def should_terminate_is_reset_by_a_new_run_only() -> None:
    def program(side: Side) -> object:
        suspended = side.engine(lambda engine, batch: engine.interrupt())
        suspended.run([1, 2])
        suspended.terminate()
        return [
            flags(side, "should_terminate", terminate, ("STARTED", "COMPLETED")),
            flags(side, "should_terminate", lambda engine: engine.terminate(True), ("STARTED",)),
            suspended.run([1, 2]) and suspended.should_terminate,
        ]

    skip = "skip_completed"
    everywhere(program, [[True, False, True, True, True], [skip, False, skip, skip], True])


@rows("A-085")
def should_terminate_single_epoch_is_reset_behind_epoch_completed() -> None:
    def program(side: Side) -> object:
        name, at = "should_terminate_single_epoch", ("EPOCH_STARTED", "EPOCH_COMPLETED")
        return [
            flags(side, name, terminate_epoch, at),
            flags(side, name, lambda engine: engine.terminate_epoch(True), at),
        ]

    skip = "skip_epoch_completed"
    kept = [True, False, True, True, False, False, False]
    everywhere(program, [kept, [skip, False, skip, False, False, False]])


@rows("A-086")
def should_interrupt_is_reset_behind_the_handlers_of_interrupt() -> None:
    def program(side: Side) -> object:
        return flags(side, "should_interrupt", interrupt, ("STARTED", "INTERRUPT"))

    everywhere(program, [True, False, True, True, False])


@rows("A-087")
def the_user_keys_are_a_list_to_append_to() -> None:
    def program(side: Side) -> object:
        engine = side.engine()
        keys = engine.state_dict_user_keys
        keys.append("rate")
        engine.state.rate = 0.1
        return type(keys), engine.state_dict_user_keys is keys, engine.state_dict()["rate"]

    everywhere(program, (list, True, 0.1))


@rows("A-088")
def what_a_subclass_replaces_is_what_is_called() -> None:
    def program(side: Side) -> object:
        calls: list[str] = []

        class Sub(side.package.Engine):  # type: ignore[misc, name-defined]  # of either package
            def _fire_event(self, event_name: Any, *args: Any, **kwargs: Any) -> None:
                calls.append(event_name.name)
                super()._fire_event(event_name, *args, **kwargs)

            def _setup_engine(self) -> None:
                calls.append("setup")
                super()._setup_engine()
                self._dataloader_iter = iter(["mine"])

            def run(self, batches: Any) -> Any:
                calls.append("run")
                return super().run(data=batches, max_epochs=1)

            def state_dict(self) -> Any:
                return {**super().state_dict(), "more": 1}

            def load_state_dict(self, state_dict: Any) -> None:
                super().load_state_dict({**state_dict, "max_epochs": 7})

        engine = Sub(identity)
        assert engine.run(["theirs"]).output == "mine"
        engine.load_state_dict({"iteration": 2, "epoch_length": 2})
        return calls, dict(engine.state_dict())

    begin = ["run", "STARTED", "EPOCH_STARTED", "setup", "GET_BATCH_STARTED", "GET_BATCH_COMPLETED"]
    end = ["ITERATION_STARTED", "ITERATION_COMPLETED", "EPOCH_COMPLETED", "COMPLETED"]
    saved = {"epoch_length": 2, "iteration": 2, "max_epochs": 7, "more": 1}
    everywhere(program, ([*begin, *end], saved))


@pytest.mark.parametrize("check", rows.params())
def test_row(check: Check) -> None:
    check()
