"""Mistakes with ensembles, each found where it is made."""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fengine import Loop, Part
from fengine.features import OUTER, evaluation, stop_members
from fengine.metrics import accuracy
from fengine.training import (
    adamw,
    compact,
    ensemble_evaluation_step,
    ensemble_step,
    functional_step,
    members,
    sgd,
    stack,
)

Pair = tuple[Tensor, Tensor]

model = nn.Linear(2, 3)
pairs: list[Pair] = []
step = ensemble_step(model, adamw(), cross_entropy)
start = step.init([model])
single = functional_step(model, torch.optim.SGD(model.parameters()), cross_entropy)

Loop(step).run(pairs, user=single.init())  # error: arg-type
Loop(single).run(pairs, user=start)  # error: arg-type
Loop(step).run([1, 2], user=start)  # error: list-item
stack([start])  # error: list-item
members(single.init())  # error: arg-type
compact(members(start))  # error: arg-type
members(start)[0].learning_rates = (0.1,)  # error: misc
start.updates = (1,)  # error: misc
step.init(model)  # error: arg-type
step.init([model], seeds=["one"])  # error: list-item
step.at(Part("ensemble", 0))  # error: arg-type
sgd([0.1, 0.2])  # error: arg-type
ensemble_step(model, torch.optim.SGD, cross_entropy)  # error: arg-type
ensemble_step(model, sgd(), cross_entropy, method="both")  # error: arg-type
ensemble_step(model, sgd(), cross_entropy, randomness="none")  # error: arg-type
ensemble_step(model, sgd(), cross_entropy, learning_rate="fast")  # error: arg-type
stop_members("val_loss", mode="least", patience=1)  # error: arg-type

held_out = Loop(ensemble_evaluation_step(model)) | accuracy()
Loop(single) | evaluation(held_out, pairs, user=OUTER)  # error: arg-type
