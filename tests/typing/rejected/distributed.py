"""Mistakes in programs for several processes, each found where it is made."""

import torch

from fengine import Events, Loop, State, outputs
from fengine.distributed import AgreeEvery, Alone, even, on_rank, summed
from fengine.engine import Engine
from fengine.training import Shuffled, TensorBatches


def same(batch: int) -> int:
    return batch


def wants_text(state: State[str, str]) -> None: ...


loop = Loop(outputs(same), ranks=Alone())

# What are no ranks, and no way to agree.

Loop(outputs(same), ranks=2)  # error: arg-type
Loop(outputs(same), ranks=Alone)  # error: arg-type
Loop(outputs(same), agree=10)  # error: arg-type
Engine(lambda engine, batch: None, ranks="gloo")  # error: arg-type
TensorBatches(torch.ones(2), batch_size=2, ranks=2)  # error: arg-type
Shuffled(3, seed=0, ranks=2)  # error: arg-type
AgreeEvery("10")  # error: arg-type

# Handlers and data: of other batches, without a field, and with a word.

loop.on(Events.EPOCH_COMPLETED, on_rank(Alone(), wants_text))  # error: arg-type
summed(Alone(), 3)  # error: arg-type
even([1, 2], Alone(), uneven="shortest")  # error: arg-type
loop.run(even(["a"], Alone()))  # error: list-item
