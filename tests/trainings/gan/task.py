"""Two models against each other: one makes points, the other one tells them from real points."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

EPOCHS = 3


def points() -> Tensor:
    """Return the real points, which lie around (2, -1)."""
    noise = torch.randn(256, 2, generator=torch.Generator().manual_seed(0))
    return noise * 0.1 + torch.tensor([2.0, -1.0])


def models() -> tuple[nn.Module, nn.Module]:
    """Return what makes points, and what judges them."""
    torch.manual_seed(0)
    return (
        nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2)),
        nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 1)),
    )


def judge(scores: Tensor, real: bool) -> Tensor:
    """Return how far scores are from saying that all points are real, or that none is."""
    return binary_cross_entropy_with_logits(scores, torch.full_like(scores, float(real)))
