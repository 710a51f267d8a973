"""Settings: what the groups of an optimizer say, and whether somebody else has changed it.

A training as a value has its settings in the value, so a scheduler that changes the optimizer would
have no effect. That is noticed and refused, and never ignored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import is_
from typing import Any, Final, TypeAlias, final
from weakref import WeakKeyDictionary

import attrs
from torch import Tensor
from torch.optim import Optimizer

from fengine.core.equality import same
from fengine.training.functional.values import Values

Settings: TypeAlias = list[dict[str, Any]]


def settings_of(optimizer: Optimizer) -> Settings:
    """Return the settings of each group of parameters.

    >>> import torch
    >>> settings_of(torch.optim.SGD([torch.ones(1)], 0.5))[0]["lr"]
    0.5
    """
    return [_settings(group) for group in optimizer.param_groups]


def put(optimizer: Optimizer, groups: Iterable[Mapping[str, Any]]) -> None:
    """Set the settings of each group, and no others."""
    for group, settings in zip(optimizer.param_groups, groups, strict=True):
        group.update((name, one) for name, one in settings.items() if name != "params")
        for name in [name for name in group if name != "params" and name not in settings]:
            del group[name]


def copied(settings: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Return settings of a group, with copies of those that are tensors.

    >>> copied({"lr": 0.5}.items())
    {'lr': 0.5}
    """
    return {name: one.clone() if isinstance(one, Tensor) else one for name, one in settings}


def values_in(optimizer: Optimizer) -> list[tuple[Any, ...]]:
    """Return all that the groups hold, their parameters among it."""
    return [tuple(group.values()) for group in optimizer.param_groups]


def are_in(optimizer: Optimizer, values: list[tuple[Any, ...]]) -> bool:
    """Tell whether the groups hold these very values."""
    groups = optimizer.param_groups
    if len(groups) != len(values):
        return False
    for group, held in zip(groups, values, strict=True):
        if len(group) != len(held) or not all(map(is_, group.values(), held)):
            return False
    return True


@final
@attrs.define(eq=False)
class Known:
    """Hold the settings of an optimizer as they were last read or written by us.

    There is one for each optimizer.

    Args:
        settings: the settings.
        groups: the same, as a value has them; None where they have not been read for one.
        values: all that the groups hold, by which it is seen that nothing is another one; None
            where something may be changed in place.
    """

    settings: Settings
    groups: tuple[Values[Any], ...] | None = None
    values: list[tuple[Any, ...]] | None = None

    @staticmethod
    def of(optimizer: Optimizer) -> Known:
        """Return what is known of an optimizer, which is read now if nothing is."""
        known = _KNOWN.get(optimizer)
        if known is None:
            known = _KNOWN[optimizer] = Known([])
            known.note(optimizer)
        return known

    def note(self, optimizer: Optimizer) -> None:
        """Take the settings as they are now for known."""
        self.groups = None
        found = settings_of(optimizer)
        self.settings = [copied(group.items()) for group in found]
        in_place = any(isinstance(one, Tensor) for group in found for one in group.values())
        self.values = None if in_place else values_in(optimizer)

    def require(self, optimizer: Optimizer, groups: tuple[Values[Any], ...]) -> Settings:
        """Return the settings; refuse what somebody else has changed, and the value does not have.

        Raises:
            RuntimeError: they are refused.
        """
        if self.values is not None and are_in(optimizer, self.values):
            return self.settings
        now = settings_of(optimizer)
        if same(now, self.settings):
            return now
        changed = [
            f"{name} of group {number} is {current.get(name)!r} there, and was {before.get(name)!r}"
            for number, (current, before) in enumerate(zip(now, self.settings, strict=False))
            for name in {**before, **current}
            if not same(current.get(name), before.get(name))
        ]
        if len(now) == len(groups) and all(
            same(one, _settings(dict(group))) for one, group in zip(now, groups, strict=True)
        ):
            self.note(optimizer)
            return now
        raise RuntimeError(
            f"somebody else has changed the settings of the {type(optimizer).__name__}"
            f"{': ' if changed else ''}{', '.join(changed)}. The run has its settings in the "
            "state, so that this would have no effect. Give the rate as a function, "
            "functional_step(..., learning_rate=lambda state: ...), or change the state: "
            "state.user.with_learning_rate(...); step.init() begins with the optimizer as it is"
        )


def _settings(group: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in group.items() if name != "params"}


_KNOWN: Final[WeakKeyDictionary[Optimizer, Known]] = WeakKeyDictionary()
