"""A training with all that has to go on exactly, and what tells two of its ends apart."""

from __future__ import annotations

import hashlib
import json
import os
import traceback
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset
from typing_extensions import override

from fengine import Loop, State
from fengine.checkpoints import Checkpoints
from fengine.features import ema, evaluation, lr_schedule
from fengine.metrics import accuracy, mean, mean_loss
from fengine.training import (
    RandomState,
    Seeded,
    Shuffled,
    TensorBatches,
    Window,
    evaluation_step,
    training_step,
    windows,
)

Pair = tuple[Tensor, Tensor]
AnyLoop = Loop[Any, Any, None]


class Noisy(Dataset[Pair]):
    """Items that draw random numbers, as augmentation does."""

    def __init__(self) -> None:
        torch.manual_seed(1)
        self.x = torch.randn(24, 4)

    def __len__(self) -> int:
        return len(self.x)

    @override
    def __getitem__(self, index: int) -> Pair:
        x = self.x[index]
        return x + 0.1 * torch.randn(4), (x.sum() > 0).long()


class Training:
    """A model with batch norm and dropout, AdamW with a schedule, an average and noise."""

    def __init__(self, *, windowed: bool = False) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(
            nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 2)
        )
        optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.02, total_steps=40)
        self.averaged = ema(self.model, 0.9)
        noisy = Seeded(Noisy(), seed=3)
        loader = DataLoader(noisy, batch_size=6, sampler=Shuffled(len(noisy), seed=2))
        held_out = TensorBatches(
            torch.linspace(-1, 1, 32).reshape(8, 4), torch.arange(8) % 2, batch_size=4
        )
        judging = Loop(evaluation_step(self.model)) | accuracy() | mean_loss(cross_entropy)
        step: Any = training_step(self.model, optimizer, cross_entropy)
        self.data: Any = windows(loader, 2) if windowed else loader
        loop: Any = Loop[Window[Pair], Tensor](step) if windowed else Loop(step)
        self.loop: AnyLoop = (
            loop
            | lr_schedule(schedule)
            | self.averaged
            | mean("loss")
            | evaluation(judging, held_out)
        )

    def digest(self, final: State[Any, Any, Any]) -> str:
        """Return what is equal where two runs have ended alike, to the bit."""
        found = hashlib.sha256(repr(sorted(final.metrics.items())).encode())
        found.update(repr((final.iteration, final.epoch, final.status)).encode())
        for thing in (self.model, self.averaged.model):
            for name, tensor in thing.state_dict().items():
                found.update(name.encode() + tensor.numpy().tobytes())
        found.update(RandomState().state_dict()["torch"].numpy().tobytes())
        return found.hexdigest()


def in_child(work: Callable[[], object]) -> int:
    """Do some work in a forked process, and return its id; it ends with 0 where nothing failed."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        work()
        code = 0
    except SystemExit as asked:
        code = asked.code if isinstance(asked.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def run_of(folder: str, result: str, **keywords: Any) -> None:
    """Run a training that keeps checkpoints, and write down how it ended."""
    windowed = keywords.pop("windowed", False)
    training = Training(windowed=windowed)
    checkpoints = Checkpoints(folder, **keywords)
    final = checkpoints.run(training.loop, training.data, max_epochs=3)
    with open(result, "w") as file:
        json.dump(training.digest(final), file)
