"""The data of a program: what gives batches, and whether its length is true.

Each batch is a text that names where it came from, so that two sides can be compared by it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, Literal, TypeAlias

import attrs
from torch.utils.data import DataLoader, Dataset, IterableDataset
from typing_extensions import override


class Fault(Exception):
    """Stand for whatever goes wrong in user code."""


Kind: TypeAlias = Literal[
    "list", "sized", "unsized", "iterator", "liar", "none", "loader", "sampled", "stream"
]


@attrs.frozen
class Data:
    """Describe the data of a run.

    Args:
        kind: a list; sized and unsized iterables, with an iterator for each epoch; an iterator that
            gives each batch once; a liar, whose length is not what it gives; no data; a DataLoader
            in order, with a sampler, and over a stream, which has no length.
        size: the number of batches.
        said: the length that a liar gives.
        fails: after how many batches of all its iterators it raises, if it does.
    """

    kind: Kind = "list"
    size: int = 2
    said: int = 3
    fails: int | None = None

    @property
    def has_length(self) -> bool:
        """Whether this data says how long it is."""
        return self.kind in ("list", "sized", "liar", "loader", "sampled")

    @property
    def length(self) -> int:
        """The length that this data says it has."""
        return self.said if self.kind == "liar" else self.size

    def make(self, label: str, watch: Callable[[], None]) -> Any:
        """Make the data; `watch` is called before each batch."""
        if self.kind == "none":
            return None
        if self.kind == "list" and self.fails is None:
            return [f"{label}{number}" for number in range(self.size)]
        giver = _Giver(self, label, watch)
        return _MAKERS.get(self.kind, _Sized)(giver)


class _Giver:
    """Give texts, fail in time, and count both across all iterators."""

    def __init__(self, data: Data, label: str, watch: Callable[[], None]) -> None:
        self.data, self.label, self.watch = data, label, watch
        self.given = self.started = 0

    def give(self, number: int) -> str:
        self.watch()
        self.given += 1
        if self.given - 1 == self.data.fails:
            raise Fault("data")
        return f"{self.label}{self.started}.{number}"

    def __iter__(self) -> Iterator[str]:
        self.started += 1
        self.watch()
        return map(self.give, range(self.data.size))


class _Unsized:
    def __init__(self, giver: _Giver) -> None:
        self.giver = giver

    def __iter__(self) -> Iterator[str]:
        return iter(self.giver)


class _Sized(_Unsized):
    def __len__(self) -> int:
        return self.giver.data.length


class _Items(Dataset[str]):
    """Give two items for each batch, but only one for the last."""

    def __init__(self, giver: _Giver) -> None:
        self.giver = giver

    @override
    def __getitem__(self, index: int) -> str:
        return self.giver.give(index)

    def __len__(self) -> int:
        return max(0, 2 * self.giver.data.size - 1)


class _Stream(IterableDataset[str]):
    def __init__(self, giver: _Giver) -> None:
        self.giver = giver

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(self.giver)


def _loader(giver: _Giver) -> DataLoader[str]:
    return DataLoader(_Items(giver), batch_size=2, collate_fn="+".join)


def _sampled(giver: _Giver) -> DataLoader[str]:
    items = _Items(giver)
    backwards = range(len(items) - 1, -1, -1)
    return DataLoader(items, batch_size=2, sampler=backwards, collate_fn="+".join)


def _stream(giver: _Giver) -> DataLoader[str]:
    return DataLoader(_Stream(giver), batch_size=None)


_MAKERS: Final[dict[Kind, Callable[[_Giver], Any]]] = {
    "unsized": _Unsized,
    "iterator": iter,
    "loader": _loader,
    "sampled": _sampled,
    "stream": _stream,
}
