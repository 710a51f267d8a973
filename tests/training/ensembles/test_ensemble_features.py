"""What features and metrics make of ensembles: those of each member, and what is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import attrs
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn, optim
from torch.nn.functional import cross_entropy, mse_loss
from torchmetrics.classification import MulticlassF1Score

from fengine import Events, Loop, State
from fengine.features import (
    OUTER,
    clip_grad_norm,
    clip_grad_value,
    early_stopping,
    ema,
    evaluation,
    keep_best,
    lr_schedule,
    seeded,
    stop_members,
    stop_on_nan,
)
from fengine.metrics import accuracy, mean, mean_loss, measure, member_values, torch_metric
from fengine.testing import assert_resume_exact
from fengine.training import (
    EnsembleState,
    TrainState,
    ensemble_evaluation_step,
    ensemble_step,
    functional_evaluation_step,
    functional_step,
    members,
    sgd,
    stack,
)
from tests.training.ensembles.groups import (
    Group,
    Pair,
    furthest,
    loss_fn,
)

AnyState = State[Any, Any, Any]


@pytest.fixture
def group() -> Group:
    return Group.of("network", "adam")


def held_out_of(group: Group, **options: Any) -> Loop[Any, Any, EnsembleState]:
    return (
        Loop(ensemble_evaluation_step(group.models[0], **options))
        | accuracy()
        | mean_loss(cross_entropy)
    )


def test_features_of_one_model_are_refused_with_the_way(group: Group) -> None:
    model = group.models[0]
    loop: Any = Loop(group.step())
    optimizer = optim.Adam(model.parameters(), 0.01)
    scheduler = optim.lr_scheduler.StepLR(optimizer, 1)
    in_torch: Any = Loop(ensemble_step(model, optimizer, loss_fn))
    refusals: list[tuple[Callable[[], object], str]] = [
        (lambda: loop | clip_grad_norm(model, 1.0), r"all members.*ensemble_step\(\.\.\., clip="),
        (lambda: loop | clip_grad_value(model, 1.0), "as their tensors are stacked"),
        (lambda: loop | stop_on_nan(), "does not fire"),
        (lambda: loop | ema(0.9), "averages one training"),
        (lambda: loop | mean("loss") | keep_best("loss_best", mode="min", model=model), "lent by"),
        (lambda: in_torch | lr_schedule(scheduler), "lent by"),
        (lambda: loop | seeded(1), "seed"),
        (lambda: loop.with_external(model=model), "lent by"),
    ]
    for refused, said in refusals:
        with pytest.raises(ValueError, match=said):
            refused()
    with pytest.raises(TypeError, match="takes the outputs of one model"):
        held_out_of(group) | torch_metric(MulticlassF1Score(3))


def test_an_ensemble_has_one_rank(group: Group) -> None:
    @attrs.frozen
    class Two:
        rank: int = 0
        size: int = 2

        def largest(self, numbers: tuple[int, ...], /) -> tuple[int, ...]:
            return numbers

        def gathered(self, value: Any, /) -> list[Any]:
            return [value, value]

        def fail(self, error: BaseException, what: str, /) -> None:
            return None

        def first(self, key: str, number: int | None, /) -> int | None:
            return number

    with pytest.raises(ValueError, match=r"2 ranks, but it averages no gradients.*without ranks"):
        Loop(group.step(), ranks=Two())
    Loop(ensemble_evaluation_step(group.models[0]), ranks=Two())


@pytest.mark.parametrize("model", ["network", "convolutions"])
def test_metrics_are_measured_for_each_member(model: str) -> None:
    group = Group.of(model, "adam")
    loop = Loop(group.step(learning_rate=0.0)) | mean("loss")
    final = loop.run(group.batches, user=group.start())
    found = held_out_of(group).run(group.batches, user=final.user)
    alone = Loop(functional_evaluation_step(group.models[0]))
    expected = [
        (alone | accuracy() | mean_loss(cross_entropy)).run(group.batches, user=one).metrics
        for one in members(final.user)
    ]
    accuracies = tuple(one["accuracy"] for one in expected)
    losses = tuple(one["loss"] for one in expected)
    assert member_values(found, "accuracy") == accuracies
    assert member_values(found, "loss") == pytest.approx(losses)
    if model == "network":  # nothing is learned, and there is no batch norm
        assert member_values(final, "loss") == pytest.approx(losses)
    assert dict(found.metrics) == pytest.approx(
        {
            "accuracy_best": max(accuracies),
            "accuracy_mean": sum(accuracies) / 3,
            "loss_best": min(losses),
            "loss_mean": sum(losses) / 3,
        }
    )
    with pytest.raises(LookupError, match="'top' of the members is not measured"):
        member_values(found, "top")


def test_a_member_that_has_gone_astray_counts_for_nothing() -> None:
    group = Group.of("network", "sgd")
    step = group.step(learning_rate=[0.1, 1e308, 0.1])
    loop = Loop(step) | mean("loss") | evaluation(held_out_of(group), group.batches, user=OUTER)
    final = loop.run(group.batches, user=group.start(), max_epochs=3)
    losses = member_values(final, "loss")
    assert math.isnan(losses[1])
    assert final.metrics["loss_best"] == min(losses[0], losses[2])
    assert final.metrics["loss_mean"] == (losses[0] + losses[2]) / 2
    assert math.isfinite(final.metrics["val_loss_mean"])


def test_a_loss_that_vmap_refuses_is_measured_in_turn(group: Group) -> None:
    def picky(y_pred: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(y_pred, y) if float(y_pred.sum()) < 1e9 else y_pred.sum()

    step = ensemble_evaluation_step(group.models[0])
    one = (Loop(step) | mean_loss(picky)).run(group.batches, user=group.start())
    other = (Loop(step) | mean_loss(cross_entropy)).run(group.batches, user=group.start())
    assert member_values(one, "loss") == pytest.approx(member_values(other, "loss"))


def test_other_tasks_are_measured_for_each_member() -> None:
    models = [nn.Linear(5, 2) for _ in range(3)]
    start = ensemble_step(models[0], sgd(), mse_loss).init(models)
    data = [(torch.randn(6, 5), torch.randint(2, (6, 2)).float()) for _ in range(2)]
    options: list[dict[str, Any]] = [{"task": "multilabel"}, {"task": "binary", "threshold": 0.1}]
    for option in options:
        together = Loop(ensemble_evaluation_step(models[0])) | accuracy(**option)
        alone = Loop(functional_evaluation_step(models[0])) | accuracy(**option)
        expected = [alone.run(data, user=one).metrics["accuracy"] for one in members(start)]
        assert member_values(together.run(data, user=start), "accuracy") == tuple(expected)
    with pytest.raises(ValueError, match="task='multiclass' takes"):
        (Loop(ensemble_evaluation_step(models[0])) | accuracy()).run(data, user=start)


def test_a_metric_of_ones_own_takes_the_stack(group: Group) -> None:
    @attrs.frozen
    class Shapes:
        empty: tuple[Any, ...] = ()

        def of(self, output: Any, /) -> tuple[Any, ...]:
            return (tuple(output.y_pred.shape),)

        def merge(self, total: tuple[Any, ...], other: tuple[Any, ...], /) -> tuple[Any, ...]:
            return total + other

        def compute(self, total: tuple[Any, ...], /) -> float:
            return float(sum(shape[0] for shape in total))

    own = Loop(ensemble_evaluation_step(group.models[0])) | measure("rows", Shapes())
    assert own.run(group.batches, user=group.start()).metrics["rows"] == 6.0


def test_an_evaluation_begins_again_each_time(group: Group) -> None:
    loop = Loop(group.step()) | evaluation(held_out_of(group), group.batches, user=OUTER)
    loop = loop | early_stopping("val_accuracy_best", mode="max", patience=50)
    final = loop.run(group.batches, user=group.start(), max_epochs=2)
    alone = held_out_of(group).run(group.batches, user=final.user)
    assert member_values(final, "val_loss") == member_values(alone, "loss")
    plain = json.loads(json.dumps(final.parts["val_loss"], default=attrs.asdict))
    assert len(plain["values"]) == 3
    with pytest.raises(ValueError, match="two have the part 'val_"):
        loop | evaluation(held_out_of(group), group.batches, user=OUTER)


# Stopping.


@settings(max_examples=10)
@given(
    st.lists(st.sampled_from([0.0, 0.001, 0.05, 0.3, 2.0]), min_size=2, max_size=4),
    st.integers(1, 2),
    st.sampled_from(["vmap", "loop"]),
    st.sampled_from(["val_loss", "val_accuracy"]),
)
def test_members_stop_where_runs_alone_would(
    rates: list[float], patience: int, method: str, metric: str
) -> None:
    group = Group.of("network", "momentum", len(rates), 3)
    training, held_out = group.batches[:2], group.batches[2:]
    mode: Any = "min" if metric == "val_loss" else "max"
    step = group.step(learning_rate=rates, method=method)
    start = group.start(learning_rate=rates)
    stop = stop_members(metric, mode=mode, patience=patience)
    loop = Loop(step) | evaluation(held_out_of(group), held_out, user=OUTER) | stop
    final = loop.run(training, user=start, max_epochs=5)
    model = group.models[0]
    optimizer: Any = group.optimizer
    alone = functional_step(model, optimizer(model.parameters()), loss_fn)
    predicting = Loop(functional_evaluation_step(model)) | accuracy() | mean_loss(cross_entropy)
    early = early_stopping(metric, mode=mode, patience=patience)
    run = Loop(alone) | evaluation(predicting, held_out, user=OUTER) | early
    ends = []
    for number, member in enumerate(members(start)):
        expected = run.run(training, user=member, max_epochs=5)
        has_stopped = expected.part(early.part).since >= patience
        ends.append(expected.epoch if has_stopped else 0)
        assert furthest(members(final.user)[number], expected.user) < 1e-9
    assert final.part(stop.part).epochs == tuple(ends)
    assert final.user.training == tuple(one for one, end in enumerate(ends) if not end)
    assert final.epoch == (5 if 0 in ends else max(ends))
    assert set(final.user.numbers) == set(final.user.training)


def test_stopping_goes_on_exactly_in_another_process() -> None:
    def build() -> tuple[Loop[Any, Any, Any], list[Pair], dict[str, Any]]:
        group = Group.of("network", "adamw", 3, 2)
        rates = [0.3, 0.0, 0.01]
        step = group.step(learning_rate=rates)
        stop = stop_members("val_loss", mode="min", patience=1)
        loop = Loop(step) | evaluation(held_out_of(group), group.batches[1:], user=OUTER) | stop
        return loop, group.batches[:1], {"user": step.init(group.models), "max_epochs": 2}

    assert_resume_exact(build)


def test_members_stop_at_any_event(group: Group) -> None:
    stop = stop_members("loss", mode="min", patience=1, name="mine", min_delta=1e9)
    measured = mean("loss", over=Events.ITERATION_COMPLETED)
    final = (Loop(group.step()) | measured | stop).run(group.batches, user=group.start())
    assert final.iteration == 2
    assert final.part(stop.part).epochs == (1, 1, 1)
    assert not final.user.training
    assert repr(stop) == (
        "stop_members('loss', mode='min', patience=1, min_delta=1000000000.0, name='mine')"
    )


def test_stopping_what_is_no_ensemble_is_refused(group: Group) -> None:
    model = group.models[0]
    alone: Any = Loop(functional_step(model, optim.SGD(model.parameters()), loss_fn))
    with pytest.raises(ValueError, match="the step of this loop trains none"):
        alone | mean("loss") | stop_members("loss", mode="min", patience=1)
    with pytest.raises(ValueError, match="reads the metric 'loss_best', which no"):
        Loop(group.step()) | stop_members("loss", mode="min", patience=1)
    with pytest.raises(TypeError, match=r"patience=1\.5"):
        stop_members("loss", mode="min", patience=1.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="patience=0"):
        stop_members("loss", mode="min", patience=0)


def test_a_population_is_changed_by_plain_assignment(group: Group) -> None:
    step = group.step()
    final = Loop(step).run(group.batches, user=group.start())
    population = list[TrainState](members(final.user))
    population[2] = population[0].with_learning_rate(0.5)
    on = Loop(step).run(group.batches, user=stack(population)).user
    assert [one.learning_rates for one in members(on)] == [(0.01,), (0.01,), (0.5,)]
    expected = Loop(step).run(group.batches, user=stack([population[0], population[2]])).user
    pairs = zip((members(on)[0], members(on)[2]), members(expected), strict=True)
    assert max(furthest(one, two) for one, two in pairs) < 1e-9
