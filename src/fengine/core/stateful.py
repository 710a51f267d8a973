"""Stateful: what models, optimizers, schedulers and some data have in common."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Stateful(Protocol):
    """Return one's state as a dict, and take it up again; models, optimizers and the like do.

    >>> class Counter:
    ...     number = 0
    ...     def state_dict(self):
    ...         return {"number": self.number}
    ...     def load_state_dict(self, state_dict):
    ...         self.number = state_dict["number"]
    >>> isinstance(Counter(), Stateful)
    True
    """

    def state_dict(self) -> Any:
        """Return the state."""

    def load_state_dict(self, state_dict: Any, /) -> Any:
        """Take up a state that `state_dict` returned."""
