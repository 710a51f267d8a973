"""Sources: where the batches of a run come from.

The script asks a `Source` for batches, and for nothing else that has effects. `source_of` makes one
of any iterable; `NoData` stands for a run without data. A source alone holds an iterator, keeps the
registers of the place in the data up to date, and says by warnings what is odd about the data.

How a run that goes on gets to its place in the data, and where that is impossible: see `place`.
"""

from __future__ import annotations

import itertools
import operator
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Final, Generic, Literal, Protocol, TypeAlias, TypeVar, final

import attrs
from typing_extensions import override

from fengine.core.describe import typed
from fengine.core.missing import MISSING, Missing
from fengine.core.requests import Terminate
from fengine.core.table import where_in_run
from fengine.run.box import Box, Leaked
from fengine.run.entering import begin_pass, end_of_pass, entered, go_on_at
from fengine.run.failures import note
from fengine.run.place import innermost, is_under_way, note_restart

Item = TypeVar("Item")
Fetched = TypeVar("Fetched", covariant=True)
AnyBox: TypeAlias = Box[Any, Any, Any]
OnExhausted: TypeAlias = Literal["raise", "stop"]


class Source(Protocol[Fetched]):
    """Give batches: the effect that a script needs for its data.

    A GeneratorExit, and a StopIteration that is not the end of the data, leave `open` and `restart`
    as `Leaked`; a GeneratorExit may leave `fetch` as it is.
    """

    @property
    def announced(self) -> bool:
        """Whether there is data, so that fetching from it is announced by events."""

    def open(self, box: AnyBox) -> None:
        """Get ready to fetch at the place where the run stands; called at each epoch."""

    def fetch(self) -> Fetched | Missing:
        """Return the next batch, or MISSING at the end of the data."""

    def end_pass(self, box: AnyBox) -> None:
        """Look at a pass that has come to its end."""

    def restart(self, box: AnyBox) -> None:
        """Start iteration over the data again."""

    def ran_dry(self, box: AnyBox) -> None:
        """Take note that a restarted iteration gave nothing; may raise."""


class DataExhausted(ValueError):
    """Tell that the data gave no batch though the run needs more.

    Args:
        got: number of batches that the run has got.
        wanted: number of batches that the limits ask for, or None where they do not say.

    >>> DataExhausted(got=0, wanted=9)
    DataExhausted('data is empty: it gave no batch at all')
    """

    def __init__(self, got: int, wanted: int | None) -> None:
        self.got = got
        self.wanted = wanted
        if got == 0:
            text = "data is empty: it gave no batch at all"
        else:
            amount = f"{got} batches" if wanted is None else f"{got} of {wanted} batches"
            text = (
                f"data gave {amount}, and nothing when it was started again; give data that can "
                "be iterated again, a lower max_epochs or max_iters, or on_exhausted='stop' to "
                "end the run there"
            )
        super().__init__(text)

    @override
    def __reduce__(self) -> tuple[type[DataExhausted], tuple[int, int | None]]:
        """Return what `copy` and `pickle` make it of."""
        return DataExhausted, (self.got, self.wanted)


# The iterator after a pass, and what fetches from it.
_ENDED: Final[Iterator[Any]] = iter(())


def _no_more() -> Missing:
    return MISSING


def _not_open() -> Missing:
    raise RuntimeError("there is no iterator to fetch from; open begins one, and close gives it up")


@final
@attrs.define(eq=False, repr=False)
class DataSource(Generic[Item]):
    """Give the batches of an iterable; made by `source_of`.

    Args:
        data: the iterable.
        length: how many batches it says that it has; None if it does not say.
        position: what the data itself said of its place when a snapshot was taken, to go on there.
        on_exhausted: what to do where the data ends for good before the limits are reached.

    Attributes:
        fetch: returns the next batch, or MISSING.
    """

    data: Iterable[Item]
    length: int | None
    position: object = None
    on_exhausted: OnExhausted = "raise"
    announced: bool = True
    fetch: Callable[[], Item | Missing] = attrs.field(init=False, default=_not_open)
    _iterator: Iterator[Item] | None = None
    _warned: bool = False

    def enter(self, box: AnyBox) -> None:
        """Get to the place where a run stands, and fetch the batch that is due there.

        Raises:
            ValueError: the data does not have that batch.
            BaseException: whatever the data raises.
        """
        if box.status.has_ended:
            return
        try:
            if self.position is not None:
                self._take_position(box)
            elif box._notes.batch_due and not isinstance(self.data, Iterator):
                self._fetch_due_batch(box)
            elif box._exhausted and box.drawn:
                self._iterator, self.fetch = _ENDED, _no_more
            elif is_under_way(box.state):
                self._begin(box.drawn, box.passes)
        except (Leaked, StopIteration) as failure:
            error = failure.error if isinstance(failure, Leaked) else failure
            raise RuntimeError(
                f"data raised {type(error).__name__} on the way to its place {where_in_run(box)}"
            ) from error
        except Exception as error:
            note(error, f"on the way of the data to its place {where_in_run(box)}")
            raise
        if box._notes.batch_due:
            box._notes = box.noting(batch_due=False)

    def open(self, box: AnyBox) -> None:
        """Get ready to give the batch after those that were drawn."""
        if self._iterator is None:
            self._begin(box.drawn, box.passes)

    def end_pass(self, box: AnyBox) -> None:
        """Let go of an iterator that has ended, and report data with fewer batches than it said."""
        self.close()
        self._iterator, self.fetch = _ENDED, _no_more
        if self.length is not None and box.drawn < self.length:
            self._report(f"it gave {box.drawn}")

    def restart(self, box: AnyBox) -> None:
        """Start iteration over the data again."""
        if self.length is not None and (length := length_of(self.data)) != self.length:
            self._report(f"it now says {length}")
        # Workers of a pass that was cut short end before others begin.
        self._iterator, self.fetch = _ENDED, _no_more
        begin_pass(self.data, box.passes + 1)
        iterator = entered(self.data, 0)
        if box.drawn == self.length and iterator is not self.data:
            self._iterator, self.fetch = iterator, self._fetch_first
        else:
            self._take_from(iterator)
        note_restart(box)

    def ran_dry(self, box: AnyBox) -> None:
        """End the run as its limits do, if that is asked for, and refuse to go on otherwise.

        Raises:
            DataExhausted: a run without data is an error.
        """
        if self.on_exhausted == "stop":
            box.ask(terminate=Terminate.LIMIT)
            return
        limits = box.limits
        wanted = limits.max_iters
        if limits.max_epochs is not None and limits.epoch_length:
            wanted = limits.max_epochs * limits.epoch_length
        raise DataExhausted(box.iteration, wanted)

    def close(self) -> None:
        """Give up the iterator, and close it unless it is the user's own."""
        iterator, self._iterator, self.fetch = self._iterator, None, _not_open
        close = None if iterator is self.data else getattr(iterator, "close", None)
        if not callable(close):
            return
        try:
            close()
        except Exception as error:
            # The run is over; its outcome is not to be lost to this.
            warnings.warn(f"closing the iterator of data raised {error!r}", stacklevel=2)

    def _begin(self, done: int, number: int) -> None:
        """Begin a pass over the data, after the first batches of it.

        After all that the data says it has, nothing more is read, in whatever order it came.
        """
        if done and done == self.length and not isinstance(self.data, Iterator):
            self._iterator, self.fetch = _ENDED, _no_more
            return
        begin_pass(self.data, number)
        self._take_from(entered(self.data, done), done)

    def _take_from(self, iterator: Iterator[Item], done: int = 0) -> None:
        """Fetch from an iterator, up to the length that the data says, without a look further.

        An iterator of the user's has no passes, so its length says nothing of them.
        """
        self._iterator = iterator
        if self.length is not None and iterator is not self.data:
            iterator = itertools.islice(iterator, max(0, self.length - done))
        self.fetch = partial(next, iterator, MISSING)  # what costs least at each batch

    def _fetch_first(self) -> Item | Missing:
        """Fetch the first batch after a pass whose end nobody has looked at.

        Data that knows its place may still stand there. Then it comes to that end now, and its next
        iteration is a pass.
        """
        iterator = self._iterator
        assert iterator is not None, "restart has begun it"
        batch = next(iterator, MISSING)
        if batch is MISSING:
            iterator = entered(self.data, 0)
            batch = next(iterator, MISSING)
        self._take_from(iterator, 1)
        return batch

    def _take_position(self, box: AnyBox) -> None:
        begin_pass(self.data, box.passes)
        end = end_of_pass(box, self.length)
        self._take_from(go_on_at(self.data, self.position, end), box.drawn)

    def _fetch_due_batch(self, box: AnyBox) -> None:
        """Fetch the last batch again: of this pass, or of the one before if this has given none."""
        drawn, number = box.drawn, box.passes
        if drawn:
            self._begin(drawn - 1, number)
        else:
            self._begin(box._drawn_before - 1, number - 1)
        try:
            batch = self.fetch()
        except GeneratorExit as error:
            raise Leaked(error) from None
        if batch is MISSING:
            raise ValueError(
                f"data has no batch {drawn or box._drawn_before}, though the state has had it; go "
                "on with the data that the run had, or write the state with its batch: "
                "to_dict(batch=...)"
            )
        if not drawn:
            self._begin(0, number)
        elif box._exhausted:
            self._iterator, self.fetch = _ENDED, _no_more
        box._batch = batch

    def _report(self, finding: str) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(other_length(self.data, self.length, finding), stacklevel=2)


def other_length(data: object, length: int | None, finding: str) -> str:
    """Say that data has another number of batches than it said."""
    return (
        f"data of type {type(data).__name__} said that it has {length} batches, but {finding}; "
        "give epoch_length to say how long an epoch is"
    )


@final
class NoData:
    """Give None for ever, unannounced: the source of a run without data."""

    __slots__ = ()
    announced: Final = False

    def enter(self, box: AnyBox) -> None:
        """Have the batch that is due, which was None."""
        if box._notes.batch_due:
            box._batch, box._notes = None, box.noting(batch_due=False)

    def open(self, box: AnyBox) -> None:
        """Do nothing: there is nothing to get ready."""

    def fetch(self) -> None:
        """Return None."""

    def end_pass(self, box: AnyBox) -> None:
        """Do nothing: it has no end."""

    def restart(self, box: AnyBox) -> None:
        """Note that another pass begins, as everywhere; there is nothing to restart."""
        note_restart(box)

    def ran_dry(self, box: AnyBox) -> None:
        """Do nothing: it never runs dry."""

    def close(self) -> None:
        """Do nothing: there is nothing to close."""


def source_of(data: Iterable[Item], on_exhausted: OnExhausted = "raise") -> DataSource[Item]:
    """Make a source of the data of a run, and refuse data that cannot be one.

    Raises:
        TypeError: `data` is not an iterable of batches, or its length is not an int.
        ValueError: `data` is empty, or `on_exhausted` is another word.

    >>> source_of([1, 2]).length
    2
    """
    require_word(on_exhausted)
    kind = type(data)
    if isinstance(data, type | str | bytes | Mapping):
        what = f"the class {data.__name__}" if isinstance(data, type) else f"a {kind.__name__}"
        raise TypeError(
            f"data is {what}; give an iterable of batches, such as a list or DataLoader"
        )
    if not isinstance(data, Iterable):
        raise TypeError(
            f"data={typed(data)} is not iterable; "
            "give an iterable of batches, such as a list or DataLoader"
        )
    length = length_of(data)
    if length == 0:
        raise ValueError(f"data is empty: this {type(innermost(data)).__name__} has the length 0")
    return DataSource(data, length, on_exhausted=on_exhausted)


def require_word(on_exhausted: object) -> None:
    """Refuse another word than those that say what to do where the data ends for good.

    Raises:
        ValueError: it is one.
    """
    if on_exhausted not in ("raise", "stop"):
        raise ValueError(
            f"on_exhausted={on_exhausted!r} is neither 'raise', to raise DataExhausted where the "
            "data ends for good before the limits are reached, nor 'stop', to end the run there"
        )


def length_of(data: object) -> int | None:
    """Return the number of batches that the data says it has; None if it does not know.

    Raises:
        TypeError: the length is not an int.
        ValueError: the length is negative.
    """
    method = getattr(type(data), "__len__", None)
    if method is None:
        return None
    try:
        length = method(data)
    except TypeError:
        return None
    if isinstance(length, bool) or not hasattr(length, "__index__"):
        raise TypeError(
            f"the length of data is {length!r} of type {type(length).__name__}, not an int"
        )
    length = operator.index(length)
    if length < 0:
        raise ValueError(f"the length of data is {length}, which is negative")
    return length
