"""Programs for several processes type-check without an annotation of the user's."""

from typing import assert_type

import attrs
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fengine import Events, Loop, State, outputs
from fengine.checkpoints import Checkpoints
from fengine.distributed import (
    EVERY_ITERATION,
    SHORTEST,
    WHEN_ASKED,
    AgreeEvery,
    Alone,
    PeerFailed,
    Ranks,
    even,
    on_rank,
    ranks_of_torchrun,
    summed,
)
from fengine.engine import Engine
from fengine.features import early_stopping, progress
from fengine.metrics import mean
from fengine.testing import in_threads
from fengine.training import Shuffled, TensorBatches, training_step


@attrs.frozen
class Seen:
    rows: int = 0


def show(state: State[tuple[Tensor, Tensor], Tensor]) -> None: ...


with ranks_of_torchrun() as ranks:
    assert_type(ranks, Ranks)
    model = DistributedDataParallel(nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    data = TensorBatches(torch.ones(8, 4), torch.ones(8, 1), batch_size=4, seed=0, ranks=ranks)
    loop = Loop(training_step(model, optimizer, nn.MSELoss()), ranks=ranks, agree=WHEN_ASKED)
    loop = loop | mean("loss") | early_stopping("loss", mode="min", patience=2) | progress("loss")
    final = loop.on(Events.EPOCH_COMPLETED, on_rank(ranks, show)).run(data, max_epochs=3)
    assert_type(final.output, Tensor)
    assert_type(ranks.gathered(3), list[int])
    assert_type(ranks.largest((1, 2)), tuple[int, ...])
    shuffled = Shuffled(10, seed=0, ranks=ranks)
    kept = Checkpoints("runs/of-ranks").run(loop, data, max_epochs=3)
    assert_type(kept, State[tuple[Tensor, Tensor], Tensor, None])
    engine = Engine(lambda engine, batch: batch, ranks=ranks)


def same(batch: int) -> int:
    return batch


counting = Loop[int, int, Seen](outputs(same), ranks=Alone(), agree=AgreeEvery(10))
counting = counting.on(Events.EPOCH_COMPLETED, summed(Alone(), "rows"))
assert_type(counting.run(even([1, 2], Alone(), uneven=SHORTEST), user=Seen()).user, Seen)
every = Loop(outputs(same), ranks=Alone(), agree=EVERY_ITERATION)


def iteration(ranks: Ranks) -> int:
    return Loop(outputs(same), ranks=ranks).run([1, 2]).iteration


assert_type(in_threads(2, iteration), list[int | BaseException])

try:
    every.run([1])
except PeerFailed as failed:
    assert_type(failed.rank, int)
