"""The supervised evaluation step: predictions in evaluation mode, and nothing left behind.

Each call restores what it changed. So an evaluation can be paused between two batches, and training
go on meanwhile, without the one noticing the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar, final, overload

import attrs
import torch
from torch import Tensor, nn
from typing_extensions import TypeVar as DefaultTypeVar

from fengine.core.describe import require_callable
from fengine.core.steps import Outputs, outputs
from fengine.training.batches import Device, PrepareBatch, prepare_batch
from fengine.training.supervised import require_module

Batch = DefaultTypeVar("Batch", default=tuple[Tensor, Tensor])
Inputs = TypeVar("Inputs")
Targets = DefaultTypeVar("Targets", default=Tensor)
Predicted = DefaultTypeVar("Predicted", default=Tensor)


@final
@attrs.frozen(eq=False)
class Prediction(Generic[Predicted, Targets]):
    """Hold what a model made of a batch beside what it should have.

    Args:
        y_pred: what the model made of the inputs; without a graph.
        y: the targets.

    >>> Prediction(y_pred=torch.ones(1), y=torch.ones(1)).y
    tensor([1.])
    """

    y_pred: Predicted
    y: Targets


@final
@attrs.frozen
class _Predict(Generic[Batch, Predicted, Targets]):
    model: nn.Module
    prepare_batch: PrepareBatch[Batch, object, Targets]
    device: Device | None
    non_blocking: bool

    def __call__(self, batch: Batch) -> Prediction[Predicted, Targets]:
        x, y = self.prepare_batch(batch, self.device, self.non_blocking)
        with _evaluation_mode(self.model), torch.no_grad():
            y_pred: Predicted = self.model(x)
        return Prediction(y_pred, y)


@contextmanager
def _evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Have a model in evaluation mode, and behind that each of its modules in the mode it was in.

    >>> model = nn.Dropout(0.5)
    >>> with _evaluation_mode(model):
    ...     model(torch.ones(2))
    tensor([1., 1.])
    >>> model.training
    True
    """
    # The modules of a frozen ScriptModule have no flag, and need none.
    flags = [(module, getattr(module, "training", False)) for module in model.modules()]
    if not any(training for _, training in flags):
        yield
        return
    model.eval()
    try:
        yield
    finally:
        model.train(flags[0][1])  # a module may do more there than write its flag
        for module, training in flags:
            if module.training != training:
                module.training = training


@overload
def supervised_evaluation(
    model: nn.Module, *, device: Device | None = None, non_blocking: bool = False
) -> Outputs[Batch, Prediction[Predicted, Targets]]: ...


@overload
def supervised_evaluation(
    model: nn.Module,
    *,
    device: Device | None = None,
    non_blocking: bool = False,
    prepare_batch: PrepareBatch[Batch, Inputs, Targets],
) -> Outputs[Batch, Prediction[Predicted, Targets]]: ...


def supervised_evaluation(
    model: nn.Module,
    *,
    device: Device | None = None,
    non_blocking: bool = False,
    prepare_batch: Callable[..., tuple[object, Targets]] = prepare_batch,
) -> Outputs[Batch, Prediction[Predicted, Targets]]:
    """Make the step that predicts in evaluation mode, without gradients.

    Law: it leaves the training flag of every module as it was, whatever the model raises.

    Args:
        model: its modules are visited at each batch; where none is in training mode, none is
            changed.
        device: where to compute. The model is moved there now, and each batch as it comes; None
            leaves both where they are.
        non_blocking: let copies of batches between host and accelerator go on in the background.
        prepare_batch: makes the pair (x, y) of `(batch, device, non_blocking)`.

    Raises:
        TypeError: an argument is of the wrong kind; or, in the run, a batch is not a pair.

    >>> from fengine import Loop
    >>> model = nn.Dropout(0.5)
    >>> final = Loop(supervised_evaluation(model)).run([(torch.ones(3), torch.zeros(3))])
    >>> final.output.y_pred, model.training
    (tensor([1., 1., 1.]), True)
    """
    require_module(model)
    require_callable(prepare_batch, "prepare_batch", "batch", "device", "non_blocking")
    if device is not None:
        model.to(device)
    predict: _Predict[Batch, Predicted, Targets] = _Predict(
        model, prepare_batch, device, non_blocking
    )
    return outputs(predict)
