"""Objectives: from a batch to its loss, by a model. A user chooses this part of a training step.

An objective returns the fields of a `ForwardPass`. It knows neither an optimizer nor a loop, and
changes no mode and no gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias, final

import attrs
import torch
from torch import Tensor, nn

from fengine.training.preparing import Device, moved, prepare_batch

Fields: TypeAlias = tuple[object, object, object, Tensor]


class Objective(Protocol):
    """Make the inputs, the targets, the predictions and the loss of a batch."""

    def __call__(self, batch: Any, /) -> Fields:
        """Go forward with a batch."""

    def loss(self, batch: Any, /) -> Tensor:
        """Go forward with a batch, and keep the loss alone, which costs less."""


@final
@attrs.frozen
class LossOfPredictions:
    """Compare what the model makes of the inputs with the targets.

    >>> model = nn.Linear(1, 1)
    >>> objective = LossOfPredictions(model, nn.functional.mse_loss, prepare_batch, None, None)
    >>> x, y, y_pred, loss = objective((torch.ones(2, 1), torch.ones(2, 1)))
    >>> y_pred.shape, loss.shape
    (torch.Size([2, 1]), torch.Size([]))
    """

    model: nn.Module
    loss_fn: Callable[..., Tensor]
    prepare_batch: Callable[..., tuple[object, object]]
    device: Device | None
    non_blocking: bool | None

    _plain: bool = attrs.field(init=False, eq=False, repr=False)

    @_plain.default
    def _is_plain(self) -> bool:
        return self.device is None and self.prepare_batch is prepare_batch

    def __call__(self, batch: Any) -> Fields:
        """Go forward with a batch."""
        if self._plain and type(batch) is tuple and len(batch) == 2:
            x, y = batch  # what `prepare_batch` would return, at less cost
        else:
            x, y = self.prepare_batch(batch, self.device, self.non_blocking)
        y_pred = self.model(x)
        return x, y, y_pred, self.loss_fn(y_pred, y)

    def loss(self, batch: Any) -> Tensor:
        """Go forward with a batch, and keep the loss alone."""
        if self._plain and type(batch) is tuple and len(batch) == 2:
            x, y = batch
            return self.loss_fn(self.model(x), y)
        return self(batch)[3]


@final
@attrs.frozen
class OwnLoss:
    """Have a function of the user's make the loss of the model and the batch.

    >>> OwnLoss(nn.Identity(), lambda model, batch: model(batch).sum(), None, None)(torch.ones(2))
    (tensor([1., 1.]), None, None, tensor(2.))
    """

    model: nn.Module
    loss_of: Callable[[Any, Any], Tensor]
    device: Device | None
    non_blocking: bool | None

    def __call__(self, batch: Any) -> Fields:
        """Go forward with a batch."""
        if self.device is not None:
            batch = moved(batch, self.device, self.non_blocking)
        return batch, None, None, self.loss_of(self.model, batch)

    def loss(self, batch: Any) -> Tensor:
        """Go forward with a batch, and keep the loss alone."""
        return self(batch)[3]


@final
@attrs.frozen
class InPrecision:
    """Go forward under autocast, which is left before anybody goes backward.

    >>> objective = OwnLoss(nn.Linear(1, 1), lambda model, batch: model(batch).sum(), None, None)
    >>> InPrecision(objective, torch.bfloat16)(torch.ones(1, 1))[3].dtype
    torch.bfloat16
    """

    objective: LossOfPredictions | OwnLoss
    dtype: torch.dtype

    def __call__(self, batch: Any) -> Fields:
        """Go forward with a batch."""
        with autocasting(self.objective.model, self.objective.device, self.dtype):
            return self.objective(batch)

    def loss(self, batch: Any) -> Tensor:
        """Go forward with a batch, and keep the loss alone."""
        return self(batch)[3]


def autocasting(model: nn.Module, device: Device | None, dtype: torch.dtype) -> torch.autocast:
    """Make the context of mixed precision where a model computes.

    >>> with autocasting(nn.Linear(1, 1), None, torch.bfloat16):
    ...     torch.is_autocast_enabled("cpu")
    True
    """
    if device is None:
        parameter = next(model.parameters(), None)
        kind = "cpu" if parameter is None else parameter.device.type
    else:
        kind = torch.device(device).type
    return torch.autocast(kind, dtype)


def shown_precision(autocast: torch.dtype | None) -> dict[str, object]:
    """Return what is printed of the precision of a step: nothing where it has none.

    >>> shown_precision(torch.bfloat16)
    {'autocast': torch.bfloat16}
    """
    return {} if autocast is None else {"autocast": autocast}


def require_dtype(autocast: object) -> None:
    """Refuse what autocast cannot compute in.

    Raises:
        TypeError: it is no dtype.
        ValueError: it is one that is not narrow.
    """
    if autocast is None:
        return
    if not isinstance(autocast, torch.dtype):
        raise TypeError(f"autocast={autocast!r} is not a torch.dtype, such as torch.bfloat16")
    if autocast not in (torch.bfloat16, torch.float16):
        raise ValueError(f"autocast={autocast} is not torch.bfloat16 or torch.float16")
