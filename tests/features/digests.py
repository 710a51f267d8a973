"""Digests: what tells whether one bit of a model, or of an optimizer, is another one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from fengine import Stateful


def digest(*things: Stateful) -> str:
    """Give a digest of the states of things: of every key, number and bit in them."""
    found = hashlib.sha256()
    for thing in things:
        for part in _leaves(thing.state_dict()):
            found.update(part)
    return found.hexdigest()


def _leaves(state: Any) -> Iterator[bytes]:
    if isinstance(state, Tensor):
        yield str((state.dtype, tuple(state.shape))).encode()
        yield state.detach().contiguous().numpy().tobytes()
    elif isinstance(state, Mapping):
        for name, part in state.items():
            yield repr(name).encode()
            yield from _leaves(part)
    elif isinstance(state, list | tuple):
        for part in state:
            yield from _leaves(part)
    else:
        yield repr(state).encode()
