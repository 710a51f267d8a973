"""The training with Lightning."""

# mypy: ignore-errors
from __future__ import annotations

import lightning
import torch
import torchmetrics
from lightning.pytorch.callbacks import Callback, EarlyStopping, LearningRateMonitor
from lightning.pytorch.loggers import CSVLogger
from torch.nn.functional import cross_entropy

from tests.trainings.cnn.task import EPOCHS, loaders, network


class Classifier(lightning.LightningModule):
    def __init__(self, steps):
        super().__init__()
        self.steps = steps
        self.network = network()
        self.accuracy = torchmetrics.Accuracy(task="multiclass", num_classes=10)

    def training_step(self, batch, index):
        loss = cross_entropy(self.network(batch[0]), batch[1])
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch, index):
        y_pred = self.network(batch[0])
        self.accuracy(y_pred, batch[1])
        self.log("val_accuracy", self.accuracy, prog_bar=True)
        self.log("val_loss", cross_entropy(y_pred, batch[1]), prog_bar=True)

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=3e-3)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=self.steps)
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]


class Lines(Callback):
    def on_train_epoch_end(self, trainer, module):
        print(trainer.current_epoch + 1, {k: float(v) for k, v in trainer.callback_metrics.items()})


def train():
    data, held_out = loaders()
    stop = EarlyStopping("val_accuracy", mode="max", patience=5)
    trainer = lightning.Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        precision="bf16-mixed",
        gradient_clip_val=1.0,
        logger=CSVLogger("lightning-out"),
        enable_checkpointing=False,
        callbacks=[stop, LearningRateMonitor(), Lines()],
    )
    trainer.fit(Classifier(EPOCHS * len(data)), data, held_out)
    return {name: float(value) for name, value in trainer.callback_metrics.items()}
