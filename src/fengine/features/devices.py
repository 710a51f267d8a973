"""Devices: what a measurement asks of them. A port, and CUDA, which is asked where it is in use."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, final

import attrs
import torch


class Devices(Protocol):
    """Be the devices that steps work on while the process goes on.

    >>> devices: Devices = CudaDevices()
    """

    def synchronize(self) -> None:
        """Wait until all that was asked of them is done."""

    def peak_memory(self) -> int | None:
        """Return the most bytes that tensors have taken on them; None if there is none."""


@final
@attrs.frozen
class CudaDevices:
    """Be the CUDA devices on which this process has had tensors.

    >>> CudaDevices().peak_memory() is None or torch.cuda.is_initialized()
    True
    """

    def synchronize(self) -> None:
        """Wait until all that was asked of them is done."""
        for device, _ in _in_use():
            torch.cuda.synchronize(device)

    def peak_memory(self) -> int | None:
        """Return the most bytes that tensors have taken on them, in sum; None if there is none."""
        peaks = [peak for _, peak in _in_use()]
        return sum(peaks) if peaks else None


def _in_use() -> Iterator[tuple[int, int]]:
    """Give each device that has had tensors, with the most that they have taken.

    To ask others to do something would make a context there, which takes memory.
    """
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # torch declares no types
        for device in range(torch.cuda.device_count()):
            peak = torch.cuda.max_memory_allocated(device)
            if peak:
                yield device, peak
