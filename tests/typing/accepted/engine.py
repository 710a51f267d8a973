"""Code written for the Engine that the type checker accepts."""

from enum import Enum
from typing import assert_type

import torch

from fengine.engine import (
    Engine,
    Events,
    RemovableEventHandle,
    State,
    create_supervised_evaluator,
    create_supervised_trainer,
)


class Chunks(Enum):
    CHUNK_STARTED = "chunk_started"


def train(engine: Engine, batch: float) -> float:
    engine.state.seen = engine.state.iteration
    return batch / 2


engine = Engine(train)
engine.register_events(*Chunks, event_to_attr={Chunks.CHUNK_STARTED: "chunk"})


@engine.on(Events.EPOCH_COMPLETED(every=2) | Events.COMPLETED)
def log(engine: Engine, prefix: str = "epoch") -> str:
    engine.state.metrics["loss"] = engine.state.output
    return f"{prefix} {engine.state.epoch}"


assert_type(log(engine, "at"), str)
assert_type(engine.add_event_handler(Events.STARTED, log, "started"), RemovableEventHandle)
with engine.add_event_handler(Events.EXCEPTION_RAISED, lambda engine, error: None):
    state = engine.run([1.0, 2.0], max_epochs=3)
assert_type(state, State)
assert_type(state.iteration, int)
assert_type(state.max_epochs, int | None)
engine.terminate(skip_completed=True)

model = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
trainer = create_supervised_trainer(model, optimizer, torch.nn.functional.mse_loss, device="cpu")
assert_type(trainer, Engine)
assert_type(create_supervised_evaluator(model, metrics={}), Engine)
