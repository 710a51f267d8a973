"""Generators: the random states of torch's own generators, on the devices where a model is.

Those of `random` and numpy are not here: what a model draws of them is not in the value.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import torch
from torch import Tensor

from fengine.training.functional.values import Names, Values, values_of

_CPU: Final = "cpu"


def generators_of(tensors: Iterable[Tensor]) -> dict[str, torch.Generator]:
    """Return the generator of the CPU, and those of the devices of some tensors, by device.

    >>> list(generators_of([torch.ones(1)]))
    ['cpu']
    """
    found = {_CPU: torch.default_generator}
    for device in dict.fromkeys(one.device for one in tensors):
        if device.type not in (_CPU, "meta"):
            kept: Any = getattr(getattr(torch, device.type, None), "default_generators", None)
            if kept:
                found[str(device)] = kept[device.index or 0]
    return found


def states_of(known: Names, generators: tuple[torch.Generator, ...]) -> Values[Tensor]:
    """Return the states of generators, under names that are known."""
    return values_of(known, tuple([one.get_state() for one in generators]))


def seeded_states(
    known: Names, generators: tuple[torch.Generator, ...], seed: int
) -> Values[Tensor]:
    """Return the states that a seed gives to generators, which themselves stay as they are.

    >>> known, generators = Names(["cpu"]), (torch.default_generator,)
    >>> before = torch.get_rng_state()
    >>> seeded = seeded_states(known, generators, 3)["cpu"]
    >>> bool((torch.get_rng_state() == before).all())
    True
    >>> bool((torch.manual_seed(3).get_state() == seeded).all())
    True
    """
    own = tuple(torch.Generator(one.device).manual_seed(seed) for one in generators)
    return states_of(known, own)
