"""What is said of states and runs: what differs, who wrote it, and where two runs part."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import attrs
import numpy as np
import pytest
import torch
from immutables import Map
from typing_extensions import override

from fengine import (
    Event,
    Events,
    Loop,
    Recorder,
    State,
    blame,
    compose,
    diff,
    first_difference,
    focus,
    outputs,
    stages,
)


@attrs.frozen
class Mine:
    best: float = 9.0
    history: tuple[int, ...] = ()


class Pair(NamedTuple):
    left: int
    right: int


def keep_best(state: Any) -> Any:
    return state.evolve(user=attrs.evolve(state.user, best=min(state.user.best, state.output)))


def keep_history(state: Any) -> Any:
    history = (*state.user.history, state.output)
    return state.evolve(user=attrs.evolve(state.user, history=history))


def keep_nothing(state: Any) -> Any:
    return state.evolve(user=attrs.evolve(state.user))


LOOP: Any = (
    Loop(outputs(lambda batch: batch))
    .on(Events.ITERATION_COMPLETED, keep_best)
    .on(Events.ITERATION_COMPLETED, keep_nothing)
    .on(Events.ITERATION_COMPLETED(every=2), keep_history)
    .on(Events.EPOCH_COMPLETED, lambda state: state.with_metric("loss", state.epoch / 2))
)

ONES = torch.ones(2, 3)

SAID: list[tuple[Any, Any, str]] = [
    (State(), State(), "no difference"),
    (State(epoch=1), State(epoch=2), "epoch: 1 -> 2"),
    (State(output=1), State(), "output: 1 -> none yet"),
    (State(batch=[1, 2]), State(batch=[1, 3]), "batch[1]: 2 -> 3"),
    (State(batch=[1]), State(batch=[1, 3]), "batch[1]: nothing -> 3"),
    (State(user=Mine()), State(user=Mine(0.5)), "user.best: 9.0 -> 0.5"),
    (State(user=Pair(1, 2)), State(user=Pair(1, 3)), "user.right: 2 -> 3"),
    (State(user=Mine()), State(), "user: Mine(best=9.0, history=()) -> None"),
    (State(user=(1, 2)), State(user=[1, 2]), "user: (1, 2) -> [1, 2]"),
    (
        State(user={"a.b": {"c": 1}}),
        State(user=Map({"a.b": Map({"c": 2})})),
        "user.a.b.c: 1 -> 2",
    ),
    (
        State(event=Events.STARTED),
        State(event=Event("looked")),
        "event: Events.STARTED -> Event('looked')",
    ),
    (
        State().terminate(),
        State(),
        "requests.terminate: Terminate.ANNOUNCED -> None",
    ),
    (
        State(output=ONES),
        State(output=torch.tensor([[1.0, 2.0, float("nan")], [1.0, 1.0, 1.0]])),
        "output: Tensor float32 of shape (2, 3): 2 of 6 elements differ",
    ),
    (
        State(output=ONES),
        State(output=ONES.double()),
        "output: Tensor float32 of shape (2, 3) -> Tensor float64 of shape (2, 3)",
    ),
    (
        State(output=np.zeros(4)),
        State(output=np.arange(4.0)),
        "output: ndarray float64 of shape (4,): 3 of 4 elements differ",
    ),
    (
        State(output=torch.empty(3, device="meta")),
        State(output=torch.empty(3, device="meta")),
        "output: Tensor float32 of shape (3,): some elements differ",
    ),
    (State(user="a" * 99), State(user="b"), f"user: '{'a' * 59}... -> 'b'"),
]


@pytest.mark.parametrize(("before", "after", "said"), SAID, ids=[said for *_, said in SAID])
def test_a_difference_is_said_in_a_line(before: Any, after: Any, said: str) -> None:
    assert str(diff(before, after)) == said


def test_each_difference_has_a_line() -> None:
    one: Any = State(epoch=1, user=Mine(), output=ONES)
    found = diff(one, State(epoch=2, user=Mine(0.5, (3,)), output=ONES))
    assert [(part.path, part.after) for part in found] == [
        ("epoch", 2),
        ("user.best", 0.5),
        ("user.history[0]", 3),
    ]
    assert len(found) == len(str(found).splitlines()) == 3


class Odd:
    """Equal to nothing, and without parts."""

    __hash__ = None  # type: ignore[assignment]

    @override
    def __eq__(self, other: object) -> bool:
        return False

    @override
    def __repr__(self) -> str:
        return "odd"


def test_what_has_no_parts_differs_as_a_whole() -> None:
    assert str(diff(State(user=[Odd()]), State(user=[Odd()]))) == "user[0]: odd -> odd"
    assert str(diff(1, 2)) == ": 1 -> 2"


def recorded(loop: Any = LOOP, **options: Any) -> Any:
    recorder = Recorder(loop, handlers=True, **options)
    recorder.loop.run([3, 5, 1, 4], user=Mine(), max_epochs=2)
    return recorder.entries


def test_the_handler_that_wrote_a_part_last_is_blamed() -> None:
    write = blame(recorded(), "user.best")
    assert (write.by, write.event, write.epoch, write.iteration) == (
        keep_best,
        Events.ITERATION_COMPLETED,
        1,
        3,
    )
    assert (write.difference.before, write.difference.after) == (3, 1)
    assert str(write).startswith("user.best: 3 -> 1, written by keep_best (test_explaining.py:")
    assert str(write).endswith("at Events.ITERATION_COMPLETED, epoch 1, iteration 3")


def test_a_filter_is_no_author() -> None:
    write = blame(recorded(), "user.history[3]")
    assert (write.by, write.iteration, write.difference.after) == (keep_history, 8, 4)
    assert blame(recorded(), "user").by is keep_history


@pytest.mark.parametrize(
    ("path", "by", "event", "iteration"),
    [
        ("output", "the step", Events.ITERATION_COMPLETED, 8),
        ("iteration", "the loop", Events.ITERATION_STARTED, 8),
        ("epoch", "the loop", Events.EPOCH_STARTED, 4),
        ("batch", "the loop", Events.GET_BATCH_COMPLETED, 7),
        ("status", "the loop", Events.EXITED, 8),
        ("limits.epoch_length", None, None, None),
    ],
    ids=str,
)
def test_what_no_handler_wrote(path: str, by: Any, event: Any, iteration: Any) -> None:
    entries = recorded()
    if by is None:
        with pytest.raises(LookupError, match=f"nobody wrote '{path}' in .* recorded events"):
            blame(entries, path)
        return
    write = blame(entries, path)
    assert (write.by, write.event, write.iteration) == (by, event, iteration)


def test_a_step_writes_what_is_the_users() -> None:
    def step(state: Any) -> Any:
        return keep_best(state.evolve(output=state.batch)).with_attribute("chunk", 2)

    entries = recorded(Loop(step))
    assert blame(entries, "user.best").by == "the step"
    assert blame(entries, "attributes.chunk").by == "the step"


def test_a_step_that_replaces_the_batch_is_blamed() -> None:
    entries = recorded(Loop(lambda state: state.evolve(batch=-1, output=state.batch)))
    assert blame(entries, "batch").by == "the step"


def test_a_handler_between_the_stages_is_blamed() -> None:
    looked = Event("looked")

    def ask(state: Any) -> Any:
        return state.terminate_epoch()

    step: Any = stages(lambda state: state.batch).emit(looked).then(lambda value: value)
    loop = Loop(step).on(looked(once=6), ask)
    entries = list(recorded(loop))
    until = next(
        place
        for place, entry in enumerate(entries, start=1)
        if entry.event == looked and entry.state.iteration == 6
    )
    write = blame(entries[:until], "requests.terminate_epoch")
    assert (write.by, write.event, write.iteration) == (ask, looked, 6)


def test_a_joined_handler_is_blamed_as_a_whole() -> None:
    both = compose(keep_best, keep_history)
    focused: Any = focus("best", lambda state: state.evolve(user=0.0))
    loop: Any = Loop(outputs(lambda batch: batch)).on(Events.STARTED, focused)
    loop = loop.on(Events.ITERATION_COMPLETED(once=1), both)
    entries = recorded(loop)
    assert blame(entries, "user.history").by == both
    assert blame(entries, "user.best").by == focused


def test_a_metric_is_blamed_by_its_name() -> None:
    write = blame(recorded(), "metrics.loss")
    assert (write.event, write.epoch, write.difference.after) == (Events.EPOCH_COMPLETED, 2, 1.0)


def test_only_what_was_kept_can_be_blamed() -> None:
    with pytest.raises(LookupError, match=r"nobody wrote 'user\.best'"):
        blame(recorded(last=3), "user.best")
    with pytest.raises(LookupError, match="nobody wrote 'output'"):
        blame(recorded(outputs=False), "output")


def test_a_part_that_is_none_is_named() -> None:
    with pytest.raises(LookupError, match=r"'user\.bets'; a state has iteration, epoch"):
        blame(recorded(), "user.bets")


def test_handlers_have_to_be_recorded() -> None:
    recorder = Recorder(LOOP)
    recorder.loop.run([1], user=Mine())
    for entries in (recorder.entries, ()):
        with pytest.raises(ValueError, match=r"Recorder\(loop, handlers=True\)"):
            blame(entries, "user")


def test_two_runs_part_where_one_handler_differs() -> None:
    other = LOOP.without(Events.ITERATION_COMPLETED, keep_nothing).on(
        Events.ITERATION_COMPLETED(once=5), lambda state: state.with_metric("odd", 1.0)
    )
    found = first_difference(recorded(), recorded(other))
    assert found is not None
    assert found.one.event is Events.ITERATION_COMPLETED
    assert found.one.state.iteration == 5
    assert str(found).splitlines()[1:] == ["snapshot.state.metrics.odd: nothing -> 1.0"]


def test_runs_are_compared_as_they_go() -> None:
    calls: list[int] = []

    def note(batch: int) -> int:
        calls.append(batch)
        return batch

    one: Any = Loop(outputs(note))
    found = first_difference(
        one.iterate(iter([1, 2, 3]), epoch_length=3), one.iterate(iter([1, 9, 3]), epoch_length=3)
    )
    assert found is not None
    assert found.one.event is Events.GET_BATCH_COMPLETED
    assert calls == [1, 1]


def test_a_run_that_ends_earlier_is_named() -> None:
    moments = list(LOOP.iterate([1], user=Mine()))
    short = list(itertools.islice(moments, 3))
    assert "the second run ends before moment 4, Events.GET_BATCH_COMPLETED" in str(
        first_difference(moments, short)
    )
    assert "the first run ends before moment 4" in str(first_difference(short, moments))


# A recorder is made for a loop, and says what else it cannot be.


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"last": 0}, ValueError, "last=0 keeps nothing"),
        ({"last": -1}, ValueError, "last=-1"),
        ({"last": True}, TypeError, "last=True"),
        ({"last": 2.5}, TypeError, "last=2.5"),
    ],
    ids=str,
)
def test_a_ring_has_a_size(options: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        Recorder(LOOP, **options)


def test_a_recorder_takes_a_loop() -> None:
    wrong: Any = [1, 2]
    with pytest.raises(TypeError, match=r"takes a Loop, not \[1, 2\]"):
        Recorder(wrong)


def test_what_is_not_kept_is_not_there() -> None:
    recorder = Recorder(LOOP, batches=False, outputs=False)
    recorder.loop.run([1, 2], user=Mine())
    assert not any(entry.state.has_batch or entry.state.has_output for entry in recorder.entries)
    assert any(entry.state._notes.batch_due for entry in recorder.entries)
