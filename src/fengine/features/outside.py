"""Outside: which modules a loop changes, and whether it names something at all.

They are outside the state, or are lent by the step, which keeps them in the state. A module has
several names where it is wrapped, compiled or part of another one. So two modules are the same here
as soon as they share a parameter or a buffer.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from torch import nn

from fengine import Loop, Stateful
from fengine.core.steps import lends_of


def things_of(loop: Loop[Any, Any, Any]) -> Mapping[str, object]:
    """Return what the step lends, and what it and the features before have named, by name."""
    lends = lends_of(loop.step)
    return {**({} if lends is None else lends.things), **loop.external}


def modules_of(loop: Loop[Any, Any, Any]) -> dict[str, nn.Module]:
    """Return the modules among these, by name."""
    return {name: one for name, one in things_of(loop).items() if isinstance(one, nn.Module)}


def is_named(loop: Loop[Any, Any, Any], thing: Stateful) -> bool:
    """Tell whether the step or a feature before has named a thing, or a module that shares it."""
    if any(one is thing for one in things_of(loop).values()):
        return True
    own = _tensors(thing) if isinstance(thing, nn.Module) else set[int]()
    return any(not own.isdisjoint(_tensors(module)) for module in modules_of(loop).values())


def _tensors(module: nn.Module) -> set[int]:
    return {id(one) for one in itertools.chain(module.parameters(), module.buffers())}
