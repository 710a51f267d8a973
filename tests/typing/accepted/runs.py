"""Runs as values: all of it checks, and the types are as said."""

import json
from typing import assert_type

import attrs
import torch
from torch.utils.data import DataLoader

from fengine import (
    Difference,
    Divergence,
    Entry,
    Events,
    Loop,
    Recorder,
    Snapshot,
    State,
    Stateful,
    blame,
    diff,
    first_difference,
    outputs,
)
from fengine.training import Shuffled, training_step

Batch = list[float]
Pair = tuple[torch.Tensor, torch.Tensor]


@attrs.frozen
class Best:
    loss: float = 9.0


Mine = State[Batch, float, Best]


def train_on(batch: Batch) -> float:
    return sum(batch)


def read_best(plain: dict[str, float]) -> Best:
    return Best(**plain)


model = torch.nn.Linear(1, 1)
optimizer = torch.optim.AdamW(model.parameters())
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1)
external: dict[str, Stateful] = {"model": model, "optimizer": optimizer, "scheduler": scheduler}

loop = Loop[Batch, float, Best](outputs(train_on)).with_external(
    model=model, optimizer=optimizer, scheduler=scheduler
)
batches: list[Batch] = [[1.0], [2.0]]
final = loop.run(batches, user=Best())

text = json.dumps(final.to_dict(user=attrs.asdict, output=float, batch=list))
state: Mine = State.from_dict(json.loads(text), events=loop.registry, user=read_best)
assert_type(final.with_limits(max_epochs=3), Mine)

snapshot = loop.snapshot(state, batches)
assert_type(snapshot, Snapshot[Batch, float, Best])
assert_type(loop.resume(snapshot, batches, replay=True), Mine)
assert_type(loop.resume(state, batches), Mine)
for moment in loop.iterate(batches, after=snapshot, replay=True):
    assert_type(moment.state, Mine)
read: Snapshot[Batch, float, Best] = Snapshot.from_dict(snapshot.to_dict(user=attrs.asdict))

recorder = Recorder(loop, last=10, handlers=True)
assert_type(recorder.loop, Loop[Batch, float, Best])
assert_type(recorder.entries, tuple[Entry[Batch, float, Best], ...])
assert_type(recorder.entries[0].snapshot, Snapshot[Batch, float, Best])
assert_type(blame(recorder.entries, "user.loss").difference, Difference)
assert_type([part.path for part in diff(state, final)], list[str])
assert_type(
    first_difference(recorder.entries, loop.iterate(batches, after=state)), Divergence | None
)

dataset = torch.utils.data.TensorDataset(torch.ones(4, 1), torch.ones(4, 1))
loader: DataLoader[Pair] = DataLoader(dataset, sampler=Shuffled(dataset, seed=0))  # type: ignore[arg-type]
training = Loop(training_step(model, optimizer, torch.nn.MSELoss())).with_external(**external)
assert_type(training.snapshot(training.run(loader)).state.output, torch.Tensor)
stopped = training.on(Events.EPOCH_COMPLETED, State.interrupt)
