"""What the process functions of supervised engines do with a batch: training and evaluation.

A process function is a frozen record of chosen parts. It is no closure, so that an engine with one
can be copied and pickled. The parts are chosen when the record is made, and a batch asks nothing
that could have been answered before.

Lives here: the order of what is done with a batch. How it is done is in `forward` and `descent`;
which parts a way of computing chooses is in `training_functions` and `evaluation_functions`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import attrs
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from fengine.engine.engine import Engine
from fengine.engine.supervised.descent import ApexDescent, Descent
from fengine.engine.supervised.forward import Forward
from fengine.engine.supervised.task_parts import (
    Device,
    EvaluationOutput,
    PrepareBatch,
    TrainingOutput,
    loss_value,
    split_batch,
)
from fengine.training.holding import require_held
from fengine.training.modes import is_settled, put_into_mode


@final
@attrs.frozen(eq=False)
class TrainingFunction:
    """Train on a batch: go forward, backward, and update the weights."""

    model: nn.Module
    optimizer: Optimizer
    device: Device
    non_blocking: bool
    prepare_batch: PrepareBatch
    forward: Forward
    descent: Descent
    output_transform: TrainingOutput

    def as_run_begins(self) -> None:
        """Refuse an optimizer that holds nothing of the model; that of apex holds copies."""
        if not isinstance(self.descent, ApexDescent):
            require_held(self.model, self.optimizer)

    def __call__(
        self, engine: Engine, batch: Any, is_first: bool = True, is_last: bool = True
    ) -> Any:
        """Train on a batch, which may be the first or the last of those before an update."""
        if is_first:
            self.optimizer.zero_grad()
        if not is_settled(self.model, True):
            put_into_mode(self.model, True)
        if self.device is None and self.prepare_batch is split_batch:
            x, y = batch  # what `split_batch` would return, at less cost
        else:
            x, y = self.prepare_batch(batch, device=self.device, non_blocking=self.non_blocking)
        y_pred, loss = self.forward.compute(x, y)
        self.descent.backward(loss)
        if is_last:
            self.descent.step()
        return self.output_transform(x, y, y_pred, loss)


@final
@attrs.frozen(eq=False)
class AccumulatingFunction:
    """Train with one update for a window of iterations, which are counted by the run.

    A window begins without gradients. Those of a window that the run does not finish are dropped.
    """

    train: TrainingFunction
    window: int

    def as_run_begins(self) -> None:
        """Refuse an optimizer that holds nothing of the model."""
        self.train.as_run_begins()

    def __call__(self, engine: Engine, batch: Any) -> Any:
        """Train on a batch."""
        iteration, window = engine.state.iteration, self.window
        return self.train(engine, batch, (iteration - 1) % window == 0, iteration % window == 0)


@final
@attrs.frozen(eq=False)
class ClosureFunction:
    """Train with an optimizer that evaluates the model itself, several times if it likes.

    The output is made of its first evaluation, before the weights change.
    """

    task: TrainingFunction

    def as_run_begins(self) -> None:
        """Refuse an optimizer that holds nothing of the model."""
        self.task.as_run_begins()

    def __call__(self, engine: Engine, batch: Any) -> Any:
        """Train on a batch."""
        task = self.task
        if not is_settled(task.model, True):
            put_into_mode(task.model, True)
        x, y = task.prepare_batch(batch, device=task.device, non_blocking=task.non_blocking)
        first: list[Any] = []

        def evaluate() -> Tensor:
            task.optimizer.zero_grad()
            y_pred, loss = task.forward.compute(x, y)
            task.descent.backward(loss)
            if not first:
                first.extend((y_pred, loss))
            return loss

        task.optimizer.step(evaluate)  # type: ignore[arg-type]  # torch has a float there
        return task.output_transform(x, y, *first)


@final
@attrs.frozen(eq=False)
class EvaluationFunction:
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
            put_into_mode(self.model, False)
        enabled = torch.is_grad_enabled()
        try:
            with torch.set_grad_enabled(False):  # at half the cost of no_grad
                x, y = self.prepare_batch(batch, device=self.device, non_blocking=self.non_blocking)
                return self.output_transform(x, y, self.predict(x))
        except BaseException:  # which may be a signal, right before the block was left
            torch.set_grad_enabled(enabled)
            raise


@final
@attrs.frozen(eq=False)
class WholeLoss:
    """Hand an output transform the loss of which `ForwardInPart` made a part.

    >>> WholeLoss(loss_value, window=3)(None, None, None, torch.tensor(2.0))
    6.0
    """

    output_transform: TrainingOutput
    window: int

    def __call__(self, x: Any, y: Any, y_pred: Any, loss: Tensor) -> Any:
        """Make the output."""
        return self.output_transform(x, y, y_pred, loss * self.window)


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
