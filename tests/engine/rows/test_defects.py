"""The rows A1 to E15 of the list of defects: fixed here, or done right by `Loop`.

The records have most of them; what has no two sides to compare is here, and E5, E13 are among the
checks of the supervised engines.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

import pytest

from fengine import Events, Loop, outputs, tap
from fengine.engine import Engine
from tests.engine.rows.differences import with_records
from tests.engine.rows.sides import ONE, Side, Tale, everywhere, here, terminate
from tests.engine.rows.table import Check, Rows

row: Final = Rows()


@row("A16")
def a_stop_within_an_epoch_completes_no_epoch() -> None:
    """The documentation of that version says it does; ours is checked as row Q-15."""
    everywhere(lambda side: Tale(side, {"IC1": terminate}).run(), f"S ES {ONE} T C")


def note(calls: list[int], number: int, state: object) -> None:
    calls.append(number)


@row("B11")
def handlers_run_in_the_order_of_adding() -> None:
    def there(side: Side) -> object:
        engine, calls = side.engine(), list[int]()
        for number in range(4):
            event = side.events.COMPLETED if number % 2 else side.events.COMPLETED(every=1, after=0)
            engine.add_event_handler(event, calls.append, number)
        engine.run([1])
        return calls

    everywhere(there, [0, 1, 2, 3])
    calls: list[int] = []
    loop: Loop[Any, Any, Any] = Loop(outputs(abs))
    for number in range(4):
        loop = loop.on(Events.COMPLETED, tap(partial(note, calls, number)))
    loop.run([1])
    assert calls == [0, 1, 2, 3]


WRITTEN: Final = {"epoch_length": 2, "iteration": 3, "max_epochs": 2}


@row("D14")
def a_state_that_does_not_fit_is_refused_by_name() -> None:
    engine = Engine(lambda engine, batch: batch)
    engine.state_dict_user_keys.append("rate")
    with pytest.raises(AttributeError, match="'rate'"):
        engine.state_dict()
    with pytest.raises(ValueError, match=r"'rate'.*'epoch_length', 'iteration', 'max_epochs'"):
        engine.load_state_dict(WRITTEN)
    assert (engine.state.iteration, engine.state.max_epochs) == (0, None)
    engine.load_state_dict(WRITTEN | {"rate": 0.1, "unknown": 1})
    assert (engine.state.iteration, engine.state.rate) == (3, 0.1)


class Thing:
    """Stand for a tensor on a GPU."""


@row("D20")
def nothing_is_kept_between_iterations() -> None:
    """At a new batch the one before it and its output are gone; the last ones are the result."""

    def watching(made: list[weakref.ref[Thing]]) -> Callable[[], Thing]:
        def make() -> Thing:
            assert [one() for one in made] == [None] * len(made)
            thing = Thing()
            made.append(weakref.ref(thing))
            return thing

        return make

    def data(make: Callable[[], Thing]) -> Iterator[Thing]:
        for _ in range(3):
            yield make()

    def program(side: Side) -> object:
        batches: list[weakref.ref[Thing]] = []
        results: list[weakref.ref[Thing]] = []
        batch, output = watching(batches), watching(results)
        state = side.engine(lambda engine, batch: output()).run(data(batch), epoch_length=3)
        return state.batch is batches[-1]() is not None, state.output is results[-1]() is not None

    everywhere(program, (True, True))
    batches: list[weakref.ref[Thing]] = []
    results: list[weakref.ref[Thing]] = []
    output = watching(results)
    loop: Loop[Any, Any, Any] = Loop(outputs(lambda batch: output()))
    final = loop.run(data(watching(batches)), epoch_length=3)
    assert (final.batch, final.output) == (batches[-1](), results[-1]())
    assert len(batches) == len(results) == 3


@row("D21")
def handlers_make_no_cycle() -> None:
    """Neither a closure over the engine's own model, nor a handler that takes no engine."""

    def using(side: Side, model: Thing) -> Any:
        engine = side.engine()
        engine.add_event_handler(side.events.STARTED, lambda engine: model)
        engine.add_event_handler(side.events.STARTED, lambda: model)
        engine.add_event_handler(side.events.STARTED(every=2), lambda engine: model)
        return engine

    def program(side: Side) -> object:
        model = Thing()
        engine = using(side, model)
        engine.run([1])
        references = weakref.ref(engine), weakref.ref(model)
        del engine, model
        return [reference() is None for reference in references]

    gc.disable()
    try:
        here(program, [True, True])
    finally:
        gc.enable()


ROWS: Final = with_records(row, r"[A-E]\d+")


@pytest.mark.parametrize("check", ROWS.params())
def test_defect(check: Check) -> None:
    check()
