"""The training with the functional API: pure handlers, one record for what they remember."""

from __future__ import annotations

import attrs
from torch import Tensor

from fengine import Events, Loop, Stages, State, evaluate, focus, last_state, tap
from fengine.examples.digits.options import Options
from fengine.examples.digits.report import Report
from fengine.examples.digits.task import Epoch, Pair, Reached, Task
from fengine.handlers import Patience, early_stopping, progress
from fengine.training import (
    Accuracy,
    Prediction,
    count_correct,
    report_accuracy,
    supervised,
    supervised_evaluation,
)


@attrs.frozen
class Mean:
    """Hold a mean that numbers are still added to."""

    total: Tensor | float = 0.0
    count: int = 0

    @property
    def value(self) -> float:
        """The mean so far."""
        return float(self.total) / self.count


@attrs.frozen
class Notes:
    """Hold what the handlers remember, each its own part."""

    loss: Mean = attrs.field(factory=Mean)
    stopping: Patience = attrs.field(factory=Patience)
    history: tuple[Epoch, ...] = ()


def add_loss(state: State[Pair, Tensor, Mean]) -> State[Pair, Tensor, Mean]:
    """Add the loss of a batch to the mean of its epoch."""
    images, mean = len(state.batch[1]), state.user
    return state.evolve(user=Mean(mean.total + state.output * images, mean.count + images))


def end_epoch(state: State[Pair, Tensor, Notes]) -> State[Pair, Tensor, Notes]:
    """Write the epoch down, and begin a new mean."""
    epoch = Epoch(state.user.loss.value, state.metrics["accuracy"])
    history = (*state.user.history, epoch)
    return state.evolve(user=attrs.evolve(state.user, loss=Mean(), history=history))


def accuracy(state: State[Pair, Tensor, Patience]) -> float:
    """Give the score that decides about stopping early."""
    return state.metrics["accuracy"]


def train(task: Task, options: Options, report: Report) -> Reached:
    """Train the model of a task, until it no longer improves or Ctrl-C is pressed."""

    def report_epoch(state: State[Pair, Tensor, Notes]) -> None:
        report.epoch(state.user.history)

    validation = (
        Loop[Pair, Prediction[Tensor, Tensor], Accuracy](supervised_evaluation(task.model))
        .on(Events.ITERATION_COMPLETED, count_correct)
        .on(Events.COMPLETED, report_accuracy)
    )
    step: Stages[Pair, Tensor, Tensor, Notes] = supervised(task.model, task.optimizer, task.loss_fn)
    stop_early = early_stopping(accuracy, patience=options.patience)
    loop = (
        progress(Loop(step))
        .on(Events.ITERATION_COMPLETED, focus("loss", add_loss))
        .on(Events.EPOCH_COMPLETED, evaluate(validation, batches=task.held_out, user=Accuracy()))
        .on(Events.EPOCH_COMPLETED, end_epoch)
        .on(Events.EPOCH_COMPLETED, tap(report_epoch))
        .on(Events.EPOCH_COMPLETED, focus("stopping", stop_early))
    )
    try:
        final = loop.run(task.batches, user=Notes(), max_epochs=options.epochs)
    except KeyboardInterrupt as stopped:
        try:
            last = last_state(stopped)
        except LookupError:  # it came before the first event
            raise stopped from None
        assert isinstance(last.user, Notes)
        return Reached(last.user.history, last.epoch, last.iteration, interrupted=True)
    return Reached(final.user.history, final.epoch, final.iteration)
