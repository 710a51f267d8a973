"""Odd numbers, failures, threads and mistakes: what features make of them."""

from __future__ import annotations

import io
import math
import threading
from typing import Any

import attrs
import numpy as np
import pytest
import torch
import torchmetrics
from torch import nn
from torch.nn.functional import mse_loss

from fengine import SKIP_BATCH, Events, Loop, Part, State, outputs
from fengine.features import evaluation, progress
from fengine.metrics import mean, measure, torch_metric
from fengine.training import Backprop, Update, evaluation_step, training_step


def number(batch: float) -> float:
    return float(batch)


@attrs.frozen
class Errors:
    empty: int = 0

    def of(self, output: float) -> int:
        return int(output < 0)

    def merge(self, total: int, other: int) -> int:
        return total + other

    def compute(self, total: int) -> int:
        return total


def test_a_count_that_is_as_at_first_is_reported_too() -> None:
    loop = Loop(outputs(number)) | measure("errors", Errors())
    assert loop.run([1, 1, 1]).metrics["errors"] == 0.0
    seen: list[float] = []

    def note(state: Any) -> Any:
        seen.append(state.metrics["errors"])
        return state

    data = iter([-1, -1, 1, 1, 1, 1])
    loop.on(Events.EPOCH_COMPLETED, note).run(data, max_epochs=2, epoch_length=3)
    assert seen == [2.0, 0.0]


def test_a_mean_without_weight_is_no_number() -> None:
    loop = Loop(outputs(number)) | mean("mean", weight=lambda batch: 0.0)
    assert math.isnan(loop.run([1, 2]).metrics["mean"])


def test_many_small_numbers_sum_up() -> None:
    loop = Loop(outputs(torch.tensor)) | mean("mean")
    found = loop.run([0.1], max_iters=20_000, epoch_length=20_000).metrics["mean"]
    assert found == pytest.approx(float(torch.tensor(0.1)), rel=1e-9)


def test_numbers_of_numpy_and_weights_of_torch_are_numbers() -> None:
    weight: Any = lambda batch: torch.tensor(2)  # noqa: E731
    loop: Any = Loop(outputs(np.float32))
    loop = loop | mean("mean", weight=weight)
    final: Any = loop.run([1.0, 3.0])
    assert final.metrics["mean"] == 2.0
    assert loop.read(loop.snapshot(final).to_dict(output=float)).state.parts == final.parts


@attrs.frozen
class Base:
    a: int = 0


@attrs.frozen
class Derived(Base):
    b: int = 0


@attrs.frozen
class Holding:
    base: Base = Base()
    cache: int = attrs.field(default=0, eq=False)
    ratio: float = math.nan


@pytest.mark.parametrize(
    "value",
    [Holding(Derived(0, 7)), Holding(Derived(0, 0)), Holding(cache=5), Holding(ratio=-0.0)],
    ids=repr,
)
def test_nothing_that_was_set_is_lost(value: Holding) -> None:
    key = Part("own", Holding())
    assert repr(State().with_part(key, value).part(key)) == repr(value)
    assert State().with_part(key, value).with_part(key, Holding(ratio=float("nan"))) == State()


def test_bits_of_numbers_and_types_in_tuples_are_kept() -> None:
    for initial, value in ((0.0, -0.0), ((1,), (True,)), ((1,), (1.0,))):
        key: Part[Any] = Part("own", initial)
        assert repr(State().with_part(key, value).part(key)) == repr(value)
    half = Part("half", 0.0)
    assert type(State().with_part(half, np.float64(0.5)).part(half)) is float


def test_wrappers_that_hold_metrics_in_lists_are_refused() -> None:
    for wrapper in (
        torchmetrics.MultioutputWrapper(torchmetrics.MeanSquaredError(), 2),
        torchmetrics.BootStrapper(torchmetrics.MeanSquaredError()),
    ):
        with pytest.raises(TypeError, match="holds metrics of its own"):
            torch_metric(wrapper)


def test_one_metric_serves_runs_in_several_threads() -> None:
    loop = Loop(evaluation_step(nn.Identity())) | torch_metric(
        torchmetrics.MeanSquaredError(), "error"
    )
    found: dict[int, float] = {}

    def run(away: int) -> None:
        batch = torch.zeros(2), torch.full((2,), float(away))
        found[away] = loop.run([batch] * 60).metrics["error"]

    threads = [threading.Thread(target=run, args=(away,)) for away in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {away: float(away**2) for away in range(4)}


def scaled(scale: float = 16.0) -> tuple[nn.Module, Any]:
    torch.manual_seed(0)
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    return model, Loop(training_step(model, optimizer, mse_loss, scaler=scaler))


PAIRS = [(torch.ones(2, 1), torch.zeros(2, 1))] * 4


def test_a_failure_before_the_update_does_not_stop_a_scaler() -> None:
    _, loop = scaled()

    def fail_once(state: Any, forward: Any) -> Any:
        if state.iteration == 2:
            raise ValueError("once")
        return state

    def skip(state: Any, error: Any) -> Any:
        return state.recover(SKIP_BATCH)

    stepped: list[bool] = []

    def note(state: Any, updated: Any) -> Any:
        stepped.append(updated.stepped)
        return state

    loop = loop.on(Backprop.COMPLETED, fail_once).on(Update.COMPLETED, note)
    assert loop.on(Events.EXCEPTION_RAISED, skip).run(PAIRS).iteration == 4
    assert stepped == [True, True, True]


def test_a_scale_of_nothing_updates_nothing() -> None:
    _, loop = scaled(1.0)
    stepped: list[bool] = []

    def note(state: Any, updated: Any) -> Any:
        stepped.append(updated.stepped)
        return state

    bad = [(torch.ones(2, 1), torch.full((2, 1), math.nan))] * 200
    loop.on(Update.COMPLETED, note).run(bad)
    assert not any(stepped)


def test_an_evaluation_that_is_ended_leaves_no_old_metric() -> None:
    times: list[int] = []

    def end_the_second(state: Any) -> Any:
        return state.terminate() if len(times) > 1 else state

    def begin(state: Any) -> Any:
        times.append(1)
        return state

    inner = Loop(outputs(number)) | mean("loss")
    inner = inner.on(Events.STARTED, begin).on(Events.ITERATION_COMPLETED, end_the_second)
    loop = Loop(outputs(number)) | evaluation(inner, [1, 2])
    assert loop.run([0], max_epochs=1).metrics["val_loss"] == 1.5
    assert "val_loss" not in loop.run([0], max_epochs=1).metrics


EMPTY: Any = Loop()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: EMPTY | evaluation_step(nn.Identity()), r"is a step, .*: Loop\(evaluation_step"),
        (lambda: evaluation(Loop(outputs(number)), iter([1])), "gives each batch once"),
        (lambda: evaluation(Loop(outputs(number)), [1], prefix=3), "prefix=3 of type int"),  # type: ignore[call-overload]
        (lambda: training_step(nn.Linear(1, 1), mse_loss, mse_loss), "the order is training_step"),  # type: ignore[call-overload]
    ],
)
def test_mistakes_of_a_newcomer_are_explained(call: Any, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        call()


def test_a_metric_with_letters_that_a_file_has_not_is_shown() -> None:
    paper = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    loop = Loop(outputs(number)) | mean("Δ") | progress("Δ", file=paper)
    loop.run([1])
    paper.seek(0)
    assert paper.read() == "epoch 1/1  iteration 1  ? 1\n"


def test_a_loop_with_an_evaluation_of_a_list_has_a_hash() -> None:
    loop = Loop(outputs(number)) | evaluation(Loop(outputs(number)), [1, 2])
    assert hash(loop) == hash(Loop(outputs(number)) | evaluation(Loop(outputs(number)), [1, 2]))


def test_a_metric_that_an_inner_loop_does_not_name_replaces_none() -> None:
    def note(state: Any) -> Any:
        return state.with_metric("x", 9.0)

    inner = Loop(outputs(number)).on(Events.EPOCH_COMPLETED, note)
    loop = Loop(outputs(number)) | mean("val_x") | evaluation(inner, [1])
    with pytest.raises(ValueError, match="sets the metric 'val_x', which another feature"):
        loop.run([1])
