"""The training with fengine."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from fengine import Events, Loop, Part, State
from fengine.metrics import mean
from tests.trainings.pieces.task import EPOCHS, network, pieces

Pieces = State[tuple[Tensor, Tensor], float]
hidden = Part("hidden", (torch.zeros(1, 1, 8),))


def train() -> list[Tensor]:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(state: Pieces) -> Pieces:
        x, y = state.batch
        y_pred, last = model(x, *state.part(hidden))
        loss = mse_loss(y_pred, y)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        return state.with_part(hidden, (last.detach(),)).evolve(output=loss.item())

    def forget(state: Pieces) -> Pieces:
        return state.with_part(hidden, hidden.initial)

    loop = Loop(step).with_part(hidden).with_external(model=model, optimizer=optimizer)
    loop = loop.on(Events.EPOCH_STARTED, forget) | mean("loss")
    assert loop.run(pieces(), max_epochs=EPOCHS).metrics["loss"] < 0.5
    return list(model.parameters())
