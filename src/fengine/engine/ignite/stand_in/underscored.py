"""Names of pytorch-ignite 0.5.5 that are not public, but that other packages import."""

from __future__ import annotations

from typing import Any

from fengine.engine.supervised.descent import Scaler
from fengine.engine.supervised.factories import mode_and_scaler
from fengine.engine.supervised.task_parts import Device, split_batch


def _prepare_batch(
    batch: Any, device: Device = None, non_blocking: bool = False
) -> tuple[Any, Any]:
    """Split a batch into inputs and targets, both on the device.

    Raises:
        TypeError: there is something in it that cannot be moved.
        ValueError: the batch does not unpack into two.

    >>> _prepare_batch((1, 2))
    (1, 2)
    """
    return split_batch(batch, device, non_blocking)


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
