"""Windows: data in records of several batches, in which a run finds its place as in the data.

Which protocol of `fengine.run.place` the windows have is decided as they are made: it is that of
the data. No batch is asked for after the last one that the data says it has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Generic, TypeVar, final, overload

import attrs
from typing_extensions import override

from fengine.core.describe import typed
from fengine.core.equality import same
from fengine.run.entering import End, begin_pass, entered, go_on_at
from fengine.run.loaders import is_loader, order_of
from fengine.run.place import Enterable, resumable
from fengine.run.source import length_of

Item = TypeVar("Item")


@final
@attrs.frozen(eq=False)
class Window(Generic[Item]):
    """Hold several batches, for which a training step updates the weights once.

    Args:
        batches: the batches, one at least.

    >>> window = Window((1, 2, 3))
    >>> len(window), list(window), window == Window((1, 2, 3))
    (3, [1, 2, 3], True)
    """

    batches: tuple[Item, ...]

    def __iter__(self) -> Iterator[Item]:
        """Give each batch."""
        return iter(self.batches)

    def __len__(self) -> int:
        """Count the batches."""
        return len(self.batches)

    @override
    def __eq__(self, other: object) -> bool:
        """Compare the batches as states do: tensors by their content. Always a bool."""
        return isinstance(other, Window) and same(self.batches, other.batches)

    __hash__ = None  # type: ignore[assignment]  # batches have no hash


@attrs.define(eq=False)
class _Windows(Generic[Item]):
    """Give the windows of data that can only be read from its start."""

    data: Iterable[Item]
    size: int

    def __iter__(self) -> Iterator[Window[Item]]:
        return self._after(iter(self.data), 0)

    def __len__(self) -> int:
        batches = length_of(self.data)
        if batches is None:
            raise TypeError(f"data of type {type(self.data).__name__} does not say its length")
        return (batches + self.size - 1) // self.size

    @property
    def wrapped_data(self) -> Iterable[Item]:
        """What the windows are cut from."""
        return self.data

    def set_epoch(self, epoch: int) -> None:
        """Tell whatever shuffles the batches which pass over them begins."""
        begin_pass(self.data, epoch)

    def _after(self, batches: Iterator[Item], done: int) -> Iterator[Window[Item]]:
        length = length_of(self.data)
        rest = batches if length is None else islice(batches, max(0, length - done))
        return _cut(rest, self.size)


@final
@attrs.define(eq=False)
class _EnterableWindows(_Windows[Item]):
    """Give the windows of data in a known order, from any of them on."""

    def iterate_from(self, place: int) -> Iterator[Window[Item]]:
        """Begin a pass after so many windows of it."""
        done = place * self.size
        return self._after(entered(self.data, done), done)


@final
@attrs.define(eq=False)
class _ResumableWindows(_Windows[Item]):
    """Give the windows of data that knows its own place, and know it too.

    Attributes:
        given: how many batches of the pass were given.
        end: how the pass over the data is over.
        is_over: whether the last window has been asked for in vain.
        rest: what the next iteration goes on with, instead of a new pass.
    """

    given: int = 0
    end: End = "none"
    is_over: bool = False
    rest: Iterator[Item] | None = None

    @override
    def __iter__(self) -> Iterator[Window[Item]]:
        rest, self.rest, self.is_over = self.rest, None, False
        if rest is None:
            rest, self.given, self.end = iter(self.data), 0, "none"
        return self._noting(rest)

    def _noting(self, batches: Iterator[Item]) -> Iterator[Window[Item]]:
        length = length_of(self.data)
        while self.end == "none":
            wanted = self.size
            if length is not None:
                wanted = min(wanted, max(0, length - self.given))
            window = Window(tuple(islice(batches, wanted)))
            self.given += len(window)
            if len(window) < wanted:
                self.end = "seen"
            elif self.given == length:
                self.end = "unseen"
            if window.batches:
                yield window
        self.is_over = True

    def get_state(self) -> dict[str, object]:
        """Return what the data says of its place, and how far its pass is."""
        knowing = resumable(self.data)
        assert knowing is not None, "the windows of other data are of another class"
        place = {"given": self.given, "end": self.end, "is_over": self.is_over}
        return {"data": knowing.get_state(), **place}

    def set_state(self, state: dict[str, Any]) -> None:
        """Have the next iteration go on at a place that `get_state` returned."""
        self.given, self.end, self.is_over = state["given"], state["end"], state["is_over"]
        rest = go_on_at(self.data, state["data"], self.end)
        self.rest = None if self.is_over else rest


@final
@attrs.frozen(eq=False)
class _ListOfWindows(Sequence[Window[Item]]):
    """Give the windows of a list at any place, so that a run can go on there."""

    data: Sequence[Item]
    size: int

    @overload
    def __getitem__(self, place: int) -> Window[Item]: ...

    @overload
    def __getitem__(self, place: slice) -> list[Window[Item]]: ...

    @override
    def __getitem__(self, place: int | slice) -> Window[Item] | list[Window[Item]]:
        starts = range(0, len(self.data), self.size)
        if isinstance(place, slice):
            return [self._at(start) for start in starts[place]]
        return self._at(starts[place])

    def _at(self, start: int) -> Window[Item]:
        return Window(tuple(self.data[start : start + self.size]))

    @override
    def __len__(self) -> int:
        return len(range(0, len(self.data), self.size))


def _cut(items: Iterator[Item], size: int) -> Iterator[Window[Item]]:
    while batches := tuple(islice(items, size)):
        yield Window(batches)


def windows(data: Iterable[Item], size: int) -> Iterable[Window[Item]]:
    """Give the batches of some data in windows of `size`, the last of which may be shorter.

    A training step updates the weights once for each window.

    Laws: joined, the windows are the data; there are ceil(len(data) / size) of them. What the data
    knows of its place, the windows know too: a run over them goes on where one over the data does.

    Args:
        data: what can be iterated again, such as a list or a DataLoader, gives what can be, too; an
            iterator gives each batch once.
        size: number of batches in a window.

    Raises:
        TypeError: `data` is not iterable, or `size` is not an int.
        ValueError: `size` is below 1.

    >>> [list(window) for window in windows([1, 2, 3, 4, 5], 2)]
    [[1, 2], [3, 4], [5]]
    """
    if not isinstance(data, Iterable):
        raise TypeError(f"data={typed(data)} is not an iterable of batches")
    if type(size) is not int:
        raise TypeError(f"size={typed(size)} is not an int")
    if size < 1:
        raise ValueError(f"size={size} is below 1; a window holds at least one batch")
    if isinstance(data, Iterator):
        return _cut(data, size)
    if resumable(data) is not None:
        return _ResumableWindows(data, size)
    if isinstance(data, Sequence):
        return _ListOfWindows(data, size)
    known = isinstance(data, Enterable) or (is_loader(data) and order_of(data)[1])
    return _EnterableWindows(data, size) if known else _Windows(data, size)
