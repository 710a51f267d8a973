"""A run that was asked to end, and trains on: what was left of its epoch comes first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fengine import Events, Loop, State, outputs
from fengine.checkpoints import Checkpoints

Fired = list[tuple[str, int, int]]
HEARD: tuple[Any, ...] = (
    Events.STARTED,
    Events.EPOCH_STARTED,
    Events.ITERATION_COMPLETED,
    Events.EPOCH_COMPLETED,
)
DATA = [1, 2]


def watched(fired: Fired) -> Any:
    loop: Any = Loop(outputs(abs))

    def watch(name: str) -> Any:
        def note(state: State[Any, Any]) -> State[Any, Any]:
            fired.append((name, state.epoch, state.iteration))
            return state

        return note

    for event in HEARD:
        loop = loop.on(event, watch(event.name))
    return loop


def whole(**limits: int) -> Fired:
    fired: Fired = []
    watched(fired).run(DATA, **(limits or {"max_epochs": 4}))
    return fired


@pytest.mark.parametrize("limits", [{"max_epochs": 4}, {"max_iters": 8}])
@pytest.mark.parametrize("iteration", [3, 4, 7, 8])
@pytest.mark.parametrize("event", [Events.ITERATION_COMPLETED, Events.GET_BATCH_COMPLETED])
def test_a_run_ended_at_an_iteration_fires_what_was_left(
    tmp_path: Path, event: Any, iteration: int, limits: Any
) -> None:
    fired: Fired = []
    ending = watched(fired).on(event(once=iteration), State.terminate)
    Checkpoints(tmp_path).run(ending, DATA, **limits)
    assert fired[-1] == ("iteration_completed", (iteration + 1) // 2, iteration)
    Checkpoints(tmp_path).run(watched(fired), DATA, again=True, **limits)
    assert fired == whole(**limits)
    Checkpoints(tmp_path).run(watched(fired), DATA, again=True, **limits)
    assert fired == whole(**limits)


@pytest.mark.parametrize("event", [Events.EPOCH_COMPLETED, Events.STARTED, Events.EPOCH_STARTED])
def test_nothing_is_fired_twice(tmp_path: Path, event: Any) -> None:
    fired: Fired = []
    at = event if event == Events.STARTED else event(once=2)
    ending = watched(fired).on(at, State.terminate)
    Checkpoints(tmp_path).run(ending, DATA, max_epochs=4)
    Checkpoints(tmp_path).run(watched(fired), DATA, max_epochs=4, again=True)
    assert fired == whole()


def test_an_epoch_that_was_cut_short_is_not_gone_on_with(tmp_path: Path) -> None:
    def asked_twice(loop: Any) -> Any:
        loop = loop.on(Events.ITERATION_COMPLETED(once=3), State.terminate_epoch)
        return loop.on(Events.EPOCH_COMPLETED(once=2), State.terminate)

    fired: Fired = []
    Checkpoints(tmp_path).run(asked_twice(watched(fired)), DATA, max_epochs=3)
    assert fired[-1] == ("epoch_completed", 2, 3)
    Checkpoints(tmp_path).run(watched(fired), DATA, max_epochs=3, again=True)
    assert fired[-4:] == [
        ("epoch_started", 3, 3),
        ("iteration_completed", 3, 4),
        ("iteration_completed", 3, 5),
        ("epoch_completed", 3, 5),
    ]


def test_it_ends_again_and_trains_on_again(tmp_path: Path) -> None:
    fired: Fired = []
    ends: tuple[tuple[Any, int], ...] = (
        (Events.ITERATION_COMPLETED, 2),
        (Events.EPOCH_COMPLETED, 1),
        (Events.ITERATION_COMPLETED, 5),
    )
    for event, once in ends:
        ending = watched(fired).on(event(once=once), State.terminate)
        Checkpoints(tmp_path).run(ending, DATA, max_epochs=4, again=True)
    Checkpoints(tmp_path).run(watched(fired), DATA, max_epochs=4, again=True)
    assert fired == whole()


@pytest.mark.parametrize("limits", [{"max_epochs": 1}, {"max_iters": 3}])
def test_limits_that_are_passed_already_leave_nothing(tmp_path: Path, limits: Any) -> None:
    ending = watched([]).on(Events.ITERATION_COMPLETED(once=3), State.terminate)
    Checkpoints(tmp_path).run(ending, DATA, max_epochs=4)
    fired: Fired = []
    Checkpoints(tmp_path).run(watched(fired), DATA, again=True, **limits)
    assert fired == []


def test_an_end_within_the_last_epoch_says_that_it_stays(tmp_path: Path) -> None:
    ending = watched([]).on(Events.ITERATION_COMPLETED(once=7), State.terminate)
    Checkpoints(tmp_path).run(ending, DATA, max_epochs=4)
    with pytest.warns(UserWarning, match="asked to end at epoch 4, iteration 7.*again=True"):
        final = Checkpoints(tmp_path).run(watched([]), DATA, max_epochs=4)
    assert final.iteration == 7
