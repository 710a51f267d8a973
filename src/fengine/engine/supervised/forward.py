"""How a prediction and its loss are made: plainly, in mixed precision, or as a part of a window.

Each way is a frozen record with one method, `compute`. It is a method since Python calls one faster
than a record that is callable; a trainer calls it at each batch. What is done with the loss is in
`descent`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, final

import attrs
from torch import Tensor, nn

from fengine.engine.supervised.precision import Autocast
from fengine.engine.supervised.task_parts import (
    LossFunction,
    ModelFunction,
    ModelTransform,
    call_model,
    unchanged,
)


class Forward(Protocol):
    """Go forward."""

    def compute(self, x: Any, y: Any) -> tuple[Any, Tensor]:
        """Return the prediction for the inputs, and its loss."""


@final
@attrs.frozen(eq=False)
class PlainForward:
    """Predict, and compute the loss.

    >>> PlainForward(abs, lambda y_pred, y: y - y_pred).compute(-2, 3)
    (2, 1)
    """

    predict: Callable[[Any], Any]
    loss_fn: LossFunction

    def compute(self, x: Any, y: Any) -> tuple[Any, Tensor]:
        """Return the prediction for the inputs, and its loss."""
        y_pred = self.predict(x)
        return y_pred, self.loss_fn(y_pred, y)


@final
@attrs.frozen(eq=False)
class ForwardInPrecision:
    """Go forward in mixed precision; both the prediction and the loss are computed in it.

    >>> import torch
    >>> plain = PlainForward(torch.is_autocast_enabled, lambda y_pred, y: y)
    >>> ForwardInPrecision(plain, Autocast(nn.Identity(), "cpu", None)).compute("cpu", "y")
    (True, 'y')
    """

    forward: Forward
    precision: Autocast

    def compute(self, x: Any, y: Any) -> tuple[Any, Tensor]:
        """Return the prediction for the inputs, and its loss."""
        with self.precision():
            return self.forward.compute(x, y)


@final
@attrs.frozen(eq=False)
class ForwardInPart:
    """Have each batch of a window count by one part of its loss.

    >>> import torch
    >>> plain = PlainForward(lambda x: x, lambda y_pred, y: y)
    >>> ForwardInPart(plain, window=3).compute("x", torch.tensor(6.0))
    ('x', tensor(2.))
    """

    forward: Forward
    window: int

    def compute(self, x: Any, y: Any) -> tuple[Any, Tensor]:
        """Return the prediction for the inputs, and the part of its loss."""
        y_pred, loss = self.forward.compute(x, y)
        return y_pred, loss / self.window


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
