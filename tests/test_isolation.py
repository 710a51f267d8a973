"""What a handler, another run and another thread can do to a run, and what they cannot."""

from __future__ import annotations

import copy
import gc
import json
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import attrs
import pytest
import torch
from torch import nn

from fengine import Events, Loop, State, Status, last_state, outputs, tap
from fengine.features import evaluation

AnyState = State[Any, Any, Any]


def identity(batch: Any) -> Any:
    return batch


def keep_sum(state: AnyState) -> AnyState:
    return state.evolve(user=state.user + state.output)


LOOP: Any = Loop(outputs(identity))
SUMMING = LOOP.on(Events.ITERATION_COMPLETED, keep_sum)

# Only the loop moves a run.

OLD: AnyState = LOOP.run([1, 2, 3, 4], max_epochs=2)

MOVED: dict[str, tuple[Callable[[AnyState], AnyState], str]] = {
    "smaller": (lambda state: attrs.evolve(state, iteration=1), "iteration from 3 to 1"),
    "larger": (lambda state: attrs.evolve(state, iteration=9), "iteration from 3 to 9"),
    "epoch": (lambda state: attrs.evolve(state, epoch=0), "epoch from 1 to 0"),
    "batches": (lambda state: attrs.evolve(state, batches=0), "batches from 3 to 0"),
    "anew": (lambda state: State(user=state.user), "iteration from 3 to 0, epoch from 1 to 0"),
    "another run": (lambda state: OLD, "iteration from 3 to 8, epoch from 1 to 2"),
    "other event": (
        lambda state: attrs.evolve(state, event=Events.STARTED),
        "event from Events.EPOCH_COMPLETED to Events.STARTED",
    ),
}


@pytest.mark.parametrize(("handler", "words"), MOVED.values(), ids=MOVED)
def test_a_handler_cannot_move_the_run(handler: Any, words: str) -> None:
    def misplace(state: AnyState) -> AnyState:
        moved: AnyState = handler(state)
        return moved

    with pytest.raises(ValueError, match=words) as raised:
        LOOP.on(Events.EPOCH_COMPLETED, misplace).run([1, 2, 3], max_epochs=2)
    assert "handler" in str(raised.value)
    assert "misplace (test_isolation.py:" in str(raised.value)
    assert "EPOCH_COMPLETED at epoch 1, iteration 3" in raised.value.__notes__[0]
    assert LOOP.resume(last_state(raised.value), [1, 2, 3]).iteration == 6


def test_a_step_cannot_move_the_run() -> None:
    def stuck(state: AnyState) -> AnyState:
        return attrs.evolve(state, iteration=0, output=1)

    with pytest.raises(ValueError, match="iteration from 1 to 0"):
        Loop(stuck).run([1, 2], max_iters=10)


def test_a_step_cannot_give_an_old_state() -> None:
    kept: list[AnyState] = []

    def step(state: AnyState) -> AnyState:
        kept.append(outputs(len)(state))
        return kept[0]

    with pytest.raises(ValueError, match="iteration from 2 to 1"):
        Loop(step).run(["a", "b", "c"])


@pytest.mark.parametrize("name", ["iteration", "epoch", "batches"])
def test_a_counter_is_a_number_from_0(name: str) -> None:
    wrong: Any = State
    evolve: Any = attrs.evolve
    with pytest.raises(ValueError, match=f"{name}=-1 is negative"):
        wrong(**{name: -1})
    with pytest.raises(ValueError, match=f"{name}=-1 is negative"):
        evolve(OLD, **{name: -1})
    for value in (True, 1.0, "1", None):
        with pytest.raises(TypeError, match=f"{name}={value!r} of type"):
            wrong(**{name: value})


# What is taken away twice was there once.


def test_a_handler_is_taken_away_once() -> None:
    once = SUMMING.without(Events.ITERATION_COMPLETED, keep_sum)
    with pytest.raises(ValueError, match=r"keep_sum .* is not registered .*nothing to take away"):
        once.without(Events.ITERATION_COMPLETED, keep_sum)
    with pytest.raises(ValueError, match="nothing to take away"):
        LOOP.without(Events.ITERATION_COMPLETED, keep_sum)


# A run inside a handler ends as it likes; the run around it goes on.

ENDINGS: dict[str, tuple[Any, Status]] = {
    "terminated": (State.terminate, Status.TERMINATED),
    "terminated silently": (
        lambda state: state.terminate(skip_completed=True),
        Status.TERMINATED,
    ),
    "interrupted": (State.interrupt, Status.INTERRUPTED),
    "cut": (State.terminate_epoch, Status.COMPLETED),
}


@pytest.mark.parametrize(("ask", "status"), ENDINGS.values(), ids=ENDINGS)
def test_how_a_nested_run_ends_is_its_own_matter(ask: Any, status: Status) -> None:
    inner = LOOP.on(Events.ITERATION_COMPLETED(once=1), ask)
    ended: list[Status] = []

    def nested(state: AnyState) -> AnyState:
        ended.append(inner.run([10, 20]).status)
        return state

    outer = SUMMING.on(Events.ITERATION_COMPLETED, nested)
    assert outer.run([1, 2], user=0) == SUMMING.run([1, 2], user=0)
    assert ended == [status, status]
    validation = LOOP.on(Events.ITERATION_COMPLETED(once=1), ask)
    evaluated = SUMMING | evaluation(validation, [1, 2])
    if status is Status.INTERRUPTED:  # it has not seen all that it is to judge by
        with pytest.raises(RuntimeError, match="was interrupted"):
            evaluated.run([1, 2], user=0)
    else:
        assert evaluated.run([1, 2], user=0).status is Status.COMPLETED


def test_a_nested_run_that_fails_leaves_the_state_around_it() -> None:
    inner = LOOP.on(Events.ITERATION_COMPLETED(once=2), tap(lambda state: 1 // 0))

    def nested(state: AnyState) -> AnyState:
        return state.evolve(user=inner.run([1, 2], user=0).user)

    outer = SUMMING.on(Events.EPOCH_COMPLETED, nested)
    with pytest.raises(ZeroDivisionError) as raised:
        outer.run([1, 2], user=0)
    assert ["iteration 2" in note for note in raised.value.__notes__] == [True, True]
    state: Any = last_state(raised.value)
    assert (state.user, state.epoch, state.iteration) == (3, 1, 2)


# Loops share handlers, and threads share loops.


def test_loops_that_share_handlers_share_nothing_else() -> None:
    other: Any = Loop(outputs(lambda batch: 10 * batch)).on(Events.ITERATION_COMPLETED, keep_sum)
    alone = [list(loop.iterate([1, 2, 3], user=0)) for loop in (SUMMING, other)]
    one, two = (loop.iterate([1, 2, 3], user=0) for loop in (SUMMING, other))
    together = [list(moments) for moments in zip(*zip(one, two, strict=True), strict=True)]
    assert together == alone
    assert [moments[-1].state.user for moments in alone] == [6, 60]


def test_threads_run_one_loop_each_on_its_own() -> None:
    started = threading.Barrier(4)
    loop = SUMMING.on(Events.STARTED, tap(lambda state: started.wait(timeout=60)))

    def run(number: int) -> Any:
        return loop.run([number] * 50, user=0, max_epochs=20)

    with ThreadPoolExecutor(4) as pool:
        finals = list(pool.map(run, range(4)))
    assert [final.user for final in finals] == [1000 * number for number in range(4)]
    assert {final.iteration for final in finals} == {1000}


# A handler cannot write the state.


@pytest.mark.parametrize(
    "write",
    [lambda state: setattr(state, "iteration", 0), lambda state: delattr(state, "user")],
    ids=["assign", "delete"],
)
def test_a_handler_that_writes_the_state_fails(write: Any) -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError) as raised:
        LOOP.on(Events.STARTED, tap(write)).run([1])
    assert "in handler tap(" in raised.value.__notes__[0]


# What is being written does not change.


def test_a_snapshot_is_written_while_the_training_goes_on() -> None:
    model = nn.Linear(4, 4)

    def train(batch: int) -> int:
        with torch.no_grad():
            model.weight.add_(1)
        return batch

    loop: Any = Loop(outputs(train)).with_external(model=model)
    moments = loop.iterate(epoch_length=200)
    state = next(m for m in moments if m.event is Events.ITERATION_COMPLETED).state
    snapshot = loop.snapshot(state)
    before = copy.deepcopy(snapshot.to_dict())
    thread = threading.Thread(target=lambda: list(moments))
    thread.start()
    while thread.is_alive():
        written = snapshot.to_dict()
        assert written["external"]["model"]["weight"].equal(before["external"]["model"]["weight"])
        assert written["state"] == before["state"]
        assert json.dumps(written["state"]) == json.dumps(before["state"])
    thread.join()
    assert not model.weight.equal(before["external"]["model"]["weight"])


# Runs leave nothing behind.


def counted() -> tuple[int, int, int]:
    """Count objects and threads, and give the number that the next open file gets."""
    gc.collect()
    os.close(free := os.dup(1))
    return len(gc.get_objects()), threading.active_count(), free


def test_ten_thousand_runs_leave_nothing_behind() -> None:
    def run(times: int) -> None:
        for _ in range(times):
            LOOP.resume(next(SUMMING.iterate([1, 2], user=0)).state, [1, 2])

    run(100)  # what is made once
    before = counted()
    run(5_000)  # of two runs each
    objects, threads, files = counted()
    assert objects - before[0] < 50
    assert (threads, files) == before[1:]
