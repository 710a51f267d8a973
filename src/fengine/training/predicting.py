"""Predicting: what a model makes of all batches of some data, as one output.

It is a run of the evaluation step, whose outputs are taken from its moments and joined. That each
is like the first is looked at as it comes, so that nothing is found out after hours; and that it
does not lie where an earlier one lay, which would be lost.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from typing import Any, TypeVar, cast, final

import attrs
import torch
from torch import Tensor, nn
from typing_extensions import override

from fengine import Events, Loop
from fengine.training.evaluation_step import Prediction, evaluation_step
from fengine.training.preparing import Device, PrepareBatch, moved

Batch = TypeVar("Batch")


def predict(
    model: nn.Module,
    data: Iterable[Batch],
    *,
    device: Device | None = None,
    prepare_batch: PrepareBatch[Batch, Any, Any] | None = None,
) -> Any:  # as what a module returns is typed by torch
    """Give all that a model makes of some data, in order, joined along dimension 0.

    It is computed in evaluation mode and without gradients; afterwards each module is in the mode
    that it was in. The outputs stay on the device on which the model made them. A type checker
    knows of the result what it knows of `model(x)`; to say more: `y_pred: Tensor = predict(...)`.

    Law: it is the output for one batch that holds the whole data, to rounding, if the model treats
    each row by itself.

    Args:
        model: returns a tensor, or tuples, named tuples, lists and mappings of tensors, to any
            depth, alike at each batch but for the length of dimension 0.
        data: its batches are inputs, or pairs (x, y) of which x are the inputs. Give data that
            does not shuffle: the outputs are in its order.
        device: where to compute. The model is moved there, and each batch as it comes; None leaves
            both where they are.
        prepare_batch: makes the pair (x, y) of `(batch, device, non_blocking)`, for other batches;
            y is not looked at.

    Raises:
        TypeError: a batch is neither a tensor nor a pair, or the model returns something else than
            tensors, or other things for one batch than for another.
        ValueError: `data` is empty, outputs cannot be joined, or one is written over another.
        BaseException: whatever the model or the data raises.

    >>> model = nn.Sequential(nn.Dropout(0.5), nn.Flatten())
    >>> predict(model, [torch.ones(2, 1), torch.zeros(1, 1)])
    tensor([[1.],
            [1.],
            [0.]])
    """
    preparing: Callable[[Batch, Device | None, bool | None], tuple[Any, Any]] = (
        _prepared if prepare_batch is None else cast("Any", prepare_batch)
    )
    step = evaluation_step(model, device=device, prepare_batch=preparing)
    loop: Loop[Batch, Prediction[object, object]] = Loop(cast("Any", step))
    found: list[object] = []
    versions: dict[int, int] = {}
    for moment in loop.iterate(data, max_epochs=1):
        if moment.event is Events.ITERATION_COMPLETED:
            output = moment.state.output.y_pred
            _require_joinable(output, found[0] if found else output, _Where(len(found) + 1))
            _require_kept(output, versions, _Where(len(found) + 1))
            found.append(output)
    return _joined(found)


def _prepared(
    batch: object, device: Device | None, non_blocking: bool | None
) -> tuple[object, None]:
    if isinstance(batch, Tensor):
        x: object = batch
    elif isinstance(batch, tuple | list) and len(batch) == 2:
        x = batch[0]
    else:
        kind = type(batch).__name__
        kind += f" of {len(batch)}" if isinstance(batch, tuple | list) else ""
        raise TypeError(
            f"a batch is the inputs as a tensor, or a pair (x, y), but the data gave a {kind}; "
            "give prepare_batch=function(batch, device, non_blocking) that returns (x, y), "
            "where y may be None"
        )
    return (x if device is None else moved(x, device, non_blocking)), None


@final
@attrs.frozen
class _Where:
    """Say in words which part of which output it is."""

    batch: int
    path: str = "the output"

    def part(self, key: object) -> _Where:
        return attrs.evolve(self, path=f"{self.path}[{key!r}]")

    @override
    def __str__(self) -> str:
        return f"{self.path} of the model for batch {self.batch}"


def _require_joinable(output: object, first: object, where: _Where) -> None:
    """Refuse an output that cannot be joined to the first one."""
    if type(output) is not type(first):
        kind, before = type(output).__name__, type(first).__name__
        raise TypeError(f"{where} is of type {kind}, but it was of type {before} for batch 1")
    if isinstance(output, Tensor) and isinstance(first, Tensor):
        if output.ndim == 0:
            raise ValueError(
                f"{where} is one number, which has no dimension 0 to join along; have the model "
                "return one for each row"
            )
        if output.shape[1:] != first.shape[1:]:
            raise ValueError(
                f"{where} has the shape {tuple(output.shape)}, and for batch 1 it had "
                f"{tuple(first.shape)}: all but the first number have to be equal; have "
                "the model, or the data, pad to one length"
            )
    elif isinstance(output, Mapping) and isinstance(first, Mapping):
        if output.keys() != first.keys():
            raise TypeError(
                f"{where} has the keys {', '.join(map(repr, output))}, but for batch 1 it had "
                f"{', '.join(map(repr, first))}"
            )
        for key in first:
            _require_joinable(output[key], first[key], where.part(key))
    elif isinstance(output, tuple | list) and isinstance(first, tuple | list):
        if len(output) != len(first):
            raise TypeError(f"{where} has {len(output)} parts, but for batch 1 it had {len(first)}")
        for place, (part, other) in enumerate(zip(output, first, strict=True)):
            _require_joinable(part, other, where.part(place))
    else:
        raise TypeError(
            f"{where} is of type {type(output).__name__}; known are tensors, and tuples, lists and "
            "mappings of them: have the model return those alone"
        )


def _require_kept(output: object, versions: dict[int, int], where: _Where) -> None:
    """Refuse an output that is written over an earlier one.

    Args:
        output: made of tensors.
        versions: how often each output so far was written to, by its place in memory; this one is
            added.
        where: names it.
    """
    if isinstance(output, Tensor):
        if output.is_inference() or output.layout is not torch.strided:
            return  # where neither a version nor a place is known
        place = output.data_ptr()  # 0 where it has no element
        if place and versions.setdefault(place, output._version) != output._version:
            raise ValueError(
                f"{where} has overwritten an earlier one, since the model, or the data, fills one "
                "tensor again and again; have it return a copy: output.clone()"
            )
    elif isinstance(output, Mapping):
        for key, part in output.items():
            _require_kept(part, versions, where.part(key))
    elif isinstance(output, tuple | list):
        for number, part in enumerate(output):
            _require_kept(part, versions, where.part(number))


def _joined(outputs: Sequence[Any]) -> object:
    first = outputs[0]
    if isinstance(first, Tensor):
        return torch.cat(list(outputs))
    if isinstance(first, Mapping):
        named = {key: _joined([output[key] for output in outputs]) for key in first}
        if not isinstance(first, MutableMapping):
            return type(first)(named)  # type: ignore[call-arg]  # as most mappings are made
        whole = copy.copy(first)  # it may hold more than its items, as a defaultdict does
        whole.update(named)
        return whole
    parts = [_joined(part) for part in zip(*outputs, strict=True)]
    return first._make(parts) if hasattr(first, "_make") else type(first)(parts)
