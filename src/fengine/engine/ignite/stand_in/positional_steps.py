"""The functions that make process functions, with the order of parameters of pytorch-ignite 0.5.5.

Each calls the function of the same name in `fengine.engine`, and has the same defaults. There, some
parameters are keyword-only; here, any can be given by position.
"""

from __future__ import annotations

from torch import nn
from torch.optim import Optimizer

from fengine.engine.supervised import evaluation_functions, training_functions
from fengine.engine.supervised.descent import Scaler
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


def supervised_training_step(
    model: nn.Module,
    optimizer: Optimizer,
    loss_fn: LossFunction,
    device: Device = None,
    non_blocking: bool = False,
    prepare_batch: PrepareBatch = split_batch,
    model_transform: ModelTransform = unchanged,
    output_transform: TrainingOutput = loss_value,
    gradient_accumulation_steps: int = 1,
    model_fn: ModelFunction = call_model,
) -> ProcessFunction:
    """Make the process function of a trainer.

    See `fengine.engine.supervised_training_step`.
    """
    return training_functions.supervised_training_step(
        model,
        optimizer,
        loss_fn,
        device=device,
        non_blocking=non_blocking,
        prepare_batch=prepare_batch,
        model_transform=model_transform,
        output_transform=output_transform,
        gradient_accumulation_steps=gradient_accumulation_steps,
        model_fn=model_fn,
    )


def supervised_training_step_amp(
    model: nn.Module,
    optimizer: Optimizer,
    loss_fn: LossFunction,
    device: Device = None,
    non_blocking: bool = False,
    prepare_batch: PrepareBatch = split_batch,
    model_transform: ModelTransform = unchanged,
    output_transform: TrainingOutput = loss_value,
    scaler: Scaler | None = None,
    gradient_accumulation_steps: int = 1,
    model_fn: ModelFunction = call_model,
) -> ProcessFunction:
    """Make the process function of a trainer in mixed precision.

    See `fengine.engine.supervised_training_step_amp`.
    """
    return training_functions.supervised_training_step_amp(
        model,
        optimizer,
        loss_fn,
        device=device,
        non_blocking=non_blocking,
        prepare_batch=prepare_batch,
        model_transform=model_transform,
        output_transform=output_transform,
        scaler=scaler,
        gradient_accumulation_steps=gradient_accumulation_steps,
        model_fn=model_fn,
    )


def supervised_training_step_apex(
    model: nn.Module,
    optimizer: Optimizer,
    loss_fn: LossFunction,
    device: Device = None,
    non_blocking: bool = False,
    prepare_batch: PrepareBatch = split_batch,
    model_transform: ModelTransform = unchanged,
    output_transform: TrainingOutput = loss_value,
    gradient_accumulation_steps: int = 1,
    model_fn: ModelFunction = call_model,
) -> ProcessFunction:
    """Make the process function of a trainer whose loss apex scales.

    See `fengine.engine.supervised_training_step_apex`.
    """
    return training_functions.supervised_training_step_apex(
        model,
        optimizer,
        loss_fn,
        device=device,
        non_blocking=non_blocking,
        prepare_batch=prepare_batch,
        model_transform=model_transform,
        output_transform=output_transform,
        gradient_accumulation_steps=gradient_accumulation_steps,
        model_fn=model_fn,
    )


def supervised_training_step_tpu(
    model: nn.Module,
    optimizer: Optimizer,
    loss_fn: LossFunction,
    device: Device = None,
    non_blocking: bool = False,
    prepare_batch: PrepareBatch = split_batch,
    model_transform: ModelTransform = unchanged,
    output_transform: TrainingOutput = loss_value,
    gradient_accumulation_steps: int = 1,
    model_fn: ModelFunction = call_model,
) -> ProcessFunction:
    """Make the process function of a trainer on an XLA device.

    See `fengine.engine.supervised_training_step_tpu`.
    """
    return training_functions.supervised_training_step_tpu(
        model,
        optimizer,
        loss_fn,
        device=device,
        non_blocking=non_blocking,
        prepare_batch=prepare_batch,
        model_transform=model_transform,
        output_transform=output_transform,
        gradient_accumulation_steps=gradient_accumulation_steps,
        model_fn=model_fn,
    )


def supervised_evaluation_step(
    model: nn.Module,
    device: Device = None,
    non_blocking: bool = False,
    prepare_batch: PrepareBatch = split_batch,
    model_transform: ModelTransform = unchanged,
    output_transform: EvaluationOutput = prediction_and_target,
    model_fn: ModelFunction = call_model,
) -> ProcessFunction:
    """Make the process function of an evaluator.

    See `fengine.engine.supervised_evaluation_step`.
    """
    return evaluation_functions.supervised_evaluation_step(
        model,
        device=device,
        non_blocking=non_blocking,
        prepare_batch=prepare_batch,
        model_transform=model_transform,
        output_transform=output_transform,
        model_fn=model_fn,
    )


def supervised_evaluation_step_amp(
    model: nn.Module,
    device: Device = None,
    non_blocking: bool = False,
    prepare_batch: PrepareBatch = split_batch,
    model_transform: ModelTransform = unchanged,
    output_transform: EvaluationOutput = prediction_and_target,
    model_fn: ModelFunction = call_model,
) -> ProcessFunction:
    """Make the process function of an evaluator in mixed precision.

    See `fengine.engine.supervised_evaluation_step_amp`.
    """
    return evaluation_functions.supervised_evaluation_step_amp(
        model,
        device=device,
        non_blocking=non_blocking,
        prepare_batch=prepare_batch,
        model_transform=model_transform,
        output_transform=output_transform,
        model_fn=model_fn,
    )
