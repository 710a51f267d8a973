"""The same training with the Engine API: one object that handlers change."""

from __future__ import annotations

import signal

from torch import Tensor
from tqdm import tqdm

from fengine.checkpoints import Preemption
from fengine.engine import (
    Engine,
    Events,
    create_supervised_evaluator,
    create_supervised_trainer,
)
from fengine.examples.digits.options import Options
from fengine.examples.digits.report import Report
from fengine.examples.digits.task import Epoch, Reached, Task, best_epoch


def loss_on_device(x: Tensor, y: Tensor, y_pred: Tensor, loss: Tensor) -> Tensor:
    """Make the output of an iteration; the default would wait for the number."""
    return loss.detach()


def train(task: Task, options: Options, report: Report) -> Reached:
    """Train the model of a task, until it no longer improves or Ctrl-C is pressed."""
    trainer = create_supervised_trainer(
        task.model, task.optimizer, task.loss_fn, output_transform=loss_on_device
    )
    evaluator = create_supervised_evaluator(task.model)
    bar: tqdm | None = None
    history: list[Epoch] = []

    def close_bar() -> None:
        if bar is not None:
            bar.close()

    @evaluator.on(Events.STARTED)
    def begin_count(engine: Engine) -> None:
        engine.state.correct, engine.state.total = 0, 0

    @evaluator.on(Events.ITERATION_COMPLETED)
    def count_correct(engine: Engine) -> None:
        y_pred, y = engine.state.output
        engine.state.correct += (y_pred.argmax(dim=1) == y).sum()
        engine.state.total += len(y)

    @trainer.on(Events.EPOCH_STARTED)
    def begin_epoch(engine: Engine) -> None:
        nonlocal bar
        # None: no bar where there is no terminal.
        title = f"epoch {engine.state.epoch}/{options.epochs}"
        bar = tqdm(desc=title, total=len(task.batches), leave=False, disable=None)
        engine.state.total_loss, engine.state.images = 0.0, 0

    @trainer.on(Events.ITERATION_COMPLETED)
    def add_loss(engine: Engine) -> None:
        images = len(engine.state.batch[1])
        engine.state.total_loss = engine.state.total_loss + engine.state.output * images
        engine.state.images += images
        assert bar is not None
        bar.update()

    @trainer.on(Events.EPOCH_COMPLETED)
    def end_epoch(engine: Engine) -> None:
        close_bar()
        counted = evaluator.run(task.held_out)
        loss = float(engine.state.total_loss) / engine.state.images
        history.append(Epoch(loss, float(counted.correct) / counted.total))
        report.epoch(tuple(history))
        if len(history) - best_epoch(tuple(history)) >= options.patience:
            engine.terminate()

    with Preemption(signal.SIGINT) as preemption:

        @trainer.on(Events.ITERATION_COMPLETED)
        def pause(engine: Engine) -> None:
            if preemption.asked:
                engine.interrupt()

        try:
            trainer.run(task.batches, max_epochs=options.epochs)
        finally:
            close_bar()
    state = trainer.state
    return Reached(tuple(history), state.epoch, state.iteration, interrupted=preemption.asked)
