"""Taking: what handlers can be called with, which is asked where they are added or combined.

A handler takes the state; at a payload event it may take the payload too, or may have to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Self, final

import attrs
from typing_extensions import override

from fengine.core.describe import can_take, describe, name_of, require_callable


@final
@attrs.frozen
class Takes:
    """Say what a handler can be called with.

    Args:
        alone: the state without a payload.
        payload: the state and a payload.
    """

    alone: bool
    payload: bool


class Combined:
    """Be a handler that is made of others, and calls each with what it takes.

    Attributes:
        takes: what it can be called with.
    """

    __slots__ = ()
    takes: Takes

    def in_words(self, word: Callable[[object], str]) -> str:
        """Say what it is made of, with a word for each part."""
        raise AssertionError("each kind has its own")

    @override
    def __repr__(self) -> str:
        return self.in_words(describe)

    def first_in_need(self) -> object:
        """Return the first part that cannot do without a payload."""
        raise AssertionError("each kind has its own")


def takes(handler: object, role: str = "a handler") -> Takes:
    """Return what a handler, or a predicate, can be called with.

    Raises:
        TypeError: it is neither a function of the state nor of the state and a payload.
    """
    if isinstance(handler, Combined):
        return handler.takes
    alone, payload = can_take(handler, 1, 2)
    if not alone and not payload:
        require_callable(handler, role, "state")
    return Takes(alone, payload)


class StandIn:
    """Be a handler that stands in a loop for another one, or only looks on.

    A run that goes on knows it by the name of that other one; one that only looks on has no name.

    Attributes:
        is_tried: whether one that only looks on runs also where a loop is tried out; it leaves
            nothing behind then.
    """

    __slots__ = ()
    is_tried: ClassVar[bool] = False

    def stands_for(self) -> object:
        """Return the other handler, or None."""
        raise AssertionError("each kind has its own")


class RunsLoop:
    """Be a handler that runs another loop over data of its own."""

    __slots__ = ()

    def limited(self, batches: int) -> Self:
        """Return a handler that runs it over the first batches only."""
        raise AssertionError("each kind has its own")

    def read(self) -> tuple[object, ...]:
        """Return the data that it reads, and that which is read within the other loop."""
        raise AssertionError("each kind has its own")


class Looking(StandIn):
    """Be a handler that only looks on."""

    __slots__ = ()

    @override
    def stands_for(self) -> None:
        """Return None: it only looks on."""


class Onlooker(Looking):
    """Be a handler that only looks on, after all others of its event, whenever it was added."""

    __slots__ = ()


def acting(handler: object) -> object:
    """Return what runs of a handler where its loop is tried out; None where nothing does."""
    while isinstance(handler, StandIn):
        other = handler.stands_for()
        if other is None:
            return handler if handler.is_tried else None
        handler = other
    return handler


def name_of_handler(handler: object) -> str:
    """Name a handler the same in each process; "" is one that only looks on."""
    if isinstance(handler, StandIn):
        other = handler.stands_for()
        return "" if other is None else name_of_handler(other)
    return handler.in_words(name_of_handler) if isinstance(handler, Combined) else name_of(handler)


def require_handler(handler: object, role: str, *given: str) -> None:
    """Refuse a handler that, or a part of which, does not take what an event gives.

    Raises:
        TypeError: it is refused.
    """
    while isinstance(handler, Combined):
        if len(given) > 1 or handler.takes.alone:
            return
        role, handler = f"{role}, in {handler!r},", handler.first_in_need()
    require_callable(handler, role, *given)


def first_in_need(*parts: tuple[object, Takes]) -> object:
    """Return the first part that cannot do without a payload."""
    return next(part for part, accepted in parts if not accepted.alone)


def not_a_state(handler: Combined, given: object) -> TypeError:
    """Return the error of a handler that was called with something else than a state."""
    what = f"{type(given).__name__}"
    way = f": loop.on(event, {handler!r})" if what == "Loop" else ""
    return TypeError(
        f"{handler!r} is a handler, which takes a State, and was called with a {what}; register "
        f"it at an event{way}"
    )
