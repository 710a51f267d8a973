"""Counting: how many samples a batch has, which is how much it counts in a mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor

from fengine.training.windows import Window


def count_samples(batch: object) -> int:
    """Return the number of samples in a batch.

    Of a pair of inputs and targets these are the rows of the targets; of any other tuple, list or
    mapping the rows that all tensors in it have; of a window those of all its batches.

    Raises:
        TypeError: it cannot be told.

    >>> import torch
    >>> pair = torch.ones(3, 2), torch.ones(3)
    >>> count_samples(pair), count_samples({"x": torch.ones(4, 2)}), count_samples(Window((pair,)))
    (3, 4, 3)
    """
    if isinstance(batch, Window):
        return sum(map(count_samples, batch))
    if isinstance(batch, tuple | list) and len(batch) == 2:
        y = batch[1]
        if isinstance(y, Tensor) and y.ndim:
            return len(y)
    elif (rows := set(_rows(batch))) and len(rows) == 1:
        return rows.pop()
    raise TypeError(
        f"the samples of a {type(batch).__name__} cannot be counted: that takes a pair (x, y) with "
        "rows of targets in y, or tensors that all have as many rows; give the step "
        "weight=function(batch) that counts them"
    )


def count_rows(batch: object) -> int:
    """Return dimension 0 of the first tensor in a batch; in a window, of the first of each batch.

    Raises:
        TypeError: there is none.

    >>> import torch
    >>> count_rows({"name": "a", "x": [torch.ones(3, 2), torch.ones(5)]})
    3
    """
    if isinstance(batch, Window):
        return sum(map(count_rows, batch))
    for number in _rows(batch):
        return number
    raise TypeError(
        f"the samples of a {type(batch).__name__} cannot be counted, since there is no tensor in "
        "it; say how many they are: throughput(samples=function of the batch)"
    )


def _rows(batch: object) -> Iterator[int]:
    """Give the rows of each tensor in a batch."""
    if isinstance(batch, Tensor):
        if batch.ndim:
            yield len(batch)
    elif isinstance(batch, Mapping):
        for part in batch.values():
            yield from _rows(part)
    elif isinstance(batch, tuple | list):
        for part in batch:
            yield from _rows(part)
