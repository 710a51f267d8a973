"""Batches on their way to the model: tensors in nested containers, moved to a device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch


def convert_tensor(
    value: Any, device: str | torch.device | int | None = None, non_blocking: bool = False
) -> Any:
    """Give a value with every tensor in it on the device; containers keep their type.

    Args:
        value: a tensor, a string, or a mapping, sequence or named tuple of such.
        device: where to; None: nothing is moved.
        non_blocking: let a copy from pinned memory to a GPU go on in the background.

    Raises:
        TypeError: the value, or something in it, is none of these.

    >>> convert_tensor({"x": [torch.ones(1)]}, device="cpu")
    {'x': [tensor([1.])]}
    """
    if isinstance(value, torch.Tensor):
        return value if device is None else value.to(device, non_blocking=non_blocking)
    if value is None or isinstance(value, str | bytes):
        return value
    if isinstance(value, Mapping):
        moved = {key: convert_tensor(item, device, non_blocking) for key, item in value.items()}
        return moved if type(value) is dict else type(value)(moved)  # type: ignore[call-arg]  # mappings are made of mappings
    if isinstance(value, Sequence):
        items = [convert_tensor(item, device, non_blocking) for item in value]
        kind: Any = type(value)
        return kind(*items) if hasattr(value, "_fields") else kind(items)
    raise TypeError(
        f"a batch holds {value!r} of type {type(value).__name__}; tensors can be moved to a device "
        "alone, or in mappings, sequences and named tuples. For other batches give prepare_batch"
    )


def prepare_batch(
    batch: Any, device: str | torch.device | int | None = None, non_blocking: bool = False
) -> tuple[Any, Any]:
    """Split a batch into inputs and targets, both on the device.

    Args:
        batch: a pair.
        device: where to; None: nothing is moved.
        non_blocking: as for `convert_tensor`.

    Raises:
        ValueError: the batch is not a pair.

    >>> prepare_batch((torch.ones(1), torch.zeros(1)))
    (tensor([1.]), tensor([0.]))
    """
    x, y = batch
    if device is None:
        return x, y
    return convert_tensor(x, device, non_blocking), convert_tensor(y, device, non_blocking)
