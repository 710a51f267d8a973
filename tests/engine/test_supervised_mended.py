"""What goes wrong in the supervised engines of pytorch-ignite 0.5.5 and goes right here, by its id.

The ids are those of defects, which have no hyphen. What is kept as it is there, such as E11 and
E12, is compared with it in `test_supervised_twins`.
"""

from __future__ import annotations

import copy
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from fengine.engine import Engine, create_supervised_evaluator, create_supervised_trainer
from tests.engine.rows.table import Check, Rows
from tests.engine.supervised_parts import (
    BATCHES,
    Watched,
    X,
    Y,
    as_it_is,
    evaluators,
    give_loss,
    parts,
    trainers,
)

rows = Rows()


@rows("E6")
def mixed_precision_is_for_the_device_at_hand_and_in_any_dtype() -> None:
    kinds: list[tuple[str, Any]] = []

    def autocast(kind: str, dtype: Any) -> Any:
        kinds.append((kind, dtype))
        return torch.autocast("cpu")

    moved = nn.Linear(2, 1)
    evaluator = create_supervised_evaluator(moved, amp_mode="amp", amp_dtype=torch.float16)
    moved.to("meta")
    with mock.patch("torch.amp.autocast", autocast):
        evaluator.run([(X.to("meta"), Y)])
        create_supervised_evaluator(nn.Identity(), amp_mode="amp").run(BATCHES[:1])
        for make in trainers() + evaluators():
            for device in ("cuda:1", 0, None):
                make(device=device, prepare_batch=as_it_is, amp_mode="amp").run(BATCHES[:1])
    assert kinds[:2] == [("meta", torch.float16), ("cpu", None)]
    assert kinds[2:] == [("cuda", None), ("cuda", None), ("cpu", None)] * 4

    for make in (trainers()[0], evaluators()[0]):
        with pytest.raises(
            ValueError, match=r"amp_dtype=torch\.float16 is given, but amp_mode=None"
        ):
            make(amp_dtype=torch.float16)


@rows("E7")
def an_unknown_mode_is_refused_with_the_known_ones() -> None:
    for make in trainers():
        for mode in ("bf16", ""):
            with pytest.raises(ValueError, match=f"{mode!r} is unknown; it is 'amp' or 'apex'"):
                make(amp_mode=mode)
    for make in evaluators():
        for mode in ("bf16", "apex"):
            with pytest.raises(ValueError, match=f"amp_mode={mode!r} is unknown; it is 'amp'$"):
                make(amp_mode=mode)


def scaled() -> tuple[Watched, Engine]:
    model, optimizer, loss_fn = parts()
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=5)
    return model, create_supervised_trainer(
        model, optimizer, loss_fn, amp_mode="amp", scaler=scaler
    )


@rows("E8")
def a_scaler_is_kept_and_can_be_saved_with_the_training() -> None:
    for make in trainers():
        given = torch.amp.GradScaler("cpu")
        assert make(amp_mode="amp", scaler=given).state.scaler is given
        made = make(amp_mode="amp", scaler=True).state.scaler
        assert made.scale(torch.ones(1)).device.type == "cpu"
        assert made.is_enabled()
        assert not hasattr(make(amp_mode="amp").state, "scaler")

    whole, trainer = scaled()
    trainer.run(BATCHES, max_epochs=2)
    model, first = scaled()
    first.run(BATCHES)
    saved = copy.deepcopy((model.state_dict(), first.state_dict(), first.state.scaler.state_dict()))
    resumed, second = scaled()
    resumed.load_state_dict(saved[0])
    second.load_state_dict({**saved[1], "max_epochs": 2})
    second.state.scaler.load_state_dict(saved[2])
    second.run(BATCHES)
    assert torch.equal(resumed.weight, whole.weight)
    assert second.state.scaler.state_dict() == trainer.state.scaler.state_dict()
    assert trainer.state.scaler.get_scale() == 16.0


@rows("E9")
def only_the_default_output_waits_for_the_loss() -> None:
    model = nn.Linear(2, 1, device="meta")  # where no value can be read
    sgd = torch.optim.SGD(model.parameters())
    trainer = create_supervised_trainer(model, sgd, mse_loss, "meta", output_transform=give_loss)
    assert trainer.run(BATCHES).output.is_meta
    with pytest.raises(RuntimeError, match="meta"):
        create_supervised_trainer(model, sgd, mse_loss, "meta").run(BATCHES)


@rows("E10")
def a_loss_in_the_output_has_no_graph() -> None:
    options: list[dict[str, Any]] = [{}, {"gradient_accumulation_steps": 2}, {"amp_mode": "amp"}]
    for make in trainers():
        for option in options:
            loss = make(output_transform=give_loss, **option).run(BATCHES).output
            assert (loss.requires_grad, loss.grad_fn) == (False, None)


@rows("E13")
def both_factories_transform_what_the_model_gives() -> None:
    def negative(output: Tensor) -> Tensor:
        return -output

    plain = Watched()(X)
    for make in trainers():
        trainer = make(
            model_transform=negative, output_transform=lambda x, y, y_pred, loss: y_pred.detach()
        )
        assert torch.equal(trainer.run(BATCHES[:1]).output, -plain)
    for make in evaluators():
        assert torch.equal(make(model_transform=negative).run(BATCHES).output[0], -plain)


class Both:
    """Be two optimizers in one."""

    def __init__(self, model: nn.Linear) -> None:
        self.optimizers = [torch.optim.SGD([model.weight], 0.1), torch.optim.SGD([model.bias], 0.2)]

    def zero_grad(self) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad()

    def step(self) -> None:
        for optimizer in self.optimizers:
            optimizer.step()


@rows("E14")
def optimizers_with_a_closure_and_several_in_one_are_taken() -> None:
    model = Watched()
    lbfgs = torch.optim.LBFGS(model.parameters(), max_iter=10)
    torch.optim.lr_scheduler.StepLR(lbfgs, 1)  # puts a function of its own in front of step
    before = mse_loss(model(X), Y).item()
    trainer = create_supervised_trainer(model, lbfgs, mse_loss)
    assert trainer.run(BATCHES[:1]).output == before
    assert mse_loss(model(X), Y).item() < 1e-6
    options: list[dict[str, Any]] = [{"gradient_accumulation_steps": 2}, {"amp_mode": "amp"}]
    for option in options:
        with pytest.raises(ValueError, match=r"LBFGS\.step requires a closure"):
            create_supervised_trainer(model, lbfgs, mse_loss, **option)

    two, untrained = Watched(), Watched()
    both: Any = Both(two)
    create_supervised_trainer(two, both, mse_loss).run(BATCHES[:1])
    assert not torch.equal(two.weight, untrained.weight)
    assert not torch.equal(two.bias, untrained.bias)


@pytest.mark.parametrize("check", rows.params())
def test_defect(check: Check) -> None:
    check()
