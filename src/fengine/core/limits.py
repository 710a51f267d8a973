"""Limits: how long a run is, and when it has been that long."""

from __future__ import annotations

import operator
from typing import TypedDict, final

import attrs
from typing_extensions import override

from fengine.core.describe import call_in_words


class EndArguments(TypedDict, total=False):
    """Name the ends of a run as users give them: a number of epochs, or of iterations."""

    max_epochs: int | None
    max_iters: int | None


class LimitArguments(EndArguments, total=False):
    """Name the limits of a run as users give them."""

    epoch_length: int | None


def _number(name: str, value: int | None) -> int | None:
    """Return a limit as an int or None, and refuse what is neither.

    Integers of other libraries count too.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not hasattr(type(value), "__index__"):
        raise TypeError(
            f"{name}={value!r} of type {type(value).__name__} is not an int; "
            f"{name} is a number from 1 or None"
        )
    number = operator.index(value)
    if number < 1:
        raise ValueError(f"{name}={number} is too small; {name} is a number from 1")
    return number


@final
@attrs.frozen(init=False, repr=False)
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
    Limits(max_epochs=3, epoch_length=10)
    """

    max_epochs: int | None
    max_iters: int | None
    epoch_length: int | None

    def __init__(
        self,
        max_epochs: int | None = None,
        max_iters: int | None = None,
        epoch_length: int | None = None,
    ) -> None:
        self.__attrs_init__(
            _number("max_epochs", max_epochs),
            _number("max_iters", max_iters),
            _number("epoch_length", epoch_length),
        )

    @override
    def __repr__(self) -> str:
        given = {name: value for name, value in attrs.asdict(self).items() if value is not None}
        return call_in_words("Limits", **given)

    def replacing(self, name: str, value: int | None) -> Limits:
        """Return these limits with one of them replaced, unchecked.

        What a run finds out about its data may be what no user may ask for: data that has no batch
        has the epoch length 0.

        >>> Limits(max_epochs=3).replacing("epoch_length", 0).epoch_length
        0
        """
        limits = object.__new__(Limits)
        limits.__attrs_init__(**{**attrs.asdict(self), name: value})
        return limits

    def are_reached(self, epoch: int, iteration: int) -> bool:
        """Tell whether a run that has begun so many epochs and iterations is over.

        >>> Limits(max_epochs=3).are_reached(epoch=3, iteration=30)
        True
        """
        if self.max_iters is not None and iteration >= self.max_iters:
            return True
        if self.max_epochs is None:
            return False
        if epoch >= self.max_epochs:
            return True
        return self.epoch_length is not None and iteration >= self.epoch_length * self.max_epochs


def require_limits(given: LimitArguments) -> Limits:
    """Return the limits that a user asks for: one epoch where nothing is asked for.

    Raises:
        TypeError: a limit is not an int, or has another name.
        ValueError: a limit is below 1, or both `max_epochs` and `max_iters` are given.

    >>> require_limits({"epoch_length": 5})
    Limits(max_epochs=1, epoch_length=5)
    """
    require_names(given)
    epochs, iterations = given.get("max_epochs"), given.get("max_iters")
    if epochs is not None and iterations is not None:
        raise ValueError(
            f"both max_epochs={epochs} and max_iters={iterations} are given; give one of them"
        )
    if epochs is None and iterations is None:
        epochs = 1
    return Limits(epochs, iterations, given.get("epoch_length"))


def require_names(given: LimitArguments) -> None:
    """Refuse limits of other names than there are.

    Raises:
        TypeError: there is one.
    """
    known = [*EndArguments.__annotations__, "epoch_length"]
    for name in given:
        if name not in known:
            raise TypeError(
                f"there is no argument {name}=; the limits of a run are {', '.join(known)}"
            )
