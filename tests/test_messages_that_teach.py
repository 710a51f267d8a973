"""Messages: what a newcomer types first and gets wrong says how it is done."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch

from fengine import Events, Loop, State, outputs, tap
from fengine.features import (
    evaluation,
    find_learning_rate,
    log_to,
    stop_on_nan,
    throughput,
    time_limit,
)
from fengine.metrics import accuracy, mean
from fengine.training import load_matching, predict, to_device

LOOP: Any = Loop(outputs(abs))
ANY_EVENTS: Any = Events
ANY_MODEL: Any = torch.nn.Linear(32, 1)


def set_user() -> None:
    state: Any = State()
    state.user = 3


def set_limit() -> None:
    state: Any = State()
    state.max_epochs = 3


def set_own() -> None:
    state: Any = State()
    state.best = 3


def test_a_run_that_was_asked_to_end_says_so_where_it_is_to_go_on() -> None:
    stopped = LOOP.on(Events.EPOCH_COMPLETED(once=2), State.terminate).run([1, 2], max_epochs=5)
    for state in (stopped, stopped.with_limits(max_epochs=9)):
        with pytest.warns(UserWarning, match=r"asked to end at epoch 2, iteration 4.*Recorder"):
            assert LOOP.resume(state, [1, 2]) is state
    whole = LOOP.run([1, 2], max_epochs=5)
    assert LOOP.resume(whole, [1, 2]) is whole


MISTAKES: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "user is set": (set_user, AttributeError, r"state\.evolve\(user=\.\.\.\)"),
    "a limit is set": (set_limit, AttributeError, r"state\.terminate\(\)"),
    "an own field is set": (set_own, AttributeError, r"user's record"),
    "two handlers": (
        lambda: LOOP.on(Events.STARTED, tap(print), tap(print)),
        TypeError,
        r"one after the other",
    ),
    "a list of events": (
        lambda: LOOP.on([Events.STARTED, Events.COMPLETED], tap(print)),
        TypeError,
        r"Events\.STARTED \| Events\.COMPLETED",
    ),
    "a payload event joined": (
        lambda: ANY_EVENTS.EXITED | Events.COMPLETED,
        TypeError,
        r"for each",
    ),
    "joined with a payload event": (
        lambda: Events.COMPLETED | ANY_EVENTS.EXITED,
        TypeError,
        r"for each",
    ),
    "a set joined with a payload event": (
        lambda: (Events.COMPLETED | Events.STARTED) | ANY_EVENTS.EXITED,
        TypeError,
        r"for each",
    ),
    "another name": (lambda: ANY_EVENTS.EPOCH_END, AttributeError, r"EPOCH_COMPLETED"),
    "no name at all": (lambda: ANY_EVENTS.xyz, AttributeError, r"no attribute 'xyz'"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_learns_how_it_is_done(name: str) -> None:
    mistake, kind, said = MISTAKES[name]
    with pytest.raises(kind, match=said):
        mistake()


@pytest.mark.parametrize("make", [time_limit, stop_on_nan, throughput, log_to, mean, accuracy])
def test_a_feature_that_was_not_called_says_so(make: Any) -> None:
    with pytest.raises(TypeError) as caught:
        LOOP | make
    said = "".join((str(caught.value), *getattr(caught.value, "__notes__", ())))
    assert f"call it first: loop | {make.__name__}(...)" in said


BATCHES: Any = [(torch.randn(64, 32), torch.randn(64, 1))] * 100
SWAPPED: dict[str, tuple[Callable[[], object], str]] = {
    "predict": (lambda: predict(BATCHES, ANY_MODEL), "give an instance of torch.nn.Module"),
    "evaluation": (lambda: evaluation(BATCHES, LOOP), "evaluation takes a Loop first"),
    "find_learning_rate": (lambda: find_learning_rate(BATCHES, LOOP), "takes a Loop first"),
    "to_device": (lambda: to_device("cpu", BATCHES), "give a torch.device"),
    "load_matching": (lambda: load_matching(ANY_MODEL.state_dict(), ANY_MODEL), "give an instance"),
    "time_limit": (lambda: time_limit(LOOP), "is not a number"),
    "log_to": (lambda: log_to(LOOP), "a log takes"),
}


@pytest.mark.parametrize("name", SWAPPED)
def test_arguments_that_are_swapped_are_named_in_a_few_words(name: str) -> None:
    mistake, said = SWAPPED[name]
    with pytest.raises(TypeError, match=said) as caught:
        mistake()
    assert len(str(caught.value)) < 300
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "step",
    [lambda batch: batch * 2, lambda batch: batch[0], lambda batch: batch.mean()],
    ids=["times", "part", "method"],
)
def test_a_step_of_a_batch_learns_of_outputs(step: Any) -> None:
    with pytest.raises((TypeError, AttributeError)) as caught:
        Loop(step).run([1])
    assert "Loop(outputs(function))" in "".join(caught.value.__notes__)


FALSE = """
from hypothesis import settings, strategies as st
from hypothesis.stateful import invariant
from fengine import Events, Loop, outputs
from fengine.testing import HandlerMachine

class Few(HandlerMachine):
    loop = Loop(outputs(abs)).on(Events.ITERATION_COMPLETED, lambda state: state)
    batches = st.integers(-9, 9)

    @invariant()
    def has_few_iterations(self):
        assert self.moment is None or self.moment.state.iteration < 2

Few.TestCase.settings = settings(Few.TestCase.settings, database=None)
Few.TestCase("runTest").runTest()
"""


def test_a_false_invariant_names_the_events_and_is_reported_soon() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FALSE], check=False, capture_output=True, text=True, timeout=120
    )
    said = r"fired Events\.ITERATION_STARTED at epoch \d+, iteration 2"
    assert re.search(said, done.stderr + done.stdout), done.stderr
    assert "Explanation:" not in done.stderr
