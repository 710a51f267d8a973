"""The training with fengine."""

from __future__ import annotations

import torch
from torch.nn.functional import cross_entropy

from fengine import Loop
from fengine.features import (
    clip_grad_norm,
    early_stopping,
    evaluation,
    learning_rate,
    lr_schedule,
    progress,
)
from fengine.metrics import accuracy, mean, mean_loss
from fengine.training import TensorBatches, evaluation_step, training_step
from tests.trainings.cnn.task import EPOCHS, images, network


def train() -> dict[str, float]:
    training, held_out = images()
    data = TensorBatches(*training, batch_size=64, seed=0)
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    steps = EPOCHS * len(data)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
    predicting = Loop(evaluation_step(model)) | accuracy() | mean_loss(cross_entropy)
    loop = (
        Loop(training_step(model, optimizer, cross_entropy, autocast=torch.bfloat16))
        | clip_grad_norm(model, 1.0)
        | lr_schedule(scheduler)
        | learning_rate(optimizer)
        | mean("train_loss")
        | evaluation(predicting, TensorBatches(*held_out, batch_size=120))
        | early_stopping("val_accuracy", mode="max", patience=5)
        | progress("train_loss", "val_accuracy", "val_loss", "lr")
    )
    return dict(loop.run(data, max_epochs=EPOCHS).metrics)
