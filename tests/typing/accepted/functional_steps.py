"""Trainings in the state as they are meant to be used: all of it checks, and is typed as said."""

from typing import TypedDict, assert_type

import attrs
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fengine import Loop, Part, Stages, State, stages
from fengine.checkpoints import Checkpoints, weights
from fengine.features import OUTER, clip_grad_norm, ema, evaluation, stop_on_nan
from fengine.metrics import accuracy, mean
from fengine.training import (
    TrainState,
    Window,
    functional_evaluation_step,
    functional_step,
    restore,
    windows,
)

Pair = tuple[Tensor, Tensor]

model = nn.Linear(2, 3)
optimizer = torch.optim.AdamW(model.parameters())
pairs: list[Pair] = []

functional = functional_step(model, optimizer, cross_entropy)
start = functional.init(seed=3)
assert_type(start, TrainState)
assert_type(start.parameters["weight"], Tensor)
assert_type(start.learning_rates, tuple[float, ...])
averaged_in_state = ema(0.9)
training_in_state = (
    Loop(functional)
    | clip_grad_norm(model, 1.0)
    | stop_on_nan()
    | averaged_in_state
    | mean("train_loss")
    | evaluation(Loop(functional_evaluation_step(model)) | accuracy(), pairs, user=OUTER)
    | evaluation(
        Loop(functional_evaluation_step(model)) | accuracy(),
        pairs,
        user=OUTER.part(averaged_in_state.part),
        prefix="ema_",
    )
)
assert_type(training_in_state, Loop[Pair, Tensor, TrainState])
trained = training_in_state.run(pairs, user=start)
assert_type(trained.user, TrainState)
restore(model, optimizer, trained.user)
restore(model, optimizer, averaged_in_state.of(trained.user, trained))
slower = trained.evolve(user=trained.user.with_learning_rate(1e-3))
assert_type(training_in_state.resume(slower, pairs).user.updates, int)


checkpoints = Checkpoints("runs/a")
assert_type(checkpoints.run(training_in_state, pairs, user=start), State[Pair, Tensor, TrainState])
assert_type(weights("runs/a", "user.parameters"), dict[str, Tensor])


def decaying(state: State[Pair, Tensor, TrainState]) -> float:
    return 0.1 / state.epoch


functional_step(model, optimizer, cross_entropy, learning_rate=decaying, donate=True)
functional_step(model, optimizer, cross_entropy, learning_rate=lambda state: 0.1 / state.epoch)
functional_step(model, optimizer, cross_entropy, learning_rate=lambda state: [0.1, 0.2])


class Dictionary(TypedDict):
    x: Tensor


def own_loss(model: nn.Linear, batch: Dictionary) -> Tensor:
    found: Tensor = model(batch["x"])
    return found.sum()


linear = nn.Linear(1, 1)
of_own = functional_step(linear, optimizer, loss=own_loss)
assert_type(Loop(of_own), Loop[Dictionary, Tensor, TrainState])
windowed: Loop[Window[Pair], Tensor, TrainState] = Loop(functional)
windowed.run(windows(pairs, 2), user=start)

in_part = Part("training", functional.init())


@attrs.frozen
class Mine:
    best: float = 0.0


beside: Loop[Pair, Tensor, Mine] = Loop(functional.at(in_part))
assert_type(beside.run(pairs, user=Mine()).part(in_part), TrainState)
assert_type(Loop(functional.at(in_part)), Loop[Pair, Tensor, None])
beside_evaluated = beside | evaluation(
    Loop(functional_evaluation_step(model)) | accuracy(), pairs, user=OUTER.part(in_part)
)
assert_type(beside_evaluated, Loop[Pair, Tensor, Mine])


def learned(state: State[int, int, int], value: str) -> State[int, int, int]:
    return state.evolve(user=state.user + len(value))


def known(state: State[int, int, int]) -> float:
    return state.user / 2


def in_words(state: State[int, int, int]) -> str:
    return str(state.batch)


written = stages(in_words).into(learned, known)
assert_type(written, Stages[int, int, float, int])
