"""An evaluation that does not end hands no metric on."""

from __future__ import annotations

from typing import Any

import pytest

from fengine import Events, Loop, State, Status, last_state, outputs
from fengine.features import evaluation


def add(state: State[int, int, int]) -> State[int, int, int]:
    total = state.user + state.output
    return state.evolve(user=total).with_metric("sum", total)


def evaluating(ask: Any, data: Any = (1, 2, 3, 4), **given: Any) -> Any:
    inner: Any = Loop(outputs(abs))
    inner = inner.on(Events.ITERATION_COMPLETED, add)
    inner = inner.on(Events.ITERATION_COMPLETED(once=2), ask)
    loop: Any = Loop(outputs(abs))
    return loop | evaluation(inner, data, user=0, **given)


def test_an_interrupted_evaluation_fails_the_event_and_runs_again() -> None:
    asked = []

    def interrupt_once(state: Any) -> Any:
        asked.append(state.iteration)
        return state.interrupt() if len(asked) == 1 else state

    loop = evaluating(interrupt_once, prefix="")
    with pytest.raises(RuntimeError, match="after 2 of 4") as raised:
        loop.run([1], max_epochs=2)
    state: Any = last_state(raised.value)
    assert (state.event, state.epoch, dict(state.metrics)) == (Events.EPOCH_COMPLETED, 1, {})
    final = loop.resume(state, [1])
    assert (final.epoch, dict(final.metrics)) == (2, {"sum": 10})


def test_the_moments_of_a_run_show_it_too() -> None:
    moments = evaluating(State.interrupt).iterate([1])
    seen = []
    with pytest.raises(RuntimeError, match="interrupted"):
        seen.extend(moments)
    assert seen[-1].state.status is Status.FAILED
    assert not seen[-1].state.metrics


def test_one_that_is_ended_on_purpose_hands_its_metrics_on() -> None:
    assert dict(evaluating(State.terminate).run([1]).metrics) == {"val_sum": 3}


def test_one_of_fewer_batches_says_how_many_it_should_have_had() -> None:
    with pytest.raises(RuntimeError, match="after 2 of 3"):
        evaluating(State.interrupt, max_batches=3).run([1])


class Unsized:
    def __iter__(self) -> Any:
        return iter([1, 2, 3, 4])


@pytest.mark.parametrize("given", [{}, {"max_batches": 3}])
def test_one_over_data_without_a_length_says_how_many_it_had(given: Any) -> None:
    with pytest.raises(RuntimeError, match="after 2 batches"):
        evaluating(State.interrupt, Unsized(), **given).run([1])
