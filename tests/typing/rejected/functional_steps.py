"""Mistakes with trainings in the state, each found where it is made."""

import attrs
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fengine import Loop, Part, State, stages
from fengine.features import OUTER, ema, evaluation
from fengine.metrics import accuracy
from fengine.training import (
    functional_evaluation_step,
    functional_step,
    restore,
    training_step,
)

Pair = tuple[Tensor, Tensor]

model = nn.Linear(2, 3)
optimizer = torch.optim.AdamW(model.parameters())
pairs: list[Pair] = []
step = functional_step(model, optimizer, cross_entropy)
start = step.init()
loop = Loop(step)
held_out = Loop(functional_evaluation_step(model)) | accuracy()


@attrs.frozen
class Mine:
    best: float = 0.0


loop.run(pairs, user=Mine())  # error: arg-type
loop.run([1, 2], user=start)  # error: list-item
start.parameters["weight"] = torch.ones(1)  # error: index
start.updates = 3  # error: misc
start.with_learning_rate("fast")  # error: arg-type
step.init(seed=0.5)  # error: arg-type
step.at(Part("training", 0))  # error: arg-type
functional_step(model, optimizer, cross_entropy, donate="yes")  # error: call-overload
restore(model, optimizer, model.state_dict())  # error: arg-type
ema("0.9")  # error: call-overload

in_place = Loop(training_step(model, optimizer, cross_entropy))
in_place | evaluation(held_out, pairs, user=OUTER)  # error: arg-type
evaluation(held_out, pairs, user=Mine())  # error: misc
evaluation(held_out, pairs, user=OUTER.part(Part("seen", 0)))  # error: misc


def value(state: State[int, int, int]) -> str:
    return str(state.batch)


def write(state: State[int, int, int], number: int) -> State[int, int, int]:
    return state


def read(state: State[int, int, int]) -> int:
    return state.user


stages(value).into(write, read)  # error: arg-type
