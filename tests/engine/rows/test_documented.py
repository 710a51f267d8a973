"""What version 0.2.1 documented, B-01 to B-13: it is all there, under its own semantics."""

from __future__ import annotations

import inspect
from enum import Enum
from typing import Any, Final

import pytest

import fengine.engine
from tests.engine.rows.sides import (
    AS_DOCUMENTED,
    ONE,
    Side,
    Tale,
    everywhere,
    outcome,
    play,
    tale,
    terminate,
    terminate_epoch,
)
from tests.engine.rows.table import Check, Rows

ROWS: Final = Rows()


class Custom(Enum):
    FOO_EVENT = "foo_event"
    BAR_EVENT = "bar_event"


def names(function: Any) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name != "self"]


@ROWS("B-01")
def what_is_imported_from_where() -> None:
    for name in ("Engine", "State", "Events"):
        assert hasattr(fengine.engine, name)
    assert callable(fengine.engine.create_supervised_trainer)
    assert callable(fengine.engine.create_supervised_evaluator)
    assert fengine.engine.engine.RemovableEventHandle is fengine.engine.RemovableEventHandle


@ROWS("B-02")
def the_seven_events() -> None:
    seven = "EPOCH_STARTED EPOCH_COMPLETED STARTED COMPLETED ITERATION_STARTED ITERATION_COMPLETED"
    names = [*seven.split(), "EXCEPTION_RAISED"]
    everywhere(
        lambda side: [side.events[name].value for name in names], list(map(str.lower, names))
    )


@ROWS("B-03")
def the_state_and_its_counters() -> None:
    def program(side: Side) -> object:
        engine = side.engine()
        state = engine.run([1, 2], max_epochs=2)
        six = [event for event in side.events if "BATCH" not in event.name]
        counters = [outcome(state.get_event_attrib_value, event) for event in six[:7]]
        fields = state.iteration, state.epoch, state.max_epochs, state.output, state.batch
        return counters, fields, state.dataloader, state.metrics, side.package.State(a=1).a

    counters = [2, 2, 2, 2, 4, 4, "RuntimeError"]
    everywhere(program, (counters, (4, 2, 2, 2, 2), [1, 2], {}, 1))


@ROWS("B-04")
def the_handle() -> None:
    def program(side: Side) -> object:
        engine, calls = side.engine(), list[int]()
        with engine.add_event_handler(side.events.STARTED, lambda: calls.append(1)) as handle:
            engine.run([1])
        engine.run([1])
        handle.remove()
        kind = side.package.RemovableEventHandle
        return calls, names(kind), isinstance(handle, kind), handle.engine() is engine

    everywhere(program, ([1], ["event_name", "handler", "engine"], True, True))


@ROWS("B-05")
def the_engine() -> None:
    def program(side: Side) -> object:
        engine = side.engine()
        flags = engine.should_terminate, engine.should_terminate_single_epoch
        return flags, outcome(side.package.Engine, None), outcome(side.engine, lambda engine: None)

    everywhere(program, ((False, False), "ValueError", "ValueError"))


@ROWS("B-06")
def any_name_is_an_event() -> None:
    engine = AS_DOCUMENTED.engine()
    engine.register_events(*Custom, "name", 3, event_to_attr={Custom.FOO_EVENT: "foo"})
    assert engine.state.foo == 0
    assert all(engine.has_registered_events(event) for event in (*Custom, "name", 3))
    everywhere(
        lambda side: outcome(side.engine().register_events, "a", event_to_attr=["a"]), "ValueError"
    )


@ROWS("B-07")
def the_methods_of_handlers() -> None:
    def program(side: Side) -> object:
        engine, calls = side.engine(), list[object]()

        def handler(first: Any, *args: Any, **kwargs: Any) -> None:
            calls.append((first is engine, args, kwargs))

        assert engine.on(side.events.STARTED, 1, key=2)(handler) is handler
        engine.run([1])
        known = engine.has_event_handler(handler), engine.has_event_handler(handler, "COMPLETED")
        engine.remove_event_handler(handler, side.events.STARTED)
        engine.run([1])
        return calls, known

    everywhere(program, ([(True, (1,), {"key": 2})], (True, False)))


@ROWS("B-08")
def firing_by_hand() -> None:
    def program(side: Side) -> object:
        engine, calls = side.engine(), list[int]()
        engine.register_events("mine")
        engine.add_event_handler("mine", lambda: calls.append(1))
        engine.fire_event("mine")
        return calls

    everywhere(program, [1])


@ROWS("B-09")
def a_stop_acts_after_the_current_iteration() -> None:
    for word in ("ES1", "BS1", "BC1", "IS1", "P1", "IC1"):
        assert tale(AS_DOCUMENTED, {word: terminate}) == f"S ES {ONE} T C"
        told = tale(AS_DOCUMENTED, {word: terminate_epoch}, max_epochs=1)
        assert told == f"S ES {ONE} TE EC C"


@ROWS("B-10")
def the_run() -> None:
    def program(side: Side) -> object:
        runs = [
            side.engine().run([1, 2]),
            side.engine().run([1, 2], 2),
            side.engine().run(data=[1, 2], max_epochs=3),
        ]
        return [(state.epoch, state.output) for state in runs]

    everywhere(program, [(1, 2), (2, 2), (3, 2)])


@ROWS("B-11")
def the_factories() -> None:
    common = ["device", "non_blocking", "prepare_batch", "output_transform"]
    trainer, evaluator = (
        inspect.signature(getattr(fengine.engine, f"create_supervised_{kind}")).parameters
        for kind in ("trainer", "evaluator")
    )
    assert [*trainer][:7] == ["model", "optimizer", "loss_fn", *common]
    assert [*evaluator][:6] == ["model", "metrics", *common]
    assert trainer["device"].default is evaluator["device"].default is None
    assert trainer["non_blocking"].default is evaluator["non_blocking"].default is False
    assert evaluator["metrics"].default is None


@ROWS("B-12")
def the_concepts() -> None:
    def program(side: Side) -> object:
        told, epochs = Tale(side), list[int]()
        event = side.events.EPOCH_COMPLETED
        with told.engine.add_event_handler(event, lambda e: epochs.append(e.state.epoch)):
            words = told.run()
        documented = [word for word in words.split() if word not in ("BS", "DS", "BC")]
        return " ".join(documented), epochs

    epoch = "ES IS IC IS IC EC"
    everywhere(program, (f"S {epoch} {epoch} C", [1, 2]))


@ROWS("B-13")
def events_made_while_the_program_runs() -> None:
    """An Enum made at run time, whose counter is written into the registry of all states."""

    def program(side: Side) -> object:
        made: Any = Enum
        event, fired = made("Periodic", ["EVERY_TWO"]).EVERY_TWO, list[int]()
        side.package.State.event_to_attr[event] = "every_two"
        engine = side.engine()
        engine.register_events(event)

        def fire() -> None:
            engine.state.every_two += 1
            engine.fire_event(event)

        engine.add_event_handler(side.events.ITERATION_STARTED(every=2), fire)
        engine.add_event_handler(event, lambda: fired.append(engine.state.every_two))
        engine.run(range(5))
        return fired, engine.state.get_event_attrib_value(event)

    assert play(program, AS_DOCUMENTED) == ([1, 2], 2)


@pytest.mark.parametrize("check", ROWS.params())
def test_documented(check: Check) -> None:
    check()
