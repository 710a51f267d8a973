"""Checkpoints of several processes: going on exactly, and with another number of them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import attrs
import pytest
import torch
from torch import Tensor, nn
from torch.distributed import HashStore  # type: ignore[attr-defined]
from torch.nn.parallel import DistributedDataParallel

from fengine import Events, Loop, State
from fengine.checkpoints import CheckpointError, Checkpoints, Preemption
from fengine.distributed import Alone, Ranks
from fengine.features import ema, seeded
from fengine.metrics import mean
from fengine.training import TensorBatches, training_step
from tests.distributed.models import Kind, mlp, rows, shared, weights
from tests.distributed.processes import on_ranks, values

AnyState: TypeAlias = State[Any, Any, Any]
KINDS: tuple[Kind, ...] = ("ddp", "fsdp")


@attrs.frozen
class Training:
    """Hold a model that ranks share, and the loop and the data that train it."""

    model: nn.Module
    loop: Loop[Any, Any]
    data: TensorBatches[Any, Any]

    def pausing(self, at: int) -> Loop[Any, Any]:
        def pause(state: AnyState) -> AnyState:
            return state.interrupt() if state.iteration == at else state

        return self.loop.on(Events.ITERATION_COMPLETED, pause)


def training(ranks: Ranks, kind: Kind, *, dropout: float = 0.0) -> Training:
    """Make a training with AdamW; the last batch of a pass is uneven."""
    made = mlp()
    made.insert(2, nn.Dropout(dropout))
    model = shared(made, ranks, kind)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    loop = Loop(training_step(model, optimizer, nn.MSELoss()), ranks=ranks) | mean("loss")
    data = TensorBatches(*rows(45), batch_size=8, seed=0, ranks=ranks)
    return Training(model, loop | seeded(7), data)


def ended(made: Training, final: AnyState) -> tuple[list[Tensor], float]:
    return weights(made.model), final.metrics.get("loss", 0.0)


def test_four_ranks_then_two_then_one_train_the_weights_of_one(tmp_path: Path) -> None:
    whole = training(Alone(), "ddp")
    expected, loss = ended(whole, whole.loop.run(whole.data, max_epochs=3))
    assert values(on_ranks(4, stopping, str(tmp_path), 8)) == [8] * 4
    assert values(on_ranks(2, stopping, str(tmp_path), 13)) == [13] * 2
    for kind in KINDS:
        made = training(Alone(), kind)
        with pytest.warns(UserWarning, match="was kept by 2 ranks, and goes on with 1 process, so"):
            final = Checkpoints(tmp_path / kind).run(made.loop, made.data, max_epochs=3)
        found = ended(made, final)
        torch.testing.assert_close(found[0], expected, rtol=0.0, atol=1e-6)
        assert found[1] == pytest.approx(loss, abs=1e-6)


def stopping(ranks: Ranks, folder: str, at: int) -> int:
    iterations = set()
    for kind in KINDS:
        made = training(ranks, kind)
        final = Checkpoints(f"{folder}/{kind}").run(made.pausing(at), made.data, max_epochs=3)
        iterations.add(final.iteration)
    (iteration,) = iterations
    return iteration


def with_chance(ranks: Ranks, folder: str) -> list[tuple[bool, float, float]]:
    """Train with dropout as a whole, and in pieces; say whether the weights are the same bits."""
    found = []
    for kind in KINDS:
        whole = training(ranks, kind, dropout=0.3)
        expected = ended(whole, whole.loop.run(whole.data, max_epochs=3))
        got = expected
        for at in (4, 6, 11, 0):
            torch.manual_seed(at)
            made = training(ranks, kind, dropout=0.3)
            checkpoints = Checkpoints(f"{folder}/{kind}", every=Events.ITERATION_COMPLETED)
            got = ended(made, checkpoints.run(made.pausing(at), made.data, max_epochs=3))
        same = all(map(torch.equal, got[0], expected[0]))
        found.append((same, got[1], expected[1]))
    return found


def test_as_many_ranks_go_on_bitwise_with_the_chance_of_each(tmp_path: Path) -> None:
    one, other = values(on_ranks(2, with_chance, str(tmp_path)))
    assert one == other
    for same, loss, expected in one:
        assert same
        assert loss == expected


def preempted(ranks: Ranks, folder: str) -> list[tuple[object, int, int]]:
    """Be asked to end on one rank, or on all, and go on."""
    found: list[tuple[object, int, int]] = []
    for by_all in (False, True):
        made = training(ranks, "ddp")

        def end(state: AnyState, by_all: bool = by_all) -> AnyState:
            if state.iteration == 3 and (by_all or ranks.rank == 1):
                os.kill(os.getpid(), signal.SIGTERM)
            return state

        code: object = None
        try:
            with Preemption() as preemption:
                checkpoints = Checkpoints(f"{folder}/{by_all}", preemption=preemption)
                loop = made.loop.on(Events.ITERATION_STARTED, end)
                checkpoints.run(loop, made.data, max_epochs=3)
        except SystemExit as asked:
            code = asked.code
        latest = Checkpoints(f"{folder}/{by_all}").latest()
        assert latest is not None
        made = training(ranks, "ddp")
        final = Checkpoints(f"{folder}/{by_all}").run(made.loop, made.data, max_epochs=3)
        found.append((code, latest.iteration, final.iteration))
    return found


def test_sigterm_saves_at_the_same_iteration_and_ends_all_with_143(tmp_path: Path) -> None:
    assert values(on_ranks(2, preempted, str(tmp_path))) == [[(143, 3, 18)] * 2] * 2


@pytest.fixture
def _process_group() -> Iterator[None]:
    store = HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("_process_group")
def test_a_shared_model_is_kept_by_the_names_of_the_model_within() -> None:
    within = mlp()
    model = DistributedDataParallel(within)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    averaged = ema(model, 0.5)
    loop = Loop(training_step(model, optimizer, nn.MSELoss())) | averaged
    final = loop.run(TensorBatches(*rows(), batch_size=8))
    snapshot: Any = loop.snapshot(final)
    assert list(snapshot.external["model"]) == list(within.state_dict())
    assert all(name.startswith(("module.0", "module.2", "n_")) for name in snapshot.external["ema"])
    plain = mlp()
    alone = Loop(training_step(plain, torch.optim.SGD(plain.parameters(), 0.1), nn.MSELoss()))
    alone = alone | ema(plain, 0.5)
    alone.restore(snapshot)
    assert all(map(torch.equal, weights(plain), weights(within)))


@pytest.mark.usefixtures("_process_group")
def test_a_model_that_is_sharded_over_one_process_is_kept(tmp_path: Path) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    def made() -> Training:
        model: Any = fully_shard(mlp(), mesh=init_device_mesh("cpu", (1,)))
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        loop: Any = Loop(training_step(model, optimizer, nn.MSELoss()))
        return Training(model, loop, TensorBatches(*rows(), batch_size=8))

    whole = made()
    whole.loop.run(whole.data, max_epochs=2)
    Checkpoints(tmp_path).run(made().pausing(4), whole.data, max_epochs=2)
    again = made()
    Checkpoints(tmp_path).run(again.loop, again.data, max_epochs=2)
    assert all(map(torch.equal, weights(again.model), weights(whole.model)))


@pytest.mark.usefixtures("_process_group")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_model_with_flat_parameters_is_refused(tmp_path: Path) -> None:
    from torch.distributed.fsdp import FullyShardedDataParallel

    model = FullyShardedDataParallel(mlp(), device_id=torch.device("cpu"))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    loop: Any = Loop(training_step(model, optimizer, nn.MSELoss()))
    with pytest.raises(CheckpointError, match="FullyShardedDataParallel, whose optimizer holds"):
        Checkpoints(tmp_path).run(loop, TensorBatches(*rows(), batch_size=8))
