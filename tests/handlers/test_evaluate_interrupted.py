"""An evaluation that does not end hands no metric on."""

from __future__ import annotations

from typing import Any

import pytest

from fengine import Events, Loop, State, Status, evaluate, last_state, outputs


def add(state: State[int, int, int]) -> State[int, int, int]:
    total = state.user + state.output
    return state.evolve(user=total).with_metric("sum", total)


def evaluation(ask: Any) -> Any:
    loop: Any = Loop(outputs(abs))
    loop = loop.on(Events.ITERATION_COMPLETED, add)
    return loop.on(Events.ITERATION_COMPLETED(once=2), ask)


def test_an_interrupted_evaluation_fails_the_event_and_runs_again() -> None:
    asked = []

    def interrupt_once(state: Any) -> Any:
        asked.append(state.iteration)
        return state.interrupt() if len(asked) == 1 else state

    handler = evaluate(evaluation(interrupt_once), batches=[1, 2, 3, 4], user=0)
    loop: Any = Loop(outputs(abs)).on(Events.EPOCH_COMPLETED, handler)
    with pytest.raises(RuntimeError, match="after 2 of 4 batches") as raised:
        loop.run([1], max_epochs=2)
    state: Any = last_state(raised.value)
    assert (state.event, state.epoch, dict(state.metrics)) == (Events.EPOCH_COMPLETED, 1, {})
    final = loop.resume(state, [1])
    assert (final.epoch, dict(final.metrics)) == (2, {"sum": 10})


def test_the_moments_of_a_run_show_it_too() -> None:
    handler = evaluate(evaluation(State.interrupt), batches=[1, 2, 3, 4], user=0)
    loop: Any = Loop(outputs(abs)).on(Events.EPOCH_COMPLETED, handler)
    moments = loop.iterate([1])
    seen = []
    with pytest.raises(RuntimeError, match="interrupted"):
        seen.extend(moments)
    assert seen[-1].state.status is Status.FAILED
    assert not seen[-1].state.metrics


def test_one_that_is_ended_on_purpose_hands_its_metrics_on() -> None:
    handler = evaluate(evaluation(State.terminate), batches=[1, 2, 3, 4], user=0)
    loop: Any = Loop(outputs(abs)).on(Events.EPOCH_COMPLETED, handler)
    assert dict(loop.run([1]).metrics) == {"sum": 3}
