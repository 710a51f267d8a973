"""Training and evaluation written by hand, as a for loop: what everything is compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

Pairs: TypeAlias = Iterable[tuple[Tensor, Tensor]]
Run: TypeAlias = Callable[[Pairs], object]
LossFunction: TypeAlias = Callable[[Tensor, Tensor], Tensor]


def training_by_hand(
    model: nn.Module,
    optimizer: Optimizer,
    loss_fn: LossFunction,
    backward: Callable[[Tensor], object] = Tensor.backward,
) -> Run:
    """Train in a for loop."""

    def run(data: Pairs) -> None:
        for x, y in data:
            optimizer.zero_grad()
            loss = loss_fn(model(x), y)
            backward(loss)
            optimizer.step()
            loss.item()

    return run


def evaluation_by_hand(model: nn.Module) -> Run:
    """Predict in evaluation mode, without gradients."""

    def run(data: Pairs) -> object:
        output = None
        model.eval()
        with torch.no_grad():
            for x, y in data:
                output = (model(x), y)
        return output

    return run
