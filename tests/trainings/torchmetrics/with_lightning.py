"""The evaluation with Lightning."""

# mypy: ignore-errors
from __future__ import annotations

import lightning

from tests.trainings.torchmetrics.task import loader, metrics, network


class Classifier(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.network = network()
        self.metrics = metrics()

    def validation_step(self, batch, index):
        self.metrics(self.network(batch[0]), batch[1])
        self.log_dict(self.metrics)


def train():
    trainer = lightning.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.validate(Classifier(), loader())
    return {name: float(value) for name, value in trainer.callback_metrics.items()}
