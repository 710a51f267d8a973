"""Weights: those that several ranks train together are those of one process on whole batches."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fengine import Loop
from fengine.distributed import Alone, Ranks
from fengine.features import clip_grad_norm
from fengine.metrics import mean, torch_metric
from fengine.training import TensorBatches, evaluation_step, training_step, windows
from tests.distributed.models import Kind, mlp, rows, shared, weights
from tests.distributed.processes import on_ranks, together, values

TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-9}


# What `fully_shard` calls in several versions of torch.
REDUCTIONS = ("reduce_scatter_single", "reduce_scatter_tensor")
KINDS = [(dtype, window) for dtype in TOLERANCE for window in (1, 4)]


def train(
    ranks: Ranks, kind: Kind, dtype: torch.dtype, window: int
) -> tuple[list[Tensor], dict[str, float], int]:
    """Train with AdamW and clipped gradients; the last batch of a pass is uneven."""
    model = shared(mlp(dtype), ranks, kind)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    step = training_step(model, optimizer, nn.MSELoss())
    loop = Loop(step, ranks=ranks) | clip_grad_norm(model, 0.5, metric="norm") | mean("loss")
    # 45 rows in batches of 8: the last one has 5, which no number of ranks shares evenly.
    batches = TensorBatches(*rows(45, dtype), batch_size=8, seed=0, ranks=ranks)
    data: Any = batches if window == 1 else windows(batches, window)
    final = loop.run(data, max_epochs=3)
    return weights(model), dict(final.metrics), final.iteration


def train_each(ranks: Ranks, kind: Kind) -> list[tuple[list[Tensor], dict[str, float], int]]:
    return [train(ranks, kind, dtype, window) for dtype, window in KINDS]


@pytest.mark.parametrize(("kind", "size"), [("ddp", 2), ("ddp", 3), ("fsdp", 2), ("fsdp", 4)])
def test_ranks_train_the_weights_of_one_process(kind: Kind, size: int) -> None:
    expected = train_each(Alone(), kind)
    for of_rank in values(on_ranks(size, train_each, kind)):
        for (dtype, _), one, other in zip(KINDS, of_rank, expected, strict=True):
            torch.testing.assert_close(one[0], other[0], rtol=0.0, atol=TOLERANCE[dtype])
            assert one[1] == pytest.approx(other[1], abs=1e-6)
            assert one[2] == other[2]


def weights_of_loops(ranks: Ranks) -> tuple[list[Tensor], list[Tensor]]:
    """Train with fengine, and by hand as the documentation of torch has it."""
    x, y = rows(40)
    ours, theirs = (shared(mlp(), ranks) for _ in range(2))
    optimizer = torch.optim.SGD(ours.parameters(), 0.1)
    data = TensorBatches(x, y, batch_size=8, ranks=ranks)
    Loop(training_step(ours, optimizer, nn.MSELoss()), ranks=ranks).run(data, max_epochs=2)
    optimizer = torch.optim.SGD(theirs.parameters(), 0.1)
    for _ in range(2):
        for batch in range(0, 40, 8):
            part = slice(batch + 4 * ranks.rank, batch + 4 * ranks.rank + 4)
            optimizer.zero_grad()
            nn.functional.mse_loss(theirs(x[part]), y[part]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return weights(ours), weights(theirs)


def test_batches_that_are_even_train_bitwise_as_a_loop_by_hand() -> None:
    for ours, theirs in together(weights_of_loops):
        assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))


def reductions(ranks: Ranks, kind: Kind) -> int:
    """Count how often gradients are reduced in two windows of four batches."""
    model: Any = shared(mlp(), ranks, kind)
    counted: list[int] = []
    if kind == "ddp":

        def reduced(bucket: Any) -> Any:
            counted.append(1)
            done: torch.futures.Future[Tensor] = torch.futures.Future()
            done.set_result(bucket.buffer())
            return done

        # torch reads the annotations of a hook, and takes a lambda without them.
        model.register_comm_hook(None, lambda state, bucket: reduced(bucket))
    else:
        name = next(one for one in REDUCTIONS if hasattr(torch.distributed, one))
        reduce = getattr(torch.distributed, name)

        def count_and_reduce(*given: Any, **named: Any) -> Any:
            counted.append(1)
            return reduce(*given, **named)

        setattr(torch.distributed, name, count_and_reduce)
    step = training_step(model, torch.optim.SGD(model.parameters(), 0.1), nn.MSELoss())
    data = TensorBatches(*rows(64), batch_size=8, ranks=ranks)
    given: Any = windows(data, 4)
    Loop(step, ranks=ranks).run(given)
    return len(counted)


def test_a_window_reduces_its_gradients_once() -> None:
    # One bucket holds all gradients of this model, and each of its sharded layers has a group.
    assert values(on_ranks(2, reductions, "ddp")) == [2, 2]
    assert values(on_ranks(2, reductions, "fsdp")) == [4, 4]


def weigh_nothing(ranks: Ranks) -> None:
    model = shared(mlp(), ranks)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    def weigh(batch: object) -> float:
        return float(1 - ranks.rank)

    step = training_step(model, optimizer, nn.MSELoss(), weight=weigh)
    data = TensorBatches(*rows(16), batch_size=8, ranks=ranks)
    Loop(step, ranks=ranks).run(data)


def test_a_part_that_weighs_nothing_is_refused() -> None:
    first, second = on_ranks(2, weigh_nothing)
    assert (first.error, first.rank) == ("PeerFailed", 1)
    assert second.error == "ValueError"
    assert "each process needs samples in each batch" in second.words


def measure(ranks: Ranks) -> dict[str, float]:
    """Measure predictions by metrics of torchmetrics, one of which keeps them all."""
    from torchmetrics import MetricCollection
    from torchmetrics.classification import BinaryAUROC, BinaryConfusionMatrix, BinaryF1Score

    generator = torch.Generator().manual_seed(2)
    scores = torch.rand(45, generator=generator)
    targets = (torch.rand(45, generator=generator) < scores).long()
    several: Any = MetricCollection([BinaryF1Score(), BinaryAUROC()])
    matrix = torch_metric(BinaryConfusionMatrix(), "matrix")
    loop = Loop(evaluation_step(nn.Identity()), ranks=ranks) | torch_metric(several) | matrix
    final = loop.run(TensorBatches(scores, targets, batch_size=8, ranks=ranks))
    counted: Any = final.part(matrix.part).value
    return {**final.metrics, "confused": float(counted[0, 1])}


def test_metrics_of_torchmetrics_are_those_of_all_ranks_once() -> None:
    # A process group is open, where they would sync by themselves too.
    expected = measure(Alone())
    assert set(expected) == {"BinaryF1Score", "BinaryAUROC", "confused"}
    for found in together(measure):
        assert found == pytest.approx(expected)
