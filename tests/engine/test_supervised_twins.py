"""Supervised engines do what those of pytorch-ignite 0.5.5 do, bit by bit, and a loop by hand.

Where pytorch-ignite only knows CUDA, which is mixed precision, the loop by hand is the measure.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

import ignite.engine
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from typing_extensions import override

import fengine.engine
import fengine.engine.ignite.stand_in

Pair = tuple[Tensor, Tensor]

OURS = pytest.mark.parametrize(
    "ours", [fengine.engine, fengine.engine.ignite.stand_in], ids=["documented", "as_ignite"]
)
EPOCHS = 3


def make() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 1))


def adam(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=0.05)


def batches(count: int = 7) -> list[Pair]:
    generator = torch.Generator().manual_seed(1)
    sizes = [6, 4, 5, 6, 4, 6, 4, 5][:count]
    return [
        (torch.randn(size, 4, generator=generator), torch.randn(size, 1, generator=generator))
        for size in sizes
    ]


def halved(output: Tensor) -> Tensor:
    return output / 2


def twice(model: nn.Module, x: Tensor) -> Any:
    return model(x) + model(x)


def everything(x: Tensor, y: Tensor, y_pred: Tensor, loss: Tensor) -> tuple[Tensor, ...]:
    return x, y, y_pred, loss


def second_half(batch: Pair, device: Any, non_blocking: bool) -> Pair:
    x, y = batch
    return x[len(x) // 2 :].to(device), y[len(y) // 2 :].to(device)


def run(engine: Any, events: Any, data: Iterable[Pair], epochs: int = EPOCHS) -> list[Any]:
    outputs: list[Any] = []
    engine.add_event_handler(
        events.ITERATION_COMPLETED, lambda engine: outputs.append(engine.state.output)
    )
    torch.manual_seed(7)
    engine.run(data, max_epochs=epochs)
    return outputs


def flat(values: Iterable[Any]) -> list[Tensor]:
    return [torch.as_tensor(part) for value in values for part in _parts(value)]


def _parts(value: Any) -> Iterable[Any]:
    return value if isinstance(value, tuple) else (value,)


def assert_bitwise(ones: Iterable[Any], others: Iterable[Any]) -> None:
    pairs = list(zip(flat(ones), flat(others), strict=True))
    assert pairs
    assert [index for index, (one, other) in enumerate(pairs) if not torch.equal(one, other)] == []


TRAININGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "a batch dropped": {"count": 6},
    **{
        f"{steps} of {count} batches": {"gradient_accumulation_steps": steps, "count": count}
        for steps in (2, 3, 4)
        for count in (7, 8)
    },
    "gradient_accumulation_steps of 1": {"gradient_accumulation_steps": 1},
    "model_fn": {"model_fn": twice},
    "model_transform": {"model_transform": halved},
    "output_transform": {"output_transform": everything},
    "prepare_batch": {"prepare_batch": second_half, "device": "cpu"},
    "all of them": {
        "model_fn": twice,
        "model_transform": halved,
        "output_transform": everything,
        "gradient_accumulation_steps": 3,
        "prepare_batch": second_half,
        "device": torch.device("cpu"),
        "non_blocking": True,
    },
}


@OURS
@pytest.mark.parametrize("options", TRAININGS.values(), ids=TRAININGS)
def test_a_trainer_is_bitwise_that_of_pytorch_ignite(ours: Any, options: dict[str, Any]) -> None:
    options = dict(options)
    data = batches(options.pop("count", 7))
    outputs, weights = [], []
    for package in (ignite.engine, ours):
        model = make()
        trainer = package.create_supervised_trainer(model, adam(model), mse_loss, **options)
        outputs.append(run(trainer, package.Events, data))
        weights.append(model.state_dict().values())
    assert_bitwise(*outputs)
    assert_bitwise(*weights)


EVALUATIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "model_fn": {"model_fn": twice},
    "model_transform": {"model_transform": halved},
    "output_transform": {"output_transform": lambda x, y, y_pred: (x, y, y_pred)},
    "prepare_batch": {"prepare_batch": second_half, "device": "cpu"},
}


@OURS
@pytest.mark.parametrize("options", EVALUATIONS.values(), ids=EVALUATIONS)
def test_an_evaluator_is_bitwise_that_of_pytorch_ignite(ours: Any, options: dict[str, Any]) -> None:
    outputs = []
    for package in (ignite.engine, ours):
        evaluator = package.create_supervised_evaluator(make(), **options)
        outputs.append(run(evaluator, package.Events, batches(), epochs=1))
    assert_bitwise(*outputs)


@OURS
def test_metrics_have_the_values_they_have_there(ours: Any) -> None:
    results = []
    for package in (ignite.engine, ours):
        metrics = {"error": ignite.metrics.MeanSquaredError()}
        evaluator = package.create_supervised_evaluator(make(), metrics)
        results.append(evaluator.run(batches()).metrics["error"])
    assert results[0] == results[1]


class Told(nn.Linear):
    """Write down each mode that it is told to be in."""

    def __init__(self) -> None:
        super().__init__(4, 1)
        self.told: list[bool] = []

    @override
    def train(self, mode: bool = True) -> Told:
        self.told.append(mode)
        return super().train(mode)


class Frozen(nn.Dropout):
    """Stay in evaluation mode whatever it is told."""

    @override
    def train(self, mode: bool = True) -> Frozen:
        return super().train(False)


def modes_in_turns(package: Any, options: dict[str, Any]) -> list[Any]:
    """Give the modes of all modules where training and evaluation take turns."""
    torch.manual_seed(0)
    told = Told()
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), Frozen(), told).train()
    trainer = package.create_supervised_trainer(model, adam(model), mse_loss, **options)
    evaluator = package.create_supervised_evaluator(model, amp_mode=options.get("amp_mode"))
    seen: list[Any] = []

    def note() -> None:
        seen.append(([module.training for module in model.modules()], tuple(told.told)))

    events = package.Events
    trainer.add_event_handler(events.ITERATION_STARTED(every=2), model[1].eval)
    trainer.add_event_handler(events.ITERATION_STARTED | events.ITERATION_COMPLETED, note)
    trainer.add_event_handler(events.EPOCH_COMPLETED, lambda: evaluator.run(batches(2)))
    evaluator.add_event_handler(events.ITERATION_COMPLETED, note)
    trainer.run(batches(3), max_epochs=2)
    return seen


@OURS
@pytest.mark.parametrize(
    "options", [{}, {"gradient_accumulation_steps": 2}, {"amp_mode": "amp"}], ids=str
)
@pytest.mark.filterwarnings("ignore:.*CUDA is not available")  # pytorch-ignite asks for it
def test_modules_are_in_the_modes_of_pytorch_ignite(ours: Any, options: dict[str, Any]) -> None:
    seen = modes_in_turns(ours, options)
    assert seen == modes_in_turns(ignite.engine, options)
    assert {tuple(modes) for modes, _ in seen} == {
        (True, True, True, False, True),
        (True, True, False, False, True),
        (False,) * 5,
    }


def mixed_by_hand(
    model: nn.Module,
    data: list[Pair],
    dtype: torch.dtype | None,
    window: int,
    scaler: torch.amp.GradScaler | None,
) -> list[float]:
    optimizer, losses, iteration = adam(model), [], 0
    torch.manual_seed(7)
    for _ in range(EPOCHS):
        for x, y in data:
            model.train()
            if iteration % window == 0:
                optimizer.zero_grad()
            with torch.autocast("cpu", dtype=dtype):
                loss = mse_loss(model(x), y) / window
            whole: Any = loss if scaler is None else scaler.scale(loss)
            whole.backward()
            iteration += 1
            if iteration % window == 0:
                if scaler is None:
                    optimizer.step()
                else:
                    scaler.step(optimizer)
                    scaler.update()
            losses.append((loss * window).item())
    return losses


@pytest.mark.parametrize("window", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("scaled", [False, True], ids=["unscaled", "scaled"])
def test_mixed_precision_on_the_cpu_is_bitwise_that_by_hand(
    window: int, dtype: torch.dtype | None, scaled: bool
) -> None:
    by_hand, model = make(), make()
    scaler = torch.amp.GradScaler("cpu", growth_interval=3) if scaled else None
    losses = mixed_by_hand(by_hand, batches(), dtype, window, scaler)
    trainer = fengine.engine.create_supervised_trainer(
        model,
        adam(model),
        mse_loss,
        amp_mode="amp",
        amp_dtype=dtype,
        scaler=torch.amp.GradScaler("cpu", growth_interval=3) if scaled else False,
        gradient_accumulation_steps=window,
    )
    assert_bitwise(run(trainer, fengine.engine.Events, batches()), losses)
    assert_bitwise(model.state_dict().values(), by_hand.state_dict().values())
    if scaler is not None:
        assert trainer.state.scaler.state_dict() == scaler.state_dict()


@OURS
def test_mixed_precision_in_an_evaluator_is_that_by_hand(ours: Any) -> None:
    model = make().eval()
    evaluator = ours.create_supervised_evaluator(model, amp_mode="amp")
    found = run(evaluator, ours.Events, batches(), epochs=1)
    with torch.no_grad(), torch.autocast("cpu"):
        expected = [(model(x), y) for x, y in batches()]
    assert_bitwise(found, expected)
    assert {y_pred.dtype for y_pred, _ in found} == {torch.bfloat16}


NAMES = (
    "_prepare_batch",
    "create_supervised_evaluator",
    "create_supervised_trainer",
    "supervised_evaluation_step",
    "supervised_evaluation_step_amp",
    "supervised_training_step",
    "supervised_training_step_amp",
    "supervised_training_step_apex",
    "supervised_training_step_tpu",
)


@pytest.mark.parametrize("name", NAMES)
def test_signatures_are_those_of_pytorch_ignite(name: str) -> None:
    def shape(package: Any) -> list[tuple[Any, ...]]:
        parameters = inspect.signature(getattr(package, name)).parameters.values()
        return [
            (one.name, one.kind, "function" if callable(one.default) else one.default)
            for one in parameters
        ]

    theirs = shape(ignite.engine)
    assert shape(fengine.engine.ignite.stand_in) == theirs
    documented = shape(fengine.engine)
    assert {name for name, *_ in documented} - {name for name, *_ in theirs} <= {"amp_dtype"}


def lbfgs(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=4)


def test_an_optimizer_with_a_closure_trains_as_by_hand() -> None:
    def plain() -> nn.Linear:
        torch.manual_seed(0)
        return nn.Linear(4, 1)

    by_hand, model = plain(), plain()
    optimizer, losses = lbfgs(by_hand), []
    for x, y in batches():

        def evaluate(x: Tensor = x, y: Tensor = y) -> float:
            optimizer.zero_grad()
            loss = mse_loss(by_hand(x), y)
            loss.backward()  # type: ignore[no-untyped-call]
            return loss.item()

        losses.append(optimizer.step(evaluate))
    trainer = fengine.engine.create_supervised_trainer(model, lbfgs(model), mse_loss)
    assert_bitwise(run(trainer, fengine.engine.Events, batches(), epochs=1), losses)
    assert_bitwise(model.parameters(), by_hand.parameters())
