"""The evaluation step: predictions in evaluation mode, and nothing left behind.

A run switches the modes once, and at a batch only where something has switched them since. A run
that gives moments switches them at each batch: so an evaluation can be paused between two batches,
and training go on meanwhile, without the one noticing the other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar, final, overload

import attrs
import torch
from torch import Tensor, nn
from typing_extensions import TypeVar as DefaultTypeVar

from fengine.core.describe import call_in_words, require_callable
from fengine.core.steps import Facts, Outputs, telling, with_context
from fengine.training.counting import count_samples
from fengine.training.modes import EvaluationMode, is_settled
from fengine.training.objectives import autocasting, require_dtype, shown_precision
from fengine.training.preparing import Device, PrepareBatch, non_blocking_for, prepare_batch
from fengine.training.training_step import require_module

Batch = DefaultTypeVar("Batch", default=tuple[Tensor, Tensor])
Inputs = TypeVar("Inputs")
Targets = DefaultTypeVar("Targets", default=Tensor)
Predicted = DefaultTypeVar("Predicted", default=Tensor)


class Prediction(NamedTuple, Generic[Predicted, Targets]):  # a tuple is made fastest
    """Hold what a model made of a batch beside what it should have.

    Args:
        y_pred: what the model made of the inputs; without a graph.
        y: the targets.

    >>> y_pred, y = Prediction(y_pred=torch.zeros(1), y=torch.ones(1))
    >>> y
    tensor([1.])
    """

    y_pred: Predicted
    y: Targets


@final
@attrs.frozen
class Predict(Generic[Batch, Predicted, Targets]):
    """Make predictions in evaluation mode, without gradients.

    >>> predict = Predict(nn.Identity(), prepare_batch, None, None, None)
    >>> predict((torch.ones(1), torch.zeros(1))).y_pred
    tensor([1.])
    """

    model: nn.Module
    prepare_batch: Callable[..., tuple[object, Targets]]
    device: Device | None
    non_blocking: bool | None
    autocast: torch.dtype | None

    def __call__(self, batch: Batch) -> Prediction[Predicted, Targets]:
        """Predict with a batch."""
        x, y = self.prepare_batch(batch, self.device, self.non_blocking)
        enabled = torch.is_grad_enabled()
        try:
            if is_settled(self.model, False):
                with torch.set_grad_enabled(False):  # at half the cost of no_grad
                    return Prediction(self._predict(x), y)
            with EvaluationMode(self.model)(), torch.no_grad():
                return Prediction(self._predict(x), y)
        except BaseException:  # which may be a signal, right before a block was left
            torch.set_grad_enabled(enabled)
            raise

    def _predict(self, x: object) -> Predicted:
        y_pred: Predicted
        if self.autocast is None:
            y_pred = self.model(x)
        else:
            with autocasting(self.model, self.device, self.autocast):
                y_pred = self.model(x)
        return y_pred


@overload
def evaluation_step(
    model: nn.Module,
    *,
    device: Device | None = None,
    non_blocking: bool | None = None,
    weight: Callable[[Batch], float] = ...,
    autocast: torch.dtype | None = None,
) -> Outputs[Batch, Prediction[Predicted, Targets]]: ...


@overload
def evaluation_step(
    model: nn.Module,
    *,
    device: Device | None = None,
    non_blocking: bool | None = None,
    prepare_batch: PrepareBatch[Batch, Inputs, Targets],
    weight: Callable[[Batch], float] = ...,
    autocast: torch.dtype | None = None,
) -> Outputs[Batch, Prediction[Predicted, Targets]]: ...


def evaluation_step(
    model: nn.Module,
    *,
    device: Device | None = None,
    non_blocking: bool | None = None,
    prepare_batch: Callable[..., tuple[object, Targets]] = prepare_batch,
    weight: Callable[[Batch], float] = count_samples,
    autocast: torch.dtype | None = None,
) -> Outputs[Batch, Prediction[Predicted, Targets]]:
    """Make the step that predicts in evaluation mode, without gradients.

    A run puts the model into evaluation mode, and in the end each module back into the mode it was
    in; one by `iterate` does so at each batch. A training that a handler runs meanwhile finds the
    modes from before the evaluation.

    Law: a run leaves the training flag of every module as it was, whatever the model raises.

    Args:
        model: its modules are visited at each batch, in case that one was switched on since.
        device: where to compute. The model is moved there now, and each batch as it comes; None
            leaves both where they are.
        non_blocking: let copies of batches between host and accelerator go on in the background;
            None: those from pinned memory to an accelerator; your own `prepare_batch` gets False.
        prepare_batch: makes the pair (x, y) of `(batch, device, non_blocking)`.
        weight: counts in a batch, as the data gave it, what a mean is over; by default the samples.
        autocast: the dtype of mixed precision, in which the model computes; None: as it is.

    Raises:
        TypeError: an argument is of the wrong kind; or, in the run, a batch is not a pair.

    >>> from fengine import Loop
    >>> model = nn.Dropout(0.5)
    >>> final = Loop(evaluation_step(model)).run([(torch.ones(3), torch.zeros(3))])
    >>> final.output.y_pred, model.training
    (tensor([1., 1., 1.]), True)
    """
    require_module(model)
    require_callable(prepare_batch, "prepare_batch", "batch", "device", "non_blocking")
    require_callable(weight, "weight", "batch")
    require_dtype(autocast)
    if device is not None:
        model.to(device)
    predict: Predict[Batch, Predicted, Targets] = Predict(
        model, prepare_batch, device, non_blocking_for(prepare_batch, non_blocking), autocast
    )
    step = with_context(Outputs(predict), EvaluationMode(model))
    words = call_in_words("evaluation_step", model, **shown_precision(autocast))
    return telling(step, Facts(weight, Prediction, words, reads=(model,)))
