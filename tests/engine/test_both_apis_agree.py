"""A run of `Loop` and one of `Engine` give the same events and the same final state.

Both run on the one script, so that what could differ is what lies around it: the source of the
batches, the handlers and their filters, and how a state is begun and left.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final, Literal, TypeAlias

import attrs
import pytest
from hypothesis import event as note
from hypothesis import given
from hypothesis import strategies as st

import fengine.engine
from fengine import (
    DOCUMENTED,
    IGNITE_0_5_5,
    Events,
    Loop,
    Semantics,
    State,
    Status,
    last_state,
    outputs,
)

# Of EXCEPTION_RAISED and INTERRUPT the firings do not move a run, but they are part of its trace.
NAMES: Final = tuple(one.value for one in fengine.engine.Events)
FILTERED: Final = ("epoch_started", "epoch_completed", "iteration_started", "iteration_completed")

Kind: TypeAlias = Literal["list", "sized", "unsized", "none"]
Request: TypeAlias = Literal[
    "terminate", "terminate silently", "terminate_epoch", "terminate_epoch silently", "interrupt"
]
Trace: TypeAlias = list[tuple[object, ...]]


class Fault(Exception):
    """Stand for what a handler or the step raises."""


@attrs.frozen
class Batches:
    """Give batches again and again, without a length or with one."""

    size: int

    def __iter__(self) -> Any:
        return iter(range(self.size))


@attrs.frozen
class SizedBatches(Batches):
    """Give batches again and again, and say how many."""

    def __len__(self) -> int:
        return self.size


@attrs.frozen
class Program:
    """Hold a run that both can do: nothing is swallowed, and the data never runs dry."""

    kind: Kind
    size: int
    limits: dict[str, Any]
    requests: dict[tuple[str, int], Request]
    fails: tuple[str, int] | None
    filters: tuple[tuple[str, dict[str, Any]], ...]

    @property
    def data(self) -> Any:
        return {
            "list": list(range(self.size)),
            "sized": SizedBatches(self.size),
            "unsized": Batches(self.size),
            "none": None,
        }[self.kind]


@attrs.frozen
class Ended:
    """Hold what is left of a run."""

    trace: Trace
    epoch: int
    iteration: int
    batch: object
    output: object
    limits: tuple[int | None, ...]
    error: str | None


class Firings:
    """Count the firings of each event, and say what is due at them."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.counts = dict.fromkeys((*NAMES, "step"), 0)

    def due(self, name: str) -> Request | None:
        self.counts[name] += 1
        if self.program.fails == (name, self.counts[name]):
            raise Fault
        return self.program.requests.get((name, self.counts[name]))


def run_loop(program: Program, semantics: Semantics) -> Ended:
    """Run a program functionally."""
    firings, trace = Firings(program), list[tuple[object, ...]]()

    def step(batch: object) -> object:
        firings.due("step")
        return ("made of", batch)

    def listen(name: str) -> Callable[..., State[Any, Any]]:
        def handler(state: State[Any, Any], payload: object = None) -> State[Any, Any]:
            trace.append(_shown(name, state))
            request = firings.due(name)
            return state if request is None else _asked(state, request)

        return handler

    def hear(number: int) -> Callable[[State[Any, Any]], State[Any, Any]]:
        def handler(state: State[Any, Any]) -> State[Any, Any]:
            trace.append((number, state.epoch, state.iteration))
            return state

        return handler

    loop: Loop[Any, Any] = Loop(outputs(step), semantics=semantics)
    by_name: dict[str, Any] = {one.name: one for one in Events.all()}
    for name in NAMES:
        loop = loop.on(by_name[name], listen(name))
    for number, (name, arguments) in enumerate(program.filters):
        loop = loop.on(by_name[name](**arguments), hear(number))
    error: Exception | None = None
    final: State[Any, Any, Any] | None = None
    try:
        for moment in loop.iterate(program.data, **program.limits):
            final = moment.state
    except (Fault, RuntimeError) as failure:  # 0.5.5 refuses terminate_epoch in EPOCH_STARTED
        error = failure
        final = last_state(failure)
    assert final is not None
    note(final.status.value)
    assert (final.status is Status.FAILED) == (error is not None)
    return Ended(
        trace,
        final.epoch,
        final.iteration,
        final.batch if final.has_batch else None,
        final.output if final.has_output else None,
        attrs.astuple(final.limits),
        None if error is None else type(error).__name__,
    )


def _shown(name: str, state: State[Any, Any]) -> tuple[object, ...]:
    return (
        name,
        state.epoch,
        state.iteration,
        state.batch if state.has_batch else None,
        state.output if state.has_output else None,
        attrs.astuple(state.limits),
    )


def _asked(state: State[Any, Any], request: Request) -> State[Any, Any]:
    silent = request.endswith("silently")
    if request.startswith("terminate_epoch"):
        return state.terminate_epoch(skip_epoch_completed=silent)
    if request.startswith("terminate"):
        return state.terminate(skip_completed=silent)
    return state.interrupt()


def limits_of(state: Any) -> tuple[int | None, ...]:
    """Leave out the max_epochs that follow from max_iters in version 0.5.5; a Loop has none."""
    epochs = state.max_epochs if state.max_iters is None else None
    return epochs, state.max_iters, state.epoch_length


def run_engine(program: Program, semantics: Semantics) -> Ended:
    """Run a program by an Engine."""
    firings, trace = Firings(program), list[tuple[object, ...]]()

    def process_function(engine: fengine.engine.Engine, batch: object) -> object:
        firings.due("step")
        return ("made of", batch)

    engine = fengine.engine.Engine(process_function, semantics=semantics)
    engine.logger = logging.getLogger("fengine.tests.silent")  # that of the class is shared
    engine.logger.disabled = True

    def listen(engine: fengine.engine.Engine, *args: Any, **kwargs: Any) -> None:
        name = engine.last_event_name.value
        state = engine.state
        limits = limits_of(state)
        trace.append((name, state.epoch, state.iteration, state.batch, state.output, limits))
        request = firings.due(name)
        if request is not None:
            method, *silently = request.split()
            skip = {
                "terminate": {"skip_completed": True},
                "terminate_epoch": {"skip_epoch_completed": True},
            }
            getattr(engine, method)(**(skip[method] if silently else {}))
        if name == "exception_raised":
            raise args[0]

    def hear(engine: fengine.engine.Engine, number: int) -> None:
        trace.append((number, engine.state.epoch, engine.state.iteration))

    for name in NAMES:
        engine.add_event_handler(fengine.engine.Events(name), listen)
    for number, (name, arguments) in enumerate(program.filters):
        engine.add_event_handler(fengine.engine.Events(name)(**arguments), hear, number)
    error: str | None = None
    try:
        engine.run(program.data, **program.limits)
    except (Fault, RuntimeError) as failure:
        error = type(failure).__name__
    state = engine.state
    return Ended(
        trace,
        state.epoch,
        state.iteration,
        state.batch,
        state.output,
        limits_of(state),
        error,
    )


def filters() -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
    """Generate a filter that the two share, and the event it is on."""
    count = st.integers(1, 5)
    arguments = st.one_of(
        st.fixed_dictionaries({"every": count}),
        st.fixed_dictionaries({"once": count}),
        st.fixed_dictionaries({"once": st.lists(count, min_size=1, max_size=3, unique=True)}),
        st.fixed_dictionaries({"after": st.integers(0, 4)}),
        st.fixed_dictionaries({"before": st.integers(2, 6)}),
        st.fixed_dictionaries({"every": count, "after": st.integers(0, 3)}),
        st.fixed_dictionaries({"after": st.integers(0, 1), "before": st.integers(3, 6)}),
    )
    return st.tuples(st.sampled_from(FILTERED), arguments)


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """Generate runs that both can do."""
    kind: Kind = draw(st.sampled_from(["list", "sized", "unsized", "none"]))
    size = draw(st.integers(1, 4))
    limits = draw(
        st.sampled_from([{}, {"max_epochs": 1}, {"max_epochs": 2}, {"max_epochs": 3}])
        | st.integers(1, 9).map(lambda number: {"max_iters": number})
    )
    if kind == "none" or draw(st.booleans()):
        limits = {**limits, "epoch_length": draw(st.integers(1, 5))}
    places = st.tuples(st.sampled_from([*NAMES[:3], *NAMES]), st.integers(1, 4))
    asks: tuple[Request, ...] = (
        "terminate",
        "terminate silently",
        "terminate_epoch",
        "terminate_epoch silently",
        "interrupt",
    )
    return Program(
        kind,
        size,
        limits,
        draw(st.dictionaries(places, st.sampled_from(asks), max_size=3)),
        draw(st.none() | st.tuples(st.sampled_from([*NAMES, "step"]), st.integers(1, 4))),
        tuple(draw(st.lists(filters(), max_size=3))),
    )


@pytest.mark.parametrize("semantics", [DOCUMENTED, IGNITE_0_5_5], ids=["documented", "ignite"])
@given(program=programs())
def test_loop_and_engine_give_the_same_trace_and_state(
    program: Program, semantics: Semantics
) -> None:
    assert run_loop(program, semantics) == run_engine(program, semantics)
