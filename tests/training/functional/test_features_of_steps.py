"""Features with a training in the state: each works as in place, or is refused with the way."""

from __future__ import annotations

import copy
import io
import json
import pickle
import re
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn, optim

from fengine import Events, Loop, Part, State, tap
from fengine.core.equality import same
from fengine.distributed import Ranks
from fengine.features import (
    OUTER,
    clip_grad_norm,
    ema,
    evaluation,
    find_learning_rate,
    frozen,
    keep_best,
    learning_rate,
    log_to,
    lr_schedule,
    profiled,
    random_state,
    seeded,
    throughput,
)
from fengine.metrics import accuracy, mean, mean_loss
from fengine.testing import assert_resume_exact, in_threads
from fengine.training import (
    TrainState,
    evaluation_step,
    functional_evaluation_step,
    functional_step,
    restore,
    training_step,
)
from fengine.writers import jsonl
from tests.training.functional.tasks import Task, loss_fn

AnyState = State[Any, Any, Any]


def step_of(task: Task, **options: Any) -> Any:
    return functional_step(task.model, task.optimizer, loss_fn, **options)


def first_of(task: Task) -> nn.Module:
    return next(task.model.children())


@pytest.fixture
def task() -> Task:
    return Task.of("convolutions", "AdamW")


REFUSED: list[tuple[str, Callable[[Task], Any], str]] = [
    (
        "lr_schedule",
        lambda task: lr_schedule(optim.lr_scheduler.ExponentialLR(task.optimizer, 0.5)),
        "learning_rate=lambda state",
    ),
    ("learning_rate", lambda task: learning_rate(task.optimizer), "state.user.learning_rates"),
    ("ema", lambda task: ema(task.model, 0.9), "ema(0.9)"),
    (
        "keep_best",
        lambda task: keep_best("loss", mode="min", model=task.model),
        "state.with_part(best, state.user)",
    ),
    (
        "keep_best of the optimizer",
        lambda task: keep_best("loss", mode="min", kept=task.optimizer),
        "state.with_part(best, state.user)",
    ),
    (
        "with_external",
        lambda task: lambda loop: loop.with_external(mine=task.model),
        "snapshots hold it",
    ),
    (
        "with_external of a part of it",
        lambda task: lambda loop: loop.with_external(mine=next(task.model.children())),
        "snapshots hold it",
    ),
    (
        "joined",
        lambda task: Loop[Any, Any, Any]().with_external(mine=task.optimizer),
        "snapshots hold it",
    ),
    ("seeded", lambda task: seeded(3), "step.init(seed=3)"),
    ("frozen", lambda task: frozen(first_of(task)), "part.requires_grad_(False)"),
    ("frozen until", lambda task: frozen(first_of(task), until=2), "train in two runs"),
    (
        "what freezes, named by hand",
        lambda task: lambda loop: loop.with_external(mine=frozen(first_of(task)).flags),
        "snapshots hold it",
    ),
    (
        "evaluation in place",
        lambda task: evaluation(Loop(evaluation_step(task.model)) | accuracy(), task.batches),
        "functional_evaluation_step(model)), data, user=OUTER",
    ),
]


@pytest.mark.parametrize(("name", "make", "way"), REFUSED, ids=[one[0] for one in REFUSED])
def test_what_would_keep_or_change_what_is_lent_is_refused_with_the_way(
    task: Task, name: str, make: Callable[[Task], Any], way: str
) -> None:
    loop = Loop(step_of(task)) | mean("loss")
    with pytest.raises(ValueError, match=re.escape(way)):
        loop | make(task)
    in_place = Loop(training_step(task.model, task.optimizer, loss_fn)) | mean("loss")
    if name != "joined":
        in_place | make(task)  # where the model is trained, it is all right


def test_a_part_is_frozen_between_two_runs_as_the_feature_does_in_place(task: Task) -> None:
    in_place = task.copied()
    loop = Loop(training_step(in_place.model, in_place.optimizer, loss_fn))
    (loop | frozen(first_of(in_place), until=1)).run(task.batches, max_epochs=2)
    step = step_of(task)
    first_of(task).requires_grad_(False)
    first = Loop(step).run(task.batches, user=step.init())
    first_of(task).requires_grad_(True)
    second = Loop(step).run(task.batches, user=first.user)
    assert same(task.bits(second.user), in_place.bits())


@pytest.mark.parametrize("is_given", [False, True])
def test_a_sweep_over_rates_is_refused_with_the_way(task: Task, is_given: bool) -> None:
    step, before = step_of(task), copy.deepcopy(task.bits())
    given: Any = {"optimizer": task.optimizer} if is_given else {}
    with pytest.raises(ValueError, match=re.escape("1e-6 * 1.15**state.iteration")):
        find_learning_rate(Loop(step), task.batches, user=step.init(), **given)
    assert same(task.bits(), before)
    sweeping = step_of(task, learning_rate=lambda state: 1e-3 * 2**state.iteration)
    moments = Loop(sweeping).iterate(task.batches, user=step.init(), max_epochs=3)
    ended = [one.state for one in moments if one.event is Events.ITERATION_COMPLETED]
    rates = [one.user.learning_rates[0] for one in ended]
    assert rates == [1e-3 * 2**number for number in range(1, 7)]
    assert all(one.output.isfinite() for one in ended)


def test_a_loop_is_tried_out_with_its_evaluations(task: Task) -> None:
    step, before = step_of(task), copy.deepcopy(task.bits())
    held_out = Loop(functional_evaluation_step(task.model)) | accuracy() | mean_loss(loss_fn)
    loop = Loop(step) | evaluation(held_out, task.batches, user=OUTER)
    start = step.init(seed=1)
    tried = loop.try_out(task.batches, 1, user=start)
    assert same(task.bits(), before)
    assert start == step.init(seed=1)
    assert tried.user == Loop(step).run(task.batches[:1], user=start).user
    assert sorted(tried.metrics) == ["val_accuracy", "val_loss"]


def test_a_run_is_logged_and_measured(task: Task, tmp_path: Path) -> None:
    step = step_of(task)
    start, table = step.init(seed=1), io.StringIO()
    loop = Loop(step) | clip_grad_norm(task.model, 1.0) | mean("loss") | throughput()
    loop = loop | log_to(jsonl(tmp_path / "log.jsonl")) | profiled(file=table)
    final = loop.run(task.batches, user=start, max_epochs=2)
    lines = list(map(json.loads, (tmp_path / "log.jsonl").read_text().splitlines()))
    assert [one["loss"] for one in lines if "loss" in one][-1] == final.metrics["loss"]
    assert "clip_grad_norm(Sequential of" in table.getvalue()
    plain = Loop(step) | clip_grad_norm(task.model, 1.0)
    assert final.user == plain.run(task.batches, user=start, max_epochs=2).user


def test_several_ranks_are_refused(task: Task) -> None:
    step = step_of(task)
    in_part = step.at(Part("training", step.init()))

    def refuse(ranks: Ranks) -> None:
        for one in (step, in_part):
            with pytest.raises(ValueError, match="each of 2 ranks would train one of its own"):
                Loop(one, ranks=ranks)

    assert in_threads(2, refuse) == [None, None]
    assert in_threads(1, lambda ranks: Loop(step, ranks=ranks).ranks.size) == [1]


def test_a_model_that_processes_share_is_refused(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda group=None: 2)
    step_of(task)
    monkeypatch.setattr(task.model, "no_sync", nullcontext, raising=False)
    with pytest.raises(ValueError, match="several processes train the Sequential together"):
        step_of(task)


def test_a_run_does_not_keep_the_value_that_it_began_with(task: Task) -> None:
    step = step_of(task)
    begun: list[weakref.ref[TrainState]] = []
    alive: list[bool] = []

    def started() -> TrainState:
        start: TrainState = step.init()
        begun.append(weakref.ref(start))
        return start

    look = tap(lambda state: alive.append(begun[0]() is not None))
    Loop(step).on(Events.ITERATION_COMPLETED, look).run(task.batches, user=started())
    assert alive == [False, False]


def test_other_things_may_be_named(task: Task) -> None:
    other = nn.Linear(1, 1)
    loop = Loop(step_of(task)).with_external(other=other) | random_state()
    assert sorted(loop.external) == ["other", "random"]


@pytest.mark.parametrize("decay", [0.5, 0.99])
def test_averages_are_those_of_torch(task: Task, decay: float) -> None:
    in_place = task.copied()
    step, averaged = step_of(task), ema(decay)
    loop = Loop(step) | averaged
    final = loop.run(task.batches, user=step.init(), max_epochs=3)
    peer = ema(in_place.model, decay)
    training = Loop(training_step(in_place.model, in_place.optimizer, loss_fn)) | peer
    training.run(task.batches, max_epochs=3)
    kept = averaged.of(final.user, final)
    assert same({**kept.parameters, **kept.buffers}, dict(peer.model.state_dict()))
    assert final.part(averaged.part).updates == int(peer.averaged.n_averaged)
    assert kept.optimizer == final.user.optimizer
    assert averaged.of(final.user, State()) is final.user

    def build() -> Any:
        return loop, task.batches, {"user": step.init()}

    assert_resume_exact(build)
    assert ema(decay=decay) == averaged
    with pytest.raises(ValueError, match=re.escape("ema(model, ")):
        Loop(training_step(task.model, task.optimizer, loss_fn)) | averaged


def test_averages_outlive_what_is_donated(task: Task) -> None:
    averaged = ema(0.5)
    finals = []
    for donate in (True, False):
        step = step_of(task, donate=donate)
        final = (Loop(step) | averaged).run(task.batches, user=step.init(seed=1), max_epochs=2)
        finals.append(averaged.of(final.user, final))
    assert finals[0] == finals[1]


@pytest.mark.parametrize("name", ["convolutions", "network", "tied", "remembering"])
def test_an_evaluation_reads_the_outer_training(name: str) -> None:
    task = Task.of(name, "AdamW")
    other = task.copied()
    step, averaged = step_of(task), ema(0.5)
    held_out = Loop(functional_evaluation_step(task.model)) | accuracy() | mean_loss(loss_fn)
    start = step.init(seed=1)
    alone = Loop(step).run(task.batches, user=start, max_epochs=2)
    loop = Loop(step) | averaged | evaluation(held_out, task.batches, user=OUTER)
    of_averages = OUTER.part(averaged.part)
    loop = loop | evaluation(held_out, task.batches, user=of_averages, prefix="ema_")
    final = loop.run(task.batches, user=start, max_epochs=2)
    assert final.user == alone.user  # it draws nothing and changes no buffer
    for prefix, training in (("val_", final.user), ("ema_", averaged.of(final.user, final))):
        restore(other.model, other.optimizer, training)
        in_place = Loop(evaluation_step(other.model)) | accuracy() | mean_loss(loss_fn)
        expected = in_place.run(task.batches).metrics
        assert final.metrics[prefix + "loss"] == expected["loss"]
        assert final.metrics[prefix + "accuracy"] == expected["accuracy"]
    assert all(module.training for module in task.model.modules())


def test_an_evaluation_of_a_training_in_a_part(task: Task) -> None:
    step = step_of(task)
    key = Part("training", step.init())
    held_out = Loop(functional_evaluation_step(task.model)) | mean_loss(loss_fn)
    loop = Loop(step.at(key)) | evaluation(held_out, task.batches, user=OUTER.part(key))
    assert loop.run(task.batches).metrics["val_loss"] > 0
    kept = evaluation(held_out, task.batches, user=OUTER)
    assert pickle.loads(pickle.dumps(OUTER)) is OUTER
    assert repr(kept) == "evaluation(Loop of loss, user=OUTER)"
    with pytest.raises(TypeError, match="begins with what an outer run has"):
        getattr(kept, "metrics")()  # noqa: B009  # the type of it does not offer this


def test_a_step_without_its_training_says_how_to_begin(task: Task) -> None:
    with pytest.raises(TypeError, match=re.escape("user=step.init()")):
        Loop[Any, Any, Any](step_of(task)).run(task.batches)
    with pytest.raises(TypeError, match=re.escape("user=step.init()")):
        Loop[Any, Any, Any](functional_evaluation_step(task.model)).run(task.batches)
