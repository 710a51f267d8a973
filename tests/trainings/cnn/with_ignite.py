"""The training with pytorch-ignite."""

# mypy: ignore-errors
from __future__ import annotations

import torch
from ignite.engine import Engine, Events, create_supervised_evaluator
from ignite.handlers import EarlyStopping, LRScheduler, ProgressBar
from ignite.metrics import Accuracy, Average, Loss
from torch.nn.functional import cross_entropy

from tests.trainings.cnn.task import EPOCHS, loaders, network


def train():
    data, held_out = loaders()
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    steps = EPOCHS * len(data)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)

    def step(engine, batch):
        model.train()
        optimizer.zero_grad()
        x, y = batch
        with torch.autocast("cpu", torch.bfloat16):
            loss = cross_entropy(model(x), y)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    trainer = Engine(step)
    Average().attach(trainer, "train_loss")
    metrics = {"accuracy": Accuracy(), "loss": Loss(cross_entropy)}
    evaluator = create_supervised_evaluator(model, metrics)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, LRScheduler(scheduler))
    ProgressBar().attach(trainer, output_transform=lambda loss: {"loss": loss})

    @trainer.on(Events.EPOCH_COMPLETED)
    def validate(engine):
        evaluator.run(held_out)
        found = evaluator.state.metrics
        engine.state.metrics["val_accuracy"] = found["accuracy"]
        engine.state.metrics["val_loss"] = found["loss"]
        engine.state.metrics["lr"] = optimizer.param_groups[0]["lr"]
        print(engine.state.epoch, engine.state.metrics)

    def score(engine):
        return engine.state.metrics["accuracy"]

    stop = EarlyStopping(5, score, trainer)
    evaluator.add_event_handler(Events.COMPLETED, stop)
    trainer.run(data, max_epochs=EPOCHS)
    return dict(trainer.state.metrics)
