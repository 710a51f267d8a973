"""Buffers: copies of tensors that are kept from save to save.

A save in the background needs a copy of all that training goes on changing. To allocate one each
time costs more than to copy, so the buffers of the save before are written again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, final

import torch


@final
class Buffers:
    """Copy trees; what has the shape and dtype of last time is copied into the same memory.

    >>> buffers, weight = Buffers(), torch.ones(2)
    >>> copied = buffers.copy_of({"weight": weight})["weight"]
    >>> weight += 1
    >>> copied
    tensor([1., 1.])
    >>> buffers.copy_of({"weight": weight})["weight"] is copied
    True
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[object, ...], torch.Tensor] = {}

    def copy_of(self, tree: Mapping[str, object]) -> dict[str, object]:
        """Return a copy of a tree, in which the same tensor is the same copy."""
        kept, self._kept = self._kept, {}
        copied: dict[tuple[object, ...], torch.Tensor] = {}

        def tensor(value: torch.Tensor, path: tuple[object, ...]) -> torch.Tensor:
            place = _place(value)
            if place not in copied:
                copied[place] = self._kept[path] = _copied(value.detach(), kept.get(path))
            return copied[place]

        def any_value(value: Any, path: tuple[object, ...]) -> Any:
            kind = type(value)
            if isinstance(value, torch.Tensor):
                return tensor(value, path)
            if kind in (dict, OrderedDict):
                return kind((key, any_value(one, (*path, key))) for key, one in value.items())
            if kind in (list, tuple):
                return kind(any_value(one, (*path, place)) for place, one in enumerate(value))
            return value

        return {name: any_value(value, (name,)) for name, value in tree.items()}


def _place(value: torch.Tensor) -> tuple[object, ...]:
    """Return where a tensor lies, as far as it lies anywhere; tied weights lie in one place."""
    if value.layout is not torch.strided or not value.numel():
        return (id(value),)
    return value.device, value.data_ptr(), value.dtype, value.shape, value.stride()


def _copied(value: torch.Tensor, kept: torch.Tensor | None) -> torch.Tensor:
    if (
        kept is None
        or (kept.dtype, kept.shape, kept.stride()) != (value.dtype, value.shape, value.stride())
        or kept.layout != value.layout
    ):
        return value.to("cpu", copy=True)
    return kept.copy_(value)
