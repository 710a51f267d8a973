"""What a run goes on with, and what it must not: recoveries without end, forgotten data."""

from __future__ import annotations

import copy
import pickle
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import attrs
import pytest
from typing_extensions import override

from fengine import (
    IGNITE_0_5_5,
    SKIP_BATCH,
    DataExhausted,
    Event,
    Events,
    Limits,
    Loop,
    RequestError,
    State,
    Status,
    focus,
    last_state,
    outputs,
    tap,
)
from fengine.features import evaluation

AnyState = State[Any, Any, Any]
AnyLoop = Loop[Any, Any, Any]


def identity(batch: Any) -> Any:
    return batch


def raised_by(run: Callable[[], object]) -> Exception | None:
    try:
        run()
    except Exception as error:
        return error
    return None


def skip(state: AnyState, error: BaseException) -> AnyState:
    return state.recover(SKIP_BATCH)


def fail(state: AnyState) -> AnyState:
    raise ValueError("broken")


LOOP: AnyLoop = Loop(outputs(identity))
SKIPPING = LOOP.on(Events.EXCEPTION_RAISED, skip)


class Unreadable:
    def __iter__(self) -> Iterator[int]:
        raise OSError("no disk")


@pytest.mark.parametrize(
    ("run", "raised"),
    [
        (lambda: SKIPPING.run(iter([1, 2]), max_epochs=2), DataExhausted),
        (lambda: SKIPPING.run(Unreadable()), OSError),
        (lambda: SKIPPING.on(Events.GET_BATCH_STARTED, fail).run([1, 2]), ValueError),
    ],
    ids=["exhausted", "unreadable", "handler"],
)
def test_recovering_for_ever_ends(run: Callable[[], object], raised: type[Exception]) -> None:
    with pytest.raises(raised) as caught:
        run()
    assert any("recovered 1000 times in a row" in note for note in caught.value.__notes__)


def test_a_run_goes_on_with_other_data_behind_an_empty_one() -> None:
    with pytest.raises(DataExhausted) as caught:
        LOOP.run(iter([]))
    assert LOOP.resume(last_state(caught.value), [1, 2]).iteration == 2


class Batch:
    """Something that can be watched."""


def test_iterate_after_a_state_does_not_keep_its_batch() -> None:
    batches = [Batch() for _ in range(3)]
    first = weakref.ref(batches[0])
    moments = LOOP.iterate(iter(batches))
    state = next(m for m in moments if m.event is Events.ITERATION_COMPLETED).state
    rest = LOOP.iterate(iter(batches[1:]), after=state)
    del state, moments, batches
    alive = [first() is not None for moment in rest if moment.event is Events.GET_BATCH_COMPLETED]
    assert alive == [False, False]


@pytest.mark.parametrize("event", [Events.STARTED, Events.ITERATION_STARTED, Events.COMPLETED])
def test_what_a_run_refuses_a_resumed_run_refuses_too(event: Event) -> None:
    loop = LOOP.on(event, lambda state: state.recover(SKIP_BATCH))
    with pytest.raises(RequestError) as caught:
        loop.run([1, 2])
    assert not hasattr(caught.value, "__notes__")
    moment = next(m for m in loop.iterate([1, 2]) if m.event is event)
    if event is not Events.COMPLETED:  # nothing obeys requests after it
        with pytest.raises(RequestError):
            LOOP.resume(moment.state, [1, 2])


def test_a_refused_request_stays_refused_in_a_resumed_run() -> None:
    loop: AnyLoop = Loop(outputs(identity), semantics=IGNITE_0_5_5)
    loop = loop.on(Events.STARTED, State.terminate_epoch).on(Events.EXCEPTION_RAISED, skip)
    moments = list(loop.iterate([1, 2]))
    answered = next(m for m in moments if m.event is Events.EXCEPTION_RAISED)
    assert loop.resume(answered.state, [1, 2]) == moments[-1].state


def test_data_cannot_be_left_out_of_a_resumed_run() -> None:
    moment = next(iter(LOOP.iterate([1, 2, 3])))
    with pytest.raises(TypeError, match="give the data"):
        LOOP.resume(moment.state)
    without = next(iter(LOOP.iterate(epoch_length=2)))
    assert LOOP.resume(without.state).iteration == 2


@attrs.frozen
class Record:
    part: int = 1
    kept: int = attrs.field(init=False, default=0)

    @property
    def doubled(self) -> int:
        return 2 * self.part


def increment(state: AnyState) -> AnyState:
    return state.evolve(user=state.user + 1)


def test_focus_changes_no_other_field() -> None:
    record = copy.copy(Record())
    object.__setattr__(record, "kept", 9)
    changed = focus("part", increment)(State(user=record)).user
    assert (changed.part, changed.kept, record.part) == (2, 9, 1)
    assert focus("kept", increment)(State(user=record)).user.kept == 10
    with pytest.raises(AttributeError, match="'doubled'"):
        focus("doubled", increment)(State(user=record))


class Counting(Sequence[int]):
    """A sequence that notes what is read."""

    def __init__(self) -> None:
        self.read: list[int] = []

    @override
    def __len__(self) -> int:
        return 6

    @override
    def __getitem__(self, index: Any) -> Any:
        if index >= 6:
            raise IndexError
        self.read.append(index)
        return index


def test_a_sequence_is_entered_by_its_index() -> None:
    moments = LOOP.iterate(Counting())
    state = next(m for m in moments if m.state.iteration == 4).state
    data = Counting()
    assert LOOP.resume(state, data).output == 5
    assert data.read == [4, 5]


@pytest.mark.parametrize("limits", [{"max_iters": 3}, {"max_epochs": 1}])
def test_a_run_that_is_stopped_in_its_last_iteration_was_stopped(limits: dict[str, Any]) -> None:
    loop = LOOP.on(Events.ITERATION_COMPLETED(once=3), State.terminate)
    assert loop.run([1, 2, 3], **limits).status is Status.TERMINATED
    assert LOOP.run([1, 2, 3], **limits).status is Status.COMPLETED
    assert LOOP.run([1, 2, 3, 4], max_iters=3).status is Status.COMPLETED


def test_an_exhausted_source_can_be_told_to_another_process() -> None:
    error = pickle.loads(pickle.dumps(DataExhausted(4, 9)))
    assert (error.got, error.wanted, str(error)) == (4, 9, str(DataExhausted(4, 9)))


class Closing:
    """Data whose iterator cannot be closed."""

    def __iter__(self) -> Iterator[int]:
        return self.items()

    def items(self) -> Iterator[int]:
        try:
            yield 1
            yield 2
        finally:
            raise OSError("cannot close")


def test_what_closing_raises_hides_nothing() -> None:
    failing = LOOP.on(Events.ITERATION_COMPLETED, fail)
    with pytest.warns(UserWarning, match="cannot close"):
        error = raised_by(lambda: failing.run(Closing(), epoch_length=1))
    assert str(error) == "broken"


@pytest.mark.parametrize("event", [Events.EXCEPTION_RAISED, Events.EXITED])
def test_ctrl_c_leaves_whatever_a_handler_of_it_raises(event: Any) -> None:
    def interrupted(batch: int) -> int:
        raise KeyboardInterrupt

    def broken(state: AnyState, payload: object) -> AnyState:
        raise ValueError("broken")

    loop: AnyLoop = Loop(outputs(interrupted))
    with pytest.raises(KeyboardInterrupt) as caught:
        loop.on(event, broken).run([1])
    assert any("ValueError('broken')" in note for note in caught.value.__notes__)


def test_a_note_names_the_function_in_a_combinator() -> None:
    def report(state: AnyState) -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken") as caught:
        LOOP.on(Events.STARTED, tap(report)).run([1])
    assert "in handler tap(" in caught.value.__notes__[0]
    assert "report (test_going_on.py:" in caught.value.__notes__[0]
    validation = LOOP.on(Events.STARTED, fail)
    loop = LOOP | evaluation(validation, list(range(1000)), at=Events.STARTED)
    with pytest.raises(ValueError, match="broken") as caught:
        loop.run([1])
    assert all(len(note) < 200 for note in caught.value.__notes__)


def test_integers_of_other_libraries_are_limits() -> None:
    numpy = pytest.importorskip("numpy")
    assert Limits(max_epochs=numpy.int64(2)) == Limits(max_epochs=2)
