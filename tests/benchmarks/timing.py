"""Timing: contenders that take turns, and the spread of what was measured.

Other work on a machine slows whatever runs at that moment. So processor time is measured, every
contender runs once a round, in a new random order, and contenders are compared within a round only:
by the difference or the ratio of their two times, of which the median over all rounds is reported.
"""

from __future__ import annotations

import gc
import random
import statistics
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle
from typing import TypeAlias, TypeVar, final

import attrs

from tests.benchmarks.stamps import Passes, Stamped

Pair: TypeAlias = tuple[float, float]
Key = TypeVar("Key", bound=Hashable)
Batch = TypeVar("Batch")
Sample = TypeVar("Sample")


@final
@attrs.frozen
class Spread:
    """Hold the median of some samples, and the quartiles around it."""

    low: float
    median: float
    high: float

    @staticmethod
    def of(samples: Iterable[float]) -> Spread:
        """Summarize two samples or more."""
        return Spread(*statistics.quantiles(samples, n=4, method="inclusive"))


def per_iteration(
    run: Callable[[Iterable[Batch]], object], batches: Sequence[Batch]
) -> Callable[[], float]:
    """Make a contender: run once, and give the seconds from one batch to the next.

    Beginning and ending a run takes some frameworks as long as thousands of iterations, and is not
    in it.
    """
    last = len(batches) - 1
    data = Stamped(batches, (0, last))

    def contender() -> float:
        run(data)
        at_first, at_last = data.readings
        return (at_last - at_first) / last

    return contender


def per_epoch(run: Callable[[Iterable[int], int], object], epochs: int) -> Callable[[], float]:
    """Make a contender: run over data of one batch, and give the seconds from epoch to epoch."""
    last = epochs - 1

    def contender() -> float:
        data = Passes((0, last))
        run(data, epochs)
        at_first, at_last = data.readings
        return (at_last - at_first) / last

    return contender


@contextmanager
def frozen() -> Iterator[None]:
    """Keep the garbage collector away from what is there already.

    To look through all of torch's objects takes it about 80 ms, which would be charged to whoever
    happens to run then.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def in_turns(first: Callable[[], float], second: Callable[[], float]) -> Callable[[], Pair]:
    """Make one contender of two that run close to each other, each before the other in turn."""
    turned = cycle((False, True))

    def contender() -> Pair:
        if next(turned):
            of_second = second()
            return first(), of_second
        return first(), second()

    return contender


def rounds(contenders: Mapping[Key, Callable[[], Sample]], number: int) -> dict[Key, list[Sample]]:
    """Let each contender run once a round; give what it measured, round by round."""
    order = list(contenders)
    shuffle = random.Random(0).shuffle
    found: dict[Key, list[Sample]] = {key: [] for key in order}
    for contender in contenders.values():
        contender()
    # A collection would be charged to whoever happens to run then.
    gc.disable()
    try:
        with frozen():
            for _ in range(number):
                shuffle(order)
                gc.collect()
                for key in order:
                    found[key].append(contenders[key]())
    finally:
        gc.enable()
    return found


def differences(of: Sequence[float], over: Sequence[float]) -> list[float]:
    """Subtract round by round."""
    return [a - b for a, b in zip(of, over, strict=True)]


def ratios(of: Sequence[float], to: Sequence[float]) -> list[float]:
    """Divide round by round."""
    return [a / b for a, b in zip(of, to, strict=True)]
