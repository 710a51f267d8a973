"""The rows of the supervised engines, each by its id: what is there, and what it does.

What they refuse is in `test_supervised_refusals`, what they do better than pytorch-ignite in
`test_supervised_mended`, and that their outputs and weights are the right ones, bit by bit, in
`test_supervised_twins`.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from types import MappingProxyType
from typing import Any, NamedTuple

import ignite.metrics
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

import fengine.engine
import fengine.engine.ignite.stand_in
from fengine.core.describe import brief
from fengine.engine import (
    Engine,
    Events,
    create_supervised_evaluator,
    supervised_evaluation_step,
    supervised_evaluation_step_amp,
    supervised_training_step,
    supervised_training_step_amp,
    supervised_training_step_apex,
    supervised_training_step_tpu,
)
from tests.engine.rows.table import Check, Rows
from tests.engine.supervised_parts import (
    BATCHES,
    PACKAGES,
    Watched,
    X,
    Y,
    as_it_is,
    doubled,
    evaluators,
    give_loss,
    parts,
    trainers,
    with_apex,
    with_xla,
)

rows = Rows()


@rows("A-120")
def a_training_step_updates_once_for_each_batch() -> None:
    model, optimizer, loss_fn = parts()
    step = supervised_training_step(model, optimizer, loss_fn)
    assert isinstance(Engine(step).run(BATCHES[:2]).output, float)
    assert optimizer.asked == "zszs"
    assert model.seen == [(True, True, False)] * 2


@rows("A-121")
def a_step_in_mixed_precision_has_model_and_loss_under_autocast() -> None:
    under: list[tuple[str, bool]] = []

    def note(place: str) -> None:
        under.append((place, torch.is_autocast_enabled("cpu")))

    def loss_fn(y_pred: Tensor, y: Tensor) -> Tensor:
        note("loss")
        return mse_loss(y_pred, y)

    def model_transform(output: Tensor) -> Tensor:
        note("transform")
        return output

    def output_transform(x: Any, y: Any, y_pred: Tensor, loss: Tensor) -> Any:
        note("output")
        return y_pred.dtype

    model, optimizer, _ = parts()
    step = supervised_training_step_amp(
        model,
        optimizer,
        loss_fn,
        output_transform=output_transform,
        model_transform=model_transform,
    )
    assert Engine(step).run(BATCHES[:1]).output is torch.bfloat16
    assert under == [("transform", True), ("loss", True), ("output", False)]
    assert optimizer.asked == "zs"


@rows("A-122")
def a_step_with_apex_goes_backward_from_its_scaled_loss() -> None:
    plain, scaled = parts(), parts()
    optimizers: list[Any] = []
    with with_apex(optimizers):
        step = supervised_training_step_apex(*scaled)
    Engine(supervised_training_step(*plain)).run(BATCHES[:1])
    Engine(step).run(BATCHES[:1])
    assert optimizers == [scaled[1]]
    assert scaled[1].asked == "zs"
    weights = [model.weight.grad for model, *_ in (plain, scaled)]
    assert weights[0] is not None
    assert weights[1] is not None
    assert torch.equal(weights[1], 2 * weights[0])


@rows("A-123")
def a_step_on_an_xla_device_steps_through_torch_xla() -> None:
    model, optimizer, loss_fn = parts()
    barriers: list[bool] = []
    with with_xla(barriers):
        step = supervised_training_step_tpu(
            model, optimizer, loss_fn, gradient_accumulation_steps=2
        )
    Engine(step).run(BATCHES)
    assert barriers == [True] * 3
    assert optimizer.asked == "zszszsz"


@rows("A-124")
def an_evaluation_step_predicts_without_gradients() -> None:
    model = Watched()
    y_pred, y = Engine(supervised_evaluation_step(model)).run(BATCHES[:1]).output
    assert model.seen == [(False, False, False)]
    assert y is Y
    assert not y_pred.requires_grad


@rows("A-125")
def an_evaluation_step_in_mixed_precision_has_the_model_under_autocast() -> None:
    model = Watched()
    step = supervised_evaluation_step_amp(
        model,
        amp_dtype=torch.float16,
        output_transform=lambda x, y, y_pred: (y_pred.dtype, torch.is_autocast_enabled("cpu")),
    )
    assert Engine(step).run(BATCHES[:1]).output == (torch.float16, False)
    assert model.seen == [(False, False, True)]


@rows("A-126")
def a_trainer_takes_the_step_for_its_device_and_mode() -> None:
    for package in PACKAGES:
        for device, amp_mode in ((None, None), (None, "amp"), (None, "apex"), ("xla:0", None)):
            model, optimizer, loss_fn = parts()
            scaled, stepped = list[Any](), list[bool]()
            with with_apex(scaled), with_xla(stepped):
                trainer = package.create_supervised_trainer(
                    model, optimizer, loss_fn, device, prepare_batch=as_it_is, amp_mode=amp_mode
                )
            trainer.run(BATCHES[:1])
            assert type(trainer) is package.Engine
            assert model.seen == [(True, True, amp_mode == "amp")]
            assert scaled == [optimizer] * (amp_mode == "apex")
            assert stepped == [True] * (device is not None)
        trainer = package.create_supervised_trainer(*parts(), deterministic=True)
        assert type(trainer) is package.DeterministicEngine
        assert trainer.run(BATCHES, max_epochs=2).iteration == 14


@rows("A-127")
def an_evaluator_has_its_metrics_and_the_step_for_its_mode() -> None:
    for package in PACKAGES:
        metrics = {"error": ignite.metrics.MeanSquaredError()}
        evaluator = package.create_supervised_evaluator(nn.Identity(), metrics)
        assert type(evaluator) is package.Engine
        assert evaluator.run([(torch.ones(2), torch.zeros(2))]).metrics == {"error": 1.0}
        for amp_mode in (None, "amp"):
            model = Watched()
            package.create_supervised_evaluator(model, amp_mode=amp_mode).run(BATCHES)
            assert model.seen == [(False, False, amp_mode == "amp")] * 7


class Point(NamedTuple):
    x: Tensor
    name: str


@rows("A-128", "C-38")
def a_batch_is_two_nests_that_keep_their_types() -> None:
    frozen = MappingProxyType({"a": X})
    x, y = fengine.engine._prepare_batch(
        ([(X, "text", b"bytes"), OrderedDict(b=X, a=Point(X, "p"))], frozen), "meta", True
    )
    kinds = [type(part) for part in (x, x[0], x[1], x[1]["a"], y)]
    assert kinds == [list, tuple, OrderedDict, Point, MappingProxyType]
    assert x[0][1:] == ("text", b"bytes")
    assert list(x[1]) == ["b", "a"]
    assert x[1]["a"].name == "p"
    assert all(tensor.is_meta for tensor in (x[0][0], x[1]["b"], x[1]["a"].x, y["a"]))
    assert frozen["a"] is X
    with pytest.raises(ValueError, match="unpack"):
        fengine.engine._prepare_batch((X, Y, Y))


@rows("Q-19")
def a_device_may_be_a_bare_index() -> None:
    given: list[Any] = []

    def prepare_batch(batch: Any, device: Any, non_blocking: bool) -> Any:
        given.append(device)
        return batch

    for make in trainers() + evaluators():
        make(device=0, prepare_batch=prepare_batch).run(BATCHES[:1])
    assert given == [0] * 4


@rows("C-35")
def the_device_is_for_the_model_too_unless_as_ignite() -> None:
    moved: list[list[Any]] = []
    for package in PACKAGES:
        model, optimizer, loss_fn = parts()
        package.create_supervised_trainer(model, optimizer, loss_fn, "cpu")
        package.create_supervised_evaluator(model, None, "cpu")
        moved.append(model.moves)
    assert moved == [[("cpu",), ("cpu",)], []]


@rows("C-36", "E5")
def gradients_are_still_there_behind_an_iteration() -> None:
    for package in PACKAGES:
        model, optimizer, loss_fn = parts()
        trainer = package.create_supervised_trainer(model, optimizer, loss_fn)
        left: list[bool] = []

        def note(engine: Any, weight: Tensor = model.weight, left: list[bool] = left) -> None:
            left.append(weight.grad is not None and bool(weight.grad.any()))

        trainer.add_event_handler(Events.ITERATION_COMPLETED, note)
        trainer.run(BATCHES[:2])
        assert left == [True, True]
        assert optimizer.asked == "zszs"


@rows("C-37")
def positions_are_those_of_the_documentation_or_of_ignite() -> None:
    def output(x: Any, y: Any, y_pred: Any, loss: Any) -> Any:
        return "output"

    documented, as_ignite = PACKAGES
    positions = (None, False, as_it_is)
    trainer = documented.create_supervised_trainer(*parts(), *positions, output)
    assert trainer.run(BATCHES).output == "output"
    trainer = as_ignite.create_supervised_trainer(*parts(), *positions, torch.relu, output, False)
    assert trainer.run(BATCHES).output == "output"
    evaluator = as_ignite.create_supervised_evaluator(
        Watched(), None, *positions, torch.relu, lambda x, y, y_pred: float(y_pred.min()), "amp"
    )
    assert evaluator.run(BATCHES).output >= 0
    for make in (documented.create_supervised_trainer, documented.supervised_training_step):
        with pytest.raises(TypeError, match="positional"):
            make(*parts(), *positions, output, torch.relu)


@pytest.mark.parametrize("check", rows.params())
def test_row(check: Check) -> None:
    check()


def test_private_names_are_there_too() -> None:
    scaler = torch.amp.GradScaler("cpu")
    for package in PACKAGES:
        assert package._prepare_batch((1, 2)) == (1, 2)
        assert package._check_arg(False, False, "amp", scaler) == ("amp", scaler)


@pytest.mark.parametrize("package", PACKAGES, ids=["documented", "as_ignite"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"model_transform": doubled, "output_transform": give_loss},
        {"gradient_accumulation_steps": 2},
        {"amp_mode": "amp", "scaler": True},
        {"deterministic": True},
    ],
    ids=brief,
)
def test_a_pickled_trainer_trains_a_model_of_its_own(package: Any, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = nn.Linear(2, 1)
    adam = torch.optim.Adam(model.parameters(), lr=0.1)
    trainer = package.create_supervised_trainer(model, adam, mse_loss, **options)
    pickled = pickle.dumps(trainer)
    untrained = model.weight.clone()
    outputs = []
    for one in (trainer, pickle.loads(pickled)):
        torch.manual_seed(1)
        outputs.append(one.run(BATCHES, max_epochs=2).output)
        assert not torch.equal(model.weight, untrained)
    assert outputs[0] == outputs[1]


@pytest.mark.parametrize("amp_mode", [None, "amp"])
def test_a_pickled_evaluator_evaluates(amp_mode: str | None) -> None:
    evaluator = create_supervised_evaluator(nn.Identity(), amp_mode=amp_mode)
    y_pred, y = pickle.loads(pickle.dumps(evaluator)).run(BATCHES).output
    assert torch.equal(y_pred, X)
    assert torch.equal(y, Y)


def test_a_frozen_script_module_can_be_evaluated() -> None:
    scripted = torch.jit.script(nn.Sequential(nn.Linear(2, 1), nn.Dropout()).eval())
    y_pred, _ = create_supervised_evaluator(torch.jit.freeze(scripted)).run(BATCHES).output
    assert torch.equal(y_pred, scripted(X))
