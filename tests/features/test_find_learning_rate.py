"""`find_learning_rate` sweeps over the rates, and leaves all as it was."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from fengine import Events, Loop, diff, outputs, tap
from fengine.features import (
    LearningRates,
    clip_grad_norm,
    early_stopping,
    evaluation,
    find_learning_rate,
    lr_schedule,
)
from fengine.metrics import accuracy, mean
from fengine.training import TensorBatches, evaluation_step, training_step

X = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
Y = (X.sum(dim=1) > 0).long()
DATA = TensorBatches(X, Y, batch_size=8)


def build(**groups: float) -> tuple[nn.Sequential, torch.optim.Optimizer, Any]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 2))
    parts = [
        {"params": model[0].parameters(), "lr": groups.get("first", 0.1)},
        {"params": model[3].parameters(), "lr": groups.get("last", 0.1)},
    ]
    optimizer = torch.optim.SGD(parts, momentum=0.9)
    return model, optimizer, Loop(training_step(model, optimizer, cross_entropy))


def by_hand(iterations: int, ratio: float) -> list[float]:
    model, optimizer, _ = build()
    losses, batches = [], [*DATA, *DATA, *DATA]
    for number in range(iterations):
        rate = 1e-4 * 1e4 ** (number / (iterations - 1))
        optimizer.param_groups[0]["lr"], optimizer.param_groups[1]["lr"] = rate, rate * ratio
        x, y = batches[number]
        optimizer.zero_grad()
        loss = cross_entropy(model(x), y)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def test_losses_are_those_of_a_loop_by_hand() -> None:
    _, _, loop = build(first=0.1, last=0.05)
    torch.manual_seed(0)
    build()  # draws as the one by hand does
    found = find_learning_rate(loop, DATA, smallest=1e-4, largest=1.0, iterations=12)
    wanted = by_hand(12, 0.5)
    assert found.losses == pytest.approx(wanted[: len(found.losses)], rel=1e-6)
    assert found.rates == pytest.approx([1e-4 * 1e4 ** (k / 11) for k in range(12)])


def test_everything_is_as_before() -> None:
    model, optimizer, loop = build(first=0.3)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    judging = Loop(evaluation_step(model)) | accuracy()
    seen: list[int] = []
    loop = (
        loop
        | clip_grad_norm(model, 1.0)
        | lr_schedule(scheduler)
        | mean("loss")
        | evaluation(judging, DATA)
        | early_stopping("val_accuracy", mode="max", patience=1)
    ).on(Events.ITERATION_COMPLETED, tap(lambda state: seen.append(1)))
    loop.run(DATA)
    seen.clear()
    before = copy.deepcopy({name: one.state_dict() for name, one in loop.external.items()})
    found = find_learning_rate(loop, DATA, iterations=20)
    assert not diff(before, {name: one.state_dict() for name, one in loop.external.items()})
    assert len(found.rates) == len(found.losses) <= 20
    assert seen == []


def test_the_sweep_ends_where_the_loss_diverges() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.ones_(model.weight)
    step = training_step(model, torch.optim.SGD(model.parameters(), 0.1), nn.MSELoss())
    pairs = [(torch.ones(2, 1), torch.zeros(2, 1))]
    found = find_learning_rate(Loop(step), pairs, smallest=1e-3, largest=1e3, iterations=60)
    assert len(found.losses) < 60
    assert found.suggestion is not None
    assert 1e-3 <= found.suggestion < 2


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_it(bad: float) -> None:
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    loop: Any = Loop(outputs(lambda batch: bad)).with_external(optimizer=optimizer)
    found = find_learning_rate(loop, [1, 2, 3])
    assert len(found.losses) == 1
    assert found.suggestion is None


def test_the_picture(tmp_path: Path) -> None:
    found = LearningRates((1e-3, 1e-2, 1e-1), (2.0, 1.0, 3.0))
    found.save(tmp_path / "rates.png")
    assert (tmp_path / "rates.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "wrong",
    [
        {"smallest": 0},
        {"largest": -1},
        {"smallest": 1.0, "largest": 0.5},
        {"iterations": 1},
        {"iterations": 2.5},
        {"data": iter([])},
        {"data": []},
    ],
)
def test_what_is_no_sweep_is_refused(wrong: dict[str, Any]) -> None:
    _, _, loop = build()
    with pytest.raises((TypeError, ValueError)):
        find_learning_rate(loop, **{"data": DATA, **wrong})


def test_one_optimizer_is_to_be_named() -> None:
    loop: Any = Loop(outputs(lambda batch: 1.0))
    with pytest.raises(ValueError, match="names 0 optimizers"):
        find_learning_rate(loop, [1])


def test_losses_are_those_of_the_finder_of_ignite() -> None:
    handlers: Any = pytest.importorskip("ignite.handlers")
    from fengine.engine import Engine

    model, optimizer, loop = build()
    engine = Engine(lambda engine, batch: loop_step(model, optimizer, batch))
    finder = handlers.FastaiLRFinder()
    options = {"optimizer": optimizer, "model": model}
    with finder.attach(
        engine,
        to_save=options,
        start_lr=1e-4,
        end_lr=1.0,
        num_iter=8,
        diverge_th=100.0,
        smooth_f=0.0,
    ) as attached:
        torch.manual_seed(1)
        with pytest.warns(UserWarning, match="without loss diverging"):
            attached.run(list(DATA))
    theirs = finder.get_results()
    torch.manual_seed(1)
    ours = find_learning_rate(loop, list(DATA), smallest=1e-4, largest=1.0, iterations=8)
    assert len(ours.losses) >= 2
    assert ours.losses[0] == pytest.approx(theirs["loss"][0], rel=1e-5)


def loop_step(model: nn.Module, optimizer: torch.optim.Optimizer, batch: Any) -> float:
    model.train()
    optimizer.zero_grad()
    loss = cross_entropy(model(batch[0]), batch[1])
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss.item()
