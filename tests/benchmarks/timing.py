"""Timing: contenders that take turns, and the spread of what was measured.

Other work on a machine slows whatever runs at that moment. So processor time is measured, every
contender runs once a round, in a new random order, and contenders are compared within a round only:
by the difference or the ratio of their two times, of which the median over all rounds is reported.
"""

from __future__ import annotations

import gc
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import TypeVar, final

import attrs

Key = TypeVar("Key", bound=Hashable)


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


def rounds(
    contenders: Mapping[Key, Callable[[], object]], repetitions: int
) -> dict[Key, list[float]]:
    """Time each contender once a round; give its seconds, one for each round."""
    order = list(contenders)
    shuffle = random.Random(0).shuffle
    seconds: dict[Key, list[float]] = {key: [] for key in order}
    for run in contenders.values():
        run()
    # A collection would be charged to whoever happens to run then.
    gc.disable()
    try:
        for _ in range(repetitions):
            shuffle(order)
            gc.collect()
            for key in order:
                run = contenders[key]
                began = time.process_time()
                run()
                seconds[key].append(time.process_time() - began)
    finally:
        gc.enable()
    return seconds


def differences(of: Sequence[float], over: Sequence[float]) -> list[float]:
    """Subtract round by round."""
    return [a - b for a, b in zip(of, over, strict=True)]


def ratios(of: Sequence[float], to: Sequence[float]) -> list[float]:
    """Divide round by round."""
    return [a / b for a, b in zip(of, to, strict=True)]


def import_seconds(module: str, *, behind: str = "time") -> float:
    """Time the import of a module in a new interpreter that has imported another one before."""
    program = (
        f"import time, {behind}; began = time.process_time(); import {module}; "
        "print(time.process_time() - began)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, stdout=subprocess.PIPE, text=True
    )
    return float(done.stdout)
