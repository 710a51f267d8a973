"""The evaluation with fengine."""

from __future__ import annotations

from fengine import Loop
from fengine.metrics import torch_metric
from fengine.training import TensorBatches, evaluation_step
from tests.trainings.torchmetrics.task import flowers, metrics, network


def train() -> dict[str, float]:
    loop = Loop(evaluation_step(network())) | torch_metric(metrics())
    return dict(loop.run(TensorBatches(*flowers(), batch_size=32)).metrics)
