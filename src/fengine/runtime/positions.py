"""Positions: how iteration over data begins behind batches that a run has had already.

Data that knows its own place is told it. A list is entered by an index, a DataLoader in its
sampler, and other data in a known order by its `iterate_from`, so that nothing is read that is
behind. An iterator goes on where it stands. Any other data can only be read again from its start,
which is for the caller to say: it may give other batches.

Nothing here imports torch: who has a DataLoader has imported it.
"""

from __future__ import annotations

import copy
import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Any, Final, Protocol, TypeVar, cast, final, runtime_checkable

import attrs
from typing_extensions import TypeIs

from fengine.core.events import Events
from fengine.core.ports import Leaked
from fengine.core.ranks import GET_BATCH_COMPLETED, ITERATION_COMPLETED, rank
from fengine.core.state import Batch, Output, State, User
from fengine.runtime.external import Stateful

Item = TypeVar("Item")
Given = TypeVar("Given", covariant=True)


@runtime_checkable
class _Enterable(Protocol[Given]):
    """Data in a known order, which can begin a pass behind its first batches."""

    def iterate_from(self, place: int) -> Iterator[Given]:
        """Begin a pass behind so many batches."""


def require_place(
    data: object, state: State[Batch, Output, User], position: object, *, replay: bool
) -> None:
    """Refuse data in which the place where a state stands cannot be found.

    Args:
        data: where the batches come from.
        state: the state to go on from.
        position: what the data itself has said of its place; None if nothing.
        replay: whether batches may be read again and dropped.

    Raises:
        ValueError: it cannot.
    """
    if state.status.has_ended:
        return
    passing = isinstance(data, Iterator) or position is not None
    if state.ledger.batch_due and passing and _needs_batch(state):
        raise ValueError(
            f"the state stands at {state.event!r}, before the step, and was written without its "
            "batch, which this data is past; write it: to_dict(batch=...), or stop at another event"
        )
    behind = state.drawn or (state.ledger.drawn_before if state.ledger.batch_due else 0)
    if not behind or passing or replay:
        return
    into = f"the run is {behind} {'batch' if behind == 1 else 'batches'} into its data"
    known = _is_indexed(data) or isinstance(data, _Enterable)
    if (known or _is_loader(data)) and isinstance(data, Sized) and len(data) < behind:
        raise ValueError(
            f"{into}, but this {type(data).__name__} has {len(data)} only; go on with the data "
            "that the run had"
        )
    if known:
        return
    ask = isinstance(data, Stateful)
    advice = "go on from loop.snapshot(state, data), which asks this data for its place, " * ask
    if not _is_loader(data):
        raise ValueError(
            f"{into}, and data of type {type(data).__name__} can only be read again from its "
            "start, which may give others. Give a list, a DataLoader in a known order, data with "
            f"state_dict and load_state_dict, or an iterator that stands there; {advice}or say "
            "replay=True, to read what is behind and drop it"
        )
    sampler = _innermost(_index_sampler(data))
    if not _is_ordered(sampler):
        raise ValueError(
            f"{into}, but the order of this DataLoader is known to its {type(sampler).__name__} "
            "alone. Shuffle with DataLoader(..., sampler=fengine.training.Shuffled(dataset, "
            f"seed=0)); {advice}or say replay=True, to go on in whatever order there is now"
        )


def is_under_way(state: State[Batch, Output, User]) -> bool:
    """Tell whether iteration over the data has begun where a state stands."""
    return bool(state.drawn or state.ledger.passes) or state.event == Events.GET_BATCH_STARTED


def position_of(data: object, state: State[Batch, Output, User]) -> object:
    """Give what the data itself says of its place; None if it knows none, or has not begun."""
    if isinstance(data, type) or not isinstance(data, Stateful) or not is_under_way(state):
        return None
    return copy.deepcopy(data.state_dict())


def begin_pass(data: object, number: int) -> None:
    """Tell whatever shuffles the data which pass over it begins, from 0 on."""
    batch_sampler = getattr(data, "batch_sampler", None)
    told: list[object] = []
    for part in (
        data,
        batch_sampler,
        getattr(data, "sampler", None),
        getattr(batch_sampler, "sampler", None),
    ):
        set_epoch = getattr(part, "set_epoch", None)
        if callable(set_epoch) and not any(part is one for one in told):
            set_epoch(number)
            told.append(part)


def entered(data: Iterable[Item], behind: int) -> Iterator[Item]:
    """Begin iteration over data, behind the first batches of it.

    Raises:
        Leaked: the data raised a StopIteration or GeneratorExit.
    """
    if behind and _is_indexed(data):
        return map(data.__getitem__, range(behind, len(data)))
    try:
        if behind and isinstance(data, _Enterable):
            return cast("Iterator[Item]", data.iterate_from(behind))
        if behind and _is_loader(data):
            return iter(_rest_of(data, behind))
        iterator = iter(data)
    except (StopIteration, GeneratorExit) as error:
        raise Leaked(error) from None
    if iterator is not data:
        for _ in itertools.islice(iterator, behind):
            pass
    return iterator


def _needs_batch(state: State[Batch, Output, User]) -> bool:
    """Tell whether the step is still to be done with the batch of a state."""
    return GET_BATCH_COMPLETED <= rank(state) < ITERATION_COMPLETED


@final
@attrs.frozen(eq=False, repr=False)
class _Rest:
    """Leave out the first indices of a sampler."""

    sampler: Any
    behind: int

    def __iter__(self) -> Iterator[Any]:
        return itertools.islice(self.sampler, self.behind, None)

    def __len__(self) -> int:
        return len(self.sampler) - self.behind


def _rest_of(loader: Any, behind: int) -> Any:
    """Copy a DataLoader for one pass that leaves out the first batches."""
    rest = copy.copy(loader)
    name = "sampler" if loader.batch_sampler is None else "batch_sampler"
    # It refuses to have them set; and workers that persist are those of the loader itself.
    vars(rest).update({name: _Rest(_index_sampler(loader), behind), "_iterator": None})
    return rest


def _torch_data() -> Any:
    return sys.modules.get("torch.utils.data")


# How a sequence is iterated that gives, one by one, what its indices do.
_BY_INDEX: Final = (list.__iter__, tuple.__iter__, range.__iter__, Sequence.__iter__)


def _is_indexed(data: Iterable[Item] | object) -> TypeIs[Sequence[Item]]:
    """Tell whether iterating over data gives what its indices do."""
    by_index = isinstance(data, Sequence) and type(data).__iter__ in _BY_INDEX
    return by_index and not isinstance(data, Stateful)


def _is_loader(data: object) -> bool:
    """Tell whether data is a DataLoader whose sampler says which items are read."""
    torch_data = _torch_data()
    return (
        torch_data is not None
        and isinstance(data, torch_data.DataLoader)
        and type(data).__iter__ is torch_data.DataLoader.__iter__
        and not isinstance(data, Stateful)
        and not isinstance(data.dataset, torch_data.IterableDataset)
    )


def _index_sampler(loader: Any) -> Any:
    return loader.sampler if loader.batch_sampler is None else loader.batch_sampler


def _is_ordered(sampler: Any) -> bool:
    """Tell whether a sampler gives the same order whenever it is asked in the same pass."""
    return (
        isinstance(sampler, Sequence)
        or hasattr(sampler, "set_epoch")
        or type(sampler) is _torch_data().SequentialSampler
    )


def _innermost(sampler: Any) -> Any:
    while type(sampler) is _torch_data().BatchSampler:
        sampler = sampler.sampler
    return sampler
