"""What the process functions of supervised engines do with a batch, as frozen records.

Records and not closures, so that an engine with one can be copied and pickled. Which of them it is,
and of what parts, is decided when it is made: a step asks nothing at a batch that could have been
answered before.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, final

import attrs
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from fengine.engine.engine import Engine
from fengine.engine.supervised.descent import Descent
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
    unchanged,
)
from fengine.training.modes import is_settled


@final
@attrs.frozen(eq=False)
class _Predict:
    model: nn.Module
    model_fn: ModelFunction
    model_transform: ModelTransform

    def __call__(self, x: Any) -> Any:
        return self.model_transform(self.model_fn(self.model, x))


def predictor(
    model: nn.Module, model_fn: ModelFunction, model_transform: ModelTransform
) -> Callable[[Any], Any]:
    """Make one function of a model and what is around it: the model itself where nothing is.

    >>> identity = nn.Identity()
    >>> predictor(identity, call_model, unchanged) is identity
    True
    >>> predictor(identity, call_model, str)(3)
    '3'
    """
    if model_fn is call_model and model_transform is unchanged:
        return model
    return _Predict(model, model_fn, model_transform)


@final
@attrs.frozen(eq=False)
class Within:
    """Predict in a precision.

    >>> predict = Within(torch.is_autocast_enabled, lambda: torch.amp.autocast("cpu"))
    >>> predict("cpu"), torch.is_autocast_enabled("cpu")
    (True, False)
    """

    predict: Callable[[Any], Any]
    precision: Callable[[], AbstractContextManager[object]]

    def __call__(self, x: Any) -> Any:
        """Predict."""
        with self.precision():
            return self.predict(x)


@final
@attrs.frozen(eq=False)
class _WithoutGraph:
    """Hand the loss on without its graph, which the output would keep alive."""

    output_transform: TrainingOutput

    def __call__(self, x: Any, y: Any, y_pred: Any, loss: Tensor) -> Any:
        return self.output_transform(x, y, y_pred, loss.detach())


def without_graph(output_transform: TrainingOutput) -> TrainingOutput:
    """Make an output transform get the loss detached, unless it is known to keep none.

    >>> loss = torch.ones((), requires_grad=True)
    >>> without_graph(lambda x, y, y_pred, loss: loss)(None, None, None, loss)
    tensor(1.)
    """
    return output_transform if output_transform is loss_value else _WithoutGraph(output_transform)


@final
@attrs.frozen(eq=False)
class TrainingStep:
    """Go forward, backward and step: one update for each batch."""

    model: nn.Module
    optimizer: Optimizer
    loss_fn: LossFunction
    device: Device
    non_blocking: bool
    prepare_batch: PrepareBatch
    output_transform: TrainingOutput = attrs.field(converter=without_graph)
    predict: Callable[[Any], Any]

    def __call__(self, engine: Engine, batch: Any) -> Any:
        """Train on a batch."""
        self.optimizer.zero_grad()
        x, y = self.begin(batch)
        y_pred = self.predict(x)
        loss = self.loss_fn(y_pred, y)
        loss.backward()  # type: ignore[no-untyped-call]  # torch declares no types for it
        self.optimizer.step()
        return self.output_transform(x, y, y_pred, loss)

    def begin(self, batch: Any) -> tuple[Any, Any]:
        """Put the whole model into training mode, and give inputs and targets."""
        if not is_settled(self.model, True):
            self.model.train()
        return self.prepare_batch(batch, device=self.device, non_blocking=self.non_blocking)

    def needs_closure(self) -> bool:
        """Tell whether the optimizer evaluates the model itself, as LBFGS does."""
        try:
            parameters = inspect.signature(self.optimizer.step).parameters
        except ValueError:
            return False
        closure = parameters.get("closure")
        return closure is not None and closure.default is closure.empty


@final
@attrs.frozen(eq=False)
class ClosureStep:
    """Train with an optimizer that evaluates the model itself, several times if it likes.

    The output is made of its first evaluation, before the weights change.
    """

    task: TrainingStep

    def __call__(self, engine: Engine, batch: Any) -> Any:
        """Train on a batch."""
        task = self.task
        x, y = task.begin(batch)
        first: list[Any] = []

        def evaluate() -> Tensor:
            task.optimizer.zero_grad()
            y_pred = task.predict(x)
            loss = task.loss_fn(y_pred, y)
            loss.backward()  # type: ignore[no-untyped-call]  # as above
            if not first:
                first.extend((y_pred, loss))
            return loss

        task.optimizer.step(evaluate)  # type: ignore[arg-type]  # torch has a float there
        return task.output_transform(x, y, *first)


@final
@attrs.frozen(eq=False)
class ComposedStep:
    """Train in parts that were chosen: mixed precision, a descent, updates every few iterations.

    A window of gradients ends where the iteration of the run is a multiple of its length, and the
    next begins without them; those of an unfinished one are dropped. Each loss counts by one part
    of the length.
    """

    task: TrainingStep
    precision: Callable[[], AbstractContextManager[object]]
    descent: Descent
    window: int

    def __call__(self, engine: Engine, batch: Any) -> Any:
        """Train on a batch."""
        task, window, iteration = self.task, self.window, engine.state.iteration
        if (iteration - 1) % window == 0:
            task.optimizer.zero_grad()
        x, y = task.begin(batch)
        with self.precision():
            y_pred = task.predict(x)
            loss = task.loss_fn(y_pred, y)
        if window > 1:
            loss = loss / window
        self.descent.backward(loss)
        if iteration % window == 0:
            self.descent.step()
        return task.output_transform(x, y, y_pred, loss * window if window > 1 else loss)


@final
@attrs.frozen(eq=False)
class EvaluationStep:
    """Predict in evaluation mode, which the model stays in, and without gradients."""

    model: nn.Module
    device: Device
    non_blocking: bool
    prepare_batch: PrepareBatch
    output_transform: EvaluationOutput
    predict: Callable[[Any], Any]

    def __call__(self, engine: Engine, batch: Any) -> Any:
        """Evaluate a batch."""
        if not is_settled(self.model, False):
            self.model.eval()
        with torch.set_grad_enabled(False):  # at half the cost of no_grad
            x, y = self.prepare_batch(batch, device=self.device, non_blocking=self.non_blocking)
            return self.output_transform(x, y, self.predict(x))
