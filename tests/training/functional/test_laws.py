"""The laws of functional steps, over models, optimizers, data and requests."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from fengine import SKIP_BATCH, Events, Loop, State
from fengine.core.equality import same
from fengine.features import clip_grad_norm, clip_grad_value, lr_schedule, stop_on_nan
from fengine.testing import assert_resume_exact
from fengine.training import Donated, TrainState, functional_step, restore, training_step, windows
from tests.training.functional.tasks import MODELS, OPTIMIZERS, Pair, Task, loss_fn

AnyState: TypeAlias = State[Any, Any, Any]
Feature: TypeAlias = Callable[[Loop[Any, Any, Any]], Loop[Any, Any, Any]]

tasks = st.builds(
    Task.of,
    st.sampled_from(sorted(MODELS)),
    st.sampled_from(sorted(OPTIMIZERS)),
    st.integers(1, 3),
    st.integers(0, 3),
)
REQUESTS: dict[str, Callable[[AnyState], AnyState]] = {
    "none": lambda state: state,
    "the end": lambda state: state.terminate(),
    "the end of the epoch": lambda state: state.terminate_epoch(),
    "a pause": lambda state: state.interrupt(),
}
FEATURES: dict[str, Callable[[nn.Module], Feature]] = {
    "none": lambda model: lambda loop: loop,
    "norm": lambda model: clip_grad_norm(model, 0.1, metric="norm"),
    "value": lambda model: clip_grad_value(model, 0.01),
    "guard": lambda model: stop_on_nan(gradients=True),
}


def functional(task: Task, **options: Any) -> tuple[Loop[Any, Any, Any], TrainState]:
    """Make the loop of a functional step, and what it begins with."""
    step = functional_step(task.model, task.optimizer, loss_fn, **options)
    return Loop(step), step.init()


def finished(loop: Loop[Any, Any, Any], data: Any, **arguments: Any) -> AnyState:
    """Run a loop to its end, whatever pauses it."""
    state = loop.run(data, **arguments)
    while state.status.name == "INTERRUPTED":
        state = loop.resume(state, data)
    return state


@settings(max_examples=min(40, settings().max_examples))
@given(
    tasks,
    st.integers(1, 3),
    st.integers(1, 4),
    st.sampled_from(sorted(REQUESTS)),
    st.sampled_from(sorted(FEATURES)),
    st.integers(1, 2),
    st.booleans(),
)
def test_a_run_is_bitwise_one_in_place_and_changes_nothing(
    task: Task, epochs: int, at: int, request: str, feature: str, size: int, donate: bool
) -> None:
    def ask(state: AnyState) -> AnyState:
        return REQUESTS[request](state) if state.iteration == at else state

    in_place = task.copied()
    data = windows(task.batches, size) if size > 1 else task.batches
    torch.manual_seed(3)
    loop, start = functional(task, donate=donate)
    kept = copy.deepcopy(start)
    before, own = copy.deepcopy(task.bits()), torch.get_rng_state()
    loop = (loop | FEATURES[feature](task.model)).on(Events.ITERATION_COMPLETED, ask)
    final = finished(loop, data, user=start, max_epochs=epochs)

    assert same(task.bits(), before)
    assert torch.equal(torch.get_rng_state(), own)
    assert donate or start == kept
    torch.manual_seed(3)
    other = Loop(training_step(in_place.model, in_place.optimizer, loss_fn))
    other = (other | FEATURES[feature](in_place.model)).on(Events.ITERATION_COMPLETED, ask)
    expected = finished(other, data, max_epochs=epochs)
    assert same(final.output, expected.output)
    assert final.metrics == expected.metrics
    assert same(in_place.bits(), task.bits(final.user))
    assert torch.equal(final.user.random["cpu"], torch.get_rng_state())


@settings(max_examples=min(15, settings().max_examples))
@given(tasks, st.integers(1, 2), st.sampled_from(sorted(FEATURES)))
def test_a_run_equals_itself_lazily_and_from_every_moment_on(
    task: Task, epochs: int, feature: str
) -> None:
    loop, start = functional(task)
    loop = loop | FEATURES[feature](task.model)
    final = loop.run(task.batches, user=start, max_epochs=epochs)
    assert loop.run(task.batches, user=start, max_epochs=epochs) == final
    moments = list(loop.iterate(task.batches, user=start, max_epochs=epochs))
    assert moments[-1].state == final
    for moment in moments:
        assert loop.resume(moment.state, task.batches) == final


@pytest.mark.parametrize("feature", sorted(FEATURES))
@pytest.mark.parametrize(
    ("model", "optimizer"), [("convolutions", "AdamW"), ("network", "Nesterov"), ("tied", "Adam")]
)
def test_a_run_goes_on_exactly_in_another_process(model: str, optimizer: str, feature: str) -> None:
    def build() -> tuple[Loop[Any, Any, Any], list[Pair], dict[str, Any]]:
        task = Task.of(model, optimizer)
        loop, start = functional(task)
        return loop | FEATURES[feature](task.model), task.batches, {"user": start}

    assert_resume_exact(build)


@settings(max_examples=min(10, settings().max_examples))
@given(tasks, st.integers(0, 20), st.floats(0.001, 1))
def test_a_fork_changes_no_earlier_value(task: Task, at: int, rate: float) -> None:
    loop, start = functional(task)
    moments = list(loop.iterate(task.batches, user=start, max_epochs=2))
    kept = copy.deepcopy([moment.state for moment in moments])
    moment = moments[at % len(moments)]
    forked = moment.state.evolve(user=moment.state.user.with_learning_rate(rate))
    final = loop.resume(forked, task.batches)
    assert [one.state for one in moments] == kept
    assert moment.state.status.has_ended or set(final.user.learning_rates) == {rate}


@settings(max_examples=min(10, settings().max_examples))
@given(tasks, st.lists(st.booleans(), max_size=40))
def test_runs_that_take_turns_are_those_alone(task: Task, turns: list[bool]) -> None:
    loop, start = functional(task)
    other = start.with_learning_rate(0.05)
    one = loop.iterate(task.batches, user=start, max_epochs=2)
    two = loop.iterate(task.batches, user=other, max_epochs=2)
    ends: dict[bool, AnyState] = {}

    def advance(is_one: bool) -> bool:
        """Go on to the next moment at which the model is nobody's."""
        for moment in one if is_one else two:
            ends[is_one] = moment.state
            if not moment.event.name.startswith("backprop"):
                return True
        return False

    for turn in turns:
        advance(turn)
    for turn in (True, False):
        while advance(turn):
            pass
    assert ends[True] == loop.run(task.batches, user=start, max_epochs=2)
    assert ends[False] == loop.run(task.batches, user=other, max_epochs=2)


@settings(max_examples=min(15, settings().max_examples))
@given(tasks)
def test_to_restore_what_there_is_changes_nothing(task: Task) -> None:
    training = Loop(training_step(task.model, task.optimizer, loss_fn))
    training.run(task.batches)
    before = copy.deepcopy(task.bits())
    _, start = functional(task)
    restore(task.model, task.optimizer, start)
    assert same(task.bits(), before)
    assert functional(task)[1] == start


@settings(max_examples=min(15, settings().max_examples))
@given(tasks)
def test_a_donated_training_ends_the_same_and_cannot_be_read(task: Task) -> None:
    other = task.copied()
    torch.manual_seed(3)
    loop, start = functional(task)
    torch.manual_seed(3)
    donating, donated = functional(other, donate=True)
    kept = copy.deepcopy(donated)
    expected = loop.run(task.batches, user=start, max_epochs=2)
    assert donating.run(task.batches, user=donated, max_epochs=2) == expected
    with pytest.raises(Donated, match="donate=True"):
        list(donated.parameters)
    assert donated != kept


@settings(max_examples=min(15, settings().max_examples))
@given(
    tasks,
    st.sampled_from(["SGD", "AdamW", "Nesterov", "two groups"]),
    st.floats(0.1, 0.9),
)
def test_a_rate_by_the_state_is_a_schedule_in_place(
    task: Task, optimizer: str, factor: float
) -> None:
    task = Task.of("network", optimizer, len(task.batches))
    in_place = task.copied()
    begins = [group["lr"] for group in task.optimizer.param_groups]

    def rates(state: AnyState) -> list[float]:
        return [begin * factor ** (state.iteration - 1) for begin in begins]

    torch.manual_seed(3)
    loop, start = functional(task, learning_rate=rates)
    final = loop.run(task.batches, user=start, max_epochs=3)
    scheduler = LambdaLR(in_place.optimizer, lambda done: factor**done)
    torch.manual_seed(3)
    scheduled = Loop(training_step(in_place.model, in_place.optimizer, loss_fn))
    (scheduled | lr_schedule(scheduler)).run(task.batches, max_epochs=3)
    parameters = dict(in_place.model.named_parameters())
    assert same({**final.user.parameters}, {name: one.data for name, one in parameters.items()})


def test_a_batch_that_fails_is_left_out_as_in_place() -> None:
    def skip(state: AnyState, error: BaseException) -> AnyState:
        return state.recover(SKIP_BATCH)

    for donate in (False, True):
        task = Task.of("convolutions", "AdamW", 3)
        good, _, last = task.batches
        bad = torch.zeros(2, 7, 1, 1), torch.zeros(2, dtype=torch.long)
        data = [good, bad, last]
        in_place = task.copied()
        loop, start = functional(task, donate=donate)
        final = loop.on(Events.EXCEPTION_RAISED, skip).run(data, user=start)
        training = Loop(training_step(in_place.model, in_place.optimizer, loss_fn))
        training.on(Events.EXCEPTION_RAISED, skip).run(data)
        assert same(in_place.bits(), task.bits(final.user))


def test_what_is_not_a_number_stops_before_the_value_is_used_up() -> None:
    def skip(state: AnyState, error: BaseException) -> AnyState:
        return state.recover(SKIP_BATCH)

    task = Task.of("network", "AdamW", 3)
    (x, y), second, third = task.batches
    data: list[tuple[Tensor, Tensor]] = [(x, y), (second[0] * torch.nan, second[1]), third]
    torch.manual_seed(3)
    loop, start = functional(task, donate=True)
    final = (loop | stop_on_nan()).on(Events.EXCEPTION_RAISED, skip).run(data, user=start)
    assert all(bool(one.isfinite().all()) for one in final.user.parameters.values())
    assert final.user.updates == 2
