"""The sweep: a network for each learning rate and seed, all of them in one run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import attrs
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fengine import Events, Loop, Part, State, tap
from fengine.examples.digits.options import Options
from fengine.examples.digits.task import Pair, Task, make_task, new_model
from fengine.examples.sweep.sizes import Sizes
from fengine.features import OUTER, evaluation, stop_members
from fengine.metrics import accuracy, member_values
from fengine.training import (
    EnsembleState,
    adamw,
    ensemble_evaluation_step,
    ensemble_step,
    evaluation_step,
    members,
    restore,
)

EnsembleLoop: TypeAlias = Loop[Pair, Tensor, EnsembleState]
Accuracies: TypeAlias = tuple[float, ...]
OPTIMIZER = adamw()


@attrs.frozen
class Curves:
    """Hold what came of each epoch.

    Args:
        accuracies: the held-out accuracy of each network, for each epoch.
        rates: the learning rate of each network in it.
    """

    accuracies: tuple[Accuracies, ...] = ()
    rates: tuple[tuple[float, ...], ...] = ()


CURVES = Part("curves", Curves())


@attrs.frozen(eq=False)
class Swept:
    """Hold what a sweep came to.

    Args:
        curves: the epochs.
        best: the number of the best network.
        ensemble: all networks.
    """

    curves: Curves
    best: int
    ensemble: EnsembleState


def task_of(sizes: Sizes) -> Task:
    """Make the task of the digits example."""
    return make_task(Options(batch_size=sizes.batch_size, seed=sizes.seed))


def new_models(number: int, seed: int) -> list[nn.Module]:
    """Make networks, each with a seed of its own."""
    made = []
    for one in range(number):
        torch.manual_seed(seed + one)
        made.append(new_model())
    return made


def following(loop: EnsembleLoop, task: Task) -> EnsembleLoop:
    """Return a loop that evaluates all networks after each epoch, and writes the curves down."""
    predicting = Loop(ensemble_evaluation_step(task.model)) | accuracy()
    evaluated = loop | evaluation(predicting, task.held_out, user=OUTER)
    return evaluated.with_part(CURVES).on(Events.EPOCH_COMPLETED, end_epoch)


def end_epoch(state: State[Pair, Tensor, EnsembleState]) -> State[Pair, Tensor, EnsembleState]:
    """Write the epoch down."""
    known = state.part(CURVES)
    rates = tuple(one.learning_rates[0] for one in members(state.user))
    accuracies = member_values(state, "val_accuracy")
    curves = Curves((*known.accuracies, accuracies), (*known.rates, rates))
    return state.with_part(CURVES, curves)


def best_of(accuracies: Accuracies) -> int:
    """Return the number of the first network of the highest accuracy.

    >>> best_of((0.5, 0.75, 0.75))
    1
    """
    return accuracies.index(max(accuracies))


Tell: TypeAlias = Callable[[State[Pair, Tensor, EnsembleState]], None]


def sweep(task: Task, sizes: Sizes, tell: Tell) -> Swept:
    """Train all networks, and return what came of it."""
    models = new_models(sizes.members, sizes.seed)
    rates = sizes.rates(sizes.members)
    step = ensemble_step(models[0], OPTIMIZER, cross_entropy, learning_rate=rates)
    loop: EnsembleLoop = following(Loop(step), task).on(Events.EPOCH_COMPLETED, tap(tell))
    loop = loop | stop_members("val_accuracy", mode="max", patience=sizes.patience)
    start = step.init(models, seeds=[sizes.seed + one for one in range(sizes.members)])
    final = loop.run(task.batches, user=start, max_epochs=sizes.epochs)
    curves = final.part(CURVES)
    return Swept(curves, best_of(curves.accuracies[-1]), final.user)


def restored_accuracy(task: Task, swept: Swept) -> float:
    """Write the best network into the model of the task, and return its held-out accuracy."""
    optimizer = OPTIMIZER(task.model.parameters())
    restore(task.model, optimizer, members(swept.ensemble)[swept.best])
    alone = Loop(evaluation_step(task.model)) | accuracy()
    return alone.run(task.held_out).metrics["accuracy"]
