"""Defects of events and handlers in pytorch-ignite that the Engine does not have."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Iterator
from typing import Any, Final

from typing_extensions import override

from tests.engine.rows.records import fixed
from tests.engine.rows.sides import Side, fail, outcome, own_events

FIXED: Final = fixed()


def nothing() -> None:
    pass


@FIXED("A1", "`more = base | event`", ("changes `base`", (3, 3)), ("leaves `base` alone", (2, 3)))
def joining(side: Side) -> object:
    base = side.events.STARTED | side.events.COMPLETED
    more = base | side.events.EPOCH_STARTED
    return len(base), len(more)


@FIXED(
    "A2",
    "`a | (b | c)`",
    ("raises TypeError", "TypeError"),
    ("equals `(a | b) | c`", ["STARTED", "EPOCH_STARTED", "COMPLETED"]),
)
def joining_lists(side: Side) -> object:
    a, b, c = side.events.STARTED, side.events.EPOCH_STARTED, side.events.COMPLETED
    return outcome(lambda: [event.name for event in a | (b | c)])


@FIXED(
    "A3 Q-10",
    "an event registered with one engine",
    ("every other engine and new state has its attribute", [True, True]),
    ("nothing else knows it", [False, False]),
)
def registering(side: Side) -> object:
    own = own_events(side)
    side.engine().register_events(*own, event_to_attr={own.TICK: "ticks"})
    return [hasattr(state, "ticks") for state in (side.engine().state, side.package.State())]


@FIXED(
    "A4",
    "two engines count an event in attributes of different names",
    ("filters of the first engine raise AttributeError", "AttributeError"),
    ("each counts in its own", ["second", "first"]),
)
def attributes(side: Side) -> object:
    first, second = side.engine(), side.engine()
    own, calls = own_events(side), list[str]()
    first.register_events(own.TICK, event_to_attr={own.TICK: "a"})
    second.register_events(own.TICK, event_to_attr={own.TICK: "b"})
    for engine, name in ((first, "first"), (second, "second")):
        engine.add_event_handler(own.TICK(every=2), calls.append, name)
    first.state.a, second.state.b = 1, 2

    def fire() -> list[str]:
        first.fire_event(own.TICK)
        second.fire_event(own.TICK)
        first.state.a = 2
        first.fire_event(own.TICK)
        return calls

    return outcome(fire)


@FIXED(
    "A9 Q-11",
    "a filter on an event without a counter, such as EXCEPTION_RAISED",
    ("raises RuntimeError when it fires, which hides the exception", ("RuntimeError", [])),
    ("counts the firings", ("Fault", [2])),
)
def filter_of_exceptions(side: Side) -> object:
    counts: list[int] = []

    def answer(engine: Any, error: Exception) -> None:
        counts.append(engine.state.iteration)
        raise error

    engine = side.engine(fail)
    engine.add_event_handler(side.events.EXCEPTION_RAISED(once=2), answer)
    engine.add_event_handler(side.events.EXCEPTION_RAISED, lambda engine, error: None)
    return outcome(engine.run, [1, 2], 3), counts


@FIXED(
    "A15 Q-25",
    "a handler for several events, one of which is not registered",
    ("is refused, and stays at the others", ("ValueError", True)),
    ("is refused, and stays nowhere", ("ValueError", False)),
)
def adding_to_several(side: Side) -> object:
    engine = side.engine()
    both = side.events.STARTED | own_events(side).TICK
    return outcome(engine.add_event_handler, both, nothing), engine.has_event_handler(nothing)


@FIXED(
    "B2",
    "`def handler(engine)` at EXCEPTION_RAISED",
    ("gets the exception as `engine`", ["Fault"]),
    ("gets the engine", ["Engine"]),
)
def only_the_engine(side: Side) -> object:
    given: list[str] = []

    def handler(engine: Any) -> None:
        given.append(type(engine).__name__)

    engine = side.engine(fail)
    engine.add_event_handler(side.events.EXCEPTION_RAISED, handler)
    engine.run([1])
    return given


@FIXED(
    "B3 Q-14",
    "`def handler(engine)` and `def handler(engine, n)` at TERMINATE_SINGLE_EPOCH",
    ("raise TypeError when it fires", "TypeError"),
    ("are called", [None, 1]),
)
def count_of_a_cut_epoch(side: Side) -> object:
    given: list[int | None] = []

    def without(engine: Any) -> None:
        given.append(None)

    def with_other_name(engine: Any, n: int) -> None:
        given.append(n)

    engine = side.engine(lambda engine, batch: engine.terminate_epoch())
    for handler in (without, with_other_name):
        engine.add_event_handler(side.events.TERMINATE_SINGLE_EPOCH, handler)
    return outcome(lambda: engine.run([1, 2]) and given)


@FIXED(
    "B5",
    "a handler that is an async or a generator function",
    ("is taken, and never runs", []),
    ("is refused with TypeError", "TypeError"),
)
def run_by_nobody(side: Side) -> object:
    calls: list[int] = []

    def handler(engine: Any) -> Iterator[None]:
        calls.append(1)
        yield

    async def waiting(engine: Any) -> None:
        calls.append(1)

    engine = side.engine()
    other = outcome(side.engine().add_event_handler, side.events.STARTED, waiting)
    added = outcome(engine.add_event_handler, side.events.STARTED, handler)
    engine.run([1])
    return other if other == added == "TypeError" else calls


@FIXED(
    "B6 R-20 Q-29",
    "the keyword arguments that a handler was added with",
    ("take up those of the event", {"tag": 1, "iter_counter": 1}),
    ("stay as they are", {"tag": 1}),
)
def kept_arguments(side: Side) -> object:
    engine = side.engine(lambda engine, batch: engine.terminate_epoch())
    event = side.events.TERMINATE_SINGLE_EPOCH
    engine.add_event_handler(event, lambda engine, iter_counter, tag: None, tag=1)
    engine.run([1, 2])
    return engine._event_handlers[event][0][2]


@FIXED(
    "B8",
    "a handler whose type has `__slots__`",
    ("is added, and add_event_handler raises TypeError", ("TypeError", True)),
    ("is added", ("RemovableEventHandle", True)),
)
def slotted(side: Side) -> object:
    class Slotted:
        __slots__ = ()

        def __call__(self) -> None:
            pass

    engine, handler = side.engine(), Slotted()
    added = outcome(lambda: type(engine.add_event_handler(side.events.STARTED, handler)).__name__)
    return added, engine.has_event_handler(handler)


@FIXED(
    "B10",
    "a handler whose signature cannot be read, such as `mapping.update`",
    ("is refused", "ValueError"),
    ("is called with the arguments that were given with it", {"epochs": 1}),
)
def without_signature(side: Side) -> object:
    engine, kept = side.engine(), dict[str, int]()
    added = outcome(engine.add_event_handler, side.events.STARTED, kept.update, {"epochs": 1})
    engine.run([1])
    return kept or added


@FIXED(
    "B14",
    "the text that a firing has for a log that nobody reads",
    ("is made each time", [1]),
    ("is not made", []),
)
def unread_log(side: Side) -> object:
    made: list[int] = []

    class Talking(side.package.CallableEventWithFilter):  # type: ignore[misc, name-defined]  # of either package
        __hash__ = side.package.CallableEventWithFilter.__hash__

        @override
        def __repr__(self) -> str:
            made.append(1)
            return "talking"

    engine = side.engine()
    engine.logger = logging.getLogger("fengine.tests.quiet")
    engine.logger.setLevel(logging.WARNING)
    engine.register_events("talking")
    engine._fire_event(Talking("talking", None, "talking"))
    return made


@FIXED(
    "C11",
    "a weak reference of yours as an argument of a handler",
    ("is passed as what it refers to", [False]),
    ("is passed", [True]),
)
def weak_argument(side: Side) -> object:
    given: list[Any] = []
    engine, thing = side.engine(), set[int]()
    reference = weakref.ref(thing)
    engine.add_event_handler(side.events.STARTED, given.append, reference)
    engine.run([1])
    return [one is reference for one in given]
