"""Stateful: what models, optimizers, schedulers and some data have in common.

A run changes such things outside its state. They are named, so that a snapshot holds them too.

What `torch.compile` makes of a module is named as the module, so that the names in its state are
those of the module, and a snapshot does not know whether it was compiled.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol, runtime_checkable

from immutables import Map


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


def named(external: Mapping[str, Stateful]) -> Map[str, Stateful]:
    """Return a map of things outside the state, and refuse what cannot be saved and restored.

    Raises:
        TypeError: one has no state.
    """
    things: Mapping[str, object] = external
    for name, thing in things.items():
        if not isinstance(thing, Stateful) or isinstance(thing, type):
            what = f"the class {thing.__name__}" if isinstance(thing, type) else f"{thing!r}"
            raise TypeError(
                f"{name}={what} has no state_dict() and load_state_dict() to be saved and "
                "restored with"
            )
    return Map({name: uncompiled(thing) for name, thing in external.items()})


_COMPILED: Final = "torch._dynamo.eval_frame.OptimizedModule"


def uncompiled(thing: Any) -> Any:
    """Return the module that `torch.compile` has wrapped; anything else as it is.

    >>> uncompiled(3)
    3
    """
    while any(
        f"{kind.__module__}.{kind.__qualname__}" == _COMPILED for kind in type(thing).__mro__
    ):
        thing = thing._orig_mod
    return thing


def identities(external: Mapping[str, Stateful]) -> Map[str, int]:
    """Return what tells things outside the state apart: which objects they are."""
    return Map({name: id(thing) for name, thing in external.items()})
