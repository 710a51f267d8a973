"""Moving ahead: batches on a device, the next of which are copied while the step has the last.

Which protocol of `fengine.run.place` the moved data has is decided as it is made: it is that of the
data. The place that it tells is that of the batch which was given out, whatever was read beyond.

On CUDA the copies have a stream of their own. It waits for what was asked of the device before, so
that no copy writes into memory that a step still reads; and a step waits for its own batch only.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, Generic, TypeVar, cast, final

import attrs
import torch
from typing_extensions import override

from fengine.core.describe import call_in_words, typed
from fengine.core.missing import MISSING, Missing
from fengine.run.entering import End, begin_pass, entered, go_on_at
from fengine.run.loaders import is_loader, order_of
from fengine.run.place import Enterable, is_indexed, resumable
from fengine.run.source import length_of
from fengine.training.preparing import Device, moved
from fengine.training.windows import Window

Item = TypeVar("Item")


@final
@attrs.frozen(eq=False)
class _Place:
    """Say how far a pass is: what the data says itself, and how many batches were given.

    Args:
        data: what the data said; None if it knows nothing.
        given: how many batches of the pass were given.
        end: how the pass is over; `is_over` says whether a batch after the last was asked for.
    """

    data: object = None
    given: int = 0
    end: End = "none"
    is_over: bool = False


@final
@attrs.frozen(eq=False)
class _Waiting(Generic[Item]):
    """Hold a batch, or the error in its place; neither at the end.

    `place` is where the data stands after it; `copied` happens on the device when it is copied.
    """

    batch: Item | Missing
    place: _Place | None
    copied: torch.cuda.Event | None = None
    error: Exception | None = None


@attrs.define(eq=False, repr=False)
class _Moved(Generic[Item]):
    """Give the batches of data that can only be read from its start."""

    data: Iterable[Item]
    device: Device
    ahead: int

    @override
    def __repr__(self) -> str:
        return call_in_words("to_device", type(self.data), self.device, ahead=self.ahead)

    def __iter__(self) -> Iterator[Item]:
        return self._moving(iter(self.data), _Place())

    def __len__(self) -> int:
        batches = length_of(self.data)
        if batches is None:
            raise TypeError(f"data of type {type(self.data).__name__} does not say its length")
        return batches

    @property
    def wrapped_data(self) -> Iterable[Item]:
        """What the batches are taken from."""
        return self.data

    def set_epoch(self, epoch: int) -> None:
        """Tell whatever shuffles the batches which pass over them begins."""
        begin_pass(self.data, epoch)

    def _position(self) -> object:
        """Return what the data says of where it stands."""
        return None

    def _reach(self, place: _Place | None, *, is_ahead: bool) -> None:
        """Note the place of what is given out, and whether the data stands beyond it."""

    def _moving(self, batches: Iterator[Item], place: _Place) -> Iterator[Item]:
        """Give the batches after a place."""
        length = length_of(self.data)
        stream = _stream_to(self.device) if self.ahead else None
        waiting: deque[_Waiting[Item]] = deque()
        fetched: _Waiting[Item] | None = None
        try:
            while True:
                while len(waiting) <= self.ahead and not (waiting and waiting[-1].batch is MISSING):
                    self._reach(None, is_ahead=True)
                    fetched = self._fetched(batches, place, length, stream)
                    place = fetched.place or place
                    waiting.append(fetched)
                fetched = None  # whoever takes the batch alone holds it
                self._reach(waiting[0].place, is_ahead=len(waiting) > 1)
                if waiting[0].batch is MISSING and waiting[0].error is None:
                    return
                yield _taken(waiting.popleft(), stream)
        finally:
            close = getattr(batches, "close", None)
            if callable(close):
                close()

    def _fetched(
        self,
        batches: Iterator[Item],
        last: _Place,
        length: int | None,
        stream: torch.cuda.Stream | None,
    ) -> _Waiting[Item]:
        if length is not None and last.given >= length:
            return _Waiting(MISSING, attrs.evolve(last, end="unseen", is_over=True))
        try:
            batch = next(batches, MISSING)
            position = self._position()
            if isinstance(batch, Missing):
                return _Waiting(MISSING, _Place(position, last.given, "seen", is_over=True))
            given = last.given + 1
            place = _Place(position, given, "unseen" if given == length else "none")
            if stream is None:
                return _Waiting(_on(self.device, batch), place)
            stream.wait_stream(torch.cuda.current_stream(stream.device))
            with torch.cuda.stream(stream):
                return _Waiting(_on(self.device, batch), place, stream.record_event())
        except Exception as error:  # it is raised where the batch would have come
            return _Waiting(MISSING, None, error=error)


@final
@attrs.define(eq=False, repr=False)
class _EnterableMoved(_Moved[Item]):
    """Give the batches of data in a known order, from any of them on."""

    def iterate_from(self, place: int) -> Iterator[Item]:
        """Begin a pass after so many batches of it."""
        return self._moving(entered(self.data, place), _Place(given=place))


@final
@attrs.define(eq=False, repr=False)
class _ResumableMoved(_Moved[Item]):
    """Give the batches of data that knows its own place, and know that of the one given out.

    Attributes:
        place: where the batch given out is; None before the first: there the data stands itself.
        is_ahead: whether the data may stand beyond that place.
        rest: what the next iteration goes on with, instead of a new pass.
    """

    place: _Place | None = None
    is_ahead: bool = False
    rest: Iterator[Item] | None = None

    @override
    def __iter__(self) -> Iterator[Item]:
        rest, self.rest = self.rest, None
        if rest is not None and self.place is not None:
            return self._moving(rest, self.place)
        self._go_back()
        batches, self.place = iter(self.data), None
        return self._from_start(batches)

    @override
    def set_epoch(self, epoch: int) -> None:
        self._go_back()
        begin_pass(self.data, epoch)

    def get_state(self) -> dict[str, object]:
        """Return what the data has said of the place of the batch given out, and of its pass."""
        return attrs.asdict(self.place or _Place(self._position()), recurse=False)

    def set_state(self, state: dict[str, Any]) -> None:
        """Have the next iteration go on at a place that `get_state` returned."""
        self.place, self.is_ahead = _Place(**state), False
        rest = go_on_at(self.data, self.place.data, self.place.end)
        self.rest = None if self.place.is_over else rest

    @override
    def _position(self) -> object:
        knowing = resumable(self.data)
        assert knowing is not None, "other data is of another class"
        return copy.deepcopy(knowing.get_state())

    @override
    def _reach(self, place: _Place | None, *, is_ahead: bool) -> None:
        self.place, self.is_ahead = place or self.place, is_ahead

    def _from_start(self, batches: Iterator[Item]) -> Iterator[Item]:
        self.place = _Place(self._position())
        yield from self._moving(batches, self.place)

    def _go_back(self) -> None:
        """Have the data stand where the batch given out does, as after a pass that was cut."""
        if self.is_ahead and self.place is not None:
            go_on_at(self.data, self.place.data, "cut")
        self.is_ahead = False


def _on(device: Device, batch: Item) -> Item:
    if isinstance(batch, Window):
        return cast("Item", Window(tuple(moved(one, device) for one in batch)))
    return moved(batch, device)


def _taken(waiting: _Waiting[Item], stream: torch.cuda.Stream | None) -> Item:
    """Return the batch, which whatever is asked of the device from now on waits for."""
    if waiting.error is not None:
        raise waiting.error
    if waiting.copied is not None and stream is not None:
        torch.cuda.current_stream(stream.device).wait_event(waiting.copied)
    assert not isinstance(waiting.batch, Missing), "whoever takes has looked"
    return waiting.batch


def _stream_to(device: Device) -> torch.cuda.Stream | None:
    if not torch.cuda.is_available() or torch.device(device).type != "cuda":
        return None
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def to_device(data: Iterable[Item], device: Device, ahead: int = 1) -> Iterable[Item]:
    """Give the batches of some data on a device, and read the next ones meanwhile.

    While a step has a batch, the next `ahead` are read already, and those from pinned memory, such
    as of `DataLoader(pin_memory=True)`, are being copied to an accelerator in the background.

    It looks ahead over data whose iterations begin anew each, or that knows its place; an iterator
    is read batch by batch, since what was read of it and not given out would be lost. Two kinds of
    data need `ahead=0`, which only moves them: data that fills one tensor again and again, and data
    that draws from the generators of the process, which a step draws from too: with `Seeded` it
    draws from its own.

    A batch costs 3 microseconds, and 90 over a StatefulDataLoader, whose place is copied with each.

    Laws: the batches are those of the data, in order, moved as by `moved`; those of windows are
    moved too. What the data knows of its place, this knows too, and it is that of the batch given
    out: a run over it goes on where one over the data does. An error of the data comes where the
    batch would have come.

    Args:
        data: what can be iterated again, such as a list or a DataLoader, gives what can be, too; an
            iterator gives each batch once.
        device: where to.
        ahead: how many batches to read ahead; so many more are in the memory of the device.

    Raises:
        TypeError: `data` is not iterable, or `device` or `ahead` is not of its type; or, where a
            batch is given, there is something in it that `moved` does not know.
        ValueError: `ahead` is negative.
        RuntimeError: torch knows no such device.

    >>> data = to_device([(torch.ones(2), "a"), (torch.ones(3), "b")], "meta")
    >>> [(x.device.type, len(x), name) for x, name in data]
    [('meta', 2, 'a'), ('meta', 3, 'b')]
    """
    if not isinstance(data, Iterable):
        raise TypeError(f"data={typed(data)} is not an iterable of batches")
    if isinstance(device, bool) or not isinstance(device, torch.device | str | int):
        raise TypeError(
            f"device={typed(device)} is no device; give a torch.device, "
            'a name such as "cuda:0", or the number of an accelerator'
        )
    if isinstance(device, str):
        torch.device(device)  # which refuses a name that it does not know
    if type(ahead) is not int:
        raise TypeError(f"ahead={typed(ahead)} is not an int")
    if ahead < 0:
        raise ValueError(f"ahead={ahead} is negative; 0 reads no batch before it is asked for")
    if isinstance(data, Iterator):
        return map(partial(_on, device), data)
    if resumable(data) is not None:
        return _ResumableMoved(data, device, ahead)
    known = isinstance(data, Enterable) or is_indexed(data)
    if known or (is_loader(data) and order_of(data)[1]):
        return _EnterableMoved(data, device, ahead)
    return _Moved(data, device, ahead)
