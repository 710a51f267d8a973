"""Exceptions: each leaves the run once its handlers ran, says where it was, and ends no data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fengine import (
    END_EPOCH,
    END_RUN,
    IGNITE_0_5_5,
    SKIP_BATCH,
    Event,
    Events,
    Loop,
    Outcome,
    PayloadEvent,
    Recovery,
    RequestError,
    State,
    Status,
    compose,
    last_state,
    outputs,
    stages,
    when,
)
from fengine.core.phases import is_report

AnyState = State[Any, Any, Any]
AnyLoop = Loop[Any, Any, Any]

OWN = Event("between")


def identity(batch: Any) -> Any:
    return batch


def add_one(state: AnyState, payload: object = None) -> AnyState:
    return state.evolve(user=state.user + 1)


def raising(error: BaseException) -> Callable[..., Any]:
    def break_it(value: Any, payload: object = None) -> Any:
        raise error

    return break_it


def recovering(answer: Recovery) -> Callable[[AnyState, BaseException], AnyState]:
    return lambda state, error: state.recover(answer)


def batch_of(state: AnyState) -> Any:
    return state.batch


def said(error: BaseException) -> list[str]:
    return list(getattr(error, "__notes__", ()))


# Every event, with a request at the first ITERATION_COMPLETED that leads to it.
REACHED: dict[Any, Callable[[AnyState], AnyState]] = {
    **{event: lambda state: state for event in Events.all()},
    Events.TERMINATE: State.terminate,
    Events.TERMINATE_SINGLE_EPOCH: State.terminate_epoch,
    Events.INTERRUPT: State.interrupt,
    Events.EXCEPTION_RAISED: raising(LookupError("first")),
}
SHOWN_AT = {
    Events.STARTED: "epoch 0, iteration 0",
    Events.EPOCH_STARTED: "epoch 1, iteration 0",
    Events.GET_BATCH_STARTED: "epoch 1, iteration 0",
    Events.GET_BATCH_COMPLETED: "epoch 1, iteration 0",
    Events.DATALOADER_STOP_ITERATION: "epoch 2, iteration 2",
    Events.EPOCH_COMPLETED: "epoch 1, iteration 2",
    Events.COMPLETED: "epoch 2, iteration 4",
    Events.EXITED: "epoch 2, iteration 4",
}


@pytest.mark.parametrize("event", REACHED, ids=lambda event: event.name)
def test_an_exception_in_a_handler_of_any_event(event: Any) -> None:
    error, answered, outcomes, later = ValueError("broken"), [], [], []

    def keep(state: AnyState, outcome: Outcome) -> AnyState:
        outcomes.append((outcome.status, outcome.error))
        return state

    def answer(state: AnyState, raised: BaseException) -> AnyState:
        answered.append(raised)
        return state

    def note(state: AnyState, payload: object = None) -> AnyState:
        later.append(event)
        return state

    loop: AnyLoop = Loop(outputs(identity)).on(Events.ITERATION_COMPLETED(once=1), REACHED[event])
    if event is not Events.EXCEPTION_RAISED:
        loop = loop.on(Events.EXCEPTION_RAISED, answer)
    if event is not Events.EXITED:
        loop = loop.on(Events.EXITED, keep)
    broken = loop.on(event, add_one).on(event, raising(error)).on(event, note)

    for _ in range(2):  # the loop can run again at once
        with pytest.raises(ValueError, match="broken") as raised:
            broken.run([1, 2], max_epochs=2, user=0)
        assert raised.value is error
        where = SHOWN_AT.get(event, "epoch 1, iteration 1")
        assert len(said(error)) == 1
        assert "handler raising.break_it (test_failures.py:" in said(error)[0]
        assert f"of Events.{event.name.upper()} at {where}" in said(error)[0]
        assert later == []
        assert answered == ([] if event in (Events.EXITED, Events.EXCEPTION_RAISED) else [error])
        assert outcomes == ([] if event is Events.EXITED else [(Status.FAILED, error)])
        state: Any = last_state(error)
        # What the first handler did stays, but at a pause and at events that report.
        is_undone = event is Events.INTERRUPT or is_report(event.name)
        assert state.user == (0 if is_undone else 1)
        assert state.status is (Status.COMPLETED if event is Events.EXITED else Status.FAILED)
        del error.__notes__
        answered.clear()
        outcomes.clear()


# Notes say what failed, once, and nothing that did not.


class Broken:
    """Break where iteration starts, or at an item."""

    def __init__(self, at: int | None, error: BaseException) -> None:
        self.at, self.error = at, error

    def __iter__(self) -> Iterator[int]:
        if self.at is None:
            raise self.error
        return self._batches()

    def _batches(self) -> Iterator[int]:
        for batch in range(3):
            if batch == self.at:
                raise self.error
            yield batch


def with_stage(error: BaseException) -> AnyLoop:
    return Loop(stages(lambda state: state.batch).emit(OWN).then(raising(error)))


PLACES: dict[str, tuple[Callable[[BaseException], tuple[AnyLoop, Any]], str]] = {
    "step": (
        lambda error: (Loop(outputs(raising(error))), [1]),
        "in the step at epoch 1, iteration 1",
    ),
    "stage": (lambda error: (with_stage(error), [1]), "in the step at epoch 1, iteration 1"),
    "iter": (
        lambda error: (Loop(outputs(identity)), Broken(None, error)),
        "in starting iteration over the data at epoch 1, iteration 0",
    ),
    "item": (
        lambda error: (Loop(outputs(identity)), Broken(2, error)),
        "in fetching a batch from the data at epoch 1, iteration 2",
    ),
    "handler": (
        lambda error: (
            Loop(outputs(identity)).on(Events.ITERATION_STARTED(every=2), raising(error)),
            [1, 2],
        ),
        "of Events.ITERATION_STARTED at epoch 1, iteration 2",
    ),
    "predicate": (
        lambda error: (
            Loop(outputs(identity)).on(Events.STARTED(when=raising(error)), State.terminate),
            [1],
        ),
        "in filter where(raising.break_it",
    ),
    "own event": (
        lambda error: (
            Loop(stages(lambda state: 1).emit(OWN).then(identity)).on(OWN, raising(error)),
            [1],
        ),
        "of Event('between') at epoch 1, iteration 1",
    ),
}


@pytest.mark.parametrize(("make", "note"), PLACES.values(), ids=PLACES)
def test_a_note_says_where_it_failed(
    make: Callable[[BaseException], tuple[AnyLoop, Any]], note: str
) -> None:
    loop, data = make(error := ValueError("broken"))
    with pytest.raises(ValueError, match="broken"):
        loop.run(data)
    assert len(said(error)) == 1
    assert note in said(error)[0]


@pytest.mark.parametrize("later", [Events.EXCEPTION_RAISED, Events.EXITED], ids=lambda e: e.name)
def test_an_exception_of_the_last_handlers_is_not_blamed_on_the_step(later: Any) -> None:
    first, second = ValueError("first"), KeyError("second")
    loop: AnyLoop = Loop(outputs(raising(first))).on(later, raising(second))
    with pytest.raises(KeyError) as raised:
        loop.run([1])
    assert raised.value is second
    assert second.__context__ is first
    assert len(said(second)) == 1
    assert later.name.upper() in said(second)[0]
    assert said(first) == ["in the step at epoch 1, iteration 1"]


# StopIteration of the user's is an error, and never the end of anything.


@pytest.mark.parametrize("place", [place for place in PLACES if place != "item"])
@pytest.mark.parametrize("pulled", [False, True], ids=["run", "iterate"])
def test_a_stop_iteration_becomes_a_runtime_error(place: str, pulled: bool) -> None:
    stop = StopIteration("of the user")
    loop, data = PLACES[place][0](stop)
    with pytest.raises(RuntimeError, match="StopIteration") as raised:
        list(loop.iterate(data)) if pulled else loop.run(data)
    assert raised.value.__cause__ is stop
    assert last_state(raised.value).status is Status.FAILED


@pytest.mark.parametrize("place", [place for place in PLACES if place != "item"])
def test_a_stop_iteration_reaches_the_handlers_as_it_is(place: str) -> None:
    stop, answered = StopIteration("of the user"), []

    def answer(state: AnyState, error: BaseException) -> AnyState:
        answered.append(error)
        return state.recover(END_RUN)

    loop, data = PLACES[place][0](stop)
    assert loop.on(Events.EXCEPTION_RAISED, answer).run(data).status is Status.TERMINATED
    assert answered == [stop]


# What is no Exception always leaves, whatever the handlers answer, and is announced all the same.


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("pulled", [False, True], ids=["run", "iterate"])
def test_what_asks_the_program_to_end_always_leaves(
    place: str, kind: type[BaseException], pulled: bool
) -> None:
    answered, outcomes = [], []

    def answer(state: AnyState, error: BaseException) -> AnyState:
        answered.append(error)
        return state.recover(SKIP_BATCH)

    def keep(state: AnyState, outcome: Outcome) -> AnyState:
        outcomes.append((outcome.status, outcome.error))
        return state

    loop, data = PLACES[place][0](error := kind("now"))
    loop = loop.on(Events.EXCEPTION_RAISED, answer).on(Events.EXITED, keep)
    with pytest.raises(kind) as raised:
        list(loop.iterate(data)) if pulled else loop.run(data)
    assert raised.value is error
    assert answered == [error]
    assert outcomes == [(Status.FAILED, error)]
    assert last_state(error).status is Status.FAILED
    assert any("recover() had no effect" in note for note in said(error))


@pytest.mark.parametrize("kind", [MemoryError, RecursionError])
def test_what_is_an_exception_can_be_recovered(kind: type[Exception]) -> None:
    loop: AnyLoop = Loop(outputs(raising(kind())))
    loop = loop.on(Events.EXCEPTION_RAISED, recovering(SKIP_BATCH))
    assert loop.run([1, 2]).status is Status.COMPLETED


# Recovering, where it is right and where it is not.


@pytest.mark.parametrize("answer", [SKIP_BATCH, END_EPOCH, END_RUN])
@pytest.mark.parametrize(
    "event",
    [Events.STARTED, Events.ITERATION_STARTED, Events.ITERATION_COMPLETED, Events.EPOCH_COMPLETED],
    ids=lambda event: event.name,
)
def test_recovering_where_nothing_failed_is_an_error(event: Event, answer: Recovery) -> None:
    loop: AnyLoop = Loop(outputs(identity)).on(event, lambda state: state.recover(answer))
    with pytest.raises(RuntimeError, match=f"recover.{answer.name}.*{event.name.upper()}"):
        loop.run([1, 2])


@pytest.mark.parametrize("ask", [State.terminate_epoch, lambda s: s.recover(SKIP_BATCH)])
@pytest.mark.parametrize("event", [Events.STARTED, Events.EPOCH_STARTED], ids=lambda e: e.name)
def test_a_request_that_is_refused_is_refused_once(ask: Any, event: Event) -> None:
    answered = []

    def answer(state: AnyState, error: BaseException) -> AnyState:
        answered.append(type(error))
        assert len(answered) < 9, "the run does not end"
        return state.recover(SKIP_BATCH)

    loop: AnyLoop = Loop(outputs(identity), semantics=IGNITE_0_5_5).on(event(once=1), ask)
    assert loop.on(Events.EXCEPTION_RAISED, answer).run([1, 2]).iteration == 2
    assert answered == [RequestError]


@pytest.mark.parametrize("answer", [SKIP_BATCH, END_EPOCH])
def test_a_pause_that_fails_is_still_a_pause(answer: Recovery) -> None:
    loop: AnyLoop = Loop(outputs(identity)).on(Events.ITERATION_COMPLETED(once=1), State.interrupt)
    loop = loop.on(Events.INTERRUPT, raising(ValueError("broken")))
    paused = loop.on(Events.EXCEPTION_RAISED, recovering(answer)).run([1, 2, 3])
    assert (paused.iteration, paused.status) == (1, Status.INTERRUPTED)
    assert loop.resume(paused, [1, 2, 3]).iteration == 3


def test_a_pause_that_fails_is_tried_again() -> None:
    loop: AnyLoop = Loop(outputs(identity)).on(Events.ITERATION_COMPLETED, add_one)
    loop = loop.on(Events.ITERATION_COMPLETED(once=1), State.interrupt)
    with pytest.raises(ValueError, match="broken") as raised:
        loop.on(Events.INTERRUPT, raising(ValueError("broken"))).run([1, 2, 3], user=0)
    state: Any = last_state(raised.value)
    paused = loop.resume(state, [1, 2, 3])
    assert (paused.iteration, paused.status, paused.user) == (1, Status.INTERRUPTED, 1)


def test_each_handler_of_an_exception_runs_once_in_order() -> None:
    calls: list[tuple[int, BaseException]] = []

    def numbered(number: int) -> Callable[[AnyState, BaseException], AnyState]:
        def answer(state: AnyState, error: BaseException) -> AnyState:
            calls.append((number, error))
            return state

        return answer

    loop: AnyLoop = Loop(outputs(raising(error := ValueError("broken"))))
    for number in range(3):
        loop = loop.on(Events.EXCEPTION_RAISED, numbered(number))
    with pytest.raises(ValueError, match="broken"):
        loop.run([1])
    assert calls == [(0, error), (1, error), (2, error)]


def test_a_handler_reraises_the_exception_it_answers() -> None:
    loop: AnyLoop = Loop(outputs(raising(error := ValueError("broken"))))
    with pytest.raises(ValueError, match="broken") as raised:
        loop.on(Events.EXCEPTION_RAISED, raising(error)).run([1])
    assert raised.value is error
    assert error.__context__ is None


def test_last_state_has_the_work_of_all_handlers_that_have_run() -> None:
    loop: AnyLoop = Loop(outputs(identity)).on(Events.ITERATION_COMPLETED, add_one)
    third = when(lambda state: state.iteration == 3, raising(ValueError("broken")))
    with pytest.raises(ValueError, match="broken") as raised:
        loop.on(Events.ITERATION_COMPLETED, compose(add_one, third)).run([1, 2, 3], user=0)
    state: Any = last_state(raised.value)
    assert (state.user, state.iteration, state.output) == (5, 3, 3)
    assert loop.resume(state, [1, 2, 3]).user == 5


def test_there_is_no_last_state_without_a_run() -> None:
    with pytest.raises(LookupError, match="ValueError"):
        last_state(ValueError("of somebody else"))


def test_a_nested_run_that_fails_is_seen_from_both() -> None:
    inner: AnyLoop = Loop(outputs(raising(ValueError("broken"))))

    def nested(state: AnyState) -> AnyState:
        inner.run([7])
        return state

    outer: AnyLoop = Loop(outputs(identity)).on(Events.EPOCH_COMPLETED, nested)
    with pytest.raises(ValueError, match="broken") as raised:
        outer.run([1, 2, 3])
    notes = said(raised.value)
    assert notes[0] == "in the step at epoch 1, iteration 1"
    assert "EPOCH_COMPLETED at epoch 1, iteration 3" in notes[1]
    assert last_state(raised.value).iteration == 3


def test_a_payload_is_dropped_with_its_event() -> None:
    ready: PayloadEvent[Any] = PayloadEvent("ready")
    course = stages(batch_of).emit(ready).then(identity)
    loop: AnyLoop = Loop(course).on(ready, raising(ValueError("broken")))
    loop = loop.on(Events.EXCEPTION_RAISED, recovering(SKIP_BATCH))
    assert loop.run([1, 2]).status is Status.COMPLETED


# Data that has more to give than it said, and breaks there: after the end, nobody asked for it.


class Surprising:
    """Say that there are two batches, count those fetched, and break at the third."""

    def __init__(self) -> None:
        self.fetched = 0

    def __len__(self) -> int:
        return 2

    def __iter__(self) -> Iterator[int]:
        for batch in range(2):
            self.fetched += 1
            yield batch
        self.fetched += 1
        raise OSError("broken after the end")


def test_data_that_breaks_behind_its_end_fails_no_run() -> None:
    loop: AnyLoop = Loop(outputs(identity))
    assert loop.run(Surprising()).status is Status.COMPLETED


def test_data_that_breaks_behind_its_end_hides_no_exception() -> None:
    loop: AnyLoop = Loop(outputs(identity)).on(Events.COMPLETED, raising(ValueError("broken")))
    with pytest.raises(ValueError, match="broken") as raised:
        loop.run(Surprising())
    assert last_state(raised.value).event == Events.COMPLETED


def test_a_run_that_is_dropped_fetches_nothing_more() -> None:
    data, loop = Surprising(), Loop[Any, Any, Any](outputs(identity))
    moments = loop.iterate(data)
    for moment in moments:
        if moment.state.iteration == 2:
            break
    moments.close()
    assert data.fetched == 2
