"""What trainings and evaluations with a feature are made of, in whatever system they run."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path
from typing import Final, TypeAlias, final

import attrs
import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import StepLR

from tests.benchmarks.by_hand import LossFunction

CLASSES: Final = 3
MAX_NORM: Final = 1.0
DECAY: Final = 0.999
DAY: Final = 86_400

Pair: TypeAlias = tuple[Tensor, Tensor]


@final
@attrs.frozen
class Sink:
    """Be a file that swallows the output.

    Args:
        terminal: whether it says that it is a terminal.
    """

    terminal: bool

    def isatty(self) -> bool:
        """Tell whether it is a terminal."""
        return self.terminal

    def write(self, text: str) -> int:
        """Swallow a text."""
        return len(text)

    def flush(self) -> None:
        """Hold nothing back."""


@final
@attrs.frozen
class Trained:
    """Hold what a training is made of."""

    model: nn.Linear
    optimizer: Optimizer
    loss_fn: LossFunction

    @staticmethod
    def new() -> Trained:
        """Make a model whose weights are always the same, and its optimizer."""
        torch.manual_seed(0)
        model = nn.Linear(8, 1)
        return Trained(model, SGD(model.parameters(), lr=0.01), nn.MSELoss())

    def scheduler(self) -> StepLR:
        """Make a scheduler that multiplies at each step, and changes nothing."""
        return StepLR(self.optimizer, step_size=1, gamma=1.0)


def new_folder() -> Path:
    """Make a folder for a log, which is there as long as this process."""
    folder = Path(tempfile.mkdtemp(prefix="fengine-benchmark-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def new_classifier() -> nn.Module:
    """Make a model to evaluate."""
    torch.manual_seed(0)
    return nn.Linear(8, CLASSES)
