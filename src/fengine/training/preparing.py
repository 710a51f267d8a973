"""Batches: what a step makes of one before the model sees it.

Lives here: taking a batch apart into inputs and targets, and moving them to a device. Nothing here
knows a model or a loop.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import TypeAlias, TypeVar, cast

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

Batch = TypeVar("Batch")
Inputs = TypeVar("Inputs")
Targets = TypeVar("Targets")
Nested = TypeVar("Nested")

Device: TypeAlias = torch.device | str | int
PrepareBatch: TypeAlias = Callable[[Batch, Device | None, bool], tuple[Inputs, Targets]]


def prepare_batch(
    batch: tuple[Inputs, Targets], device: Device | None = None, non_blocking: bool | None = None
) -> tuple[Inputs, Targets]:
    """Take a pair of inputs and targets apart, and move both to a device.

    Args:
        batch: a tuple or list of two, `(x, y)`, each a tensor or a nest of them; see `moved`.
        device: where to; None leaves them where they are.
        non_blocking: let copies go on in the background; None: those for which it is safe, as for
            `moved`.

    Raises:
        TypeError: `batch` is not a pair, or holds something that cannot be moved.

    >>> prepare_batch((torch.ones(2), torch.zeros(2)))
    (tensor([1., 1.]), tensor([0., 0.]))
    """
    # A mapping and a tensor of two rows can be unpacked too, into nothing that was meant.
    pair: object = batch
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise TypeError(
            f"a batch is a pair (x, y), but the data gave {_kind(pair)}; give "
            "prepare_batch=function(batch, device, non_blocking) that returns (x, y)"
        )
    x, y = batch
    if device is None:
        return x, y
    return moved(x, device, non_blocking), moved(y, device, non_blocking)


def moved(nest: Nested, device: Device, non_blocking: bool | None = None) -> Nested:
    """Return a nest of tensors with every tensor on a device.

    Laws: mappings, named tuples and other sequences keep their type, keys and order; numbers,
    strings and None stay; the nest itself is not changed.

    Args:
        nest: a tensor, or mappings and sequences of tensors, to any depth.
        device: where to.
        non_blocking: let copies between host and accelerator go on in the background; None: those
            from pinned memory to an accelerator, which comes to the same values, since whatever
            reads them there waits for them.

    Raises:
        TypeError: there is something else in it.

    >>> moved({"image": [torch.ones(1)], "name": "a"}, "meta")["image"][0].device
    device(type='meta')
    """
    if non_blocking is None and not _is_accelerator(device):
        non_blocking = False
    return cast("Nested", _moved(nest, device, non_blocking))


def non_blocking_for(
    function: Callable[..., tuple[object, object]], non_blocking: bool | None
) -> bool | None:
    """Return what a function that prepares batches is handed as `non_blocking`.

    Only `prepare_batch` decides for itself; a function of the user's takes a bool.

    >>> non_blocking_for(prepare_batch, None), non_blocking_for(lambda *batch: batch, None)
    (None, False)
    """
    return False if non_blocking is None and function is not prepare_batch else non_blocking


def _is_accelerator(device: Device) -> bool:
    # A bare index numbers the accelerators, and no torch.device can be made of it where are none.
    return isinstance(device, int) or torch.device(device).type not in ("cpu", "meta")


def _moved(nest: object, device: Device, non_blocking: bool | None) -> object:
    if isinstance(nest, Tensor):
        in_background = nest.is_pinned() if non_blocking is None else non_blocking
        return nest.to(device, non_blocking=in_background)
    if isinstance(nest, PackedSequence):
        in_background = nest.is_pinned() if non_blocking is None else non_blocking
        # torch types this method by the first overload of Tensor.to alone.
        return nest.to(device, non_blocking=in_background)  # type: ignore[arg-type]
    if nest is None or isinstance(nest, bool | int | float | complex | str | bytes):
        return nest
    kind: Callable[[object], object] = type(nest)
    if isinstance(nest, Sequence):
        parts = [_moved(part, device, non_blocking) for part in nest]
        return nest._make(parts) if hasattr(nest, "_make") else kind(parts)
    if isinstance(nest, Mapping):
        named = {key: _moved(part, device, non_blocking) for key, part in nest.items()}
        if not isinstance(nest, MutableMapping):
            return kind(named)
        whole = copy.copy(nest)  # it may hold more than its items, as a defaultdict does
        whole.update(named)
        return whole
    raise TypeError(
        f"cannot move {_kind(nest)} to {device}: known are tensors, and sequences and mappings of "
        "them; give prepare_batch=function(batch, device, non_blocking) that moves it"
    )


def _kind(value: object) -> str:
    name = type(value).__name__
    if isinstance(value, Tensor):
        return f"one {name} of shape {tuple(value.shape)}"
    if isinstance(value, Mapping):
        return f"a {name} with the keys {', '.join(map(repr, value))}"
    if isinstance(value, tuple | list):
        return f"a {name} of {len(value)}"
    return f"a {name}"
