"""In use: a model is lent to one iteration at a time, whichever step, run or thread it is of."""

from __future__ import annotations

import threading
from typing import Final, final

_IN_USE: Final[set[int]] = set()  # the parameters, by identity
_GUARD: Final = threading.Lock()


@final
class Use:
    """Have a model to oneself, from `begin` to `end`.

    Args:
        ids: its parameters and itself, by identity.
        kind: what the model is called in the error.

    Attributes:
        has_begun: whether the model is used now.

    >>> one, other = Use(frozenset({1}), "Linear"), Use(frozenset({1, 2}), "Linear")
    >>> one.begin()
    >>> other.begin()
    Traceback (most recent call last):
    RuntimeError: the Linear is in use: another run, or another thread, is within its step...
    >>> one.end()
    >>> other.begin()
    >>> other.end()
    """

    __slots__ = ("has_begun", "ids", "kind")

    def __init__(self, ids: frozenset[int], kind: str) -> None:
        self.ids, self.kind, self.has_begun = ids, kind, False

    def begin(self) -> None:
        """Use the model.

        Raises:
            RuntimeError: somebody else does, of this model or of one that shares a parameter.
        """
        with _GUARD:
            if not _IN_USE.isdisjoint(self.ids):
                raise RuntimeError(
                    f"the {self.kind} is in use: another run, or another thread, is within its "
                    "step, which has the model until its update. Let that run go on to "
                    "Update.COMPLETED first, or give this one a copy of the model, with an "
                    "optimizer of its own"
                )
            self.has_begun = True
            _IN_USE.update(self.ids)

    def end(self) -> None:
        """Let others use the model."""
        if self.has_begun:
            with _GUARD:
                self.has_begun = False
                _IN_USE.difference_update(self.ids)
