"""The training with the functional API: a loop of features, and one part for what is reported."""

from __future__ import annotations

import shutil
import signal
import sys

import attrs
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from fengine import Events, Loop, Part, State
from fengine.checkpoints import CheckpointError, Checkpoints, Preemption
from fengine.distributed import Alone, Ranks, on_rank
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


def end_epoch(state: State[Pair, Tensor, Options]) -> State[Pair, Tensor, Options]:
    """Write the epoch down."""
    epoch = Epoch(state.metrics["loss"], state.metrics["val_accuracy"])
    return state.with_part(HISTORY, History((*state.part(HISTORY).epochs, epoch)))


def train(
    task: Task,
    options: Options,
    report: Report,
    ranks: Ranks = Alone(),  # noqa: B008  # a frozen record
) -> Reached:
    """Train the model of a task, until it no longer improves or Ctrl-C is pressed.

    A training that was stopped or killed goes on from its last checkpoint.

    Args:
        task: what is trained on what.
        options: those of the command line.
        report: what rank 0 tells.
        ranks: the processes that train together.

    Raises:
        CheckpointError: the folder of the report holds a training with other options.
    """

    def report_epoch(state: State[Pair, Tensor, Options]) -> None:
        report.epoch(state.part(HISTORY).epochs)

    def keeping_history(loop: Loop[Pair, Tensor, Options]) -> Loop[Pair, Tensor, Options]:
        at = Events.EPOCH_COMPLETED
        return loop.with_part(HISTORY).on(at, end_epoch).on(at, on_rank(ranks, report_epoch))

    model = DistributedDataParallel(task.model) if ranks.size > 1 else task.model
    step = training_step(model, task.optimizer, task.loss_fn)
    predicting = Loop(evaluation_step(task.model), ranks=ranks) | accuracy()
    loop = (
        Loop[Pair, Tensor, Options](step, ranks=ranks)
        | mean("loss")
        | evaluation(predicting, task.held_out)
        | keeping_history
        | early_stopping("val_accuracy", mode="max", patience=options.patience)
    )
    if sys.stderr.isatty():
        loop = loop | progress()
    folder = report.folder / "checkpoints"
    with Preemption(signal.SIGINT) as preemption:
        checkpoints = Checkpoints(folder, preemption=preemption)
        if kept := checkpoints.latest():
            before = checkpoints.load(loop, kept, user=options).state
            if before.user != options:
                raise CheckpointError(
                    folder,
                    f"holds a training with {before.user}; end that one, or give another --out",
                )
            if ranks.rank == 0:
                report.go_on(before.part(HISTORY).epochs)
        try:
            final = checkpoints.run(loop, task.batches, user=options, max_epochs=options.epochs)
        except SystemExit:
            kept = checkpoints.latest()
            assert kept is not None, "it was kept before the exit"
            final = checkpoints.load(loop, kept, user=options).state
    if ranks.rank == 0 and not preemption.asked:
        shutil.rmtree(folder)
    return Reached(
        final.part(HISTORY).epochs, final.epoch, final.iteration, interrupted=preemption.asked
    )
