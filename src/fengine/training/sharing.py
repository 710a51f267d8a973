"""Sharing: a training whose model several processes train together, each with its part of a batch.

The model averages the gradients of the processes, so that each counts alike. Here each counts by
what its part weighs: the gradient is then that of one process on the whole batch, whatever the
parts. That takes one number of each process, which is exchanged while the model goes forward.

Of a window the gradients are reduced once, with its last batch.

What such a model is, is asked of the model: DistributedDataParallel and FullyShardedDataParallel
have `no_sync`, and what `fully_shard` has made has `set_requires_gradient_sync`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final, final

import attrs
import torch
from torch import Tensor, nn
from typing_extensions import override

_WITH_FLOAT64: Final = ("cpu", "cuda")


@final
@attrs.frozen
class Sharing:
    """Weigh what one process adds to the gradients of a model; made by `sharing_of`."""

    model: nn.Module

    def begin(self, weight: float) -> Callable[[Tensor], Tensor]:
        """Tell the others what this part weighs; return what has a loss count by it.

        It returns at once. The value of the loss stays as it is, and only its gradient changes.

        Args:
            weight: what the part of this process weighs.

        Raises:
            ValueError: it weighs nothing.
        """
        if not weight > 0:
            raise ValueError(
                f"the part of the batch that this process has weighs {weight}, so its loss has no "
                "mean; each process needs samples in each batch. weight gives numbers above 0"
            )
        weight, group, kind = float(weight), group_of(self.model), torch.float64
        device = next(self.model.parameters()).device
        if device.type not in _WITH_FLOAT64:
            kind = torch.float32
        total = torch.tensor(weight, dtype=kind, device=device)
        own = weight * torch.distributed.get_world_size(group)
        work: Any = torch.distributed.all_reduce(total, group=group, async_op=True)

        def counting(loss: Tensor) -> Tensor:
            work.wait()
            if not isinstance(loss, Tensor):
                return loss  # of which going backward says that it is none
            if device.type != "cpu":
                return _counted(loss, own / total)  # without waiting for the device
            factor = own / total.item()
            return loss if factor == 1 else _counted(loss, factor)

        return counting

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Have gradients add up in each process, without being reduced."""
        model: Any = self.model
        no_sync: Callable[[], AbstractContextManager[None]] | None
        no_sync = getattr(model, "no_sync", None)
        if no_sync is not None:
            with no_sync():
                yield
            return
        model.set_requires_gradient_sync(False)
        try:
            yield
        finally:
            model.set_requires_gradient_sync(True)


class _Counted(torch.autograd.Function):
    """Return a loss as it is, and multiply its gradient by a factor."""

    @staticmethod
    @override
    def forward(ctx: Any, loss: Tensor, factor: Tensor | float) -> Tensor:
        ctx.factor = factor
        return loss.view_as(loss)

    @staticmethod
    @override
    def backward(ctx: Any, *gradients: Any) -> Any:
        return gradients[0] * ctx.factor, None


def _counted(loss: Tensor, factor: Tensor | float) -> Tensor:
    # torch declares no types of it.
    counted: Tensor = _Counted.apply(loss, factor)  # type: ignore[no-untyped-call]
    return counted


def sharing_of(model: nn.Module) -> Sharing | None:
    """Return how processes share the training of a model; None where there is one.

    >>> sharing_of(nn.Linear(1, 1)) is None
    True
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return None
    if not (hasattr(model, "no_sync") or hasattr(model, "set_requires_gradient_sync")):
        return None
    size = torch.distributed.get_world_size(group_of(model))
    return Sharing(model) if size > 1 else None


def group_of(model: nn.Module) -> Any:
    """Return the group of the processes over which a model averages gradients; None is all."""
    group: object = getattr(model, "process_group", None)
    if group is not None:
        return group
    for parameter in model.parameters():
        mesh: Any = getattr(parameter, "device_mesh", None)
        if mesh is not None and mesh.ndim == 1:
            return mesh.get_group()
    return None
