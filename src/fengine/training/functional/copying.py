"""Copies of tensors, as many in one call as can be, and of what optimizers remember."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
from torch import Tensor

from fengine.training.functional.values import Names, Values, values_of

# What an optimizer remembers of a parameter that it has not updated yet, and the like.
NOTHING: Final[Values[Any]] = Values()
_FOREACH_CLONE: Final[Callable[[Sequence[Tensor]], Sequence[Tensor]] | None] = getattr(
    torch, "_foreach_clone", None
)


def copies_of(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Return copies of tensors, which have no graph.

    >>> before = torch.ones(2)
    >>> (after,) = copies_of([before])
    >>> after.data_ptr() == before.data_ptr()
    False
    """
    if not tensors:
        return ()
    if _FOREACH_CLONE is None:
        return tuple([one.clone() for one in tensors])
    return tuple(_FOREACH_CLONE(tensors))


def copies_of_states(states: tuple[Values[Any], ...]) -> tuple[Values[Any], ...]:
    """Return copies of what an optimizer remembers of each parameter.

    >>> kept = Values({"step": 1, "past": [torch.ones(1)]})
    >>> copies_of_states((kept,)) == (kept,)
    True
    """
    if (known := _alike(states)) is None:
        return tuple(_copy(entries) for entries in states)
    # One call for each name, since what is of one name is on one device.
    columns = zip(*[entries.whole() for entries in states], strict=True)
    rows = zip(*map(copies_of, columns), strict=True)
    return tuple([values_of(known, row) for row in rows])


def _alike(states: Sequence[Values[Any]]) -> Names | None:
    """Return the names that all states have, if there is nothing but tensors in them."""
    first = states[0].known if states else None
    if first is None or not first.names:
        return None
    for entries in states:
        if entries.known is not first:
            return None
        for one in entries.whole():
            if type(one) is not Tensor:
                return None
    return first


def _copy(entries: Values[Any]) -> Values[Any]:
    values = entries.whole()
    if entries is NOTHING:
        return entries
    if all(type(one) is Tensor for one in values):
        return values_of(entries.known, copies_of(values))
    held = dict(zip(entries.known.names, values, strict=True))
    # All at once, since what is met twice is one thing in the copy too.
    return values_of(entries.known, tuple(copy.deepcopy(held).values()))
