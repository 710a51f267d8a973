"""Taking: what handlers can be called with, which is asked where they are added or combined.

A handler takes the state; at a payload event it may take the payload too, or may have to.
"""

from __future__ import annotations

from typing import final

import attrs

from fengine.core.describe import require_callable


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
    try:
        require_callable(handler, role, "state")
    except TypeError as mismatch:
        try:
            require_callable(handler, role, "state", "payload")
        except TypeError:
            raise mismatch from None
        return Takes(alone=False, payload=True)
    try:
        require_callable(handler, role, "state", "payload")
    except TypeError:
        return Takes(alone=True, payload=False)
    return Takes(alone=True, payload=True)


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
