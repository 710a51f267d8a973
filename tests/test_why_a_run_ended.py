"""Why a run ended: `Events.EXITED` hands its handlers a sentence that says so."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fengine import END_RUN, Events, Loop, Outcome, State, outputs
from fengine.features import early_stopping, time_limit
from fengine.testing import in_threads

AnyState = State[Any, Any, Any]
AnyLoop = Loop[Any, Any, Any]


def stop(state: AnyState) -> AnyState:
    return state.terminate() if state.iteration == 3 else state


def give_up(state: AnyState, error: BaseException) -> AnyState:
    return state.recover(END_RUN)


def worse(state: AnyState) -> AnyState:
    return state.with_metric("loss", state.epoch)


def endless() -> Iterator[int]:
    yield from [1, 2, 3]


PLAIN: AnyLoop = Loop(outputs(abs))
DIVIDING: AnyLoop = Loop(outputs(lambda number: 1 // number))
WORSE: AnyLoop = PLAIN.with_metrics("loss", at=Events.EPOCH_COMPLETED).on(
    Events.EPOCH_COMPLETED, worse
)


def keeping(found: list[Outcome]) -> Callable[[AnyState, Outcome], AnyState]:
    def keep(state: AnyState, outcome: Outcome) -> AnyState:
        found.append(outcome)
        return state

    return keep


def why(loop: AnyLoop, *given: Any, **limits: Any) -> str:
    """Run a loop, and return why it ended."""
    found: list[Outcome] = []
    loop = loop.on(Events.EXITED, keeping(found))
    with contextlib.suppress(ZeroDivisionError):
        loop.run(*given, **limits)
    return str(found[0])


@pytest.mark.parametrize(
    ("loop", "limits", "sentence"),
    [
        (PLAIN, {"max_epochs": 2}, "completed: max_epochs=2 was reached at epoch 2, iteration 4"),
        (PLAIN, {"max_iters": 3}, "completed: max_iters=3 was reached at epoch 2, iteration 3"),
        (
            PLAIN.on(Events.ITERATION_COMPLETED, stop),
            {"max_epochs": 5},
            "terminated: stop (test_why_a_run_ended.py:19) asked for the end at "
            "Events.ITERATION_COMPLETED in epoch 2, iteration 3",
        ),
        (
            WORSE | early_stopping("loss", mode="min", patience=2),
            {"max_epochs": 9},
            "terminated: early_stopping('loss', mode='min', patience=2) asked for the end at "
            "Events.EPOCH_COMPLETED in epoch 3, iteration 6",
        ),
        (
            PLAIN.on(Events.EPOCH_COMPLETED, State.interrupt),
            {"max_epochs": 5},
            "interrupted: State.interrupt (state.py:*) asked for a pause at "
            "Events.EPOCH_COMPLETED in epoch 1, iteration 2",
        ),
        (
            PLAIN | time_limit(1, clock=iter(range(0, 90, 10)).__next__),
            {"max_epochs": 5},
            "interrupted: time_limit(1*) asked for a pause at "
            "Events.ITERATION_COMPLETED in epoch 1, iteration 1",
        ),
    ],
)
def test_a_run_says_why_it_ended(loop: AnyLoop, limits: Any, sentence: str) -> None:
    said = why(loop, [1, 2], **limits)
    begin, _, end = sentence.partition("*")
    assert said.startswith(begin)
    assert said.endswith(end)


def test_a_run_says_that_its_data_ended() -> None:
    said = why(PLAIN, endless(), max_epochs=5, epoch_length=2, on_exhausted="stop")
    assert said == "completed: the data ended at epoch 2, iteration 3"


def test_a_run_says_what_failed_and_where() -> None:
    assert why(DIVIDING, [1, 0]) == (
        "failed: ZeroDivisionError: integer division or modulo by zero was raised in the step at "
        "epoch 1, iteration 2"
    )


def test_a_run_says_who_ended_it_after_a_failure() -> None:
    said = why(DIVIDING.on(Events.EXCEPTION_RAISED, give_up), [1, 0])
    assert said == (
        "terminated: give_up (test_why_a_run_ended.py:23) asked for the end at "
        "Events.EXCEPTION_RAISED in epoch 1, iteration 2"
    )


class Asked:
    asked = True


def test_a_run_says_that_the_process_is_to_end() -> None:
    found: list[Outcome] = []
    loop = PLAIN.on(Events.EXITED, keeping(found))
    loop.run([1, 2], max_epochs=5, preemption=Asked())
    assert str(found[0]).startswith("interrupted: whoever ends the process asked for a pause at")


def test_a_stop_of_another_rank_is_told_from_ones_own() -> None:
    found: dict[int, str] = {}

    def run(ranks: Any) -> None:
        def stops(state: AnyState) -> AnyState:
            return state.terminate() if ranks.rank == 0 else state

        def tell(state: AnyState, outcome: Outcome) -> AnyState:
            found[ranks.rank] = outcome.reason
            return state

        loop: AnyLoop = Loop(outputs(abs), ranks=ranks)
        loop.on(Events.ITERATION_COMPLETED, stops).on(Events.EXITED, tell).run([1, 2])

    in_threads(2, run)
    assert found[0].startswith("test_a_stop_of_another_rank")
    assert found[1].startswith("another rank asked for the end")
