"""Checkpoints of a training in the state: it is all of it, and nothing is named beside it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import attrs
import pytest

from fengine import Events, Loop, Part, State
from fengine.checkpoints import Best, CheckpointError, Checkpoints, weights
from fengine.core.equality import same
from fengine.features import OUTER, ema, evaluation
from fengine.metrics import mean_loss
from fengine.testing import assert_resume_exact
from fengine.training import functional_evaluation_step, functional_step, training_step
from tests.training.functional.tasks import OPTIMIZERS, Task, loss_fn

AnyState = State[Any, Any, Any]


def step_of(task: Task, **options: Any) -> Any:
    return functional_step(task.model, task.optimizer, loss_fn, **options)


def fail_in(epoch: int) -> Any:
    def fail(state: AnyState) -> AnyState:
        if state.epoch == epoch:
            raise OSError("the machine is gone")
        return state

    return fail


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("donate", [False, True])
@pytest.mark.parametrize("model", ["convolutions", "tied", "remembering"])
def test_a_training_goes_on_from_what_is_kept(
    tmp_path: Path, model: str, donate: bool, background: bool
) -> None:
    expected = finished(Task.of(model, "AdamW"), donate=donate)
    checkpoints = Checkpoints(tmp_path, background=background)
    task = Task.of(model, "AdamW")
    loop, start = loop_of(task, donate=donate)
    with pytest.raises(OSError, match="the machine is gone"):
        checkpoints.run(
            loop.on(Events.EPOCH_STARTED, fail_in(3)), task.batches, user=start, max_epochs=4
        )
    # It begins elsewhere, which does not count.
    other = attrs.evolve(Task.of(model, "AdamW", seed=5), batches=task.batches)
    loop, start = loop_of(other, donate=donate)
    assert not loop.external
    final = checkpoints.run(loop, task.batches, user=start, max_epochs=4)
    assert final.user == expected.user
    assert final.metrics == expected.metrics
    assert final.parts == expected.parts
    kept = weights(tmp_path, "user.parameters")
    assert same(kept, dict(final.user.parameters))
    assert list(kept) == [name for name, _ in task.model.named_parameters()]
    assert same(weights(tmp_path, "user.buffers"), dict(final.user.buffers))


def loop_of(task: Task, *, donate: bool = False) -> tuple[Loop[Any, Any, Any], Any]:
    step = step_of(task, donate=donate)
    predicting = Loop(functional_evaluation_step(task.model)) | mean_loss(loss_fn)
    loop = Loop(step) | ema(0.5) | evaluation(predicting, task.batches, user=OUTER)
    return loop, step.init(seed=1)


def finished(task: Task, *, donate: bool) -> AnyState:
    loop, start = loop_of(task, donate=donate)
    return loop.run(task.batches, user=start, max_epochs=4)


@pytest.mark.parametrize("model", ["convolutions", "remembering"])
def test_a_training_with_evaluations_and_averages_goes_on_from_every_event(model: str) -> None:
    def build() -> tuple[Loop[Any, Any, Any], Any, dict[str, Any]]:
        task = Task.of(model, "AdamW")
        loop, start = loop_of(task)
        return loop, task.batches, {"user": start, "max_epochs": 2}

    assert_resume_exact(build)


@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
def test_what_any_optimizer_remembers_is_kept(tmp_path: Path, optimizer: str) -> None:
    task = Task.of("network", optimizer)
    step = step_of(task)
    loop, start = Loop(step), step.init(seed=1)
    Checkpoints(tmp_path).run(loop, task.batches, user=start, max_epochs=1)
    final = Checkpoints(tmp_path).run(loop, task.batches, user=start, max_epochs=3)
    assert final.user == loop.run(task.batches, user=start, max_epochs=3).user


def test_a_training_in_a_part_is_kept_and_the_best_is_read(tmp_path: Path) -> None:
    task = Task.of("convolutions", "AdamW")
    step = step_of(task)
    key = Part("training", step.init(seed=1))
    predicting = Loop(functional_evaluation_step(task.model)) | mean_loss(loss_fn)
    loop = Loop(step.at(key)) | evaluation(predicting, task.batches, user=OUTER.part(key))
    checkpoints = Checkpoints(tmp_path, keep=1, best=Best("val_loss", mode="min"))
    final = checkpoints.run(loop, task.batches, max_epochs=3)
    best = checkpoints.best_kept()
    assert best is not None
    snapshot = checkpoints.load(loop, best)
    assert snapshot.state.metrics["val_loss"] <= final.metrics["val_loss"]
    kept = snapshot.state.part(key)
    assert same(weights(best.path, "parts.training.parameters"), dict(kept.parameters))
    assert loop.resume(snapshot, task.batches).part(key) == final.part(key)


def test_a_checkpoint_of_something_else_is_refused_in_few_words(tmp_path: Path) -> None:
    task, other = Task.of("network", "AdamW"), Task.of("convolutions", "AdamW")
    step, of_other = step_of(task), step_of(other)
    Checkpoints(tmp_path).run(Loop(step), task.batches, user=step.init())
    in_place: Loop[Any, Any, Any] = Loop(training_step(task.model, task.optimizer, loss_fn))
    with pytest.raises(
        CheckpointError, match=r"has the record .*; give user= one of its type"
    ) as caught:
        Checkpoints(tmp_path).run(in_place, task.batches, max_epochs=2)
    assert len(str(caught.value)) < 500
    before = copy.deepcopy(other.bits())
    with pytest.raises(ValueError, match="of a model with other parameters: it lacks"):
        Checkpoints(tmp_path).run(Loop(of_other), other.batches, user=of_other.init(), max_epochs=2)
    assert same(other.bits(), before)
