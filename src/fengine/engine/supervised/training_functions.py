"""The process functions of supervised trainers: plain, in mixed precision, and on XLA devices.

Each function here chooses the parts of one way of computing; what is done with a batch is in
`process_functions`. The order of the parameters is that of the documented factory, and what is
newer is keyword-only.
"""

from __future__ import annotations

import inspect

import torch
from torch import nn
from torch.optim import Optimizer

from fengine.engine.supervised.descent import (
    ApexDescent,
    Descent,
    PlainDescent,
    ScaledDescent,
    Scaler,
    XlaDescent,
)
from fengine.engine.supervised.forward import (
    Forward,
    ForwardInPart,
    ForwardInPrecision,
    PlainForward,
    predictor,
)
from fengine.engine.supervised.optional_packages import require, require_torch_amp, require_xla
from fengine.engine.supervised.precision import Autocast
from fengine.engine.supervised.process_functions import (
    AccumulatingFunction,
    ClosureFunction,
    TrainingFunction,
    WholeLoss,
    without_graph,
)
from fengine.engine.supervised.task_parts import (
    Device,
    LossFunction,
    ModelFunction,
    ModelTransform,
    PrepareBatch,
    ProcessFunction,
    TrainingOutput,
    call_model,
    loss_value,
    split_batch,
    unchanged,
)


def supervised_training_step(
    model: nn.Module,
    optimizer: Optimizer,
    loss_fn: LossFunction,
    device: Device = None,
    non_blocking: bool = False,
    prepare_batch: PrepareBatch = split_batch,
    output_transform: TrainingOutput = loss_value,
    *,
    model_transform: ModelTransform = unchanged,
    gradient_accumulation_steps: int = 1,
    model_fn: ModelFunction = call_model,
) -> ProcessFunction:
    """Make the process function of a supervised trainer.

    Each iteration has the effect of `model.train()`, which is called wherever it has one: a part of
    the model that was set to evaluation mode is in training mode again. In a model that is in
    training mode, `fengine.training.training_step` leaves such a part as it is. An optimizer whose
    `step` requires a closure, such as LBFGS, gets one.

    Args:
        model: the model to train.
        optimizer: anything with `zero_grad` and `step`.
        loss_fn: called with the prediction and the target.
        device: where batches are moved to; None: they stay where they are.
        non_blocking: let a copy from pinned memory to a GPU go on in the background.
        prepare_batch: called with the batch, `device=` and `non_blocking=`; returns (x, y).
        output_transform: called with x, y, y_pred and the loss, which is detached; what it returns
            is `state.output`.
        model_transform: makes y_pred of the output of the model.
        gradient_accumulation_steps: the weights are updated where the iteration is a multiple of
            it, by the gradients since, each of `loss / gradient_accumulation_steps`. What is left
            at the end of a run is not used; `fengine.training.windows` uses it.
        model_fn: called with the model and x; returns the output of the model.

    Returns:
        A function of the engine and the batch.

    Raises:
        ValueError: `gradient_accumulation_steps` is not positive, or above 1 where the optimizer
            requires a closure.

    >>> model = nn.Linear(1, 1)
    >>> sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> step = supervised_training_step(model, sgd, nn.functional.mse_loss)
    >>> from fengine.engine import Engine
    >>> Engine(step).run([(torch.ones(1, 1), torch.ones(1, 1))]).iteration
    1
    """
    task = model, optimizer, loss_fn, device, non_blocking, prepare_batch, output_transform
    options = model_transform, model_fn, gradient_accumulation_steps
    return _made_of(*task, *options)


def supervised_training_step_amp(
    model: nn.Module,
    optimizer: Optimizer,
    loss_fn: LossFunction,
    device: Device = None,
    non_blocking: bool = False,
    prepare_batch: PrepareBatch = split_batch,
    output_transform: TrainingOutput = loss_value,
    *,
    model_transform: ModelTransform = unchanged,
    scaler: Scaler | None = None,
    gradient_accumulation_steps: int = 1,
    model_fn: ModelFunction = call_model,
    amp_dtype: torch.dtype | None = None,
) -> ProcessFunction:
    """Make the process function of a supervised trainer in mixed precision.

    The model and the loss are computed under `torch.amp.autocast`, on the kind of device that
    `device` is, else on that of the model, and in `amp_dtype`, else in what torch uses there.
    Backward and step go through `scaler`, a `torch.amp.GradScaler`, if there is one. All else is as
    for `supervised_training_step`.

    Returns:
        A function of the engine and the batch.

    Raises:
        ImportError: this torch has no `torch.amp.autocast`.
        ValueError: `gradient_accumulation_steps` is not positive, or the optimizer requires a
            closure.

    >>> model = nn.Linear(1, 1)
    >>> sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> step = supervised_training_step_amp(
    ...     model,
    ...     sgd,
    ...     nn.functional.mse_loss,
    ...     output_transform=lambda x, y, y_pred, loss: y_pred.dtype,
    ... )
    >>> from fengine.engine import Engine
    >>> Engine(step).run([(torch.ones(1, 1), torch.ones(1, 1))]).output
    torch.bfloat16
    """
    require_torch_amp("autocast")
    task = model, optimizer, loss_fn, device, non_blocking, prepare_batch, output_transform
    options = model_transform, model_fn, gradient_accumulation_steps
    descent = None if scaler is None else ScaledDescent(optimizer, scaler)
    precision = Autocast(model, device, amp_dtype)
    return _made_of(*task, *options, descent=descent, precision=precision)


def supervised_training_step_apex(
    model: nn.Module,
    optimizer: Optimizer,
    loss_fn: LossFunction,
    device: Device = None,
    non_blocking: bool = False,
    prepare_batch: PrepareBatch = split_batch,
    output_transform: TrainingOutput = loss_value,
    *,
    model_transform: ModelTransform = unchanged,
    gradient_accumulation_steps: int = 1,
    model_fn: ModelFunction = call_model,
) -> ProcessFunction:
    """Make the process function of a supervised trainer whose loss apex scales.

    The model and the optimizer are those that `apex.amp.initialize` gave; all else is as for
    `supervised_training_step`.

    Returns:
        A function of the engine and the batch.

    Raises:
        ModuleNotFoundError: apex is not installed.
        ValueError: as for `supervised_training_step_amp`.

    >>> supervised_training_step_apex(model=None, optimizer=None, loss_fn=None)
    Traceback (most recent call last):
    ModuleNotFoundError: amp_mode='apex' needs apex.amp.scale_loss, ...
    """
    remedy = "install it from https://github.com/NVIDIA/apex, or use amp_mode='amp'"
    scale_loss = require("apex.amp", "scale_loss", "amp_mode='apex'", remedy)
    task = model, optimizer, loss_fn, device, non_blocking, prepare_batch, output_transform
    options = model_transform, model_fn, gradient_accumulation_steps
    return _made_of(*task, *options, descent=ApexDescent(optimizer, scale_loss))


def supervised_training_step_tpu(
    model: nn.Module,
    optimizer: Optimizer,
    loss_fn: LossFunction,
    device: Device = None,
    non_blocking: bool = False,
    prepare_batch: PrepareBatch = split_batch,
    output_transform: TrainingOutput = loss_value,
    *,
    model_transform: ModelTransform = unchanged,
    gradient_accumulation_steps: int = 1,
    model_fn: ModelFunction = call_model,
) -> ProcessFunction:
    """Make the process function of a supervised trainer on an XLA device, such as a TPU.

    The optimizer steps through `torch_xla`; all else is as for `supervised_training_step`.

    Returns:
        A function of the engine and the batch.

    Raises:
        ModuleNotFoundError: torch_xla is not installed.
        ValueError: as for `supervised_training_step_amp`.

    >>> supervised_training_step_tpu(model=None, optimizer=None, loss_fn=None)
    Traceback (most recent call last):
    ModuleNotFoundError: an XLA device needs torch_xla.core.xla_model.optimizer_step, ...
    """
    optimizer_step = require_xla("optimizer_step")
    task = model, optimizer, loss_fn, device, non_blocking, prepare_batch, output_transform
    options = model_transform, model_fn, gradient_accumulation_steps
    return _made_of(*task, *options, descent=XlaDescent(optimizer, optimizer_step))


def _made_of(
    model: nn.Module,
    optimizer: Optimizer,
    loss_fn: LossFunction,
    device: Device,
    non_blocking: bool,
    prepare_batch: PrepareBatch,
    output_transform: TrainingOutput,
    model_transform: ModelTransform,
    model_fn: ModelFunction,
    window: int,
    *,
    descent: Descent | None = None,
    precision: Autocast | None = None,
) -> ProcessFunction:
    """Put the parts of a task together, plainly where no descent and no precision is chosen."""
    if window <= 0:
        raise ValueError(
            f"gradient_accumulation_steps={window} is not positive; 1 updates the weights in each "
            "iteration"
        )
    needs_closure = _needs_closure(optimizer)
    if needs_closure and (window != 1 or descent is not None or precision is not None):
        raise ValueError(
            f"{type(optimizer).__name__}.step requires a closure, which goes forward and backward "
            "itself; that fits plain training alone, without gradient accumulation, amp_mode and "
            "XLA"
        )
    forward: Forward = PlainForward(predictor(model, model_fn, model_transform), loss_fn)
    if precision is not None:
        forward = ForwardInPrecision(forward, precision)
    output = without_graph(output_transform)
    if window > 1:
        forward, output = ForwardInPart(forward, window), WholeLoss(output, window)
    chosen = PlainDescent(optimizer) if descent is None else descent
    train = TrainingFunction(
        model, optimizer, device, non_blocking, prepare_batch, forward, chosen, output
    )
    if needs_closure:
        return ClosureFunction(train)
    return AccumulatingFunction(train, window) if window > 1 else train


def _needs_closure(optimizer: Optimizer) -> bool:
    """Tell whether an optimizer evaluates the model itself, as LBFGS does."""
    try:
        parameters = inspect.signature(optimizer.step).parameters
    except ValueError:
        return False
    closure = parameters.get("closure")
    return closure is not None and closure.default is closure.empty
