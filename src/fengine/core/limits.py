"""Limits: how long a run is."""

from __future__ import annotations

import operator
from typing import cast, final

import attrs


def _limit(value: int | None) -> int | None:
    # Integers of numpy and the like count; a bool is left to be refused.
    index = getattr(type(value), "__index__", None)
    return value if index is None or isinstance(value, bool) else operator.index(cast(int, value))


def _positive(owner: object, field: attrs.Attribute[int | None], value: object) -> None:
    if value is None:
        return
    if type(value) is not int:
        raise TypeError(
            f"{field.name}={value!r} of type {type(value).__name__} is not an int; "
            f"{field.name} is a number from 1 or None"
        )
    if value < 1:
        raise ValueError(f"{field.name}={value} is too small; {field.name} is a number from 1")


@final
@attrs.frozen(weakref_slot=False)
class Limits:
    """Say how long a run is.

    Args:
        max_epochs: the number of epochs.
        max_iters: the number of iterations, instead of `max_epochs`.
        epoch_length: the number of batches in an epoch; None until it is known.

    Raises:
        TypeError: a limit is neither an int nor None.
        ValueError: a limit is below 1.

    >>> Limits(max_epochs=3, epoch_length=10)
    Limits(max_epochs=3, max_iters=None, epoch_length=10)
    """

    max_epochs: int | None = attrs.field(default=None, converter=_limit, validator=_positive)
    max_iters: int | None = attrs.field(default=None, converter=_limit, validator=_positive)
    epoch_length: int | None = attrs.field(default=None, converter=_limit, validator=_positive)
