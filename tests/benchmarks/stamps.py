"""Stamps: data that reads a clock when a certain batch is asked for.

So any framework is measured from within its run, by the same means, and knows nothing of it.
Between two readings the data is as fast as a tuple.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, pairwise
from typing import Generic, TypeVar, final

Batch = TypeVar("Batch")


@final
class Stamped(Generic[Batch]):
    """Give the batches, and take a reading whenever the number of the next one is a mark.

    Args:
        batches: what is iterated over.
        marks: numbers of batches, from 0, ascending.
        read: the clock, or another meter.

    >>> ticks = iter([10.0, 12.5])
    >>> data = Stamped("abcd", (0, 3), lambda: next(ticks))
    >>> "".join(data), data.readings
    ('abcd', [10.0, 12.5])
    """

    def __init__(
        self,
        batches: Sequence[Batch],
        marks: Iterable[int],
        read: Callable[[], float] = time.process_time,
    ) -> None:
        self._batches = batches
        self._marks = tuple(marks)
        self._read = read
        self.readings: list[float] = []  # those of the latest pass

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Batch]:
        return chain.from_iterable(self._pieces())

    def _pieces(self) -> Iterator[Sequence[Batch]]:
        self.readings = readings = []
        batches, read = self._batches, self._read
        yield batches[: self._marks[0]]
        for begin, end in pairwise((*self._marks, len(batches))):
            readings.append(read())
            yield batches[begin:end]


@final
class Passes:
    """Be data of one batch, and take a reading whenever the number of the pass is a mark.

    >>> ticks = iter([1.0, 2.0])
    >>> data = Passes((0, 2), lambda: next(ticks))
    >>> [[batch for batch in data] for _ in range(3)], data.readings
    ([[0], [0], [0]], [1.0, 2.0])
    """

    def __init__(self, marks: Iterable[int], read: Callable[[], float] = time.process_time) -> None:
        self._marks = frozenset(marks)
        self._read = read
        self._passes = 0
        self.readings: list[float] = []

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[int]:
        if self._passes in self._marks:
            self.readings.append(self._read())
        self._passes += 1
        return iter((0,))
