"""The filters of the Engine API, as values that compare and pickle.

A filter is called with the engine and the count of an event. Unlike the filters of the core, one
here replaces another, and may be one that never holds.
"""

from __future__ import annotations

import numbers
from typing import Any, final

import attrs
from typing_extensions import override


@final
@attrs.frozen(repr=False)
class Stride:
    """Hold at counts strictly between two bounds, at every n-th of them; a value that pickles."""

    every: int = 1
    before: int | None = None
    after: int | None = None

    def __call__(self, engine: Any, event: int) -> bool:
        """Tell whether the count is one of them."""
        if self.after is not None and event <= self.after:
            return False
        if self.before is not None and event >= self.before:
            return False
        begin = 0 if self.after is None else self.after + 1
        return (event - begin) % self.every == 0

    @override
    def __repr__(self) -> str:
        parts = [
            f"{name} {value}" for name, value in attrs.asdict(self).items() if value is not None
        ]
        return " ".join(parts)


@final
@attrs.frozen(repr=False)
class Once:
    """Hold at some counts; a value that pickles."""

    counts: tuple[int, ...]

    def __call__(self, engine: Any, event: int) -> bool:
        """Tell whether the count is one of them."""
        return event in self.counts

    @override
    def __repr__(self) -> str:
        return f"once {', '.join(map(str, self.counts))}"


def stride(every: int | None, before: int | None, after: int | None) -> Stride | None:
    """Make the filter of `every`, `before` and `after`; None where it always holds.

    Raises:
        ValueError: an argument is not an integer, or too small.
    """
    for name, value, least in (("every", every, 1), ("before", before, 0), ("after", after, 0)):
        if value is not None and (not isinstance(value, numbers.Integral) or value < least):
            raise ValueError(f"{name}={value!r} is not an integer from {least}")
    if before is None and after is None:
        assert every is not None
        return None if every == 1 else Stride(every)
    return Stride(every or 1, before, after or 0)
