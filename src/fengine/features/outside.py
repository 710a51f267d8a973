"""Outside: which modules a loop names outside the state, and whether it names something at all.

A module has several names where it is wrapped, compiled or part of another one. So two modules are
the same here as soon as they share a parameter or a buffer.
"""

from __future__ import annotations

import itertools
from typing import Any

from torch import nn

from fengine import Loop, Stateful


def modules_of(loop: Loop[Any, Any, Any]) -> dict[str, nn.Module]:
    """Return the modules that the step and the features before have named, by name."""
    return {name: one for name, one in loop.external.items() if isinstance(one, nn.Module)}


def is_named(loop: Loop[Any, Any, Any], thing: Stateful) -> bool:
    """Tell whether the step or a feature before has named a thing, or a module that shares it."""
    if any(one is thing for one in loop.external.values()):
        return True
    own = _tensors(thing) if isinstance(thing, nn.Module) else set[int]()
    return any(not own.isdisjoint(_tensors(module)) for module in modules_of(loop).values())


def _tensors(module: nn.Module) -> set[int]:
    return {id(one) for one in itertools.chain(module.parameters(), module.buffers())}
