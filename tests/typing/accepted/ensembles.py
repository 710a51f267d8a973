"""Ensembles as they are meant to be used: all of it checks, and is typed as said."""

from collections.abc import Iterator
from typing import assert_type

import attrs
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer

from fengine import Loop, Part, State
from fengine.features import OUTER, evaluation, stop_members
from fengine.metrics import accuracy, mean, mean_loss, member_values
from fengine.training import (
    EnsembleState,
    OwnOptimizer,
    TrainState,
    adam,
    adamw,
    compact,
    ensemble_evaluation_step,
    ensemble_step,
    functional_step,
    members,
    restore,
    sgd,
    stack,
)

Pair = tuple[Tensor, Tensor]

models = [nn.Linear(2, 3), nn.Linear(2, 3)]
model = models[0]
pairs: list[Pair] = []
optimizer: OwnOptimizer = sgd(0.1, momentum=0.9)
in_torch: Optimizer = optimizer(model.parameters())
for own in (adam(betas=(0.8, 0.9)), adamw(1e-3, weight_decay=0.0)):
    assert_type(own, OwnOptimizer)

step = ensemble_step(model, adamw(), cross_entropy, learning_rate=[0.1, 0.2], clip=1.0)
start = step.init(models, seeds=range(2))
assert_type(start, EnsembleState)
assert_type(start.parameters["weight"], Tensor)
training = (
    Loop(step)
    | mean("train_loss")
    | evaluation(
        Loop(ensemble_evaluation_step(model)) | accuracy() | mean_loss(cross_entropy),
        pairs,
        user=OUTER,
    )
    | stop_members("val_loss", mode="min", patience=2)
)
assert_type(training, Loop[Pair, Tensor, EnsembleState])
trained = training.run(pairs, user=start)
assert_type(trained.user, EnsembleState)
assert_type(trained.output, Tensor)
assert_type(member_values(trained, "val_loss"), tuple[float, ...])
assert_type(members(trained.user), tuple[TrainState, ...])
restore(model, in_torch, members(trained.user)[1])
population = list(members(trained.user))
population[0] = population[1].with_learning_rate(0.5)
Loop(step).run(pairs, user=compact(stack(population).stopping([0])))

single = functional_step(model, in_torch, cross_entropy)
Loop(ensemble_step(model, in_torch, cross_entropy, method="loop")).run(
    pairs, user=stack([single.init(seed=1), single.init(seed=2)])
)


def falling(state: State[Pair, Tensor, EnsembleState]) -> list[float]:
    return [0.1 / state.epoch, 0.2]


def numbers() -> Iterator[float]:
    yield 0.1


ensemble_step(model, sgd(), cross_entropy, learning_rate=falling, randomness="same")
ensemble_step(model, sgd(), cross_entropy, learning_rate=torch.tensor([0.1, 0.2]))
ensemble_step(model, sgd(), cross_entropy, learning_rate=tuple(numbers()), compile=True)
ensemble_step(model, sgd(), cross_entropy, learning_rate=lambda state: 0.1 / state.epoch)


@attrs.frozen
class Mine:
    best: float = 0.0


in_part = Part("ensemble", start)
beside: Loop[Pair, Tensor, Mine] = Loop(step.at(in_part))
assert_type(beside.run(pairs, user=Mine()).part(in_part), EnsembleState)
