"""Sources: where the batches of a run come from.

`source_of` reads from any iterable; `NoData` stands for a run without data. A source is an effect:
it alone holds an iterator, and says by warnings what is odd about the data.

A run that goes on enters its data at a place; `positions` says how, and where that is impossible.
"""

from __future__ import annotations

import contextlib
import copy
import operator
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, Generic, TypeVar, cast, final

import attrs
from typing_extensions import override

from fengine.core.ports import EXHAUSTED, Exhausted, Leaked
from fengine.core.state import Batch, Output, State, User
from fengine.core.table import where_in_run
from fengine.core.transitions import with_batch_again, without_due_batch
from fengine.runtime.positions import begin_pass, entered, is_under_way

Item = TypeVar("Item")


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
                "be iterated again, or a lower max_epochs or max_iters"
            )
        super().__init__(text)

    @override
    def __reduce__(self) -> tuple[type[DataExhausted], tuple[int, int | None]]:
        """Give what `copy` and `pickle` make it of."""
        return DataExhausted, (self.got, self.wanted)


def _not_open() -> Exhausted:
    raise RuntimeError("there is no iterator to fetch from; open begins one, and close gives it up")


@final
@attrs.define(eq=False, repr=False)
class DataSource(Generic[Item]):
    """Give the batches of an iterable; made by `source_of`."""

    data: Iterable[Item]
    length: int | None
    position: object = None
    """What the data itself said of its place when a snapshot was taken, to go on from there."""
    announced: bool = True
    fetch: Callable[[], Item | Exhausted] = attrs.field(init=False, default=_not_open)
    """Give the next batch, or EXHAUSTED."""
    _iterator: Iterator[Item] | None = None
    _passes: int = 0
    _warned: bool = False

    def enter(self, state: State[Batch, Output, User]) -> State[Batch, Output, User]:
        """Get to the place where a state stands, and give the state with the batch that is due.

        Raises:
            ValueError: the data does not have that batch.
            BaseException: whatever the data raises.
        """
        self._passes = state.ledger.passes
        if state.status.has_ended:
            return state
        try:
            if self.position is not None:
                self._take_position(state)
            elif state.ledger.batch_due and not isinstance(self.data, Iterator):
                return self._with_due_batch(state)
            elif is_under_way(state):
                self._begin(state.drawn, self._passes)
        except Leaked as leaked:
            raise RuntimeError(
                f"data raised {type(leaked.error).__name__} on the way to its place"
            ) from leaked.error
        except Exception as error:
            error.add_note(f"on the way of the data to its place {where_in_run(state)}")
            raise
        return without_due_batch(state)

    def open(self, state: State[Batch, Output, User]) -> State[Batch, Output, User]:
        """Get ready to give the batch behind those that the state has drawn."""
        if self._iterator is None:
            self._begin(state.drawn, self._passes)
        return state

    def end_pass(self, state: State[Batch, Output, User]) -> None:
        """Report data that has fewer batches than it said."""
        if self.length is not None and state.drawn < self.length:
            self._report(f"it gave {state.drawn}")

    def restart(self, drawn: int) -> None:
        """Start iteration over the data again."""
        if self.length is not None:
            if drawn > self.length:
                self._report(f"it gave {drawn}")
            elif (length := length_of(self.data)) != self.length:
                self._report(f"it now says {length}")
        self._begin(0, self._passes + 1)

    def ran_dry(self, state: State[Batch, Output, User]) -> None:
        """Refuse to go on without data.

        Raises:
            DataExhausted: always.
        """
        limits = state.limits
        wanted = limits.max_iters
        if limits.max_epochs is not None and limits.epoch_length:
            wanted = limits.max_epochs * limits.epoch_length
        raise DataExhausted(state.iteration, wanted)

    def look_behind(self, state: State[Batch, Output, User]) -> None:
        """Report data that has more batches than it said, where that can be found out."""
        iterator = self._iterator
        if iterator is None or iterator is self.data or isinstance(self.data, Sequence):
            return
        drawn = state.drawn
        if drawn == self.length:
            # What this raises is no matter of a run that has all it wanted.
            with contextlib.suppress(Exception):
                if next(iterator, EXHAUSTED) is EXHAUSTED:
                    return
                drawn += 1
        if self.length is not None and drawn > self.length:
            self._report("it has more")

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

    def _begin(self, behind: int, number: int) -> None:
        """Begin a pass over the data, behind the first batches of it."""
        begin_pass(self.data, number)
        self._take_from(entered(self.data, behind))
        self._passes = number

    def _take_from(self, iterator: Iterator[Item]) -> None:
        self._iterator = iterator
        self.fetch = partial(next, iterator, EXHAUSTED)  # what costs least at each batch

    def _take_position(self, state: State[Batch, Output, User]) -> None:
        begin_pass(self.data, self._passes)
        cast("Any", self.data).load_state_dict(copy.deepcopy(self.position))
        iterator = iter(self.data)
        if state.ledger.exhausted:
            # The data takes up its place now, be it at the end or anew, and `restart` begins it.
            next(iterator, EXHAUSTED)
            iterator = iter(())
        self._take_from(iterator)

    def _with_due_batch(self, state: State[Batch, Output, User]) -> State[Batch, Output, User]:
        """Fetch the last batch again: of this pass, or of the one before if this has given none."""
        drawn, number = state.drawn, self._passes
        if drawn:
            self._begin(drawn - 1, number)
        else:
            self._begin(state.ledger.drawn_before - 1, number - 1)
        try:
            batch = self.fetch()
        except GeneratorExit as error:
            raise Leaked(error) from None
        if batch is EXHAUSTED:
            raise ValueError(
                f"data has no batch {drawn or state.ledger.drawn_before}, though the state has had "
                "it; go on with the data that the run had, or write the state with its batch: "
                "to_dict(batch=...)"
            )
        if not drawn:
            self._begin(0, number)
        return with_batch_again(state, cast("Any", batch))

    def _report(self, finding: str) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"data of type {type(self.data).__name__} said that it has {self.length} batches, "
                f"but {finding}; give epoch_length to say how long an epoch is",
                stacklevel=2,
            )


@final
class NoData:
    """Give None for ever, unannounced: the source of a run without data."""

    __slots__ = ()
    announced: Final = False

    def enter(self, state: State[Any, Output, User]) -> State[Any, Output, User]:
        """Give the state with the batch that is due, which was None."""
        return with_batch_again(state, None) if state.ledger.batch_due else state

    def open(self, state: State[Batch, Output, User]) -> State[Batch, Output, User]:
        """Do nothing: there is nothing to get ready."""
        return state

    def fetch(self) -> None:
        """Give None."""

    def end_pass(self, state: State[Batch, Output, User]) -> None:
        """Do nothing: it has no end."""

    def restart(self, drawn: int) -> None:
        """Do nothing: there is nothing to restart."""

    def ran_dry(self, state: State[Batch, Output, User]) -> None:
        """Do nothing: it never runs dry."""

    def look_behind(self, state: State[Batch, Output, User]) -> None:
        """Do nothing: there is nothing behind."""

    def close(self) -> None:
        """Do nothing: there is nothing to close."""


def source_of(data: Iterable[Item]) -> DataSource[Item]:
    """Make a source of the data of a run, and refuse data that cannot be one.

    Raises:
        TypeError: `data` is not an iterable of batches, or its length is not an int.
        ValueError: `data` is empty.

    >>> source_of([1, 2]).length
    2
    """
    kind = type(data)
    if isinstance(data, type | str | bytes | Mapping):
        what = f"the class {data.__name__}" if isinstance(data, type) else f"a {kind.__name__}"
        raise TypeError(
            f"data is {what}; give an iterable of batches, such as a list or DataLoader"
        )
    if not isinstance(data, Iterable):
        raise TypeError(
            f"data={data!r} of type {kind.__name__} is not iterable; "
            "give an iterable of batches, such as a list or DataLoader"
        )
    length = length_of(data)
    if length == 0:
        raise ValueError(f"data is empty: this {kind.__name__} has the length 0")
    return DataSource(data, length)


def length_of(data: object) -> int | None:
    """Give the number of batches that the data says it has; None if it does not know.

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
