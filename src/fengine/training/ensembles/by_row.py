"""Numbers by row: one number for all members, or a tensor with one for each."""

from __future__ import annotations

from typing import TypeAlias

from torch import Tensor

Rate: TypeAlias = float | Tensor


def like_rows(numbers: Tensor, tensor: Tensor) -> Tensor:
    """Return a number for each row as a tensor that goes with a stacked one.

    >>> import torch
    >>> like_rows(torch.ones(2), torch.zeros(2, 3)).shape
    torch.Size([2, 1])
    """
    return numbers.to(tensor).view(-1, *[1] * (tensor.ndim - 1))


def less(p: Tensor, g: Tensor, rate: Rate, size: Tensor | None = None) -> Tensor:
    """Return `p - rate * g`, or `p - rate * g / size`.

    >>> import torch
    >>> less(torch.ones(2), torch.ones(2), torch.tensor([0.5, 0.25]))
    tensor([0.5000, 0.7500])
    """
    if isinstance(rate, Tensor):
        return p.addcmul(g if size is None else g.div(size), like_rows(rate, p), value=-1)
    return p.add(g, alpha=-rate) if size is None else p.addcdiv(g, size, value=-rate)
