"""Peers: the same training in pytorch-ignite, and in Lightning, where that is installed."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import attrs
import pytest
from ignite.engine import Engine
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.optim import Optimizer

Pair = tuple[Tensor, Tensor]


@attrs.frozen
class _Loader:
    """Give batches as they are; a list would be one of loaders, and a DataLoader draws a number."""

    batches: Sequence[Pair]

    def __iter__(self) -> Iterator[Pair]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


def ignite_trainer(model: nn.Module, optimizer: Optimizer) -> Engine:
    """Make an Engine that trains, and whose output is the loss."""

    def step(engine: Engine, batch: Pair) -> Tensor:
        model.train()
        optimizer.zero_grad()
        loss = mse_loss(model(batch[0]), batch[1])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss.detach()

    return Engine(step)


def fit_with_lightning(
    model: nn.Module,
    optimizer: Optimizer,
    data: Sequence[Pair],
    *callbacks: Any,
    epochs: int,
    held_out: Sequence[Pair] | None = None,
    **options: Any,
) -> None:
    """Train by a Trainer that reports nothing; the metric of the held out data is `val_loss`."""
    lightning: Any = pytest.importorskip("lightning")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    class Module(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def training_step(self, batch: Pair, number: int) -> Tensor:
            return mse_loss(self.model(batch[0]), batch[1])

        def validation_step(self, batch: Pair, number: int) -> None:
            loss = mse_loss(self.model(batch[0]), batch[1])
            self.log("val_loss", loss, batch_size=len(batch[1]))

        def configure_optimizers(self) -> Optimizer:
            return optimizer

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = lightning.Trainer(
            accelerator="cpu",
            max_epochs=epochs,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            callbacks=list(callbacks),
            **options,
        )
        judged = None if held_out is None else _Loader(held_out)
        trainer.fit(Module(), _Loader(data), judged)
