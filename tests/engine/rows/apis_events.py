"""Events: what the Engine keeps of pytorch-ignite, and `Loop` does otherwise."""

from __future__ import annotations

from typing import Any, Final

from fengine import Event, Events, Loop, State, every, outputs, stages, tap
from tests.engine.rows.records import apis
from tests.engine.rows.sides import Side, outcome, own_events

APIS: Final = apis()

LOOP: Final[Loop[Any, Any, Any]] = Loop(outputs(lambda batch: batch))


def iterations(event: Any, length: int, loop: Loop[Any, Any, Any] = LOOP, epochs: int = 1) -> Any:
    """Run a loop, and give the iterations at which an event fires."""
    fired: list[int] = []
    note = tap(lambda state: fired.append(state.iteration))
    loop.on(event, note).run(range(length), max_epochs=epochs)
    return fired


def iterations_there(engine: Any, event: Any, length: int, epochs: int = 1) -> Any:
    """Run an engine, and give the iterations at which an event fires."""
    fired: list[int] = []
    engine.add_event_handler(event, lambda: fired.append(engine.state.iteration))
    engine.run(range(length), max_epochs=epochs)
    return fired


@APIS(
    "A5 Q-12",
    "an event of your own that is named STARTED",
    ("is the built-in one: its handlers run when the run starts", [0]),
    ("is refused", "ValueError"),
    lambda: outcome(Event, "started"),
)
def same_name(side: Side) -> object:
    class Mine(side.package.EventEnum):  # type: ignore[misc, name-defined]  # of either package
        STARTED = "mine"

    engine = side.engine()
    engine.register_events(*Mine)
    return iterations_there(engine, Mine.STARTED, 1)


@APIS(
    "A6",
    "`X(every=2) == X(once=5)`",
    ("is True: a filter is no part of the event", True),
    ("is False", False),
    lambda: Events.ITERATION_STARTED(every=2) == Events.ITERATION_STARTED(once=5),
)
def equality(side: Side) -> object:
    return side.events.ITERATION_STARTED(every=2) == side.events.ITERATION_STARTED(once=5)


@APIS(
    "A7",
    "every second iteration, and of those the ones before 6",
    ("`X(every=2)(before=6)` forgets `every`", [1, 2, 3, 4, 5]),
    ("`X(every=2, before=6)`; filters join by `&`, `|` and `~`", [2, 4]),
    lambda: iterations(Events.ITERATION_COMPLETED(every(2), before=6), 9),
)
def two_filters(side: Side) -> object:
    return iterations_there(side.engine(), side.events.ITERATION_COMPLETED(every=2)(before=6), 9)


OWN: Final = Event("tick")
EMITTING: Final[Loop[Any, Any, Any]] = Loop(stages(lambda state: state.batch).emit(OWN).then(abs))


@APIS(
    "A8",
    "a filter on an event that is a string",
    ("is not possible: `'tick'(every=3)`", "TypeError"),
    ("events are no strings: `Event('tick')(every=3)`", [3, 6]),
    lambda: iterations(OWN(every=3), 6, EMITTING),
)
def filtered_string(side: Side) -> object:
    name: Any = "tick"
    return outcome(lambda: name(every=3))


def counted_over_a_pause() -> object:
    fired: list[int] = []
    pausing = EMITTING.on(Events.ITERATION_COMPLETED(once=4), State.interrupt)
    loop = pausing.on(OWN(every=3), tap(lambda state: fired.append(state.iteration)))
    loop.resume(loop.run(range(6)), range(6))
    return fired


@APIS(
    "A10",
    "`every=3` on an event of your own",
    ("reads an attribute that only you count; at 0 it always holds", [1, 2, 3, 4, 5, 6]),
    ("counts the firings, also where a run goes on", [3, 6]),
    counted_over_a_pause,
)
def counter(side: Side) -> object:
    own = own_events(side)
    engine = side.engine(lambda engine, batch: engine.fire_event(own.TICK))
    engine.register_events(own.TICK, event_to_attr={own.TICK: "ticks"})
    return iterations_there(engine, own.TICK(every=3), 6)


@APIS(
    "A11 Q-21",
    "`GET_BATCH_STARTED(once=1)`",
    ("fires before the second batch: the first has the number 0", [1]),
    ("fires before the first", [0]),
    lambda: iterations(Events.GET_BATCH_STARTED(once=1), 3),
)
def first_batch(side: Side) -> object:
    return iterations_there(side.engine(), side.events.GET_BATCH_STARTED(once=1), 3)


@APIS(
    "A12",
    "`STARTED(once=1)`",
    ("never fires, as the epoch is 0 there", []),
    ("fires once in each run", [0]),
    lambda: iterations(Events.STARTED(once=1), 2),
)
def first_start(side: Side) -> object:
    return iterations_there(side.engine(), side.events.STARTED(once=1), 2)


@APIS(
    "A13",
    "every third iteration, in epochs of 5",
    ("counts through the run", [3, 6, 9]),
    ("counts in each epoch with `of='epoch'`", [3, 8]),
    lambda: iterations(Events.ITERATION_COMPLETED(every=3, of="epoch"), 5, epochs=2),
)
def in_an_epoch(side: Side) -> object:
    return iterations_there(side.engine(), side.events.ITERATION_COMPLETED(every=3), 5, epochs=2)


def strictly() -> object:
    event: Any = Events.ITERATION_STARTED
    return outcome(event, once=True), outcome(lambda: bool(event(after=9, before=5)))


@APIS(
    "A14",
    "`once=True`, or `after=9, before=5`",
    ("is taken, and the second never holds", (False, False)),
    ("is refused when it is made", ("TypeError", "ValueError")),
    strictly,
)
def loosely(side: Side) -> object:
    event = side.events.ITERATION_STARTED
    made = event(once=True), event(after=9, before=5)
    return tuple(one.filter(None, 7) for one in made)
