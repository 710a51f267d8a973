"""Settings: what the groups of an optimizer say, and whether somebody else has changed it.

A training as a value has its settings in the value, so a scheduler that changes the optimizer would
have no effect. That is noticed and refused, and never ignored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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


@final
@attrs.define(eq=False)
class Known:
    """Hold the settings of an optimizer as they were last read or written by us.

    There is one for each optimizer.

    Args:
        settings: the settings.
        groups: the same, as a value has them; None where they have not been read for one.
    """

    settings: Settings
    groups: tuple[Values[Any], ...] | None = None

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
        self.settings = [copied(group.items()) for group in settings_of(optimizer)]

    def require(self, optimizer: Optimizer, now: Settings, groups: tuple[Values[Any], ...]) -> None:
        """Refuse settings that somebody else has changed, and that the value does not have.

        Raises:
            RuntimeError: they are refused.
        """
        if now == self.settings or same(now, self.settings):
            return
        changed = [
            f"{name} of group {number} is {current.get(name)!r} there, and {before[name]!r} before"
            for number, (current, before) in enumerate(zip(now, self.settings, strict=False))
            for name in before
            if not same(current.get(name), before[name])
        ]
        if len(now) == len(groups) and all(
            same(one, _settings(dict(group))) for one, group in zip(now, groups, strict=True)
        ):
            self.note(optimizer)
            return
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
