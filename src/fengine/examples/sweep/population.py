"""Population-based training: after each epoch the worst half copies the best.

A training is a value, so that to copy one is to assign it. A copy goes on with a learning rate that
is somewhat larger or smaller, so that the rates move to where the best are, and may fall later on.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import cross_entropy

from fengine import Events, Loop, State, tap
from fengine.examples.digits.task import Pair, Task
from fengine.examples.sweep.sizes import Sizes
from fengine.examples.sweep.sweeping import (
    CURVES,
    OPTIMIZER,
    EnsembleLoop,
    Swept,
    Tell,
    best_of,
    following,
    new_models,
)
from fengine.metrics import member_values
from fengine.training import EnsembleState, ensemble_step, members, stack

SLOWER, FASTER = 0.5, 1.5


def copy_the_best(state: State[Pair, Tensor, EnsembleState]) -> State[Pair, Tensor, EnsembleState]:
    """Put copies of the best half in the place of the worst half, but not after the last epoch.

    So the networks in the end are those whose accuracies have been measured.
    """
    if state.epoch == state.limits.max_epochs:
        return state
    accuracies = member_values(state, "val_accuracy")
    order = sorted(range(len(accuracies)), key=accuracies.__getitem__, reverse=True)
    half = len(order) // 2
    population = list(members(state.user))
    for worse, better in zip(order[-half:], order[:half], strict=True):
        (rate,) = population[better].learning_rates
        factor = SLOWER if (worse + state.epoch) % 2 else FASTER
        population[worse] = population[better].with_learning_rate(rate * factor)
    return state.evolve(user=stack(population))


def evolve(task: Task, sizes: Sizes, tell: Tell) -> Swept:
    """Train a population, and return what came of it."""
    number = sizes.population
    models = new_models(number, sizes.seed)
    step = ensemble_step(models[0], OPTIMIZER, cross_entropy)
    trainings = members(step.init(models, seeds=[sizes.seed + one for one in range(number)]))
    pairs = zip(trainings, sizes.rates(number), strict=True)
    start = stack([one.with_learning_rate(rate) for one, rate in pairs])
    loop: EnsembleLoop = following(Loop(step), task).on(Events.EPOCH_COMPLETED, tap(tell))
    loop = loop.on(Events.EPOCH_COMPLETED, copy_the_best)
    final = loop.run(task.batches, user=start, max_epochs=sizes.epochs)
    curves = final.part(CURVES)
    return Swept(curves, best_of(curves.accuracies[-1]), final.user)
