"""Engines for supervised training and evaluation, and the process functions in them.

The process functions are frozen records, so that an engine made here can be copied and pickled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, final

import attrs
import torch

from fengine.engine.batch import prepare_batch as _prepare_batch
from fengine.engine.engine import Engine

Device: TypeAlias = str | torch.device | int | None
PrepareBatch: TypeAlias = Callable[[Any, Any, bool], tuple[Any, Any]]


def _loss_value(x: Any, y: Any, y_pred: Any, loss: torch.Tensor) -> Any:
    return loss.item()


def _prediction_and_target(x: Any, y: Any, y_pred: Any) -> Any:
    return y_pred, y


@final
@attrs.frozen(eq=False)
class _TrainingStep:
    model: torch.nn.Module
    optimizer: torch.optim.Optimizer
    loss_fn: Callable[[Any, Any], torch.Tensor]
    device: Device
    non_blocking: bool
    prepare_batch: PrepareBatch
    output_transform: Callable[[Any, Any, Any, torch.Tensor], Any]

    def __call__(self, engine: Engine, batch: Any) -> Any:
        self.optimizer.zero_grad()
        self.model.train()
        x, y = self.prepare_batch(batch, self.device, self.non_blocking)
        y_pred = self.model(x)
        loss = self.loss_fn(y_pred, y)
        loss.backward()  # type: ignore[no-untyped-call]  # torch declares no types for it
        self.optimizer.step()
        return self.output_transform(x, y, y_pred, loss)


@final
@attrs.frozen(eq=False)
class _EvaluationStep:
    model: torch.nn.Module
    device: Device
    non_blocking: bool
    prepare_batch: PrepareBatch
    output_transform: Callable[[Any, Any, Any], Any]

    def __call__(self, engine: Engine, batch: Any) -> Any:
        self.model.eval()
        with torch.no_grad():
            x, y = self.prepare_batch(batch, self.device, self.non_blocking)
            return self.output_transform(x, y, self.model(x))


def supervised_training_step(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    loss_fn: Callable[[Any, Any], torch.Tensor],
    device: Device = None,
    non_blocking: bool = False,
    prepare_batch: PrepareBatch = _prepare_batch,
    output_transform: Callable[[Any, Any, Any, torch.Tensor], Any] = _loss_value,
) -> Callable[[Engine, Any], Any]:
    """Make the process function of a supervised trainer.

    Args:
        model: the model to train.
        optimizer: steps once for each batch.
        loss_fn: called with the prediction and the target.
        device: where batches are moved to; None: they stay where they are.
        non_blocking: let a copy from pinned memory to a GPU go on in the background.
        prepare_batch: called with the batch, `device` and `non_blocking`; gives (x, y).
        output_transform: called with x, y, y_pred and loss; what it returns is `state.output`.

    >>> model = torch.nn.Linear(1, 1)
    >>> sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> step = supervised_training_step(model, sgd, torch.nn.functional.mse_loss)
    >>> Engine(step).run([(torch.ones(1, 1), torch.ones(1, 1))]).iteration
    1
    """
    return _TrainingStep(
        model, optimizer, loss_fn, device, non_blocking, prepare_batch, output_transform
    )


def supervised_evaluation_step(
    model: torch.nn.Module,
    device: Device = None,
    non_blocking: bool = False,
    prepare_batch: PrepareBatch = _prepare_batch,
    output_transform: Callable[[Any, Any, Any], Any] = _prediction_and_target,
) -> Callable[[Engine, Any], Any]:
    """Make the process function of a supervised evaluator.

    Args:
        model: the model to evaluate, in its evaluation mode and without gradients.
        device: as for `supervised_training_step`.
        non_blocking: as for `supervised_training_step`.
        prepare_batch: as for `supervised_training_step`.
        output_transform: called with x, y and y_pred; what it returns is `state.output`.

    >>> step = supervised_evaluation_step(torch.nn.Identity())
    >>> Engine(step).run([(torch.ones(1), torch.zeros(1))]).output
    (tensor([1.]), tensor([0.]))
    """
    return _EvaluationStep(model, device, non_blocking, prepare_batch, output_transform)


def create_supervised_trainer(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    loss_fn: Callable[[Any, Any], torch.Tensor],
    device: Device = None,
    non_blocking: bool = False,
    prepare_batch: PrepareBatch = _prepare_batch,
    output_transform: Callable[[Any, Any, Any, torch.Tensor], Any] = _loss_value,
) -> Engine:
    """Make an engine that trains a model.

    Args:
        model: the model to train.
        optimizer: the optimizer of its parameters.
        loss_fn: the loss of a prediction and its target.
        device: where to run; applies to both the model and the batches.
        non_blocking: let a copy from pinned memory to a GPU go on in the background.
        prepare_batch: called with the batch, `device` and `non_blocking`; gives (x, y).
        output_transform: called with x, y, y_pred and loss; what it returns is
            `engine.state.output`, by default the value of the loss.

    Returns:
        A trainer.

    >>> model = torch.nn.Linear(1, 1)
    >>> sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> trainer = create_supervised_trainer(model, sgd, torch.nn.functional.mse_loss)
    >>> type(trainer.run([(torch.ones(1, 1), torch.ones(1, 1))], max_epochs=2).output)
    <class 'float'>
    """
    step = supervised_training_step(
        model, optimizer, loss_fn, device, non_blocking, prepare_batch, output_transform
    )
    return _on_device(Engine(step), model, device)


def create_supervised_evaluator(
    model: torch.nn.Module,
    metrics: Mapping[str, Any] | None = None,
    device: Device = None,
    non_blocking: bool = False,
    prepare_batch: PrepareBatch = _prepare_batch,
    output_transform: Callable[[Any, Any, Any], Any] = _prediction_and_target,
) -> Engine:
    """Make an engine that evaluates a model.

    Args:
        model: the model to evaluate.
        metrics: named metrics, each anything with `attach(engine, name)`; their results are in
            `engine.state.metrics`.
        device: where to run; applies to both the model and the batches.
        non_blocking: let a copy from pinned memory to a GPU go on in the background.
        prepare_batch: called with the batch, `device` and `non_blocking`; gives (x, y).
        output_transform: called with x, y and y_pred; what it returns is `engine.state.output`, by
            default (y_pred, y), which is what metrics expect.

    Returns:
        An evaluator.

    >>> evaluator = create_supervised_evaluator(torch.nn.Identity())
    >>> evaluator.run([(torch.ones(1), torch.zeros(1))]).output
    (tensor([1.]), tensor([0.]))
    """
    step = supervised_evaluation_step(model, device, non_blocking, prepare_batch, output_transform)
    evaluator = _on_device(Engine(step), model, device)
    for name, metric in (metrics or {}).items():
        metric.attach(evaluator, name)
    return evaluator


def _on_device(engine: Engine, model: torch.nn.Module, device: Device) -> Engine:
    if device is not None and engine.semantics.move_model:
        model.to(device)
    return engine
