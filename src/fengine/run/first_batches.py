"""The first batches of some data, as data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Generic, TypeVar, final

import attrs

from fengine.run.entering import begin_pass
from fengine.run.source import length_of

Item = TypeVar("Item")


@final
@attrs.frozen
class FirstBatches(Generic[Item]):
    """Give the first batches of some data, in the order in which it would give all of them.

    >>> list(FirstBatches([1, 2, 3], 2))
    [1, 2]
    """

    wrapped_data: Iterable[Item]
    most: int

    def __iter__(self) -> Iterator[Item]:
        return islice(iter(self.wrapped_data), self.most)

    def __len__(self) -> int:
        length = length_of(self.wrapped_data)
        if length is None:
            raise TypeError(f"data of type {type(self.wrapped_data).__name__} has no length")
        return min(length, self.most)

    def set_epoch(self, number: int) -> None:
        """Tell whatever shuffles the data which pass over it begins."""
        begin_pass(self.wrapped_data, number)
