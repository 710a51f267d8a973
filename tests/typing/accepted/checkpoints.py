"""Runs with checkpoints, and what is tried before a training: all of it checks, and so do types."""

import signal
from typing import assert_type

import attrs
from torch import Tensor, nn, optim
from torch.nn.functional import mse_loss

from fengine import Events, Loop, Snapshot, State
from fengine.checkpoints import Best, Checkpoints, Kept, Preemption, retained, weights
from fengine.engine import Engine
from fengine.features import LearningRates, find_learning_rate, frozen
from fengine.training import training_step

Pair = tuple[Tensor, Tensor]


@attrs.frozen
class Notes:
    names: tuple[str, ...] = ()


model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
optimizer = optim.SGD(model.parameters(), 0.1)
data: list[Pair] = []
loop = Loop(training_step(model, optimizer, mse_loss)) | frozen(model[0], until=2)
mine = Loop[Pair, Tensor, Notes](training_step(model, optimizer, mse_loss)) | frozen(
    model.parameters(), name="all"
)

checkpoints = Checkpoints(
    "runs/a",
    keep=3,
    best=Best("val_loss", mode="min", keep=2),
    every=Events.EPOCH_COMPLETED | Events.ITERATION_COMPLETED(every=100),
    background=True,
    on_error="warn",
)
assert_type(checkpoints.run(loop, data, max_epochs=3), State[Pair, Tensor, None])
assert_type(checkpoints.run(mine, data, user=Notes(), again=True), State[Pair, Tensor, Notes])
assert_type(checkpoints.saving(mine, data), Loop[Pair, Tensor, Notes])
assert_type(checkpoints.kept(), tuple[Kept, ...])
assert_type(retained(checkpoints.kept(), 2, None), frozenset[Kept])
newest = checkpoints.latest()
if newest is not None:
    assert_type(checkpoints.load(loop, newest), Snapshot[Pair, Tensor, None])
    assert_type(checkpoints.load(mine, newest, user=Notes()), Snapshot[Pair, Tensor, Notes])
assert_type(weights("runs/a", "model"), dict[str, Tensor])

with Preemption(signal.SIGTERM, signal.SIGUSR1) as preemption:
    assert_type(loop.run(data, preemption=preemption), State[Pair, Tensor, None])
    Checkpoints("runs/b", preemption=preemption).attach(
        Engine(lambda engine, batch: None), {"model": model}
    )

assert_type(loop.try_out(data), State[Pair, Tensor, None])
assert_type(mine.try_out(data, 3, user=Notes()), State[Pair, Tensor, Notes])
assert_type(find_learning_rate(loop, data, iterations=20), LearningRates)
