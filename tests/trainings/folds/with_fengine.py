"""The training with fengine."""

from __future__ import annotations

import torch
from torch.nn.functional import cross_entropy

from fengine import Loop
from fengine.features import evaluation
from fengine.metrics import mean_loss
from fengine.training import TensorBatches, evaluation_step, training_step
from tests.trainings.folds.task import EPOCHS, RATES, folds, network


def train() -> dict[float, list[float]]:
    losses: dict[float, list[float]] = {rate: [] for rate in RATES}
    for training, held_out in folds():
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        judging = Loop(evaluation_step(model)) | mean_loss(cross_entropy)
        step = training_step(model, optimizer, cross_entropy)
        loop = Loop(step) | evaluation(judging, TensorBatches(*held_out, batch_size=30))
        data = TensorBatches(*training, batch_size=10, seed=0)
        half = loop.run(data, max_epochs=EPOCHS)
        snapshot = loop.snapshot(half)
        for rate in RATES:
            loop.restore(snapshot)
            optimizer.param_groups[0]["lr"] = rate
            fork = loop.resume(half.with_limits(max_epochs=2 * EPOCHS), data)
            losses[rate].append(fork.metrics["val_loss"])
    return losses
