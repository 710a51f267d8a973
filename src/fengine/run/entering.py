"""Entering data: how a pass over it begins, at its start or after batches that a run has had.

Which data can be entered, and which is refused: see `place`.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable, Iterator
from typing import Any, Literal, TypeAlias, TypeVar

from fengine.core.events import Events
from fengine.core.missing import MISSING
from fengine.run.box import Box, Leaked
from fengine.run.loaders import is_loader, parts_of, rest_of
from fengine.run.place import ByLoader, ByStateDict, Enterable, is_indexed, resumable

Item = TypeVar("Item")

# How a pass over data is over: not yet, after all its batches, after as many as the data has said,
# or where it was cut short.
End: TypeAlias = Literal["none", "seen", "unseen", "cut"]


def go_on_at(data: Iterable[Item], position: object, end: End) -> Iterator[Item]:
    """Tell data its place, and go on there; where the pass is over, the rest of it is nothing.

    Nothing is dropped unseen: data that begins its next pass by itself is told its place again.
    """
    knowing = resumable(data)
    assert knowing is not None, "only such data has a position"
    knowing.set_state(copy.deepcopy(position))
    if end == "none":
        return iter(data)
    if isinstance(knowing, ByLoader):
        iter(data)
        knowing.set_generators(position)
    elif isinstance(knowing, ByStateDict) and end != "unseen":
        begins_by_itself = next(iter(data), MISSING) is not MISSING
        if begins_by_itself and end == "seen":
            knowing.set_state(copy.deepcopy(position))
    elif end != "seen":
        iter(data)
    return iter(())


def end_of_pass(box: Box[Any, Any, Any], length: int | None) -> End:
    """Tell how the pass is over at which a run stands; its data has said so many batches."""
    if not box._exhausted:
        return "none"
    if box.event == Events.TERMINATE_SINGLE_EPOCH:
        return "cut"
    return "unseen" if box.drawn == length else "seen"


def begin_pass(data: object, number: int) -> None:
    """Tell whatever shuffles the data which pass over it begins, from 0 on."""
    for part in parts_of(data):
        set_epoch = getattr(part, "set_epoch", None)
        if callable(set_epoch):
            set_epoch(number)


def entered(data: Iterable[Item], done: int) -> Iterator[Item]:
    """Begin iteration over data, after the first batches of it.

    Raises:
        Leaked: the data raised a StopIteration or GeneratorExit.
    """
    if done and is_indexed(data):
        return map(data.__getitem__, range(done, len(data)))
    try:
        if done and isinstance(data, Enterable):
            found: Iterator[Item] = data.iterate_from(done)
            return found
        if done and is_loader(data) and resumable(data) is None:
            return iter(rest_of(data, done))
        iterator = iter(data)
    except (StopIteration, GeneratorExit) as error:
        raise Leaked(error) from None
    if iterator is not data:
        for _ in itertools.islice(iterator, done):
            pass
    return iterator
