"""The training with fengine."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor

from fengine import Events, Loop, State, tap
from fengine.features import clip_grad_norm, evaluation, lr_schedule, progress
from fengine.metrics import mean_loss
from fengine.training import Window, evaluation_step, training_step, windows
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

Pairs = Window[tuple[Tensor, Tensor]]


def train(file: Path, kill: int | None = None) -> dict[str, float | str]:
    batches, held_out = loaders()
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, ITERATIONS)
    every = Events.ITERATION_COMPLETED(every=EVERY)

    def save(state: State[Pairs, Tensor]) -> None:
        torch.save(loop.snapshot(state).to_dict(), file.with_suffix(".new"))
        os.replace(file.with_suffix(".new"), file)

    def die(state: State[Pairs, Tensor]) -> None:
        if state.iteration == kill:
            os.kill(os.getpid(), 9)

    predicting = Loop(evaluation_step(model)) | mean_loss(loss_fn)
    loop = (
        Loop[Pairs, Tensor](training_step(model, optimizer, loss_fn))
        | clip_grad_norm(model, 1.0)
        | lr_schedule(scheduler)
        | evaluation(predicting, held_out, at=every, max_batches=HELD_OUT)
        | progress("val_loss")
    )
    loop = loop.on(every, tap(save)).on(Events.ITERATION_COMPLETED, tap(die))
    data = windows(batches, WINDOW)
    if file.exists():
        final = loop.resume(loop.read(torch.load(file)), data)
    else:
        final = loop.run(data, max_iters=ITERATIONS)
    return {**final.metrics, "weights": digest(model)}
