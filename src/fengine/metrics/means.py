"""Means: of the outputs of a loop, or of a loss of its predictions, each batch by its weight.

The weight of a batch is what the step says that it counts; so a mean over batches of different
sizes is that over their samples. A sum stays on its device until it is reported.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, SupportsFloat, TypeVar, final, overload

import attrs
import torch
from torch import Tensor

from fengine import Events, State, When
from fengine.core.describe import call_in_words
from fengine.metrics.measuring import (
    Measure,
    MeasuresBatch,
    MeasuresBoth,
    MeasuresNumber,
    MeasuresOutput,
    given_over,
    require_functions,
    require_name,
)
from fengine.metrics.of_members import OverMembers, over_rows, rows_of
from fengine.training import Prediction

# Bound by Any, so that pyright takes Any for the argument of a lambda, and not object.
B = TypeVar("B", bound=Any)
O = TypeVar("O", bound=Any)  # noqa: E741  # the output, beside the batch
Weight = Callable[[Any], float]

_NARROW = (torch.float16, torch.bfloat16)
_WITH_FLOAT64 = ("cpu", "cuda")


@final
@attrs.frozen
class Ratio:
    """Hold a sum of numbers, each times its weight, and the sum of the weights.

    >>> Ratio(total=6.0, weight=4.0)
    Ratio(total=6.0, weight=4.0)
    """

    total: Tensor | float = 0.0
    weight: float = 0.0


@final
@attrs.frozen
class Mean:
    """The metric that takes pairs of a number and its weight, and computes their mean.

    >>> mean = Mean()
    >>> mean.compute(mean.merge(mean.of((1.0, 3.0)), mean.of((5.0, 1.0))))
    2.0
    """

    empty: Ratio = Ratio()

    def of(self, output: tuple[Tensor | float, float], /) -> Ratio:
        """Count one number by its weight."""
        number, weight = output
        one = _one(number)
        return Ratio((_wide(one) if isinstance(one, Tensor) else one) * weight, weight)

    def add(self, total: Ratio, output: tuple[Tensor | float, float], /) -> Ratio:
        """Do what `of` and `merge` do, in one operation on the device."""
        number, weight = output
        if isinstance(number, Tensor) and isinstance(total.total, Tensor):
            return Ratio(total.total.add(_one(number), alpha=weight), total.weight + weight)
        return self.merge(total, self.of(output))

    def merge(self, total: Ratio, other: Ratio, /) -> Ratio:
        """Add sums and weights."""
        return Ratio(total.total + other.total, total.weight + other.weight)

    def compute(self, total: Ratio, /) -> float:
        """Divide; not a number where nothing has a weight."""
        return float(total.total) / total.weight if total.weight else math.nan


def _one(number: object) -> Tensor | float:
    """Return one number; a tensor without its graph."""
    if not isinstance(number, Tensor):
        if isinstance(number, int | float):
            return number
        if isinstance(number, SupportsFloat) and not getattr(number, "ndim", 0):
            return float(number)  # such as a number of numpy
        raise TypeError(
            f"a mean is made of one number a batch, and got {number!r} of type "
            f"{type(number).__name__}; give value=function(output) that makes one"
        )
    if number.numel() != 1:
        raise TypeError(
            f"a mean is made of one number a batch, and got a tensor of shape "
            f"{tuple(number.shape)}; give value=function(output) that makes one, such as its mean"
        )
    number = number.detach() if number.requires_grad else number
    return number.reshape(()) if number.ndim else number


def _wide(number: Tensor) -> Tensor:
    """Return a number in which many can be summed up; what is added to it becomes as wide."""
    if number.device.type in _WITH_FLOAT64:
        return number.double()
    return number.float() if number.dtype in _NARROW else number


def _of_each(output: tuple[Tensor, float]) -> Ratio:
    """Count the numbers of all members by their common weight."""
    numbers, weight = output
    return Ratio(_wide(numbers.detach()) * weight, weight)


_OVER_MEMBERS: Final = OverMembers(Mean(), "min", _of_each)


@final
@attrs.frozen
class _Weighted:
    """Make what reads a number and its weight, for a step that says how much a batch counts."""

    value: Callable[[Any], Any] | None
    weight: Weight | None

    def __call__(self, weight_of_step: Weight | None) -> _ReadingWeighted:
        weight = weight_of_step if self.weight is None else self.weight
        return _ReadingWeighted(self.value, weight)


@final
@attrs.frozen
class _ReadingWeighted:
    value: Callable[[Any], Any] | None
    weight: Weight | None

    def __call__(self, state: State[Any, Any, Any], /) -> tuple[Any, float]:
        number = state.output if self.value is None else self.value(state.output)
        return number, 1.0 if self.weight is None else _weight(self.weight(state.batch))


@overload
def mean(
    name: str, value: None = None, *, weight: None = None, over: When = ...
) -> MeasuresNumber[Ratio]: ...


@overload
def mean(
    name: str, value: None = None, *, weight: Callable[[B], float], over: When = ...
) -> MeasuresBatch[B, Ratio]: ...


@overload
def mean(
    name: str, value: Callable[[O], Tensor | float], *, weight: None = None, over: When = ...
) -> MeasuresOutput[O, Ratio]: ...


@overload
def mean(
    name: str,
    value: Callable[[O], Tensor | float],
    *,
    weight: Callable[[B], float],
    over: When = ...,
) -> MeasuresBoth[B, O, Ratio]: ...


def mean(
    name: str,
    value: Callable[[Any], Tensor | float] | None = None,
    *,
    weight: Callable[[Any], float] | None = None,
    over: When = Events.EPOCH_COMPLETED,
) -> Any:
    """Make a feature that sets the mean of the outputs of each span as a metric.

    Of the losses of an ensemble it keeps a tuple with the mean of each member in its part, for
    `member_values`, and sets the metrics NAME_best, the smallest, and NAME_mean.

    Law: with the weight that the step says, the mean is that over all samples, however they are cut
    into batches and windows, to rounding.

    Args:
        name: what the metric and the part are called.
        value: makes one number of the output; None: the output is one.
        weight: how much a batch counts; None: what the step says, such as the samples that
            `training_step` counts, and 1 where it says nothing.
        over: the event at which a span ends, and the next one begins.

    Raises:
        TypeError: an argument is of the wrong kind; or, in the run, there is not one number.

    >>> from fengine import Loop, outputs
    >>> loop = Loop(outputs(lambda batch: sum(batch) / len(batch))) | mean("mean", weight=len)
    >>> loop.run([[1, 2, 3], [6]]).metrics["mean"]
    3.0
    """
    require_name("mean", name)
    require_functions("mean", {"value": (value, "output"), "weight": (weight, "batch")})
    given = {"value": value, "weight": weight}
    shown = {key: one for key, one in given.items() if one is not None}
    words = call_in_words("mean", name, **shown, **given_over(over))
    takes = Tensor if value is None else None
    reads = _Weighted(value, weight)
    members = None if value is not None else (_OVER_MEMBERS, reads)
    return Measure(name, Mean(), over, reads, takes, words, (name,), members)


@final
@attrs.frozen
class _LossOf:
    """Make what reads the loss of a prediction and its weight."""

    loss_fn: Callable[[Any, Any], Tensor]
    of_members: bool = False

    def __call__(self, weight_of_step: Weight | None) -> _ReadingLoss:
        return _ReadingLoss(self.loss_fn, weight_of_step, self.of_members)


@final
@attrs.frozen
class _ReadingLoss:
    loss_fn: Callable[[Any, Any], Tensor]
    weight: Weight | None
    of_members: bool

    def __call__(self, state: State[Any, Any, Any], /) -> tuple[Tensor, float]:
        y_pred, y = prediction_of(state.output, "mean_loss")
        weight = len(y) if self.weight is None else _weight(self.weight(state.batch))
        if self.of_members:
            rows = rows_of(y_pred, "mean_loss")
            return over_rows(lambda row: self.loss_fn(row, y), rows), weight
        return self.loss_fn(y_pred, y), weight


def _weight(weight: float) -> float:
    """Return a weight as a number; counted by torch it is a tensor."""
    return weight if type(weight) in (int, float) else float(weight)


def prediction_of(output: object, feature: str) -> tuple[Any, Any]:
    """Return a prediction, which an output has to be.

    Raises:
        TypeError: it is none.
    """
    if isinstance(output, tuple) and len(output) == 2:
        return output
    raise TypeError(
        f"{feature} takes a Prediction(y_pred, y), and the output is a {type(output).__name__}; it "
        "is for a loop whose step predicts: Loop(evaluation_step(model))"
    )


def mean_loss(
    loss_fn: Callable[[Tensor, Tensor], Tensor],
    name: str = "loss",
    *,
    over: When = Events.EPOCH_COMPLETED,
) -> MeasuresOutput[Prediction[Tensor, Tensor], Ratio]:
    """Make a feature that sets the mean loss of the predictions of each span as a metric.

    Each batch counts as the step says, which is by its samples. Of an ensemble it keeps a tuple
    with the loss of each member in its part, for `member_values`, and sets the metrics NAME_best
    and NAME_mean.

    Args:
        loss_fn: makes a scalar of predictions and targets, a mean over the samples.
        name: what the metric and the part are called.
        over: the event at which a span ends, and the next one begins.

    Raises:
        TypeError: an argument is of the wrong kind; or, in the run, the output is no prediction.

    >>> from torch import nn
    >>> from fengine import Loop
    >>> from fengine.training import evaluation_step
    >>> loop = Loop(evaluation_step(nn.Identity())) | mean_loss(nn.functional.mse_loss)
    >>> batches = [(torch.zeros(3, 1), torch.zeros(3, 1)), (torch.zeros(1, 1), torch.ones(1, 1))]
    >>> loop.run(batches).metrics["loss"]
    0.25
    """
    require_name("mean_loss", name)
    if not callable(loss_fn):
        raise TypeError(f"mean_loss takes a loss function of (y_pred, y), not {loss_fn!r}")
    named = {} if name == "loss" else {"name": name}
    words = call_in_words("mean_loss", loss_fn, **named, **given_over(over))
    members = _OVER_MEMBERS, _LossOf(loss_fn, of_members=True)
    return Measure(name, Mean(), over, _LossOf(loss_fn), Prediction, words, (name,), members)
