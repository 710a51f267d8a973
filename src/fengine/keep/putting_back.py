"""Putting back: a run made for a look only, after which all is as it was.

What a loop names outside the state is put back, with the modes, the gradients and the flags of its
modules; so are the random states of the process and of the data, and the place of data that knows
it. Nothing here imports torch: whoever has a module has imported it.
"""

from __future__ import annotations

import contextlib
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from fengine.core.stateful import Stateful
from fengine.keep.external import restoring, saved
from fengine.keep.fitting import is_module
from fengine.run.loaders import generators_of
from fengine.run.place import resumable

Undo = Callable[[], object]


@contextlib.contextmanager
def putting_back(external: Mapping[str, Stateful], data: object) -> Iterator[None]:
    """Put all back after the block, also where it raises.

    Args:
        external: what the block may change.
        data: what it reads.
    """
    states = saved(external)
    undo = [*_chance(), *_place(data)]
    for thing in external.values():
        undo += _of_module(thing) if is_module(thing) else _of_groups(thing)
    try:
        yield
    finally:
        with restoring(external, states):
            pass
        for put_back in reversed(undo):
            put_back()


def _chance() -> Iterator[Undo]:
    """Put back the random states of the process, as far as their packages are imported."""
    kept = random.getstate()
    yield lambda: random.setstate(kept)
    if "torch" in sys.modules:
        from fengine.training.random_state import RandomState

        state = RandomState().state_dict()
        yield lambda: RandomState().load_state_dict(state)


def _place(data: object) -> Iterator[Undo]:
    for generator in generators_of(data):
        yield partial(generator.set_state, generator.get_state())
    knowing = resumable(data)
    if knowing is not None:
        yield partial(knowing.set_state, knowing.get_state())


def _of_module(module: Any) -> Iterator[Undo]:
    for one in module.modules():
        yield partial(setattr, one, "training", one.training)
    for parameter in module.parameters():
        yield from _of_parameter(parameter)


def _of_groups(thing: Any) -> Iterator[Undo]:
    """Put back the gradients of what an optimizer holds."""
    for group in getattr(thing, "param_groups", ()):
        for parameter in group["params"]:
            yield from _of_parameter(parameter)


def _of_parameter(parameter: Any) -> Iterator[Undo]:
    gradient, flag = parameter.grad, parameter.requires_grad
    copied = None if gradient is None else gradient.clone()

    def put_back() -> None:
        parameter.grad = None if gradient is None else gradient.copy_(copied)
        parameter.requires_grad_(flag)

    yield put_back
