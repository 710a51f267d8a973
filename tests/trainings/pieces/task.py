"""A long sequence in pieces: the hidden state goes from piece to piece, its gradients do not."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from typing_extensions import override

EPOCHS = 3


def pieces() -> list[tuple[Tensor, Tensor]]:
    """Return pieces of a wave, each with what comes next."""
    wave = torch.arange(121, dtype=torch.float32).mul(0.2).sin().reshape(1, -1, 1)
    return list(zip(wave[:, :-1].chunk(12, 1), wave[:, 1:].chunk(12, 1), strict=True))


class Network(nn.Module):
    """Tell the next point of a wave, and the hidden state after it."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent, self.readout = nn.RNN(1, 8, batch_first=True), nn.Linear(8, 1)

    @override
    def forward(self, x: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Read a piece."""
        found, last = self.recurrent(x, hidden)
        return self.readout(found), last


def network() -> Network:
    """Return a network with first weights that are always the same."""
    torch.manual_seed(0)
    return Network()
