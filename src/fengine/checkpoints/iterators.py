"""Iterators as data: whether one stands where a kept run goes on.

An iterator has no place that can be told it, and gives no batch twice. In the process that made it,
it stands where the run left it. In another process there is another iterator, which may give the
first batches once more. Of a generator one can see that it has given nothing yet; of any other
iterator one cannot.
"""

from __future__ import annotations

import inspect
import itertools
import warnings
from collections.abc import Iterable, Iterator
from types import GeneratorType
from typing import Any

from fengine import State
from fengine.run.place import innermost, resumable


def require_standing(data: object, state: State[Any, Any, Any], *, replay: bool) -> None:
    """Refuse a generator at its start where a run goes on later, and warn of other iterators.

    Args:
        data: the data to go on with.
        state: the state to go on from.
        replay: what the run has had is to be read again, and dropped.

    Raises:
        ValueError: the data is a generator that has given nothing yet, and the run has had batches.
    """
    if replay or not _depends_on_standing(data, state) or _has_begun(data):
        return
    kind, inner = type(data).__name__, innermost(data)
    of = "" if inner is data else f" (of a {type(inner).__name__})"
    count = f"{state.drawn} {'batch' if state.drawn == 1 else 'batches'}"
    begun = f"the run has had {count} of its data"
    ways = (
        "To go on anywhere, give data that knows its place: TensorBatches, a list, a DataLoader "
        "with sampler=fengine.training.Shuffled(dataset, seed=0), or your own with get_state and "
        "set_state. To read what the run has had again and drop it, say replay=True"
    )
    if isinstance(inner, GeneratorType):
        raise ValueError(
            f"{begun}, and this {kind}{of} is new and would give the first of them again. {ways}"
        )
    warnings.warn(
        f"{begun}, and goes on with whatever this {kind}{of} gives next: nobody can tell where it "
        f"stands. If it is new in this process, it gives the first batches again. {ways}",
        stacklevel=7,  # who called Checkpoints.run
    )


def pass_over(data: Iterable[Any] | None, state: State[Any, Any, Any]) -> None:
    """Read what a run has had of an iterator that is not known to have begun, and drop it.

    >>> data = iter("abc")
    >>> pass_over(data, State(iteration=1, epoch=1, batches=1))
    >>> next(data)
    'b'
    """
    if isinstance(data, Iterator) and _depends_on_standing(data, state) and not _has_begun(data):
        for _ in itertools.islice(data, state.drawn):
            pass


def _depends_on_standing(data: object, state: State[Any, Any, Any]) -> bool:
    """Tell whether only the data itself decides which batch comes next in the pass under way."""
    if not isinstance(data, Iterator) or resumable(data) is not None:
        return False
    return bool(state.drawn) and not state._exhausted and not state.status.has_ended


def _has_begun(data: object) -> bool:
    inner = innermost(data)
    return isinstance(inner, GeneratorType) and (
        inspect.getgeneratorstate(inner) != inspect.GEN_CREATED
    )
