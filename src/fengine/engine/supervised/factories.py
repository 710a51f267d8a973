"""Engines for supervised training and evaluation: a step function for the mode, in an engine.

All arguments are checked before a model is moved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias, TypeVar

import torch
from torch import nn
from torch.optim import Optimizer

from fengine.engine.deterministic import DeterministicEngine
from fengine.engine.engine import Engine
from fengine.engine.supervised.descent import Scaler
from fengine.engine.supervised.evaluation_functions import (
    supervised_evaluation_step,
    supervised_evaluation_step_amp,
)
from fengine.engine.supervised.optional_packages import require_torch_amp, require_xla
from fengine.engine.supervised.precision import device_type, model_device_type
from fengine.engine.supervised.task_parts import (
    Device,
    EvaluationOutput,
    LossFunction,
    ModelFunction,
    ModelTransform,
    PrepareBatch,
    ProcessFunction,
    TrainingOutput,
    call_model,
    loss_value,
    prediction_and_target,
    split_batch,
    unchanged,
)
from fengine.engine.supervised.training_functions import (
    supervised_training_step,
    supervised_training_step_amp,
    supervised_training_step_apex,
    supervised_training_step_tpu,
)
from fengine.engine.versions import version_of

AnyEngine = TypeVar("AnyEngine", bound=Engine)
StepFunction: TypeAlias = Callable[..., ProcessFunction]

_TRAINING_STEPS: Final[Mapping[str | None, StepFunction]] = {
    None: supervised_training_step,
    "amp": supervised_training_step_amp,
    "apex": supervised_training_step_apex,
    "tpu": supervised_training_step_tpu,
}
_EVALUATION_STEPS: Final[Mapping[str | None, StepFunction]] = {
    None: supervised_evaluation_step,
    "amp": supervised_evaluation_step_amp,
    "tpu": supervised_evaluation_step,
}


def create_supervised_trainer(
    model: nn.Module,
    optimizer: Optimizer,
    loss_fn: LossFunction,
    device: Device = None,
    non_blocking: bool = False,
    prepare_batch: PrepareBatch = split_batch,
    output_transform: TrainingOutput = loss_value,
    *,
    model_transform: ModelTransform = unchanged,
    deterministic: bool = False,
    amp_mode: str | None = None,
    scaler: Scaler | bool = False,
    gradient_accumulation_steps: int = 1,
    model_fn: ModelFunction = call_model,
    amp_dtype: torch.dtype | None = None,
) -> Engine:
    """Make an engine that trains a model.

    Args:
        model: the model to train.
        optimizer: the optimizer of its parameters; one that requires a closure, such as LBFGS, gets
            one.
        loss_fn: the loss of a prediction and its target.
        device: where to run; applies to both the model and the batches. An XLA device is stepped
            by `torch_xla`.
        non_blocking: let a copy from pinned memory to a GPU go on in the background.
        prepare_batch: called with the batch, `device=` and `non_blocking=`; returns (x, y).
        output_transform: called with x, y, y_pred and the loss, which is detached; what it returns
            is `engine.state.output`, by default the value of the loss.
        model_transform: makes y_pred of the output of the model.
        deterministic: make a `DeterministicEngine`.
        amp_mode: "amp" for mixed precision by torch, "apex" by apex, or None.
        scaler: a `torch.amp.GradScaler` for `amp_mode="amp"`; True makes one for the device. It is
            `engine.state.scaler`, whose `state_dict()` is saved beside that of the optimizer.
        gradient_accumulation_steps: the weights are updated where the iteration is a multiple of
            it; see `supervised_training_step`.
        model_fn: called with the model and x; returns the output of the model.
        amp_dtype: what `amp_mode="amp"` computes in, such as `torch.bfloat16`; None: what torch
            uses on the device.

    Returns:
        A trainer.

    Raises:
        ImportError: `amp_mode` asks for a package that is not there.
        RuntimeError: the device is an XLA device, and torch_xla is not installed.
        ValueError: an argument is out of its range, or two contradict each other.

    >>> model = nn.Linear(1, 1)
    >>> sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> trainer = create_supervised_trainer(model, sgd, nn.functional.mse_loss)
    >>> type(trainer.run([(torch.ones(1, 1), torch.ones(1, 1))], max_epochs=2).output)
    <class 'float'>
    """
    return build_trainer(
        DeterministicEngine if deterministic else Engine,
        model,
        device,
        amp_mode,
        scaler,
        amp_dtype,
        optimizer=optimizer,
        loss_fn=loss_fn,
        non_blocking=non_blocking,
        prepare_batch=prepare_batch,
        output_transform=output_transform,
        model_transform=model_transform,
        gradient_accumulation_steps=gradient_accumulation_steps,
        model_fn=model_fn,
    )


def create_supervised_evaluator(
    model: nn.Module,
    metrics: Mapping[str, Any] | None = None,
    device: Device = None,
    non_blocking: bool = False,
    prepare_batch: PrepareBatch = split_batch,
    output_transform: EvaluationOutput = prediction_and_target,
    *,
    model_transform: ModelTransform = unchanged,
    amp_mode: str | None = None,
    model_fn: ModelFunction = call_model,
    amp_dtype: torch.dtype | None = None,
) -> Engine:
    """Make an engine that evaluates a model.

    Args:
        model: the model to evaluate; it is put into evaluation mode, and stays in it.
        metrics: named metrics, each anything with `attach(engine, name)`; their results are in
            `engine.state.metrics`.
        device: where to run; applies to both the model and the batches.
        non_blocking: let a copy from pinned memory to a GPU go on in the background.
        prepare_batch: called with the batch, `device=` and `non_blocking=`; returns (x, y).
        output_transform: called with x, y and y_pred; what it returns is `engine.state.output`, by
            default (y_pred, y), which is what metrics expect.
        model_transform: makes y_pred of the output of the model.
        amp_mode: "amp" for mixed precision by torch, or None.
        model_fn: called with the model and x; returns the output of the model.
        amp_dtype: as for `create_supervised_trainer`.

    Returns:
        An evaluator.

    Raises:
        ImportError: `amp_mode` asks for a package that is not there.
        RuntimeError: the device is an XLA device, and torch_xla is not installed.
        ValueError: an argument is out of its range, or two contradict each other.

    >>> evaluator = create_supervised_evaluator(nn.Identity())
    >>> evaluator.run([(torch.ones(1), torch.zeros(1))]).output
    (tensor([1.]), tensor([0.]))
    """
    return build_evaluator(
        Engine,
        model,
        metrics,
        device,
        amp_mode,
        amp_dtype,
        non_blocking=non_blocking,
        prepare_batch=prepare_batch,
        output_transform=output_transform,
        model_transform=model_transform,
        model_fn=model_fn,
    )


def build_trainer(
    engine_class: type[AnyEngine],
    model: nn.Module,
    device: Device = None,
    amp_mode: str | None = None,
    scaler: Scaler | bool = False,
    amp_dtype: torch.dtype | None = None,
    **arguments: Any,
) -> AnyEngine:
    """Make a trainer of a class of engines; `arguments` are for the step function.

    >>> model = nn.Linear(1, 1)
    >>> sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> trainer = build_trainer(DeterministicEngine, model, optimizer=sgd, loss_fn=nn.MSELoss())
    >>> trainer.run([(torch.ones(1, 1), torch.ones(1, 1))], max_epochs=2).iteration
    2
    """
    _check_precision(amp_mode, amp_dtype, "amp", "apex")
    mode, its_scaler = _mode(model, device, amp_mode, scaler)
    if mode == "amp":
        arguments |= {"scaler": its_scaler, "amp_dtype": amp_dtype}
    trainer = engine_class(_TRAINING_STEPS[mode](model, device=device, **arguments))
    if its_scaler is not None:
        trainer.state.scaler = its_scaler
    return _on_device(trainer, model, device)


def build_evaluator(
    engine_class: type[AnyEngine],
    model: nn.Module,
    metrics: Mapping[str, Any] | None = None,
    device: Device = None,
    amp_mode: str | None = None,
    amp_dtype: torch.dtype | None = None,
    **arguments: Any,
) -> AnyEngine:
    """Make an evaluator of a class of engines; `arguments` are for the step function.

    >>> evaluator = build_evaluator(Engine, nn.Identity(), output_transform=lambda x, y, y_pred: x)
    >>> evaluator.run([(torch.ones(1), torch.zeros(1))]).output
    tensor([1.])
    """
    _check_precision(amp_mode, amp_dtype, "amp")
    mode, _ = _mode(model, device, amp_mode, None)
    if mode == "amp":
        arguments["amp_dtype"] = amp_dtype
    evaluator = engine_class(_EVALUATION_STEPS[mode](model, device=device, **arguments))
    for name, metric in (metrics or {}).items():
        metric.attach(evaluator, name)
    return _on_device(evaluator, model, device)


def _check_precision(amp_mode: str | None, amp_dtype: torch.dtype | None, *known: str) -> None:
    if amp_mode is not None and amp_mode not in known:
        raise ValueError(f"amp_mode={amp_mode!r} is unknown; it is {' or '.join(map(repr, known))}")
    if amp_dtype is not None and amp_mode != "amp":
        raise ValueError(
            f"amp_dtype={amp_dtype} is given, but amp_mode={amp_mode!r}; it is for amp_mode='amp'"
        )


def _mode(
    model: nn.Module, device: Device, amp_mode: str | None, scaler: Scaler | bool | None
) -> tuple[str | None, Scaler | None]:
    kind = None if device is None else device_type(device)
    return mode_and_scaler(kind, amp_mode, scaler, kind or model_device_type(model))


def mode_and_scaler(
    kind: str | None, amp_mode: str | None, scaler: Scaler | bool | None, scaler_kind: str
) -> tuple[str | None, Scaler | None]:
    """Return the mode of a process function, "tpu" on an XLA device, and the scaler that it needs.

    Args:
        kind: the type of the device that was given, if one was.
        amp_mode: as it was given.
        scaler: a scaler; True makes one; anything false: there is none.
        scaler_kind: the type of the device that a scaler is made for.

    Raises:
        ImportError: a scaler is to be made, and this torch has none.
        RuntimeError: the device is an XLA device, and torch_xla is not installed.
        ValueError: two arguments contradict each other.

    >>> mode_and_scaler("cpu", "amp", False, "cpu")
    ('amp', None)
    """
    if kind == "xla":
        try:
            require_xla("optimizer_step")
        except ImportError as error:
            raise RuntimeError(str(error)) from error
    if amp_mode and kind in ("xla", "mps"):
        raise ValueError(
            f"amp_mode={amp_mode!r} does not work on a device of type {kind!r}; leave it out, or "
            "give another device"
        )
    if scaler and amp_mode != "amp":
        raise ValueError(
            f"scaler={scaler!r} is given, but amp_mode={amp_mode!r}; a scaler is for amp_mode='amp'"
        )
    if scaler is True:
        scaler = require_torch_amp("GradScaler")(scaler_kind)
    return "tpu" if kind == "xla" else amp_mode, scaler or None


def _on_device(engine: AnyEngine, model: nn.Module, device: Device) -> AnyEngine:
    if device is not None and version_of(engine.semantics).move_model:
        model.to(device)
    return engine
