"""What a metric of torchmetrics is updated with: predictions, or what a function makes of them."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch
import torchmetrics
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from fengine import Loop, outputs
from fengine.metrics import torch_metric
from fengine.training import Prediction, evaluation_step, training_step

NUMBERS = [[1.0, 2.0], [6.0], [3.0, -1.0]]


def tensor_of(output: list[float]) -> Tensor:
    return torch.tensor(output)


def same(batch: list[float]) -> list[float]:
    return batch


@pytest.mark.parametrize(
    ("metric", "wanted"),
    [
        (torchmetrics.SumMetric(), 11.0),
        (torchmetrics.MeanMetric(), 11 / 5),
        (torchmetrics.MaxMetric(), 6.0),
        (torchmetrics.MinMetric(), -1.0),
    ],
    ids=lambda one: type(one).__name__,
)
def test_a_metric_of_one_argument_counts_all_numbers(metric: Any, wanted: float) -> None:
    loop = Loop(outputs(same)) | torch_metric(metric, "found", value=tensor_of)
    assert loop.run(NUMBERS).metrics["found"] == pytest.approx(wanted)


def test_what_is_concatenated_stays_in_the_part() -> None:
    kept = torch_metric(torchmetrics.CatMetric(), value=tensor_of)
    value: Any = (Loop(outputs(same)) | kept).run(NUMBERS).part(kept.part).value
    assert value.tolist() == [1, 2, 6, 3, -1]


def test_a_tuple_is_several_arguments() -> None:
    def with_weights(output: list[float]) -> tuple[Tensor, Tensor]:
        return torch.tensor(output), torch.arange(len(output))

    loop = Loop(outputs(same)) | torch_metric(torchmetrics.MeanMetric(), "mean", value=with_weights)
    assert loop.run([[1.0, 2.0], [5.0, 4.0]]).metrics["mean"] == 3.0


def test_a_part_of_a_prediction_is_measured() -> None:
    def turned(output: Prediction[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return output.y, output.y_pred

    error = torchmetrics.MeanAbsoluteError()
    loop = Loop(evaluation_step(nn.Identity())) | torch_metric(error, "error", value=turned)
    assert loop.run([(torch.zeros(2), torch.tensor([1.0, 2.0]))]).metrics["error"] == 1.5


def test_a_training_sums_its_losses_without_a_graph() -> None:
    torch.manual_seed(0)
    model = nn.Linear(1, 1)
    losses: list[float] = []

    def loss_of(output: Tensor) -> Tensor:
        losses.append(output.item())
        return output

    total = torch_metric(torchmetrics.SumMetric(), "total", value=loss_of)
    step = training_step(model, torch.optim.SGD(model.parameters(), 0.1), mse_loss)
    final = (Loop(step) | total).run([(torch.ones(2, 1), torch.zeros(2, 1))] * 3)
    assert final.metrics["total"] == pytest.approx(sum(losses))
    assert len(losses) == 3


def test_it_prints_as_it_was_made_compares_and_pickles() -> None:
    metric = torchmetrics.SumMetric()
    feature = torch_metric(metric, "total", value=tensor_of)
    assert repr(feature) == "torch_metric(SumMetric, name='total', value=tensor_of)"
    assert feature == torch_metric(metric, "total", value=tensor_of)
    assert feature != torch_metric(metric, "total", value=same)
    again = pickle.loads(pickle.dumps(Loop(outputs(same)) | feature))
    assert again.run(NUMBERS).metrics["total"] == 11.0


def test_without_a_function_it_takes_predictions_only() -> None:
    with pytest.raises(TypeError, match=r"takes a Prediction\(y_pred, y\), and the output is a"):
        (Loop(outputs(same)) | torch_metric(torchmetrics.SumMetric(), "sum")).run(NUMBERS)  # type: ignore[operator]


def test_what_is_no_function_is_refused() -> None:
    with pytest.raises(TypeError, match=r"value of torch_metric takes \(output\)"):
        torch_metric(torchmetrics.SumMetric(), value=3)  # type: ignore[call-overload]
