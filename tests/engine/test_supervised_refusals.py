"""The rows of what the supervised engines refuse, each by its id, before anything is changed."""

from __future__ import annotations

from typing import Any, Final

import pytest
import torch

import fengine.engine.ignite.stand_in
from fengine.engine import (
    Engine,
    create_supervised_evaluator,
    create_supervised_trainer,
    supervised_evaluation_step_amp,
    supervised_training_step,
    supervised_training_step_amp,
    supervised_training_step_apex,
    supervised_training_step_tpu,
)
from tests.engine.rows.table import Check, Rows
from tests.engine.supervised_parts import (
    BATCHES,
    Watched,
    evaluators,
    module,
    modules,
    parts,
    trainers,
    with_apex,
    with_xla,
)

rows = Rows()

STEPS: Final[tuple[Any, ...]] = (
    supervised_training_step,
    supervised_training_step_amp,
    supervised_training_step_apex,
    supervised_training_step_tpu,
)


@rows("E-54")
def gradients_are_accumulated_over_at_least_one_iteration() -> None:
    with with_apex(), with_xla():
        for steps in (0, -1):
            for make in (*STEPS, create_supervised_trainer):
                with pytest.raises(ValueError, match=f"steps={steps} is not positive"):
                    make(*parts(), gradient_accumulation_steps=steps)
        for make in STEPS:
            step = make(*parts(), gradient_accumulation_steps=1.5)
            assert Engine(step).run(BATCHES).iteration == 7


@rows("E-55")
def mixed_precision_on_mps() -> None:
    for make in trainers() + evaluators():
        for device in ("mps", torch.device("mps", 0)):
            words = r"amp_mode='amp' does not work on .* type 'mps'"
            with pytest.raises(ValueError, match=words):
                make(device=device, amp_mode="amp")


@rows("E-56")
def an_xla_device_without_torch_xla() -> None:
    for make in trainers() + evaluators():
        for options in ({"device": "xla"}, {"device": "xla:1", "amp_mode": "amp"}):
            words = r"no module 'torch_xla.*; install torch_xla, or give another device"
            with modules(torch_xla=None), pytest.raises(RuntimeError, match=words):
                make(**options)


@rows("E-57")
def mixed_precision_on_an_xla_device() -> None:
    for make in trainers() + evaluators():
        words = r"amp_mode='amp' does not work on .* type 'xla'"
        with with_xla(), pytest.raises(ValueError, match=words):
            make(device="xla", amp_mode="amp")


@rows("E-58")
def a_scaler_without_mixed_precision() -> None:
    for make in trainers():
        for amp_mode in (None, "apex"):
            for scaler in (True, torch.amp.GradScaler("cpu")):
                words = f"amp_mode={amp_mode!r}; a scaler is for amp_mode='amp'"
                with pytest.raises(ValueError, match=words):
                    make(amp_mode=amp_mode, scaler=scaler)


@rows("E-59")
def mixed_precision_without_autocast() -> None:
    for torch_amp in (None, module()):
        with modules(torch__amp=torch_amp):
            with pytest.raises(ImportError, match=r"amp_mode='amp' needs torch\.amp\.autocast"):
                supervised_training_step_amp(*parts())
            with pytest.raises(ImportError, match="install torch 2"):
                supervised_evaluation_step_amp(Watched())


@rows("E-60")
def a_scaler_of_a_torch_that_has_none() -> None:
    for make in trainers():
        words = r"needs torch\.amp\.GradScaler, which is not there"
        with modules(torch__amp=module()), pytest.raises(ImportError, match=words):
            make(amp_mode="amp", scaler=True)


@rows("E-61")
def apex_that_is_not_there() -> None:
    for package in (fengine.engine, fengine.engine.ignite.stand_in):
        make: Any = package.supervised_training_step_apex
        with modules(apex=None), pytest.raises(ModuleNotFoundError, match="NVIDIA/apex"):
            make(None, None, None, gradient_accumulation_steps=0)


@rows("E-62")
def torch_xla_that_is_not_there() -> None:
    for package in (fengine.engine, fengine.engine.ignite.stand_in):
        make: Any = package.supervised_training_step_tpu
        with modules(torch_xla=None), pytest.raises(ModuleNotFoundError, match="torch_xla"):
            make(None, None, None, gradient_accumulation_steps=0)


@pytest.mark.parametrize("check", rows.params())
def test_row(check: Check) -> None:
    check()


@pytest.mark.parametrize(
    "options",
    [
        {"amp_mode": "bf16"},
        {"amp_mode": "apex"},
        {"scaler": True},
        {"gradient_accumulation_steps": 0},
        {"amp_dtype": torch.bfloat16},
    ],
    ids=str,
)
def test_nothing_is_moved_where_an_argument_is_refused(options: dict[str, Any]) -> None:
    model, optimizer, loss_fn = parts()
    with pytest.raises((ValueError, ModuleNotFoundError), match=next(iter(options))):
        create_supervised_trainer(model, optimizer, loss_fn, "cpu", **options)
    assert model.moves == []


def test_nothing_is_moved_where_a_metric_cannot_be_attached() -> None:
    model = Watched()
    with pytest.raises(AttributeError, match="attach"):
        create_supervised_evaluator(model, {"loss": None}, "cpu")
    assert model.moves == []
