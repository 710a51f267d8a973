"""Putting back: a run made for a look only, after which all is as it was.

What a loop names outside the state is put back, with the modes, the gradients, the flags and the
unsaved buffers of its modules; so are the random states of the process and of the data, and the
place of data that knows it. Nothing here imports torch: whoever has a module has imported it.
"""

from __future__ import annotations

import contextlib
import copy
import random
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, TypeAlias

from fengine.core.missing import MISSING
from fengine.core.stateful import Stateful
from fengine.keep.external import restoring, saved
from fengine.keep.fitting import is_module
from fengine.run.loaders import generators_of, parts_of
from fengine.run.place import ByLoader, ByStateDict, Resumable, Wrapping, resumable

Undo: TypeAlias = Callable[[], object]


@contextlib.contextmanager
def putting_back(external: Mapping[str, Stateful], *data: object) -> Iterator[None]:
    """Put all back after the block, also where it raises; its own exception goes on.

    Args:
        external: what the block may change.
        *data: what it reads.

    Raises:
        ValueError: a module has parameters without a shape yet, which have no way back.
    """
    undo = _chance()
    for one in data:
        undo += _of_data(one)
    for name, thing in external.items():
        undo += _of_module(name, thing) if is_module(thing) else _of_groups(thing)
    undo.append(partial(_restore, external, saved(external)))
    try:
        yield
    except BaseException as error:
        for problem in _put_back(undo):
            error.add_note(f"not all is as it was before, since that raised {problem!r}")
        raise
    for problem in _put_back(undo):
        raise problem


def _put_back(undo: list[Undo]) -> list[Exception]:
    """Put all back, what was noted last first, and return what went wrong."""
    try:
        return _each(undo)
    except BaseException:  # a signal that came meanwhile
        _each(undo)
        raise


def _each(undo: list[Undo]) -> list[Exception]:
    problems = []
    for one in reversed(undo):
        try:
            one()
        except Exception as error:
            problems.append(error)
    return problems


def _restore(external: Mapping[str, Stateful], states: Mapping[str, object]) -> None:
    with restoring(external, states):
        pass


def _chance() -> list[Undo]:
    """Put back the random states of the process, as far as their packages are imported."""
    undo: list[Undo] = [partial(random.setstate, random.getstate())]
    if "torch" in sys.modules:
        from fengine.training.random_state import RandomState

        undo.append(partial(RandomState().load_state_dict, RandomState().state_dict()))
    return undo


def _of_data(data: Any) -> list[Undo]:
    undo: list[Undo] = []
    known = data
    while True:
        for part in parts_of(known):
            undo += _of_part(part)
        undo += [partial(one.set_state, one.get_state()) for one in generators_of(known)]
        if not isinstance(known, Wrapping):
            break
        known = known.wrapped_data
    knowing = resumable(data)
    if knowing is not None:
        undo.append(partial(_go_back, data, knowing, copy.deepcopy(knowing.get_state())))
    return undo


def _of_part(part: Any) -> Iterable[Undo]:
    """Put back which pass a part of the data begins, and workers that wait for the next one."""
    number = getattr(part, "epoch", None)
    if type(number) is int and callable(getattr(part, "set_epoch", None)):
        yield partial(part.set_epoch, number)
    if getattr(part, "persistent_workers", None) is True:
        yield partial(setattr, part, "_iterator", part._iterator)


def _go_back(data: Any, knowing: Resumable[Any], place: object) -> None:
    """Have the next iteration over data be what it would have been."""
    knowing.set_state(copy.deepcopy(place))
    if isinstance(knowing, ByStateDict):
        # At the end of a pass it gives nothing once, and then begins the next one.
        if next(iter(data), MISSING) is not MISSING:
            knowing.set_state(copy.deepcopy(place))
    elif isinstance(knowing, ByLoader) or isinstance(data, Wrapping):
        iter(data)  # else the next iteration would go on within a pass, and not begin one


def _of_module(name: str, module: Any) -> Iterable[Undo]:
    for one in module.modules():
        yield partial(setattr, one, "training", one.training)
    for tensor in (*module.parameters(), *module.buffers()):
        if hasattr(tensor, "materialize"):
            raise ValueError(
                f"external[{name!r}] has parameters that get their shape with the first batch, "
                "which cannot be undone; call the model once before: model(batch)"
            )
    for parameter in module.parameters():
        yield _of_parameter(parameter)
    for one in module.modules():
        for buffer in getattr(one, "_non_persistent_buffers_set", ()):
            if one._buffers.get(buffer) is not None:
                yield _of_buffer(one._buffers, buffer)


def _of_buffer(buffers: dict[str, Any], name: str) -> Undo:
    """Put back a buffer that no state dict has, also where another one has taken its place."""
    buffer = buffers[name]
    copied = buffer.detach().clone()

    def put_back() -> None:
        buffer.detach().copy_(copied)
        buffers[name] = buffer

    return put_back


def _of_groups(thing: Any) -> Iterable[Undo]:
    """Put back the gradients of what an optimizer holds."""
    for group in getattr(thing, "param_groups", ()):
        for parameter in group["params"]:
            yield _of_parameter(parameter)


def _of_parameter(parameter: Any) -> Undo:
    gradient, flag = parameter.grad, parameter.requires_grad
    copied = None if gradient is None else gradient.clone()

    def put_back() -> None:
        parameter.grad = None if gradient is None else gradient.copy_(copied)
        parameter.requires_grad_(flag)

    return put_back
