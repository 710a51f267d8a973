"""Monoid: what a metric is. What it has counted is a value, and two such values merge into one."""

from __future__ import annotations

from typing import Protocol, TypeVar

Measurable = TypeVar("Measurable", contravariant=True)
Total = TypeVar("Total")


class Metric(Protocol[Measurable, Total]):
    """Count outputs, merge counts, and make a result of a count.

    Laws: `merge` is associative and commutative, counts exactly and sums to rounding; `empty` is
    its unit. So however the data is cut into batches, windows or processes, the result is the same.

    A metric may also have `add(total, output)`, which does `merge(total, of(output))` faster.

    Attributes:
        empty: what is counted of no output at all. Its type is that of every count: a frozen
            record, a number, a string or an `immutables.Map`.

    >>> from fengine.metrics import Accuracy, Mean
    >>> metrics: list[Metric] = [Accuracy(), Mean()]
    >>> [metric.compute(metric.empty) for metric in metrics]
    [nan, nan]
    """

    @property
    def empty(self) -> Total:
        """What is counted of no output at all."""

    def of(self, output: Measurable, /) -> Total:
        """Count one output."""

    def merge(self, total: Total, other: Total, /) -> Total:
        """Make one count of two."""

    def compute(self, total: Total, /) -> object:
        """Make the result: one number, a mapping from names to numbers, or anything else."""
