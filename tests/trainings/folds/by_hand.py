"""The training as a loop by hand."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from fengine.training import TensorBatches
from tests.trainings.folds.task import EPOCHS, RATES, folds, network


def train() -> dict[float, list[float]]:
    losses: dict[float, list[float]] = {rate: [] for rate in RATES}
    for training, (x, y) in folds():
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        data = TensorBatches(*training, batch_size=10, seed=0)
        _epochs(range(EPOCHS), model, optimizer, data)
        half = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
        for rate in RATES:
            model.load_state_dict(half[0])
            optimizer.load_state_dict(copy.deepcopy(half[1]))
            optimizer.param_groups[0]["lr"] = rate
            _epochs(range(EPOCHS, 2 * EPOCHS), model, optimizer, data)
            with torch.no_grad():
                losses[rate].append(cross_entropy(model(x), y).item())
    return losses


def _epochs(
    numbers: range,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    data: TensorBatches[torch.Tensor, torch.Tensor],
) -> None:
    for number in numbers:
        data.set_epoch(number)
        for x, y in data:
            optimizer.zero_grad()
            torch.autograd.backward(cross_entropy(model(x), y))
            optimizer.step()
