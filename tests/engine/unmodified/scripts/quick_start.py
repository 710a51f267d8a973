"""Train a classifier of points around three centres, with all that a first script has."""

# mypy: ignore-errors

import argparse

import torch
from ignite.engine import Events, create_supervised_evaluator, create_supervised_trainer
from ignite.handlers import (
    EarlyStopping,
    LRScheduler,
    ModelCheckpoint,
    ProgressBar,
    TensorboardLogger,
    global_step_from_engine,
)
from ignite.metrics import Accuracy, Loss, RunningAverage
from ignite.utils import manual_seed
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def points(count):
    """Draw points, each with the number of its centre."""
    labels = torch.arange(count) % 3
    centres = torch.tensor([[0.0, 2.0], [2.0, -1.0], [-2.0, -1.0]])
    return TensorDataset(centres[labels] + torch.randn(count, 2), labels)


def score(engine):
    return float(-engine.state.metrics["nll"])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--lr", type=float, default=0.5)
    options = parser.parse_args()

    manual_seed(0)
    train_loader = DataLoader(points(60), batch_size=8, shuffle=True)
    val_loader = DataLoader(points(30), batch_size=10)
    device = "cpu"
    model = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 3)).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=options.lr)
    criterion = nn.CrossEntropyLoss()

    trainer = create_supervised_trainer(model, optimizer, criterion, device=device)
    metrics = {"accuracy": Accuracy(), "nll": Loss(criterion)}
    evaluator = create_supervised_evaluator(model, metrics=metrics, device=device)

    RunningAverage(output_transform=lambda loss: loss).attach(trainer, "loss")
    ProgressBar().attach(trainer, ["loss"])
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.9)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, LRScheduler(scheduler))

    @trainer.on(Events.ITERATION_COMPLETED(every=5))
    def log_training_loss(engine):
        print(f"epoch {engine.state.epoch} [{engine.state.iteration}] loss {engine.state.output}")

    @trainer.on(Events.EPOCH_COMPLETED)
    def validate():
        found = evaluator.run(val_loader).metrics
        print(f"epoch {trainer.state.epoch}: accuracy {found['accuracy']}, nll {found['nll']}")

    @trainer.on(Events.COMPLETED | Events.TERMINATE)
    def say(engine):
        print(engine.last_event_name, engine.state.times["EPOCH_COMPLETED"], "seconds")

    evaluator.add_event_handler(
        Events.COMPLETED, EarlyStopping(patience=2, score_function=score, trainer=trainer)
    )
    checkpoint = ModelCheckpoint(
        "models",
        filename_prefix="best",
        score_function=score,
        score_name="nll",
        n_saved=2,
        global_step_transform=global_step_from_engine(trainer),
    )
    evaluator.add_event_handler(Events.COMPLETED, checkpoint, {"model": model})

    with TensorboardLogger(log_dir="board") as board:
        board.attach_output_handler(
            trainer,
            event_name=Events.ITERATION_COMPLETED(every=4),
            tag="training",
            output_transform=lambda loss: {"loss": loss},
        )
        board.attach_output_handler(
            evaluator,
            event_name=Events.COMPLETED,
            tag="validation",
            metric_names="all",
            global_step_transform=global_step_from_engine(trainer),
        )
        board.attach_opt_params_handler(trainer, Events.EPOCH_STARTED, optimizer=optimizer)
        state = trainer.run(train_loader, max_epochs=options.epochs)
    print(
        f"{state.epoch} epochs, {state.iteration} iterations, best in {checkpoint.last_checkpoint}"
    )


if __name__ == "__main__":
    main()
