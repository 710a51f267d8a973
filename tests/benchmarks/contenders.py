"""Contenders with the identity step: the same handlers in a `Loop`, an `Engine` and pytorch-ignite.

Each is made before its runs, and then runs over any data, for any number of epochs. It is made of
the modules that it is given, so that two versions of fengine can be compared. torch and
pytorch-ignite are imported only where they are used, so that the core can be measured without them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, final

import attrs

from tests.benchmarks.systems import ENGINE, IGNITE, LOOP
from tests.benchmarks.versions import this_version

if TYPE_CHECKING:
    from fengine import State

    Numbers: TypeAlias = State[int, int]
    Counting: TypeAlias = State[int, int, "Count"]


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
        evolving: whether each of them changes the state; else they do nothing.
        heard: number of own events with a handler each, that are never fired.
        fired: number of own events with a handler each, that the step fires in each iteration.
    """

    handlers: int = 0
    every: int | None = None
    evolving: bool = False
    heard: int = 0
    fired: int = 0

    @property
    def name(self) -> str:
        """What the tables call the handlers."""
        more = f", every={self.every}" if self.every else " that evolves" if self.evolving else ""
        return f"{self.handlers}{more}"


@final
@attrs.frozen
class Count:
    """Be the user's record of a loop whose handlers evolve the state."""

    number: int


# Handlers are different functions, as a user's are: a call that always meets the same function is
# made faster by the interpreter.


def state_handler() -> Callable[[Numbers], Numbers]:
    """Make a handler of a loop that changes nothing."""

    def handler(state: Numbers) -> Numbers:
        return state

    return handler


def evolving_handler() -> Callable[[Counting], Counting]:
    """Make a handler of a loop that changes the user's record."""

    def handler(state: Counting) -> Counting:
        return state.evolve(user=Count(state.user.number + 1))

    return handler


def engine_handler() -> Callable[[object], None]:
    """Make a handler of an engine that does nothing."""

    def handler(engine: object) -> None:
        pass

    return handler


def writing_handler() -> Callable[[Any], None]:
    """Make a handler of an engine that writes an attribute of the state."""

    def handler(engine: Any) -> None:
        engine.state.count += 1

    return handler


def begin_counting(engine: Any) -> None:
    """Be the handler of an engine's start that the writing handlers need."""
    engine.state.count = 0


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


def loop(functional: ModuleType, workload: Workload) -> Run:
    """Make a `Loop` of a module that is `fengine`."""
    heard = [functional.Event(f"heard_{number}") for number in range(workload.heard)]
    fired = [functional.Event(f"fired_{number}") for number in range(workload.fired)]
    made = functional.Loop(functional.outputs(identity))
    if fired:
        step = functional.stages(_read_batch)
        for event in fired:
            step = step.emit(event)
        made = functional.Loop(step.then(identity))
    made = made.register(*heard)
    done = functional.Events.ITERATION_COMPLETED
    if workload.every:
        done = done(every=workload.every)
    for _ in range(workload.handlers):
        made = made.on(done, evolving_handler() if workload.evolving else state_handler())
    for event in (*heard, *fired):
        made = made.on(event, state_handler())
    user = Count(0) if workload.evolving else None
    return lambda data, epochs=1: made.run(data, user=user, max_epochs=epochs)


def _read_batch(state: Numbers) -> int:
    return state.batch


def loop_of_a_plain_step(functional: ModuleType) -> Run:
    """Make a `Loop` whose step takes the state and gives one, with no handler."""

    def step(state: Numbers) -> Numbers:
        return state.evolve(output=state.batch)

    made = functional.Loop(step)
    return lambda data, epochs=1: made.run(data, max_epochs=epochs)


def loop_by_moments(functional: ModuleType) -> Run:
    """Make a `Loop` that is iterated over, through all moments, with no handler."""
    made = functional.Loop(functional.outputs(identity))

    def run(data: Iterable[int], epochs: int = 1) -> None:
        for _ in made.iterate(data, max_epochs=epochs):
            pass

    return run


def engine(package: ModuleType, workload: Workload) -> Run:
    """Make an `Engine` of a module that is `fengine.engine` or `ignite.engine`."""
    heard = [f"heard_{number}" for number in range(workload.heard)]
    fired = [f"fired_{number}" for number in range(workload.fired)]

    def step(engine: object, batch: int) -> int:
        return batch

    def firing_step(engine: Any, batch: int) -> int:
        for event in fired:
            engine.fire_event(event)
        return batch

    made = package.Engine(firing_step if fired else step)
    if heard or fired:
        made.register_events(*heard, *fired)
    if workload.evolving:
        made.add_event_handler(package.Events.STARTED, begin_counting)
    done = package.Events.ITERATION_COMPLETED
    if workload.every:
        done = done(every=workload.every)
    for _ in range(workload.handlers):
        made.add_event_handler(done, writing_handler() if workload.evolving else engine_handler())
    for event in (*heard, *fired):
        made.add_event_handler(event, engine_handler())
    return lambda data, epochs=1: made.run(data, max_epochs=epochs)


def systems(have: frozenset[str]) -> Mapping[str, Callable[[Workload], Run]]:
    """Give the contenders that can be made here, by name."""
    this = this_version(have)
    found = {LOOP: partial(loop, this.functional)}
    if this.engine is not None:
        found[ENGINE] = partial(engine, this.engine)
        if "ignite" in have:
            found[IGNITE] = partial(engine, importlib.import_module("ignite.engine"))
    return found
