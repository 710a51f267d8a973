"""Laws of what a run lets go: batches and outputs before the next, iterators at the end."""

from __future__ import annotations

import contextlib
import gc
import itertools
import weakref
from collections.abc import Callable, Generator, Iterator
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fengine import (
    END_EPOCH,
    SKIP_BATCH,
    Event,
    Events,
    Loop,
    PayloadEvent,
    State,
    compose,
    outputs,
    stages,
    tap,
    when,
    where,
)

Run = Callable[[Loop[Any, Any, None], "Watched"], None]


class Thing:
    """Stand for a large tensor."""


@attrs.define
class Watched:
    """Give batches, and notice at each fetch and each step what is still alive."""

    size: int = 4
    batch: weakref.ref[Thing] | None = None
    output: weakref.ref[Thing] | None = None
    fetched: int = 0
    retained: list[str] = attrs.Factory(list)

    def __iter__(self) -> Iterator[Thing]:
        return self

    def __next__(self) -> Thing:
        if self.batch is not None and self.batch() is not None:
            self.retained.append(f"batch {self.fetched} at the next fetch")
        if self.fetched == self.size:
            raise StopIteration
        self.fetched += 1
        batch = Thing()
        self.batch = weakref.ref(batch)
        return batch

    def step(self, batch: object) -> Thing:
        if self.output is not None and self.output() is not None:
            self.retained.append(f"output {self.fetched - 1} at the next step")
        output = Thing()
        self.output = weakref.ref(output)
        return output

    def first_stage(self, state: State[Any, Any, Any]) -> Thing:
        return self.step(state.batch)


def run(loop: Loop[Any, Any, None], data: Watched) -> None:
    loop.run(data, max_epochs=2, epoch_length=2)


def pull(loop: Loop[Any, Any, None], data: Watched) -> None:
    moments = loop.iterate(data, max_epochs=2, epoch_length=2)
    while next(moments, None) is not None:
        pass


def pull_and_read(loop: Loop[Any, Any, None], data: Watched) -> None:
    for moment in loop.iterate(data, max_epochs=2, epoch_length=2):
        assert moment.event is not None
        if moment.state.has_batch:
            assert moment.state.batch is not None
        del moment


def plain(data: Watched) -> Loop[Any, Any, None]:
    return Loop(outputs(data.step))


def has_batch(state: State[Any, Any, Any]) -> bool:
    return state.has_batch


def heard(data: Watched) -> Loop[Any, Any, None]:
    loop = plain(data)
    for event in Events.all():
        if isinstance(event, Event):
            loop = loop.on(
                event, compose(tap(lambda state: None), when(has_batch, tap(lambda state: None)))
            )
    return loop.on(Events.ITERATION_COMPLETED(where(lambda state: True)), compose())


def staged(data: Watched) -> Loop[Any, Any, None]:
    begun, ready = Event("begun"), PayloadEvent[Any]("ready")
    step = stages(data.first_stage).emit(begun).then(lambda value: value).emit(ready)
    loop = Loop[Any, Any, None](step.then(lambda value: value))
    return loop.on(begun, compose()).on(ready, lambda state, value: state)


def recovering(at: Any, recovery: Any) -> Callable[[Watched], Loop[Any, Any, None]]:
    def build(data: Watched) -> Loop[Any, Any, None]:
        def fail(state: State[Any, Any, Any]) -> State[Any, Any, Any]:
            raise ValueError(state.iteration)

        loop = Loop[Any, Any, None](outputs(data.step)).on(at, fail)
        return loop.on(Events.EXCEPTION_RAISED, lambda state, error: state.recover(recovery))

    return build


def failing_step(data: Watched) -> Loop[Any, Any, None]:
    def step(state: State[Any, Any, Any]) -> State[Any, Any, Any]:
        output = data.step(state.batch)
        if state.iteration == 2:
            raise ValueError(state.iteration)
        return state.evolve(output=output)

    loop = Loop[Any, Any, None](step)
    return loop.on(Events.EXCEPTION_RAISED, lambda state, error: state.recover(SKIP_BATCH))


LOOPS = {
    "plain": plain,
    "heard": heard,
    "staged": staged,
    "failing step": failing_step,
    "failing at GET_BATCH_COMPLETED": recovering(Events.GET_BATCH_COMPLETED, SKIP_BATCH),
    "failing at ITERATION_COMPLETED": recovering(Events.ITERATION_COMPLETED, SKIP_BATCH),
    "ending the epoch": recovering(Events.ITERATION_COMPLETED(once=1), END_EPOCH),
}


@pytest.mark.parametrize("way", [run, pull, pull_and_read])
@pytest.mark.parametrize("build", LOOPS.values(), ids=LOOPS)
def test_a_batch_is_released_before_the_next_and_an_output_before_the_step(
    build: Callable[[Watched], Loop[Any, Any, None]], way: Run
) -> None:
    data = Watched()
    gc.disable()  # what only the collector would free is a cycle, and does not count as released
    try:
        way(build(data), data)
    finally:
        gc.enable()
    assert data.fetched >= 3
    assert data.retained == []


@pytest.mark.parametrize("way", [run, pull])
def test_a_run_leaves_no_cycle_behind(way: Run) -> None:
    data = Watched()
    gc.disable()
    try:
        way(heard(data), data)
        assert data.batch is not None
        assert data.batch() is None
        assert data.output is not None
        assert data.output() is None
    finally:
        gc.enable()


def test_a_moment_that_is_kept_is_the_callers() -> None:
    data = Watched()
    kept = list(plain(data).iterate(data))
    assert len({id(moment.state.batch) for moment in kept if moment.state.has_batch}) == 4


@attrs.define
class Closing:
    """Give batches from a generator of its own at each iteration, and count the open ones."""

    opened: int = 0
    closed: int = 0

    def __iter__(self) -> Generator[int, None, None]:
        self.opened += 1
        try:
            yield from range(3)
        finally:
            self.closed += 1


def fail(state: State[Any, Any, Any]) -> State[Any, Any, Any]:
    raise ValueError(state.iteration)


ENDINGS: dict[str, Any] = {
    "at the end": compose(),
    "on terminate": when(lambda state: state.iteration == 2, State.terminate),
    "on interrupt": when(lambda state: state.iteration == 2, State.interrupt),
    "on an exception": when(lambda state: state.iteration == 2, fail),
}


@pytest.mark.parametrize("handler", ENDINGS.values(), ids=ENDINGS)
def test_a_run_closes_the_iterators_that_it_made(handler: Any) -> None:
    data = Closing()
    loop = Loop[Any, Any, None](outputs(abs)).on(Events.ITERATION_COMPLETED, handler)
    with contextlib.suppress(ValueError):
        loop.run(data, max_epochs=2)
    assert data.opened == data.closed > 0


@given(st.integers(0, 30))
def test_a_run_that_is_dropped_closes_its_data_and_reports_no_failure(pulled: int) -> None:
    heard: list[Event | PayloadEvent[Any]] = []
    data = Closing()
    loop = Loop[Any, Any, None](outputs(abs))
    loop = loop.on(Events.EXCEPTION_RAISED, lambda state, error: state.terminate())
    loop = loop.on(Events.EXCEPTION_RAISED, noting(heard, Events.EXCEPTION_RAISED))
    loop = loop.on(Events.EXITED, noting(heard, Events.EXITED))
    moments = loop.iterate(data, max_epochs=3)
    taken = list(itertools.islice(moments, pulled))
    if taken and taken[-1].event is Events.EXITED:
        return
    moments.close()
    assert heard == []
    assert data.opened == data.closed
    assert next(moments, None) is None


def noting(heard: list[Any], event: object) -> Any:
    def note(state: State[Any, Any, Any], payload: object) -> State[Any, Any, Any]:
        heard.append(event)
        return state

    return note


def test_the_users_own_iterator_stays_open() -> None:
    batches = iter(Closing())
    loop = Loop[Any, Any, None](outputs(abs))
    loop.run(batches, max_iters=1, epoch_length=3)
    assert next(batches) == 1
    moments = loop.iterate(batches)
    next(moments)
    moments.close()
    assert next(batches) == 2
