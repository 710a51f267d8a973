"""Names of pytorch-ignite 0.5.5 that are not in `__all__`, but that other packages import."""

from __future__ import annotations

from typing import Any, Final

from fengine.engine.supervised.descent import Scaler
from fengine.engine.supervised.factories import mode_and_scaler
from fengine.engine.supervised.task_parts import Device, split_batch
from fengine.training.preparing import moved

# The object itself and no copy, since it is what the factories have as their default.
_prepare_batch: Final = split_batch


def convert_tensor(x: Any, device: Device = None, non_blocking: bool = False) -> Any:
    """Move the tensors of a batch to a device.

    Args:
        x: a tensor, or tensors in mappings and sequences.
        device: where to; None: nothing is moved.
        non_blocking: let a copy from pinned memory to a GPU go on in the background.

    Raises:
        TypeError: there is something in it that cannot be moved.

    >>> import torch
    >>> convert_tensor({"x": torch.ones(1)}, "cpu")
    {'x': tensor([1.])}
    """
    return x if device is None else moved(x, device, non_blocking)


def _check_arg(
    on_tpu: bool, on_mps: bool, amp_mode: str | None, scaler: Scaler | bool | None
) -> tuple[str | None, Scaler | None]:
    """Return the mode of a step, "tpu" for an XLA device, and the scaler that it needs, if any.

    Raises:
        ImportError: a scaler is to be made, and this torch has none.
        RuntimeError: the device is an XLA device, and torch_xla is not installed.
        ValueError: two arguments contradict each other.

    >>> _check_arg(False, False, "amp", False)
    ('amp', None)
    """
    kind = "xla" if on_tpu else "mps" if on_mps else None
    return mode_and_scaler(kind, amp_mode, scaler, scaler_kind="cuda")
