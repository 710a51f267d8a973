"""Handlers: what the Engine keeps of pytorch-ignite, and `Loop` does otherwise."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from fengine import Events, Loop, State, outputs, tap
from tests.engine.rows.records import apis
from tests.engine.rows.sides import Side, fail, outcome

APIS: Final = apis()

AnyState = State[Any, Any, Any]
LOOP: Final[Loop[Any, Any, Any]] = Loop(outputs(lambda batch: batch))


def _rate(given: list[str], lr: Any = 0.1) -> None:
    given.append(type(lr).__name__)


def wrong_handler() -> object:
    given: list[str] = []
    handler: Any = partial(_rate, given)
    return outcome(LOOP.on(Events.STARTED, handler).run, [1])


@APIS(
    "B1",
    "`def handler(lr=0.1)`",
    ("gets the engine as `lr`", ["Engine"]),
    ("is an error: it takes no State and returns none", "TypeError"),
    wrong_handler,
)
def defaulted(side: Side) -> object:
    given: list[str] = []
    engine = side.engine()
    engine.add_event_handler(side.events.STARTED, partial(_rate, given))
    engine.run([1])
    return given


def payload_last() -> object:
    order: list[object] = []

    def handler(tag: str, state: AnyState, error: BaseException) -> AnyState:
        order.extend([tag, type(error).__name__])
        return state

    loop: Loop[Any, Any, Any] = Loop(outputs(fail))
    outcome(loop.on(Events.EXCEPTION_RAISED, partial(handler, "tag")).run, [1])
    return order


@APIS(
    "B4",
    "arguments of your own at EXCEPTION_RAISED",
    ("come after the exception", ["Fault", "tag"]),
    ("are bound by `functools.partial`, where you like", ["tag", "Fault"]),
    payload_last,
)
def payload_first(side: Side) -> object:
    order: list[object] = []

    def handler(engine: Any, error: Exception, tag: str) -> None:
        order.extend([type(error).__name__, tag])

    engine = side.engine(fail)
    engine.add_event_handler(side.events.EXCEPTION_RAISED, handler, "tag")
    engine.run([1])
    return order


def removed_one() -> object:
    fired: list[int] = []
    note = tap(lambda state: fired.append(state.iteration))
    second, third = (Events.ITERATION_COMPLETED(every=n) for n in (2, 3))
    LOOP.on(second, note).on(third, note).without(second, note).run(range(4))
    return fired


@APIS(
    "B7 Q-13",
    "one of two registrations of a handler at an event is removed",
    ("both are gone", []),
    ("`without` takes one", [3]),
    removed_one,
)
def removed_both(side: Side) -> object:
    fired: list[int] = []
    engine = side.engine()

    def note() -> None:
        fired.append(engine.state.iteration)

    second, third = (side.events.ITERATION_COMPLETED(every=n) for n in (2, 3))
    engine.add_event_handler(third, note)
    engine.add_event_handler(second, note).remove()
    engine.run(range(4))
    return fired


def added_to_a_value() -> object:
    calls: list[str] = []

    def adding(state: AnyState) -> AnyState:
        calls.append("adding")
        LOOP.on(Events.STARTED, tap(lambda state: calls.append("added")))
        return state

    LOOP.on(Events.STARTED, adding).run([1])
    return calls


@APIS(
    "B9 R-19",
    "a handler that a handler of the same event adds",
    ("runs in the same firing", ["adding", "added"]),
    ("is part of another loop, as a loop is a value", ["adding"]),
    added_to_a_value,
)
def added_while_firing(side: Side) -> object:
    calls: list[str] = []
    engine = side.engine()

    def adding() -> None:
        calls.append("adding")
        engine.add_event_handler(side.events.STARTED, lambda: calls.append("added"))

    engine.add_event_handler(side.events.STARTED, adding)
    engine.run([1])
    return calls


@APIS(
    "B12",
    "what a handler returns",
    ("is dropped", 1),
    ("is the next state", "mine"),
    lambda: LOOP.on(Events.COMPLETED, lambda state: state.evolve(output="mine")).run([1]).output,
)
def returned(side: Side) -> object:
    engine = side.engine()
    engine.add_event_handler(side.events.COMPLETED, lambda: "mine")
    return engine.run([1]).output


def halve(state: AnyState) -> AnyState:
    return state.evolve(output=state.output / 2)


@APIS(
    "B13",
    "a handler called by hand",
    ("needs an engine", "AttributeError"),
    ("needs a `State`, and can be tested by `==`", True),
    lambda: halve(State(output=1.0)) == State(output=0.5),
)
def by_hand(side: Side) -> object:
    def halve(engine: Any) -> None:
        engine.state.output /= 2

    return outcome(halve, side.package.State(output=1.0))
