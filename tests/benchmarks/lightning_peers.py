"""Lightning Fabric, the Lightning Trainer and accelerate: a training and an evaluation with each.

They are used as their guides show, with logs, progress bars and checkpoints off, so that only the
loop is compared. Fabric and accelerate have no loop of their own: theirs is the one by hand, with a
wrapped model and optimizer.
"""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.optim import Optimizer
from typing_extensions import override

from tests.benchmarks.by_hand import (
    LossFunction,
    Pairs,
    Run,
    evaluation_by_hand,
    training_by_hand,
)

if TYPE_CHECKING:
    from lightning.pytorch import Trainer


def fabric_training(model: nn.Module, optimizer: Optimizer, loss_fn: LossFunction) -> Run:
    """Train with a model, an optimizer and backward of Fabric."""
    from lightning.fabric import Fabric

    fabric = Fabric(accelerator="cpu", devices=1)
    wrapped, stepped = fabric.setup(model, optimizer)
    return training_by_hand(wrapped, stepped, loss_fn, fabric.backward)


def fabric_evaluation(model: nn.Module) -> Run:
    """Evaluate a model of Fabric."""
    from lightning.fabric import Fabric

    return evaluation_by_hand(Fabric(accelerator="cpu", devices=1).setup_module(model))


def accelerate_training(model: nn.Module, optimizer: Optimizer, loss_fn: LossFunction) -> Run:
    """Train with a model, an optimizer and backward of accelerate."""
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    prepared, stepped = accelerator.prepare(model, optimizer)
    return training_by_hand(prepared, stepped, loss_fn, accelerator.backward)


def accelerate_evaluation(model: nn.Module) -> Run:
    """Evaluate a model of accelerate."""
    from accelerate import Accelerator

    return evaluation_by_hand(Accelerator(cpu=True).prepare_model(model, evaluation_mode=True))


def trainer_training(model: nn.Module, optimizer: Optimizer, loss_fn: LossFunction) -> Run:
    """Train by a Trainer."""
    from lightning.pytorch import LightningModule

    class Module(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def training_step(self, batch: tuple[Tensor, Tensor], number: int) -> Tensor:
            x, y = batch
            loss = loss_fn(self.model(x), y)
            loss.item()
            return loss

        @override
        def configure_optimizers(self) -> Optimizer:
            return optimizer

    module = Module()

    def run(data: Pairs) -> None:
        quiet_trainer(barebones=True).fit(module, data)

    return run


def trainer_evaluation(model: nn.Module) -> Run:
    """Evaluate by a Trainer."""
    from lightning.pytorch import LightningModule

    class Module(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def validation_step(self, batch: tuple[Tensor, Tensor], number: int) -> None:
            x, _ = batch
            self.model(x)

    module = Module()

    def run(data: Pairs) -> None:
        quiet_trainer(barebones=True).validate(module, data, verbose=False)

    return run


def quiet_trainer(**options: Any) -> Trainer:
    """Make a Trainer for one epoch on the CPU that reports nothing."""
    # A Trainer counts epochs over its life, so each run has a new one, and each would report the
    # hardware, and that the data has no workers.
    from lightning.pytorch import Trainer

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"lightning\.")
    return Trainer(accelerator="cpu", devices=1, max_epochs=1, inference_mode=False, **options)
