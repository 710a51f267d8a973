"""Names of pytorch-ignite 0.5.5 that are not public, but that other packages import."""

from __future__ import annotations

from typing import Final

from fengine.engine.supervised.descent import Scaler
from fengine.engine.supervised.factories import mode_and_scaler
from fengine.engine.supervised.task_parts import split_batch

# The object itself and no copy, since it is what the factories have as their default.
_prepare_batch: Final = split_batch


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
