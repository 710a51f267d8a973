"""The random states of a process, in the lists that the documented engine keeps them in.

Numpy is left out where it is not installed; CUDA comes beside them.
"""

from __future__ import annotations

import functools
import hashlib
import random
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch

from fengine.training.random_state import get_cuda_rng_states as get_cuda_rng_states
from fengine.training.random_state import numpy_random as numpy_random
from fengine.training.random_state import seed_all as seed_all
from fengine.training.random_state import set_cuda_rng_states as set_cuda_rng_states

Parameters = ParamSpec("Parameters")
Returned = TypeVar("Returned")


def keep_random_state(func: Callable[Parameters, Returned]) -> Callable[Parameters, Returned]:
    """Have a function leave all random states as they were, whether it returns or raises.

    Args:
        func: the function; the result can be a handler wherever it can.

    >>> @keep_random_state
    ... def draw():
    ...     return torch.rand(1)
    >>> torch.equal(draw(), draw())
    True
    """

    @functools.wraps(func)
    def keeping(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Returned:
        rng_states, cuda_rng_states = _get_rng_states(), get_cuda_rng_states()
        try:
            return func(*args, **kwargs)
        finally:
            _set_rng_states(rng_states)
            set_cuda_rng_states(cuda_rng_states)

    return keeping


def check_rng_states(rng_states: Any) -> None:
    """Refuse what cannot be random states; None is none.

    Raises:
        ValueError: it is refused.

    >>> check_rng_states(_get_rng_states())
    """
    if rng_states is None:
        return
    if (
        not isinstance(rng_states, list | tuple)
        or len(rng_states) < 2
        or not isinstance(rng_states[1], torch.Tensor)
    ):
        raise ValueError(
            f"rng_states of type {type(rng_states).__name__} are not the states of random, torch "
            "and numpy in a list; give those that state_dict() wrote, or None"
        )


def _get_rng_states() -> list[Any]:
    numpy = numpy_random()
    numpy_states = [] if numpy is None else [numpy.get_state()]
    return [random.getstate(), torch.get_rng_state(), *numpy_states]


def _set_rng_states(rng_states: list[Any]) -> None:
    random.setstate(rng_states[0])
    torch.set_rng_state(rng_states[1].cpu())  # loading may have put it on a device
    numpy = numpy_random()
    if numpy is not None and len(rng_states) > 2:
        numpy.set_state(rng_states[2])


def _repr_rng_state(rng_states: list[Any]) -> str:
    """Give a short text for each state, equal where they are."""
    return " ".join(
        hashlib.md5(str(list(state)).encode(), usedforsecurity=False).hexdigest()
        for state in rng_states
    )
