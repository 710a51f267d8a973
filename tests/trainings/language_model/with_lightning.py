"""The training with Lightning, which goes on with the epoch after the one that was cut short."""

# mypy: ignore-errors
from __future__ import annotations

import os

import lightning
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from tests.trainings.language_model.task import (
    EVERY,
    HELD_OUT,
    ITERATIONS,
    WINDOW,
    digest,
    loaders,
    loss_fn,
    network,
)


class LanguageModel(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.network = network()

    def training_step(self, batch, index):
        return loss_fn(self.network(batch[0]), batch[1])

    def validation_step(self, batch, index):
        loss = loss_fn(self.network(batch[0]), batch[1])
        self.log("val_loss", loss, prog_bar=True, batch_size=len(batch[1]))

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), 3e-3)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, ITERATIONS)
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]


class Dying(Callback):
    def __init__(self, kill):
        self.kill = kill

    def on_train_batch_end(self, trainer, module, outputs, batch, index):
        if trainer.global_step == self.kill:
            os.kill(os.getpid(), 9)


def train(file, kill=None):
    batches, held_out = loaders()
    saving = ModelCheckpoint(file.parent, file.stem, every_n_train_steps=EVERY)
    trainer = lightning.Trainer(
        max_steps=ITERATIONS,
        max_epochs=-1,
        accelerator="cpu",
        gradient_clip_val=1.0,
        accumulate_grad_batches=WINDOW,
        val_check_interval=EVERY * WINDOW,
        check_val_every_n_epoch=None,
        limit_val_batches=HELD_OUT,
        logger=False,
        callbacks=[saving, Dying(kill)],
    )
    model = LanguageModel()
    trainer.fit(model, batches, held_out, ckpt_path=file if file.exists() else None)
    values = {name: float(value) for name, value in trainer.callback_metrics.items()}
    return {**values, "weights": digest(model.network)}
