"""Accuracy: the part of the predictions that name the right class, counted batch by batch.

The count is a frozen part of the user's record; it stays on its device until it is reported.
"""

from __future__ import annotations

import math
from typing import TypeVar, final

import attrs
from torch import Tensor

from fengine import State
from fengine.training.evaluation import Prediction

Batch = TypeVar("Batch")
Output = TypeVar("Output")


@final
@attrs.frozen
class Accuracy:
    """Count predictions.

    Args:
        correct: how many were right; a tensor without dimensions once there are any.
        total: how many there were.

    >>> Accuracy(correct=3, total=4).value
    0.75
    """

    correct: Tensor | int = 0
    total: int = 0

    @property
    def value(self) -> float:
        """The part that was right, from 0 to 1; not a number where nothing was predicted."""
        return float(self.correct) / self.total if self.total else math.nan


def count_correct(
    state: State[Batch, Prediction[Tensor, Tensor], Accuracy],
) -> State[Batch, Prediction[Tensor, Tensor], Accuracy]:
    """Count the predictions of a batch; a handler of ITERATION_COMPLETED.

    The output holds scores of shape (batch, classes), the largest of which is the prediction, and
    targets of shape (batch,).

    >>> import torch
    >>> output = Prediction(y_pred=torch.tensor([[0.1, 0.9], [0.8, 0.2]]), y=torch.tensor([1, 1]))
    >>> count_correct(State(output=output, user=Accuracy())).user
    Accuracy(correct=tensor(1), total=2)
    """
    y_pred, y = state.output.y_pred, state.output.y
    right = (y_pred.argmax(dim=1) == y).sum()
    user = state.user
    return state.evolve(user=Accuracy(user.correct + right, user.total + len(y)))


def report_accuracy(state: State[Batch, Output, Accuracy]) -> State[Batch, Output, Accuracy]:
    """Put the count into `state.metrics["accuracy"]`; a handler of COMPLETED.

    >>> report_accuracy(State(user=Accuracy(3, 4))).metrics["accuracy"]
    0.75
    """
    return state.with_metric("accuracy", state.user.value)
