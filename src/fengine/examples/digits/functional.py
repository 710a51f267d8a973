"""The training with the functional API: a loop of features, and one part for what is reported."""

from __future__ import annotations

import sys

import attrs
from torch import Tensor

from fengine import Events, Loop, Part, State, last_state, tap
from fengine.examples.digits.options import Options
from fengine.examples.digits.report import Report
from fengine.examples.digits.task import Epoch, Pair, Reached, Task
from fengine.features import early_stopping, evaluation, progress
from fengine.metrics import accuracy, mean
from fengine.training import evaluation_step, training_step


@attrs.frozen
class History:
    """Hold the completed epochs."""

    epochs: tuple[Epoch, ...] = ()


HISTORY = Part("history", History())


def end_epoch(state: State[Pair, Tensor]) -> State[Pair, Tensor]:
    """Write the epoch down."""
    epoch = Epoch(state.metrics["loss"], state.metrics["val_accuracy"])
    return state.with_part(HISTORY, History((*state.part(HISTORY).epochs, epoch)))


def train(task: Task, options: Options, report: Report) -> Reached:
    """Train the model of a task, until it no longer improves or Ctrl-C is pressed."""

    def report_epoch(state: State[Pair, Tensor]) -> None:
        report.epoch(state.part(HISTORY).epochs)

    def keeping_history(loop: Loop[Pair, Tensor]) -> Loop[Pair, Tensor]:
        at = Events.EPOCH_COMPLETED
        return loop.with_part(HISTORY).on(at, end_epoch).on(at, tap(report_epoch))

    loop = (
        Loop(training_step(task.model, task.optimizer, task.loss_fn))
        | mean("loss")
        | evaluation(Loop(evaluation_step(task.model)) | accuracy(), task.held_out)
        | keeping_history
        | early_stopping("val_accuracy", mode="max", patience=options.patience)
    )
    if sys.stderr.isatty():
        loop = loop | progress()
    try:
        final = loop.run(task.batches, max_epochs=options.epochs)
    except KeyboardInterrupt as stopped:
        try:
            last = last_state(stopped)
        except LookupError:  # it came before the first event
            raise stopped from None
        epochs = last.part(HISTORY).epochs
        return Reached(epochs, last.epoch, last.iteration, interrupted=True)
    return Reached(final.part(HISTORY).epochs, final.epoch, final.iteration)
