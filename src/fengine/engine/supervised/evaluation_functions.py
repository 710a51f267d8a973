"""The process functions of supervised evaluators.

The order of the parameters is that of the documented factory; what is newer is keyword-only.
"""

from __future__ import annotations

import torch
from torch import nn

from fengine.engine.supervised.forward import predictor
from fengine.engine.supervised.optional_packages import require_torch_amp
from fengine.engine.supervised.precision import Autocast, PredictInPrecision
from fengine.engine.supervised.process_functions import EvaluationFunction
from fengine.engine.supervised.task_parts import (
    Device,
    EvaluationOutput,
    ModelFunction,
    ModelTransform,
    PrepareBatch,
    ProcessFunction,
    call_model,
    prediction_and_target,
    split_batch,
    unchanged,
)


def supervised_evaluation_step(
    model: nn.Module,
    device: Device = None,
    non_blocking: bool = False,
    prepare_batch: PrepareBatch = split_batch,
    output_transform: EvaluationOutput = prediction_and_target,
    *,
    model_transform: ModelTransform = unchanged,
    model_fn: ModelFunction = call_model,
) -> ProcessFunction:
    """Make the process function of a supervised evaluator.

    The model is put into evaluation mode, and stays in it; `fengine.training.evaluation_step`
    restores the mode of each module.

    Args:
        model: the model to evaluate, without gradients.
        device: where batches are moved to; None: they stay where they are.
        non_blocking: let a copy from pinned memory to a GPU go on in the background.
        prepare_batch: called with the batch, `device=` and `non_blocking=`; returns (x, y).
        output_transform: called with x, y and y_pred; what it returns is `state.output`.
        model_transform: makes y_pred of the output of the model.
        model_fn: called with the model and x; returns the output of the model.

    Returns:
        A function of the engine and the batch.

    >>> step = supervised_evaluation_step(nn.Identity())
    >>> from fengine.engine import Engine
    >>> Engine(step).run([(torch.ones(1), torch.zeros(1))]).output
    (tensor([1.]), tensor([0.]))
    """
    predict = predictor(model, model_fn, model_transform)
    return EvaluationFunction(model, device, non_blocking, prepare_batch, output_transform, predict)


def supervised_evaluation_step_amp(
    model: nn.Module,
    device: Device = None,
    non_blocking: bool = False,
    prepare_batch: PrepareBatch = split_batch,
    output_transform: EvaluationOutput = prediction_and_target,
    *,
    model_transform: ModelTransform = unchanged,
    model_fn: ModelFunction = call_model,
    amp_dtype: torch.dtype | None = None,
) -> ProcessFunction:
    """Make the process function of a supervised evaluator in mixed precision.

    The model is computed under `torch.amp.autocast`, on the kind of device that `device` is, else
    on that of the model, and in `amp_dtype`, else in what torch uses there. All else is as for
    `supervised_evaluation_step`.

    Returns:
        A function of the engine and the batch.

    Raises:
        ImportError: this torch has no `torch.amp.autocast`.

    >>> step = supervised_evaluation_step_amp(nn.Linear(1, 1))
    >>> from fengine.engine import Engine
    >>> y_pred, y = Engine(step).run([(torch.ones(1), torch.zeros(1))]).output
    >>> y_pred.dtype
    torch.bfloat16
    """
    require_torch_amp("autocast")
    precision = Autocast(model, device, amp_dtype)
    predict = PredictInPrecision(predictor(model, model_fn, model_transform), precision)
    return EvaluationFunction(model, device, non_blocking, prepare_batch, output_transform, predict)
