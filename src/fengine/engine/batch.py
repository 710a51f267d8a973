"""How the supervised engines take a batch apart."""

from __future__ import annotations

from typing import Any

import torch

from fengine.training.batches import moved


def _prepare_batch(
    batch: Any, device: str | torch.device | int | None = None, non_blocking: bool = False
) -> tuple[Any, Any]:
    """Split a batch into inputs and targets, both on the device.

    Args:
        batch: anything that unpacks into two.
        device: where to; None: nothing is moved.
        non_blocking: let a copy from pinned memory to a GPU go on in the background.

    Raises:
        TypeError: there is something in it that cannot be moved.
        ValueError: the batch does not unpack into two.

    >>> _prepare_batch((torch.ones(1), torch.zeros(1)))
    (tensor([1.]), tensor([0.]))
    """
    x, y = batch
    if device is None:
        return x, y
    return moved(x, device, non_blocking), moved(y, device, non_blocking)
