"""Stateful: what models, optimizers, schedulers and some data have in common.

A run changes such things outside its state. They are named, so that a snapshot holds them too.

What `torch.compile` or DistributedDataParallel makes of a module is named as the module, so that
the names in its state are those of the module. So a snapshot does not know whether it was compiled,
or how many processes trained it.
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
    return Map({name: unwrapped(thing) for name, thing in external.items()})


# The classes that wrap a module, and where each has it.
_WRAPPERS: Final = {
    "torch._dynamo.eval_frame.OptimizedModule": "_orig_mod",
    "torch.nn.parallel.distributed.DistributedDataParallel": "module",
}


def unwrapped(thing: Any) -> Any:
    """Return the module that `torch.compile` or DistributedDataParallel has wrapped.

    Anything else comes back as it is.

    >>> unwrapped(3)
    3
    """
    wrapper: str | None = ""
    while wrapper is not None:
        names = (f"{kind.__module__}.{kind.__qualname__}" for kind in type(thing).__mro__)
        wrapper = next((_WRAPPERS[name] for name in names if name in _WRAPPERS), None)
        thing = thing if wrapper is None else getattr(thing, wrapper)
    return thing


def identities(external: Mapping[str, Stateful]) -> Map[str, int]:
    """Return what tells things outside the state apart: which objects they are."""
    return Map({name: id(thing) for name, thing in external.items()})
