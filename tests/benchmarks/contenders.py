"""Contenders with the identity step: the same handlers in a `Loop`, an `Engine` and pytorch-ignite.

Each is made ahead of its runs, and then runs over any data, for any number of epochs. torch and
pytorch-ignite are imported only where they are used, so that the core can be measured without them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, final

import attrs

from fengine import Event, Events, EventSet, Loop, State, outputs, stages
from tests.benchmarks.systems import ENGINE, IGNITE, LOOP

if TYPE_CHECKING:
    from fengine.engine import Engine

Numbers: TypeAlias = State[int, int]


class Run(Protocol):
    """Run over the data once per epoch."""

    def __call__(self, data: Iterable[int], epochs: int = 1) -> object: ...


@final
@attrs.frozen
class Workload:
    """Say what there is beside the step.

    Args:
        handlers: number of handlers of ITERATION_COMPLETED.
        every: filter of each of them.
        heard: number of own events with a handler each, that are never fired.
        fired: number of own events with a handler each, that the step fires in each iteration.
    """

    handlers: int = 0
    every: int | None = None
    heard: int = 0
    fired: int = 0

    @property
    def name(self) -> str:
        """What the tables call the handlers."""
        return str(self.handlers) + (f", every={self.every}" if self.every else "")


# Handlers are different functions, as a user's are: a call that always meets the same function is
# made faster by the interpreter.


def state_handler() -> Callable[[Numbers], Numbers]:
    """Make a handler of a loop that changes nothing."""

    def handler(state: Numbers) -> Numbers:
        return state

    return handler


def engine_handler() -> Callable[[object], None]:
    """Make a handler of an engine that does nothing."""

    def handler(engine: object) -> None:
        pass

    return handler


def identity(batch: int) -> int:
    """Be the step of a bare loop and of a `Loop`."""
    return batch


def bare(data: Iterable[int], epochs: int = 1) -> object:
    """Call the step in a for loop, with no handler."""
    output = None
    for _ in range(epochs):
        for batch in data:
            output = identity(batch)
    return output


def loop(workload: Workload) -> Run:
    """Make a `Loop`."""
    heard = [Event(f"heard_{number}") for number in range(workload.heard)]
    fired = [Event(f"fired_{number}") for number in range(workload.fired)]
    made: Loop[int, int, None] = Loop(outputs(identity))
    if fired:
        step = stages(_read_batch)
        for event in fired:
            step = step.emit(event)
        made = Loop(step.then(identity))
    made = made.register(*heard)
    done: Event | EventSet = Events.ITERATION_COMPLETED
    if workload.every:
        done = Events.ITERATION_COMPLETED(every=workload.every)
    for place in (*[done] * workload.handlers, *heard, *fired):
        made = made.on(place, state_handler())
    return lambda data, epochs=1: made.run(data, max_epochs=epochs)


def _read_batch(state: Numbers) -> int:
    return state.batch


def engine(workload: Workload) -> Run:
    """Make a `fengine.engine.Engine`."""
    from fengine.engine import Engine, Events

    return _as_documented(Engine, Events.ITERATION_COMPLETED, workload)


def ignite(workload: Workload) -> Run:
    """Make an `ignite.engine.Engine`."""
    from ignite.engine import Engine, Events

    return _as_documented(Engine, Events.ITERATION_COMPLETED, workload)


def _as_documented(engine_type: Any, done: Any, workload: Workload) -> Run:  # of either package
    heard = [f"heard_{number}" for number in range(workload.heard)]
    fired = [f"fired_{number}" for number in range(workload.fired)]

    def step(engine: Engine, batch: int) -> int:
        return batch

    def firing_step(engine: Engine, batch: int) -> int:
        for event in fired:
            engine.fire_event(event)
        return batch

    made = engine_type(firing_step if fired else step)
    if heard or fired:
        made.register_events(*heard, *fired)
    if workload.every:
        done = done(every=workload.every)
    for event in (*[done] * workload.handlers, *heard, *fired):
        made.add_event_handler(event, engine_handler())
    return lambda data, epochs=1: made.run(data, max_epochs=epochs)


def systems(have: frozenset[str]) -> Mapping[str, Callable[[Workload], Run]]:
    """Give the contenders that can be made here, by name."""
    found = {LOOP: loop}
    if "torch" in have:
        found[ENGINE] = engine
    if {"torch", "ignite"} <= have:
        found[IGNITE] = ignite
    return found
