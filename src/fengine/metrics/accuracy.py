"""Accuracy: the part of the predictions that are right, counted exactly.

Which shapes and numbers mean what is said by the task, and not guessed. The count stays on its
device until it is reported.
"""

from __future__ import annotations

import math
from typing import Literal, TypeAlias, final, get_args

import attrs
import torch
from torch import Tensor

from fengine import Events, When
from fengine.core.describe import call_in_words
from fengine.metrics.means import prediction_of
from fengine.metrics.measuring import Measure, MeasuresOutput, given_over, require_name
from fengine.metrics.of_members import OverMembers, over_rows, rows_of
from fengine.training import Prediction

Task: TypeAlias = Literal["multiclass", "binary", "multilabel"]


@final
@attrs.frozen
class Count:
    """Hold how many predictions were right.

    Args:
        correct: how many; a tensor without dimensions once there are any.
        total: how many predictions there were.

    >>> Count(correct=3, total=4)
    Count(correct=3, total=4)
    """

    correct: Tensor | int = 0
    total: int = 0


@final
@attrs.frozen
class Accuracy:
    """The metric that takes predictions, and computes the part of them that are right.

    Args:
        task: as for `accuracy`.
        top_k: as for `accuracy`.
        threshold: as for `accuracy`.
        empty: the count of nothing.

    >>> import torch
    >>> scores, y = torch.tensor([[0.1, 0.9], [0.8, 0.2]]), torch.tensor([1, 1])
    >>> Accuracy().of(Prediction(scores, y))
    Count(correct=tensor(1), total=2)
    """

    task: Task = "multiclass"
    top_k: int = 1
    threshold: float = 0.0
    empty: Count = Count()

    def of(self, output: Prediction[Tensor, Tensor], /) -> Count:
        """Count the predictions of a batch.

        Raises:
            TypeError: `output` is no prediction of tensors.
            ValueError: the shapes do not fit each other and the task.
        """
        y_pred, y = prediction_of(output, "accuracy")
        if not isinstance(y_pred, Tensor) or not isinstance(y, Tensor):
            raise TypeError(
                f"accuracy takes tensors, not a {type(y_pred).__name__} and a {type(y).__name__}"
            )
        if self.task == "multiclass":
            return self._multiclass(y_pred, y)
        if y_pred.shape != y.shape or (self.task == "multilabel" and y.ndim < 2):
            shape = "(n, labels, ...)" if self.task == "multilabel" else "(n, ...)"
            raise self._refusal(y_pred, y, f"scores and targets of one shape, {shape}")
        right = (y_pred > self.threshold) == (y > 0.5)
        return Count(right.sum(), y.numel())

    def _multiclass(self, y_pred: Tensor, y: Tensor) -> Count:
        fits = y_pred.ndim >= 2 and y_pred.shape[:1] + y_pred.shape[2:] == y.shape
        if not fits or y_pred.shape[1] < 2 or y.is_floating_point():
            wanted = "scores (n, classes, ...) of 2 classes or more, and whole targets (n, ...)"
            raise self._refusal(y_pred, y, wanted)
        if self.top_k == 1:
            return Count((y_pred.argmax(dim=1) == y).sum(), y.numel())
        if self.top_k > y_pred.shape[1]:
            raise self._refusal(y_pred, y, f"scores of {self.top_k} classes or more, for top_k")
        best = y_pred.topk(self.top_k, dim=1).indices
        return Count((best == y.unsqueeze(1)).sum(), y.numel())

    def _refusal(self, y_pred: Tensor, y: Tensor, wanted: str) -> ValueError:
        return ValueError(
            f"accuracy of scores {tuple(y_pred.shape)} and targets {tuple(y.shape)} of "
            f"{str(y.dtype).removeprefix('torch.')}: task={self.task!r} takes {wanted}. Tasks are "
            f"{', '.join(get_args(Task))}"
        )

    def merge(self, total: Count, other: Count, /) -> Count:
        """Add both counts."""
        return Count(total.correct + other.correct, total.total + other.total)

    def compute(self, total: Count, /) -> float:
        """Divide; not a number where nothing was predicted."""
        return float(total.correct) / total.total if total.total else math.nan


@final
@attrs.frozen
class _CountMembers:
    """Count the predictions of all members of an ensemble."""

    metric: Accuracy

    def __call__(self, output: Prediction[Tensor, Tensor]) -> Count:
        y_pred, y = prediction_of(output, "accuracy")
        totals = []

        def correct(row: Tensor) -> Tensor:
            counted = self.metric.of(Prediction(row, y))
            totals.append(counted.total)
            return torch.as_tensor(counted.correct)

        return Count(over_rows(correct, rows_of(y_pred, "accuracy")), totals[-1])


def accuracy(
    name: str = "accuracy",
    *,
    task: Task = "multiclass",
    top_k: int = 1,
    threshold: float = 0.0,
    over: When = Events.EPOCH_COMPLETED,
) -> MeasuresOutput[Prediction[Tensor, Tensor], Count]:
    """Make a feature that sets the accuracy of the predictions of each span as a metric.

    Of an ensemble it keeps a tuple with the accuracy of each member in its part, for
    `member_values`, and sets the metrics NAME_best and NAME_mean.

    Args:
        name: what the metric and the part are called.
        task: what is predicted: "multiclass", the class with the largest of the scores of shape
            (n, classes, ...), for targets of shape (n, ...), as of images or of each of their
            pixels; "binary", 1 where a score of shape (n, ...) is above `threshold`; "multilabel",
            the same for each label, of shape (n, labels, ...).
        top_k: in how many of the largest scores the class has to be, for "multiclass".
        threshold: above which score the prediction is 1; 0.0 is for logits, 0.5 for probabilities.
        over: the event at which a span ends, and the next one begins.

    Raises:
        TypeError: an argument is of the wrong kind; or, in the run, the output is no prediction.
        ValueError: the task is not known, or `top_k` does not go with it; or, in the run, the
            shapes do not fit.

    >>> import torch
    >>> from torch import nn
    >>> from fengine import Loop
    >>> from fengine.training import evaluation_step
    >>> loop = Loop(evaluation_step(nn.Identity())) | accuracy()
    >>> scores = torch.tensor([[0.1, 0.9], [0.8, 0.2]])
    >>> loop.run([(scores, torch.tensor([1, 1]))]).metrics["accuracy"]
    0.5
    """
    require_name("accuracy", name)
    if task not in get_args(Task):
        raise ValueError(f"task={task!r} is not one of {', '.join(map(repr, get_args(Task)))}")
    if type(top_k) is not int:
        raise TypeError(f"top_k={top_k!r} of type {type(top_k).__name__} is not an int")
    if top_k < 1 or (top_k > 1 and task != "multiclass"):
        raise ValueError(f"top_k={top_k} with task={task!r}: a number from 1, above 1 for classes")
    if isinstance(threshold, bool) or not isinstance(threshold, int | float):
        raise TypeError(f"threshold={threshold!r} is not a number")
    given = {"name": name, "task": task, "top_k": top_k, "threshold": threshold}
    usual = {"name": "accuracy", "task": "multiclass", "top_k": 1, "threshold": 0.0}
    shown = {key: one for key, one in given.items() if one != usual[key]}
    words = call_in_words("accuracy", **shown, **given_over(over))
    metric = Accuracy(task, top_k, threshold)
    over_members = OverMembers(metric, "max", _CountMembers(metric)), None
    return Measure(name, metric, over, None, Prediction, words, (name,), over_members)
