"""Taking averages: one step of a moving average, as torch takes it."""

from __future__ import annotations

import functools
from typing import Final, final

import attrs
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

_made_by_torch: Final = functools.cache(get_ema_multi_avg_fn)


@final
@attrs.frozen
class TakeAverage:
    """Take the average as torch's own function does, which itself could not be pickled.

    >>> import torch
    >>> averaged = torch.zeros(1)
    >>> TakeAverage(0.5)([averaged], [torch.ones(1)], 1)
    >>> averaged
    tensor([0.5000])
    """

    decay: float

    def __call__(
        self,
        averaged: tuple[Tensor, ...] | list[Tensor],
        current: tuple[Tensor, ...] | list[Tensor],
        number: Tensor | int,
    ) -> None:
        """Move the averages, in place."""
        _made_by_torch(self.decay)(averaged, current, number)
