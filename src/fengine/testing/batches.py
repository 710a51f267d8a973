"""Data: what batches come from in a run, of every kind that a loop tells apart."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, TypeAlias, assert_never, final

import attrs

Batch: TypeAlias = int | None

Kind = Literal["list", "sized", "unsized", "iterator", "generator", "none"]


@final
@attrs.frozen
class Data:
    """Describe the data of a run, whose batches are 0, 1 and so on.

    Args:
        kind: a "list"; an iterable that is no sequence, "sized" or "unsized"; an "iterator" or a
            "generator", which give each batch once; or "none", where every batch is None.
        size: number of batches.

    >>> Data("list", 3).fresh()
    [0, 1, 2]
    """

    kind: Kind
    size: int

    @property
    def replays(self) -> bool:
        """Whether the batches can be read again from the start."""
        return self.kind not in ("iterator", "generator")

    def fresh(self) -> Iterable[Batch] | None:
        """Make the data again, as for `Loop.run`."""
        batches: list[Batch] = [*range(self.size)]
        match self.kind:
            case "list":
                return batches
            case "sized":
                return _Sized(batches)
            case "unsized":
                return _Unsized(batches)
            case "iterator":
                return iter(batches)
            case "generator":
                return (batch for batch in batches)
            case "none":
                return None
        assert_never(self.kind)


@final
@attrs.frozen
class _Unsized:
    batches: list[Batch]

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.batches)


@final
@attrs.frozen
class _Sized:
    batches: list[Batch]

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)
