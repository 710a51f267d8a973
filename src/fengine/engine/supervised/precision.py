"""Mixed precision: the context in which a model computes, on whatever type of device it is."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import chain
from typing import Any, final

import attrs
import torch
from torch import nn

from fengine.engine.supervised.task_parts import Device


@final
@attrs.frozen(eq=False)
class Autocast:
    """Make the contexts in which a model computes in a narrower dtype.

    Args:
        model: unless a device is given, where the model is decides on the type, at each context.
        device: the device, or None.
        dtype: what to compute in, such as `torch.bfloat16`; None: what torch uses on such a device.

    >>> model = nn.Linear(1, 1)
    >>> with Autocast(model, None, None)():
    ...     model(torch.ones(1, 1)).dtype
    torch.bfloat16
    """

    model: nn.Module
    device: Device
    dtype: torch.dtype | None

    def __call__(self) -> AbstractContextManager[object]:
        """Make a context."""
        if self.device is None:
            return torch.amp.autocast(model_device_type(self.model), self.dtype)
        return torch.amp.autocast(device_type(self.device), self.dtype)


@final
@attrs.frozen(eq=False)
class PredictInPrecision:
    """Predict in mixed precision.

    >>> predict = torch.is_autocast_enabled
    >>> PredictInPrecision(predict, Autocast(nn.Identity(), "cpu", None))("cpu"), predict("cpu")
    (True, False)
    """

    predict: Callable[[Any], Any]
    precision: Autocast

    def __call__(self, x: Any) -> Any:
        """Predict."""
        with self.precision():
            return self.predict(x)


def device_type(device: str | torch.device | int) -> str:
    """Name the type of a device.

    Raises:
        RuntimeError: torch knows no such device.

    >>> device_type("cuda:1")
    'cuda'
    """
    try:
        return torch.device(device).type
    except RuntimeError:
        if isinstance(device, int):
            return "cuda"  # a bare index numbers the accelerators, and here is none
        raise


def model_device_type(model: nn.Module) -> str:
    """Name the type of the device that a model is on; the CPU if it has no tensor.

    >>> model_device_type(nn.Linear(1, 1, device="meta")), model_device_type(nn.Identity())
    ('meta', 'cpu')
    """
    tensors = chain(model.parameters(), model.buffers())
    return next((tensor.device.type for tensor in tensors), "cpu")
