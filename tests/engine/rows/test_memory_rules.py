"""Rules of memory and identity, R-40 to R-44: what is released, and when, without a collector."""

from __future__ import annotations

import functools
import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Final
from unittest.mock import MagicMock, create_autospec

import pytest

from tests.engine.rows.sides import (
    Fault,
    Side,
    everywhere,
    fail,
    here,
    identity,
    interrupt,
    take,
    terminate,
)
from tests.engine.rows.table import Check, Rows

ROWS: Final = Rows()


class Thing:
    """Stand for a large batch or output, which can be watched."""


def made(side: Side, process: Callable[[Any, Any], Any]) -> Any:
    """Make an engine with a handler of each kind."""
    engine, events = side.engine(process), side.events
    engine.add_event_handler(events.STARTED, lambda engine: None)
    engine.add_event_handler(events.GET_BATCH_COMPLETED, lambda: None)
    engine.add_event_handler(events.ITERATION_STARTED(every=2), lambda engine: None)
    engine.add_event_handler(events.EPOCH_STARTED | events.EPOCH_COMPLETED, lambda engine: None)
    engine.add_event_handler(events.EXCEPTION_RAISED, take)
    engine.add_event_handler(events.COMPLETED, functools.partial(take, error=Fault()))
    return engine


def freed(engine: Any) -> bool:
    """Run an engine, drop it, and tell whether it is gone."""
    engine.run([1, 2], max_epochs=2)
    references = [weakref.ref(engine), weakref.ref(engine.state)]
    del engine
    return [reference() for reference in references] == [None, None]


def dropped(process: Callable[[Any, Any], Any], side: Side) -> bool:
    return freed(made(side, process))


@ROWS("R-40")
def an_engine_is_freed_with_its_last_reference() -> None:
    def with_a_handler(side: Side) -> Any:
        engine = side.engine()
        engine.add_event_handler(side.events.ITERATION_STARTED, lambda engine: None)
        return engine

    everywhere(lambda side: freed(side.engine()), True)
    everywhere(lambda side: freed(with_a_handler(side)), True)
    for process in (identity, terminate_first, pause_first, fail):
        # There, a handler that does not take the engine leaves a cycle behind.
        here(functools.partial(dropped, process), True)


def terminate_first(engine: Any, batch: Any) -> None:
    terminate(engine)


def pause_first(engine: Any, batch: Any) -> None:
    interrupt(engine)


class Watching:
    """Data and a process function that see whether what went before is gone."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.batches: list[weakref.ref[Thing]] = []
        self.outputs: list[weakref.ref[Thing]] = []
        self.alive = 0

    def __iter__(self) -> Iterator[Thing]:
        for _ in range(self.length):
            self.alive += sum(batch() is not None for batch in self.batches)
            thing = Thing()
            self.batches.append(weakref.ref(thing))
            yield thing
            del thing

    def process(self, engine: Any, batch: Thing) -> Thing:
        self.alive += sum(output() is not None for output in self.outputs)
        output = Thing()
        self.outputs.append(weakref.ref(output))
        return output


@ROWS("R-41")
def the_last_batch_and_output_are_released() -> None:
    def with_handlers(side: Side) -> object:
        return watched(made, side)

    def without_handlers(side: Side) -> object:
        return watched(lambda side, process: side.engine(process), side)

    def watched(make: Callable[..., Any], side: Side) -> object:
        watching = Watching(3)
        engine = make(side, watching.process)
        engine.run(watching, max_epochs=2)
        last = watching.outputs[-1]() is engine.state.output is not None
        return watching.alive, len(watching.outputs), last

    everywhere(with_handlers, (0, 6, True))
    everywhere(without_handlers, (0, 6, True))


@ROWS("R-42")
def a_handle_outlives_engine_and_handler() -> None:
    def program(side: Side) -> object:
        engine = side.engine()
        handles = [
            engine.add_event_handler(side.events.STARTED, lambda engine: None),
            engine.add_event_handler(side.events.STARTED(every=2), lambda: None),
        ]
        before = [handle.engine() is engine for handle in handles]
        del engine
        for handle in handles:
            handle.remove()
        return before, [(handle.engine(), handle.handler()) for handle in handles]

    everywhere(program, ([True, True], [(None, None), (None, None)]))


class Owner:
    """Own a handler, and note what it is called with."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def handle(self, engine: Any) -> None:
        self.calls.append(engine.state.iteration)


@ROWS("R-43")
def handlers_of_all_kinds() -> None:
    def program(side: Side) -> object:
        engine, owner = side.engine(), Owner()

        @functools.wraps(owner.handle)
        def wrapped(engine: Any) -> None:
            owner.calls.append("wrapped")

        mock = MagicMock(spec_set=True)
        spec = create_autospec(Owner.handle)
        handlers = [owner.handle, wrapped, mock, functools.partial(spec, owner)]
        event = side.events.COMPLETED
        for handler in handlers:
            engine.add_event_handler(event, handler)
        known = [engine.has_event_handler(handler, event) for handler in handlers]
        engine.run([1])
        counts = owner.calls, mock.call_count, spec.call_count
        for handler in handlers:
            engine.remove_event_handler(handler, event)
        engine.run([1])
        return known, counts, engine.has_event_handler(owner.handle)

    everywhere(program, ([True] * 4, ([1, "wrapped"], 1, 1), False))

    def kept(side: Side) -> object:
        engine, owner = side.engine(), Owner()
        engine.add_event_handler(side.events.COMPLETED, owner.handle)
        reference = weakref.ref(owner)
        del owner
        engine.run([1])
        return getattr(reference(), "calls", None)

    everywhere(kept, [1])


# The package ships no tests, so what its own tests touch of an engine is asked for by name.
TOUCHED: Final = (
    "_dataloader_iter",
    "_event_handlers",
    "_fire_event",
    "_init_iter",
    "_internal_run",
    "_setup_engine",
    "_state_dict_all_req_keys",
    "_state_dict_one_of_opt_keys",
)


@ROWS("R-44")
def what_the_tests_of_pytorch_ignite_touch() -> None:
    def program(side: Side) -> object:
        engine = side.engine()
        there = [hasattr(engine, name) for name in TOUCHED]
        event = side.events.STARTED(every=2)
        engine.add_event_handler(event, take, None)
        wrapper = engine._event_handlers[side.events.STARTED][0][0]
        parent = wrapper._parent()
        mock = MagicMock(spec=side.package.Engine)
        mock.add_event_handler(event, take)
        return there, parent is take, mock.add_event_handler.call_count

    everywhere(program, ([True] * len(TOUCHED), True, 1))


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("check", ROWS.params())
def test_memory_rule(check: Check) -> None:
    check()
