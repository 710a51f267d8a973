"""Fit a line, save everything in each epoch, and go on from a checkpoint that is named."""

# mypy: ignore-errors

import argparse
import sys
from pathlib import Path

import torch
from ignite.engine import Engine, Events
from ignite.handlers import Checkpoint, DiskSaver, EMAHandler, PiecewiseLinear, TerminateOnNan
from ignite.handlers.checkpoint import CheckpointEvents
from ignite.metrics import RunningAverage
from torch import nn


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--resume-from", type=Path)
    parser.add_argument("--max-epochs", type=int, default=3)
    options = parser.parse_args()
    if options.resume_from is not None and not options.resume_from.is_file():
        print(f"there is no checkpoint {options.resume_from.name}")
        return 3

    torch.manual_seed(7)
    inputs = torch.randn(6, 4, 3)
    data = list(zip(inputs, inputs @ torch.tensor([1.0, -2.0, 0.5]), strict=True))
    model = nn.Linear(3, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)

    def train_step(engine, batch):
        model.train()
        x, y = batch
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x).squeeze(1), y)
        loss.backward()
        optimizer.step()
        engine.state.seen += len(x)
        return {"loss": loss.item()}

    trainer = Engine(train_step)
    trainer.state.seen = 0
    trainer.state_dict_user_keys.append("seen")
    schedule = PiecewiseLinear(optimizer, "lr", milestones_values=[(0, 0.1), (30, 0.0)])
    trainer.add_event_handler(Events.ITERATION_STARTED, schedule)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, TerminateOnNan())
    RunningAverage(output_transform=lambda output: output["loss"]).attach(trainer, "running loss")
    average = EMAHandler(model, momentum=0.1)
    average.attach(trainer, event=Events.ITERATION_COMPLETED(every=2))

    to_save = {
        "trainer": trainer,
        "model": model,
        "optimizer": optimizer,
        "schedule": schedule,
        "average": average.ema_model,
    }
    saver = DiskSaver("checkpoints", require_empty=False)
    checkpoint = Checkpoint(to_save, saver, filename_prefix="run", n_saved=2)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, checkpoint)
    trainer.register_events(*CheckpointEvents)

    @trainer.on(CheckpointEvents.SAVED_CHECKPOINT)
    def tell_what_is_saved():
        print("saved", checkpoint.last_checkpoint)

    @trainer.on(Events.STARTED)
    def tell_where_it_starts():
        print(f"starts in epoch {trainer.state.epoch}, iteration {trainer.state.iteration}")

    @trainer.on(Events.EPOCH_COMPLETED)
    def tell(engine):
        rate = optimizer.param_groups[0]["lr"]
        print(engine.state.epoch, engine.state.seen, rate, engine.state.metrics)

    if options.resume_from is not None:
        saved = torch.load(options.resume_from, weights_only=True)
        Checkpoint.load_objects(to_load=to_save, checkpoint=saved)
    trainer.run(data, max_epochs=options.max_epochs)
    print(model.weight.tolist(), average.ema_model.state_dict()["bias"].item())
    print(trainer.state_dict())
    return 0


if __name__ == "__main__":
    sys.exit(main())
