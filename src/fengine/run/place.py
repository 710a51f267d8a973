"""The place in the data: how many batches of which pass a run has had, and how it gets back there.

A pass is one iteration over the data. A run counts its passes and the batches that it has drawn in
the pass under way; both are registers, and fields of every state. So a run that goes on, in another
process too, enters its data at that place:

- Data that knows its own place is told it: see `Resumable`. So is data with `state_dict` and
  `load_state_dict`, such as torchdata's StatefulDataLoader.
- Data in a known order begins a pass at any batch: a list by its index, a DataLoader by its
  sampler, other data by its own method: see `Enterable`.
- An iterator goes on where it stands.
- Any other data can only be read again from its start. It may return other batches then, so a user
  has to ask for that.

A state that is written without its batch, before the step is done with it, has that batch fetched
again. How passes are begun, and batches fetched again, is in `entering` and in `source`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Any, Final, Protocol, TypeVar, final, runtime_checkable

import attrs
from typing_extensions import TypeIs

from fengine.core.events import rank_at
from fengine.core.missing import MISSING
from fengine.core.phases import GET_BATCH_STARTED, has_step_to_come
from fengine.core.state import Batch, Output, State, User
from fengine.core.stateful import Stateful
from fengine.run.box import Box
from fengine.run.failures import note
from fengine.run.loaders import (
    chance_of,
    generators_of,
    is_loader,
    is_stateful_loader,
    order_of,
)

Item = TypeVar("Item")
Given = TypeVar("Given", covariant=True)


@runtime_checkable
class Resumable(Protocol[Given]):
    """Be data that knows its own place.

    The contract, where `k` batches of a pass have been given:

    - `get_state()` returns a value that stands for this place. Later iteration does not change it,
      and it can be pickled.
    - After `set_state(value)`, the next iteration begins with batch `k + 1` of that pass.
    - Once an iteration has come to its end, the place is the beginning of the next pass.
    - Iterations after that one are whole passes again.

    >>> class Counting:
    ...     done = 0
    ...     def __iter__(self):
    ...         for number in range(self.done, 3):
    ...             self.done = number + 1
    ...             yield number
    ...         self.done = 0
    ...     def get_state(self):
    ...         return self.done
    ...     def set_state(self, state):
    ...         self.done = state
    >>> isinstance(Counting(), Resumable)
    True
    """

    def __iter__(self) -> Iterator[Given]:
        """Begin a pass, or go on at the place that was set."""

    def get_state(self) -> Any:
        """Return what stands for the place where iteration is now."""

    def set_state(self, state: Any, /) -> Any:
        """Have the next iteration go on at a place that `get_state` returned."""


@runtime_checkable
class Enterable(Protocol[Given]):
    """Be data in a known order, which can begin a pass after its first batches.

    The order of a pass follows from its number, which `set_epoch` tells if the data has that
    method.

    >>> from fengine.training import TensorBatches
    >>> import torch
    >>> isinstance(TensorBatches(torch.ones(4), batch_size=2), Enterable)
    True
    """

    def iterate_from(self, place: int) -> Iterator[Given]:
        """Begin a pass after so many batches of it."""


@runtime_checkable
class Wrapping(Protocol):
    """Be data that gives the batches of other data in another form, and knows no more of them."""

    @property
    def wrapped_data(self) -> Iterable[Any]:
        """The other data."""


def innermost(data: object) -> object:
    """Return the data whose batches some data gives, however often they are given in other forms.

    >>> from fengine.training import to_device
    >>> innermost(to_device([1, 2], "cpu"))
    [1, 2]
    """
    while isinstance(data, Wrapping):
        data = data.wrapped_data
    return data


@final
@attrs.frozen
class ByStateDict:
    """Have data with `state_dict` and `load_state_dict` know its place as `Resumable` does.

    There is one difference: at the end of a pass such data stands in that pass, and the iteration
    after `load_state_dict` gives nothing.
    """

    data: Stateful

    def __iter__(self) -> Iterator[Any]:
        """Fail: a run iterates over the data itself."""
        raise AssertionError("a run iterates over the data itself")

    def get_state(self) -> Any:
        """Return what the data says of its state."""
        return self.data.state_dict()

    def set_state(self, state: Any) -> None:
        """Have the data take up a state."""
        self.data.load_state_dict(state)


@final
@attrs.frozen
class ByLoader:
    """Have a StatefulDataLoader know its place as `Resumable` does, in the passes to come too.

    It restores the order of the pass under way itself. The random generators that make the later
    ones are saved and restored here.
    """

    loader: Any

    def __iter__(self) -> Iterator[Any]:
        """Fail: a run iterates over the data itself."""
        raise AssertionError("a run iterates over the data itself")

    def get_state(self) -> Any:
        """Return what the loader says of its state, and the states of its generators."""
        return {
            "loader": self.loader.state_dict(),
            "generators": [generator.get_state() for generator in generators_of(self.loader)],
            "num_workers": self.loader.num_workers,
        }

    def set_state(self, state: Any) -> None:
        """Have the loader take up a state, now."""
        self._require_as_many_generators(state)
        try:
            self.loader.load_state_dict(state["loader"])
            self.loader.state_dict()  # it takes up what was loaded
        except AssertionError as error:
            before, now = state["num_workers"], self.loader.num_workers
            if before != now:
                text = (
                    f"the place was taken with num_workers={before}, and the loader to go on with"
                )
                note(error, f"{text} has num_workers={now}; give it as many")
            raise
        self.set_generators(state)

    def set_generators(self, state: Any) -> None:
        """Have the generators go on where they were."""
        for generator, saved in zip(generators_of(self.loader), state["generators"], strict=True):
            generator.set_state(saved)

    def _require_as_many_generators(self, state: Any) -> None:
        generators = generators_of(self.loader)
        if len(generators) != len(state["generators"]):
            raise ValueError(
                f"the place was taken of a loader with {len(state['generators'])} random "
                f"generators, and the one to go on with has {len(generators)}; give it the same "
                "sampler and generator"
            )


def resumable(data: object) -> Resumable[Any] | None:
    """Return what knows the place in some data; None if nothing does."""
    if isinstance(data, type):
        return None
    if is_stateful_loader(data):
        return ByLoader(data)
    if isinstance(data, Stateful):
        return ByStateDict(data)
    return data if isinstance(data, Resumable) and not _iterates_by_index(data) else None


def position_of(data: object, state: State[Batch, Output, User]) -> object:
    """Return what the data itself says of its place; None if it knows none, or has not begun."""
    knowing = resumable(data)
    if knowing is None or not is_under_way(state):
        return None
    return copy.deepcopy(knowing.get_state())


def is_under_way(state: State[Batch, Output, User]) -> bool:
    """Tell whether iteration over the data has begun where a state stands."""
    return bool(state.drawn or state.passes) or rank_at(state.event) == GET_BATCH_STARTED


def without_batch(state: State[Batch, Output, User]) -> State[Batch, Output, User]:
    """Return a state without its batch, which is fetched again where the run goes on."""
    if not state.has_batch:
        return state
    due = bool(state.drawn or state._drawn_before)  # else a handler has put it there
    notes = attrs.evolve(state._notes, batch_due=due)
    return attrs.evolve(state, batch=MISSING, notes=notes)


def note_end_of_pass(box: Box[Any, Any, Any]) -> None:
    """Note that the data has no batch after those that were drawn."""
    box._exhausted = True


def note_restart(box: Box[Any, Any, Any]) -> None:
    """Note that iteration over the data starts again, so that nothing is drawn in its pass."""
    box._offset, box.passes, box._drawn_before, box._exhausted = (
        -box.batches,
        box.passes + 1,
        box.drawn,
        False,
    )


def require_place(
    data: object,
    state: State[Batch, Output, User],
    position: object,
    *,
    length: int | None,
    replay: bool,
) -> None:
    """Refuse data in which the place where a state stands cannot be found.

    Args:
        data: where the batches come from.
        state: the state to go on from.
        position: what the data itself has said of its place; None if nothing.
        length: how many batches the data says it has; None where it does not say.
        replay: whether batches may be read again and dropped.

    Raises:
        ValueError: it cannot.
    """
    if state.status.has_ended:
        return
    passing = isinstance(data, Iterator) or position is not None
    if state._notes.batch_due and passing and has_step_to_come(rank_at(state.event)):
        raise ValueError(
            f"the state stands at {state.event!r}, before the step, and was written without its "
            "batch, which this data is past; write it: to_dict(batch=...), or stop at another event"
        )
    if position is not None and state.drawn and not state._exhausted:
        _refuse_chance(data)
    done = state.drawn or (state._drawn_before if state._notes.batch_due else 0)
    is_over = done == length and not state._notes.batch_due  # nothing more of the pass is read
    if not done or passing or replay or is_over:
        return
    into = f"the run is {done} {'batch' if done == 1 else 'batches'} into its data"
    known = is_indexed(data) or isinstance(data, Enterable)
    by_sampler = is_loader(data) and resumable(data) is None
    if (known or by_sampler) and isinstance(data, Sized) and len(data) < done:
        raise ValueError(
            f"{into}, but this {type(data).__name__} has {len(data)} only; go on with the data "
            "that the run had"
        )
    if known:
        return
    data = innermost(data)
    by_sampler = is_loader(data) and resumable(data) is None
    ask = resumable(data) is not None
    advice = "go on from loop.snapshot(state, data), which asks this data for its place, " * ask
    if not by_sampler:
        raise ValueError(
            f"{into}, and data of type {type(data).__name__} can only be read again from its "
            "start, which may give others. Give a list, a DataLoader in a known order, data that "
            "knows its place (get_state and set_state, or state_dict and load_state_dict), or an "
            f"iterator that stands there; {advice}or say replay=True, to read what the run has had "
            "and drop it"
        )
    sampler, repeats = order_of(data)
    if not repeats:
        raise ValueError(
            f"{into}, but the order of this DataLoader is known to its {type(sampler).__name__} "
            "alone. Shuffle with DataLoader(..., sampler=fengine.training.Shuffled(dataset, "
            f"seed=0)); {advice}or say replay=True, to go on in whatever order there is now"
        )


def _refuse_chance(data: object) -> None:
    """Refuse a StatefulDataLoader whose sampler would draw the pass under way once more."""
    data = innermost(data)
    sampler = chance_of(data) if is_stateful_loader(data) else None
    if sampler is not None:
        raise ValueError(
            f"the {type(sampler).__name__} of this {type(data).__name__} draws another order than "
            "that of the pass under way, which it cannot restore. Shuffle with shuffle=True and "
            "generator=, or with sampler=fengine.training.Shuffled(dataset, seed=0)"
        )


# How a sequence is iterated that gives, one by one, what its indices do.
_BY_INDEX: Final = (list.__iter__, tuple.__iter__, range.__iter__, Sequence.__iter__)


def is_indexed(data: Iterable[Item] | object) -> TypeIs[Sequence[Item]]:
    """Tell whether iterating over data gives what its indices do, and nothing else says how."""
    return _iterates_by_index(data) and resumable(data) is None


def _iterates_by_index(data: object) -> bool:
    return isinstance(data, Sequence) and type(data).__iter__ in _BY_INDEX
