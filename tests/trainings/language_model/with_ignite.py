"""The training with pytorch-ignite, whose epoch begins anew where it goes on."""

# mypy: ignore-errors
from __future__ import annotations

import os

import torch
from ignite.engine import DeterministicEngine, Events, create_supervised_evaluator
from ignite.handlers import Checkpoint, DiskSaver, LRScheduler, ProgressBar
from ignite.metrics import Loss

from fengine.training import windows
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


def train(file, kill=None):
    batches, held_out = loaders()
    data = [window.batches for window in windows(list(batches), WINDOW)]
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, ITERATIONS)
    every = Events.ITERATION_COMPLETED(every=EVERY)

    def step(engine, window):
        model.train()
        optimizer.zero_grad()
        samples = sum(len(y) for _, y in window)
        total = 0.0
        for x, y in window:
            loss = loss_fn(model(x), y) * (len(y) / samples)
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return total

    trainer = DeterministicEngine(step)
    evaluator = create_supervised_evaluator(model, {"loss": Loss(loss_fn)})
    trainer.add_event_handler(Events.ITERATION_COMPLETED, LRScheduler(scheduler))
    ProgressBar().attach(trainer, output_transform=lambda loss: {"loss": loss})

    @trainer.on(every)
    def validate(engine):
        evaluator.run(held_out, epoch_length=HELD_OUT)
        engine.state.metrics["val_loss"] = evaluator.state.metrics["loss"]

    things = {"trainer": trainer, "model": model, "optimizer": optimizer, "scheduler": scheduler}
    saver = DiskSaver(file.parent, create_dir=False, require_empty=False)
    saving = Checkpoint(things, saver, filename_pattern=file.name, n_saved=1)
    trainer.add_event_handler(every, saving)

    @trainer.on(Events.ITERATION_COMPLETED)
    def die(engine):
        if engine.state.iteration == kill:
            os.kill(os.getpid(), 9)

    if file.exists():
        Checkpoint.load_objects(things, torch.load(file, weights_only=False))
    trainer.run(data, max_iters=ITERATIONS)
    return {**trainer.state.metrics, "weights": digest(model)}
