"""The factories of engines, with the order of parameters of pytorch-ignite 0.5.5.

They build what the factories of the same names in `fengine.engine` build, with the same defaults.
Two things differ: any parameter can be given by position, and the classes of the engines are those
that stand in.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.optim import Optimizer

from fengine.engine.ignite.stand_in.positional_deterministic import DeterministicEngine
from fengine.engine.ignite.stand_in.positional_engine import Engine
from fengine.engine.supervised.descent import Scaler
from fengine.engine.supervised.factories import build_evaluator, build_trainer
from fengine.engine.supervised.task_parts import (
    Device,
    EvaluationOutput,
    LossFunction,
    ModelFunction,
    ModelTransform,
    PrepareBatch,
    TrainingOutput,
    call_model,
    loss_value,
    prediction_and_target,
    split_batch,
    unchanged,
)


def create_supervised_trainer(
    model: nn.Module,
    optimizer: Optimizer,
    loss_fn: LossFunction,
    device: Device = None,
    non_blocking: bool = False,
    prepare_batch: PrepareBatch = split_batch,
    model_transform: ModelTransform = unchanged,
    output_transform: TrainingOutput = loss_value,
    deterministic: bool = False,
    amp_mode: str | None = None,
    scaler: Scaler | bool = False,
    gradient_accumulation_steps: int = 1,
    model_fn: ModelFunction = call_model,
) -> Engine:
    """Make an engine that trains a model; see `fengine.engine.create_supervised_trainer`.

    >>> import torch
    >>> model = nn.Linear(1, 1)
    >>> sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> trainer = create_supervised_trainer(model, sgd, nn.MSELoss(), None, False)
    >>> trainer.run([(torch.ones(1, 1), torch.ones(1, 1))], 2).iteration
    2
    """
    return build_trainer(
        DeterministicEngine if deterministic else Engine,
        model,
        optimizer=optimizer,
        loss_fn=loss_fn,
        device=device,
        non_blocking=non_blocking,
        prepare_batch=prepare_batch,
        model_transform=model_transform,
        output_transform=output_transform,
        amp_mode=amp_mode,
        scaler=scaler,
        gradient_accumulation_steps=gradient_accumulation_steps,
        model_fn=model_fn,
    )


def create_supervised_evaluator(
    model: nn.Module,
    metrics: Mapping[str, Any] | None = None,
    device: Device = None,
    non_blocking: bool = False,
    prepare_batch: PrepareBatch = split_batch,
    model_transform: ModelTransform = unchanged,
    output_transform: EvaluationOutput = prediction_and_target,
    amp_mode: str | None = None,
    model_fn: ModelFunction = call_model,
) -> Engine:
    """Make an engine that evaluates a model; see `fengine.engine.create_supervised_evaluator`.

    >>> import torch
    >>> evaluator = create_supervised_evaluator(nn.Identity(), None, "cpu")
    >>> evaluator.run([(torch.ones(1), torch.zeros(1))]).output
    (tensor([1.]), tensor([0.]))
    """
    return build_evaluator(
        Engine,
        model,
        metrics=metrics,
        device=device,
        non_blocking=non_blocking,
        prepare_batch=prepare_batch,
        model_transform=model_transform,
        output_transform=output_transform,
        amp_mode=amp_mode,
        model_fn=model_fn,
    )
