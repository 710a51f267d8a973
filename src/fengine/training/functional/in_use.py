"""In use: a model is lent to one iteration at a time, whichever step, run or thread it is of."""

from __future__ import annotations

import threading
from typing import Final, final

_GUARD: Final = threading.Lock()


@final
class Use:
    """Have a model to oneself, from `begin` to `end`.

    Args:
        ids: its parameters and itself, by identity.
        model: the model.

    Attributes:
        has_begun: whether the model is used now.

    >>> one, other = Use(frozenset({1}), object()), Use(frozenset({1, 2}), object())
    >>> one.begin()
    >>> other.begin()
    Traceback (most recent call last):
    RuntimeError: the object is in use: another run, or another thread, is within its step...
    >>> one.end()
    >>> other.begin()
    >>> other.end()
    """

    __slots__ = ("has_begun", "ids", "model")

    def __init__(self, ids: frozenset[int], model: object) -> None:
        self.ids, self.model, self.has_begun = ids, model, False

    def begin(self) -> None:
        """Use the model.

        Raises:
            RuntimeError: somebody else does, of this model or of one that shares a parameter.
        """
        with _GUARD:
            if any(not self.ids.isdisjoint(other.ids) for other in _IN_USE):
                raise RuntimeError(
                    f"the {type(self.model).__name__} is in use: another run, or another thread, "
                    "is within its step, which has the model until its update. Let that run go on "
                    "to Update.COMPLETED first, or give this one a copy of the model, with an "
                    "optimizer of its own"
                )
            self.has_begun = True
            _IN_USE.append(self)

    def end(self) -> None:
        """Let others use the model."""
        if self.has_begun:
            with _GUARD:
                self.has_begun = False
                _IN_USE.remove(self)


# Those that have begun; mostly there is none, or one.
_IN_USE: Final[list[Use]] = []
