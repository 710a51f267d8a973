"""Hostile inputs: what becomes of a training with each feature, as docs/features.md states it."""

from __future__ import annotations

import copy
import io
import math
import pickle
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

import attrs
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.optim import Optimizer
from torch.utils.data import DataLoader, TensorDataset

from fengine import DataExhausted, Loop, Stateful, Status, last_state
from fengine.features import (
    clip_grad_norm,
    clip_grad_value,
    early_stopping,
    ema,
    evaluation,
    keep_best,
    learning_rate,
    lr_schedule,
    progress,
    random_state,
    seeded,
    stop_on_nan,
    time_limit,
)
from fengine.metrics import mean, mean_loss
from fengine.testing import FakeClock, assert_resume_exact
from fengine.training import evaluation_step, predict, to_device, training_step
from tests.features.digests import digest

Pair: TypeAlias = tuple[Tensor, Tensor]
Training: TypeAlias = Loop[Pair, Tensor, None]
Data: TypeAlias = Iterable[Pair]
LossFunction: TypeAlias = Callable[[Tensor, Tensor], Tensor]
Feature: TypeAlias = Callable[[Training], Training]

EPOCHS = 3
PATIENCE = 4


def nothing(loop: Training) -> Training:
    return loop


# What makes each feature for a model and its optimizer. The data is moved for `to_device`.
FEATURES: dict[str, Callable[[nn.Module, Optimizer], Feature]] = {
    "nothing": lambda model, optimizer: nothing,
    "ema": lambda model, optimizer: ema(model, 0.9),
    "keep_best": lambda model, optimizer: keep_best("loss", mode="min", model=model),
    "stop_on_nan": lambda model, optimizer: stop_on_nan(gradients=True),
    "time_limit": lambda model, optimizer: time_limit(60, clock=FakeClock()),
    "seeded": lambda model, optimizer: seeded(0),
    "random_state": lambda model, optimizer: random_state(),
    "early_stopping": lambda model, optimizer: early_stopping(
        "loss", mode="min", patience=PATIENCE
    ),
    "lr_schedule": lambda model, optimizer: lr_schedule(
        torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)
    ),
    "learning_rate": lambda model, optimizer: learning_rate(optimizer),
    "clip_grad_norm": lambda model, optimizer: clip_grad_norm(model, 1.0, metric="norm"),
    "clip_grad_value": lambda model, optimizer: clip_grad_value(model, 1.0),
    "evaluation": lambda model, optimizer: evaluation(
        Loop(evaluation_step(model)) | mean_loss(mse_loss), batches(2)
    ),
    "progress": lambda model, optimizer: progress("loss", file=io.StringIO()),
    "to_device": lambda model, optimizer: nothing,
}
every_feature = pytest.mark.parametrize("name", FEATURES)


@attrs.frozen
class Trained:
    """Hold a training with one feature; its first weights are always the same."""

    name: str
    model: nn.Module
    optimizer: Optimizer
    loop: Training

    @staticmethod
    def new(name: str, loss_fn: LossFunction = mse_loss) -> Trained:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 1))
        optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
        loop = Loop(training_step(model, optimizer, loss_fn)) | mean("loss")
        return Trained(name, model, optimizer, loop | FEATURES[name](model, optimizer))

    def data(self, data: Data | None = None) -> Data:
        given = batches() if data is None else data
        return to_device(given, "cpu") if self.name == "to_device" else given

    def things(self) -> dict[str, Stateful]:
        return {**self.loop.external, "of_feature": self.model}

    def found(self, final: Any) -> object:
        """Return what a run has come to, to the bit."""
        numbers = final.iteration, final.status, dict(final.metrics)
        return *numbers, digest(self.model, self.optimizer)


def batches(count: int = 4) -> list[Pair]:
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(3, 2, generator=generator), torch.randn(3, 1, generator=generator))
        for _ in range(count)
    ]


def whole(name: str) -> object:
    """Return what a run has come to that nothing disturbs."""
    own = Trained.new(name)
    return own.found(own.loop.run(own.data(), max_epochs=EPOCHS))


# Losses that are no numbers.


def spoilt() -> list[Pair]:
    first, second, *rest = batches()
    return [first, (second[0], second[1] * math.nan), *rest]


@every_feature
def test_a_loss_that_is_not_a_number_is_trained_on_unless_a_guard_stops_it(name: str) -> None:
    own = Trained.new(name)
    if name == "stop_on_nan":
        with pytest.raises(FloatingPointError, match="the loss is nan at epoch 1, iteration 2"):
            own.loop.run(own.data(spoilt()), max_epochs=EPOCHS)
        assert all(one.isfinite().all() for one in own.model.parameters())
        return
    final = own.loop.run(own.data(spoilt()), max_epochs=EPOCHS)
    assert (final.status, final.iteration) == (Status.COMPLETED, 4 * EPOCHS)
    assert math.isnan(final.metrics["loss"])
    assert all(one.isnan().all() for one in own.model[2].parameters())  # type: ignore[index]
    if name == "clip_grad_norm":
        assert math.isnan(final.metrics["norm"])


def test_early_stopping_waits_for_numbers_no_longer_than_for_better_ones() -> None:
    own = Trained.new("early_stopping")
    final = own.loop.run(spoilt(), max_epochs=9)
    assert (final.status, final.epoch) == (Status.TERMINATED, PATIENCE)


def test_the_best_are_the_weights_from_where_the_metric_was_a_number() -> None:
    own = Trained.new("keep_best")
    own.loop.run(passes_of(batches(), spoilt()), max_epochs=2, epoch_length=4)
    assert all(one.isfinite().all() for one in own.model.parameters())


def passes_of(*passes: list[Pair]) -> Iterator[Pair]:
    return iter([pair for one in passes for pair in one])


# Data that is empty, or one batch.


@every_feature
def test_data_without_a_batch_is_refused_before_anything_is_changed(name: str) -> None:
    own = Trained.new(name)
    before = digest(*own.things().values())
    with pytest.raises(ValueError, match="data is empty: this list has the length 0"):
        own.loop.run(own.data([]), max_epochs=EPOCHS)
    assert digest(*own.things().values()) == before


@every_feature
def test_data_that_turns_out_to_be_empty_fails_where_its_first_batch_is_due(name: str) -> None:
    own = Trained.new(name)
    with pytest.raises(DataExhausted, match="it gave no batch at all") as caught:
        own.loop.run(own.data(iter([])), max_epochs=EPOCHS)
    assert last_state(caught.value).iteration == 0
    assert digest(own.model) == digest(Trained.new(name).model)


@pytest.mark.parametrize(
    "empty", [[], DataLoader(TensorDataset(torch.ones(0, 2)))], ids=["list", "loader"]
)
def test_an_evaluation_of_no_data_is_refused_where_it_is_made(empty: Any) -> None:
    judging = Loop(evaluation_step(nn.Linear(2, 1))) | mean_loss(mse_loss)
    with pytest.raises(ValueError, match=r"nothing to evaluate: this .* has the length 0"):
        evaluation(judging, empty)


def test_there_is_nothing_to_predict_of_no_data() -> None:
    with pytest.raises(ValueError, match="empty"):
        predict(nn.Linear(2, 1), [])


@every_feature
def test_one_batch_is_a_training(name: str) -> None:
    own = Trained.new(name)
    final = own.loop.run(own.data(batches(1)), max_epochs=EPOCHS)
    assert (final.status, final.iteration) == (Status.COMPLETED, EPOCHS)
    assert digest(own.model) != digest(Trained.new(name).model)


# Exceptions.


class Fault(Exception):
    """Be raised by a step or by data, on purpose."""


@attrs.define
class Failing:
    """Be a loss function that raises at one call."""

    at: int
    error: BaseException
    calls: int = 0

    def __call__(self, y_pred: Tensor, y: Tensor) -> Tensor:
        self.calls += 1
        if self.calls == self.at:
            raise self.error
        return mse_loss(y_pred, y)


@attrs.frozen
class Breaking:
    """Be data whose passes end in an error."""

    pairs: list[Pair]
    good: int
    error: BaseException

    def __len__(self) -> int:
        return len(self.pairs)

    def __iter__(self) -> Iterator[Pair]:
        return self.iterate_from(0)

    def iterate_from(self, place: int) -> Iterator[Pair]:
        yield from self.pairs[place : self.good]
        raise self.error


@every_feature
@pytest.mark.parametrize("error", [Fault("once"), KeyboardInterrupt()], ids=repr)
def test_a_step_that_fails_is_gone_on_with_to_the_same_bits(
    name: str, error: BaseException
) -> None:
    own = Trained.new(name, Failing(6, error))
    with pytest.raises(type(error)) as caught:
        own.loop.run(own.data(), max_epochs=EPOCHS)
    assert caught.value is error
    state: Any = last_state(error)
    assert state.iteration == 6
    assert own.found(own.loop.resume(state, own.data())) == whole(name)


@every_feature
@pytest.mark.parametrize("error", [Fault("once"), KeyboardInterrupt()], ids=repr)
def test_data_that_fails_is_gone_on_with_to_the_same_bits(name: str, error: BaseException) -> None:
    own = Trained.new(name)
    with pytest.raises(type(error)) as caught:
        own.loop.run(own.data(Breaking(batches(), 2, error)), max_epochs=EPOCHS)
    assert caught.value is error
    state: Any = last_state(error)
    # Where batches are read ahead, an interrupt comes at once, and an error in its own place.
    at_once = name == "to_device" and isinstance(error, KeyboardInterrupt)
    assert state.iteration == (1 if at_once else 2)
    assert own.found(own.loop.resume(state, own.data())) == whole(name)


# Copies, second runs, and going on.


@every_feature
def test_a_copy_of_a_loop_trains_a_model_of_its_own(name: str) -> None:
    own = Trained.new(name)
    model, optimizer, loop = pickle.loads(pickle.dumps((own.model, own.optimizer, own.loop)))
    copied = Trained(name, model, optimizer, loop)
    with warnings.catch_warnings():  # torch does not know a scheduler's optimizer again
        warnings.filterwarnings("ignore", "Seems like `optimizer.step", UserWarning)
        assert copied.found(loop.run(copied.data(), max_epochs=EPOCHS)) == whole(name)
    assert digest(own.model) == digest(Trained.new(name).model)


@every_feature
def test_a_second_run_remembers_only_what_is_outside_the_state(name: str) -> None:
    own = Trained.new(name)
    first = {key: copy.deepcopy(one.state_dict()) for key, one in own.things().items()}
    for _ in range(2):
        for key, one in own.things().items():
            one.load_state_dict(copy.deepcopy(first[key]))
        assert own.found(own.loop.run(own.data(), max_epochs=EPOCHS)) == whole(name)


@every_feature
def test_a_run_goes_on_exactly(name: str) -> None:
    def make() -> tuple[Training, Data, dict[str, int]]:
        own = Trained.new(name)
        return own.loop, own.data(), {"max_epochs": 2}

    assert_resume_exact(make, boundaries=[5, 17, 30])
