"""`find_learning_rate` sweeps over the rates, and leaves all as it was."""

from __future__ import annotations

import copy
import io
import math
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from fengine import Events, Loop, diff, outputs, tap
from fengine.features import (
    LearningRates,
    clip_grad_norm,
    early_stopping,
    evaluation,
    find_learning_rate,
    frozen,
    lr_schedule,
    profiled,
    seeded,
    stop_on_nan,
)
from fengine.metrics import accuracy, mean
from fengine.training import Backprop, TensorBatches, Update, evaluation_step, training_step

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
        {"data": 3},
        {"smallest": math.nan},
        {"largest": math.inf},
        {"loss": 3},
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


class Peers:
    """A training whose first batch has no gradient, since peers begin with a rate of their own."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model = nn.Linear(3, 2, bias=False)
        self.optimizer = torch.optim.SGD(self.model.parameters(), 0.1)
        self.batches = [(torch.zeros_like(X[:8]), Y[:8]), *list(DATA)[1:]]
        self.seen: list[tuple[float, float]] = []

    def loss(self, batch: Any) -> Tensor:
        """Make the loss, and note it with the rate that its update will have."""
        loss = cross_entropy(self.model(batch[0]), batch[1])
        self.seen.append((self.optimizer.param_groups[0]["lr"], float(loss.detach())))
        return loss

    def step(self, engine: object, batch: Any) -> float:
        self.optimizer.zero_grad()
        loss = self.loss(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return loss.item()


def assert_equals_peer(seen: list[tuple[float, float]]) -> None:
    """Check that the same sweep, from the second rate on, has the same losses."""
    rates, losses = zip(*seen, strict=True)
    own = Peers()
    found = find_learning_rate(
        Loop(training_step(own.model, own.optimizer, cross_entropy)),
        own.batches,
        smallest=rates[1] ** 2 / rates[2],
        largest=rates[-1],
        iterations=len(seen),
    )
    assert found.rates[1:] == pytest.approx(rates[1:])
    assert found.losses == pytest.approx(losses, rel=1e-6)


def test_losses_are_those_of_the_finder_of_ignite() -> None:
    engines: Any = pytest.importorskip("ignite.engine")
    handlers: Any = pytest.importorskip("ignite.handlers")
    peer = Peers()
    finder = handlers.FastaiLRFinder()
    kept = {"model": peer.model, "optimizer": peer.optimizer}
    options = {"start_lr": 1e-3, "end_lr": 10.0, "num_iter": 8, "smooth_f": 0.0, "diverge_th": 99}
    with (
        finder.attach(engines.Engine(peer.step), to_save=kept, **options) as attached,
        pytest.warns(UserWarning, match="without loss diverging"),
    ):
        attached.run(peer.batches)
    assert finder.get_results()["loss"] == [loss for _, loss in peer.seen]
    assert_equals_peer(peer.seen)


def test_losses_are_those_of_the_tuner_of_lightning(
    tmp_path: Path,
) -> None:
    lightning: Any = pytest.importorskip("lightning.pytorch")
    tuner: Any = pytest.importorskip("lightning.pytorch.tuner")
    peer = Peers()

    class Module(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model, self.lr = peer.model, 0.1

        def training_step(self, batch: Any, number: int) -> Tensor:
            return peer.loss(batch)

        def configure_optimizers(self) -> Any:
            return peer.optimizer

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quiet = dict.fromkeys(
            ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"),
            False,
        )
        trainer = lightning.Trainer(
            accelerator="cpu", max_epochs=1, default_root_dir=tmp_path, **quiet
        )
        batches: Any = peer.batches
        tuner.Tuner(trainer).lr_find(
            Module(),
            DataLoader(batches, batch_size=None),
            min_lr=1e-3,
            max_lr=10.0,
            num_training=8,
            early_stop_threshold=None,
            update_attr=False,
        )
    assert_equals_peer(peer.seen)


def test_parts_that_are_frozen_at_first_are_frozen_in_the_sweep() -> None:
    losses = []
    for freezes in (None, 1):
        model, _, loop = build()
        torch.manual_seed(1)
        if freezes is None:
            model[0].requires_grad_(False)
        else:
            loop = loop | frozen(model[0], until=freezes)
        found = find_learning_rate(loop, DATA, smallest=1e-2, largest=1, iterations=20)
        losses.append(found.losses)
        assert model[0].weight.requires_grad == (freezes is not None)
    assert losses[0] == losses[1]


def test_seeded_sweeps_are_alike_and_draw_nothing() -> None:
    _, _, loop = build()
    loop = loop | seeded(3)
    before = torch.get_rng_state()
    found = [find_learning_rate(loop, DATA, iterations=5) for _ in range(2)]
    assert found[0] == found[1]
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("begins", ["STARTED", "ITERATION_STARTED"])
def test_no_schedule_and_no_guard_is_in_the_way(begins: str) -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.ones_(model.weight)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    at = getattr(Events, begins)
    loop: Any = (
        Loop(training_step(model, optimizer, nn.MSELoss()))
        | stop_on_nan(gradients=True)
        | lr_schedule(scheduler, at=at)
        | profiled(file=io.StringIO())
    )
    pairs = [(torch.ones(2, 1), torch.zeros(2, 1))]
    found = find_learning_rate(loop, pairs, smallest=1e-3, largest=1e30, iterations=20)
    assert found.rates == pytest.approx([1e-3 * 1e33 ** (k / 19) for k in range(len(found.rates))])
    assert len(found.rates) < 20
    assert (scheduler.last_epoch, optimizer.param_groups[0]["lr"]) == (0, 0.1)
    assert model.weight.item() == 1


def test_a_warmup_that_begins_with_0_keeps_the_ratios() -> None:
    _, optimizer, loop = build(first=0.2, last=0.1)
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: epoch / 10)
    assert optimizer.param_groups[0]["lr"] == 0
    seen: list[list[float]] = []

    def note(state: Any) -> None:
        seen.append([group["lr"] for group in optimizer.param_groups])

    loop = loop.on(Backprop.STARTED, tap(note))
    find_learning_rate(loop, DATA, smallest=1e-2, largest=1e-1, iterations=2)
    assert seen == [pytest.approx([1e-2, 5e-3]), pytest.approx([1e-1, 5e-2])]


def test_rates_that_are_tensors_stay_the_same_tensors_in_the_sweep() -> None:
    model = nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters(), torch.tensor(0.1), capturable=False)
    loop: Any = Loop(training_step(model, optimizer, cross_entropy))
    find_learning_rate(loop, DATA, iterations=3)
    assert float(optimizer.param_groups[0]["lr"]) == pytest.approx(0.1)


def test_without_a_rate_of_the_first_group_there_is_no_ratio() -> None:
    _, _, loop = build(first=0.0)
    with pytest.raises(ValueError, match="no ratio to the first one"):
        find_learning_rate(loop, DATA)


def test_an_output_that_is_no_loss_says_what_to_give() -> None:
    _, optimizer, _ = build()
    loop: Any = Loop(outputs(lambda batch: (1.0, batch))).with_external(optimizer=optimizer)
    with pytest.raises(TypeError) as raised:
        find_learning_rate(loop, [1, 2])
    assert "loss=function of the output" in " ".join(raised.value.__notes__)
    found = find_learning_rate(loop, [1, 2], loss=lambda output: output[0], iterations=3)
    assert found.losses == (1.0, 1.0, 1.0)
    assert found.suggestion is None


def test_a_loss_function_of_two_learns_what_loss_is() -> None:
    _, _, loop = build()
    with pytest.raises(TypeError) as raised:
        find_learning_rate(loop, DATA, loss=nn.CrossEntropyLoss())
    assert "which makes the loss of an output of the step" in " ".join(raised.value.__notes__)


def test_what_is_no_optimizer_is_refused() -> None:
    model, _, loop = build()
    wrong: Any = model
    with pytest.raises(TypeError, match=r"optimizer=Sequential of .*is not an optimizer of torch"):
        find_learning_rate(loop, DATA, optimizer=wrong)


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_where_the_step_raises_all_is_as_before(error: Any) -> None:
    model, optimizer, loop = build()

    def fail(state: Any, payload: Any) -> Any:
        raise error

    before = copy.deepcopy((model.state_dict(), optimizer.state_dict(), torch.get_rng_state()))
    with pytest.raises(error):
        find_learning_rate(loop.on(Update.COMPLETED, fail), DATA)
    assert not diff(before, (model.state_dict(), optimizer.state_dict(), torch.get_rng_state()))
    assert all(one.grad is None for one in model.parameters())


def test_data_that_draws_is_as_before() -> None:
    torch.manual_seed(2)
    _, _, loop = build()
    pairs: Any = TensorDataset(X, Y)
    loader: Any = DataLoader(pairs, batch_size=8, shuffle=True)
    torch.manual_seed(2)
    find_learning_rate(loop, loader, iterations=3)
    after = torch.get_rng_state()
    torch.manual_seed(2)
    assert torch.equal(after, torch.get_rng_state())


def test_one_batch_is_enough_and_noise_at_first_is_no_suggestion() -> None:
    rates = tuple(1e-5 * 1.1**number for number in range(100))
    noisy = (9.0, 1.0, *[3.0] * 58, *[3.0 - 0.1 * number for number in range(20)], *[9.0] * 20)
    suggestion = LearningRates(rates, noisy).suggestion
    assert suggestion is not None
    assert rates[58] < suggestion < rates[81]
    _, _, loop = build()
    assert len(find_learning_rate(loop, list(DATA)[:1], iterations=5).losses) == 5


@pytest.mark.parametrize("losses", [(math.nan,), (1.0, math.inf), (2.0, -1.0, math.nan)])
def test_a_picture_of_what_is_not_finite(tmp_path: Path, losses: tuple[float, ...]) -> None:
    rates = (1e-3, 1e-2, 1e-1)[: len(losses)]
    LearningRates(rates, losses).save(str(tmp_path / "rates.png"))
    assert (tmp_path / "rates.png").read_bytes().startswith(b"\x89PNG")
