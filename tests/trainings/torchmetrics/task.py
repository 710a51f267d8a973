"""The data, the model and the metrics of the evaluation: flowers, and a layer as it is made."""

from __future__ import annotations

import torch
from sklearn.datasets import load_iris
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import Accuracy, F1Score, MetricCollection

CLASSES = 3


def flowers() -> tuple[Tensor, Tensor]:
    """Return measures and classes."""
    x, y = load_iris(return_X_y=True)
    return torch.tensor(x, dtype=torch.float32), torch.tensor(y)


def loader() -> DataLoader[tuple[Tensor, ...]]:
    """Return batches of them, for those that want a loader."""
    return DataLoader(TensorDataset(*flowers()), 32)


def network() -> nn.Linear:
    """Return a layer with weights that are always the same."""
    torch.manual_seed(0)
    return nn.Linear(4, CLASSES)


def metrics() -> MetricCollection:
    """Return what is measured."""
    right = Accuracy(task="multiclass", num_classes=CLASSES)
    f1 = F1Score(task="multiclass", num_classes=CLASSES, average="macro")
    return MetricCollection({"accuracy": right, "f1": f1})
