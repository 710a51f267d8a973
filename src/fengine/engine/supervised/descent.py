"""How gradients are made of a loss and then used: plainly, scaled, by apex, or on XLA devices.

Each way is a frozen record of `backward` and `step`. What it needs of a package that may be absent
is given to it, so that nothing is imported while a run is under way.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeAlias, final

import attrs
from torch import Tensor
from torch.optim import Optimizer

Scaler: TypeAlias = Any  # a torch.amp.GradScaler, or what has its methods


class Descent(Protocol):
    """Make gradients of a loss, and update the weights by them."""

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss to those that are there."""

    def step(self) -> None:
        """Update the weights."""


@final
@attrs.frozen(eq=False)
class PlainDescent:
    """Go backward and step, with nothing between.

    >>> import torch
    >>> weight = torch.nn.Parameter(torch.ones(1))
    >>> descent = PlainDescent(torch.optim.SGD([weight], lr=0.25))
    >>> descent.backward(weight.sum())
    >>> descent.step()
    >>> weight.item()
    0.75
    """

    optimizer: Optimizer

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss to those that are there."""
        loss.backward()  # type: ignore[no-untyped-call]  # torch declares no types for it

    def step(self) -> None:
        """Update the weights."""
        self.optimizer.step()


@final
@attrs.frozen(eq=False)
class ScaledDescent:
    """Scale the loss, so that small gradients survive in a narrow dtype.

    >>> import torch
    >>> weight = torch.nn.Parameter(torch.ones(1))
    >>> scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    >>> descent = ScaledDescent(torch.optim.SGD([weight], lr=0.25), scaler)
    >>> descent.backward(weight.sum())
    >>> weight.grad.item()
    8.0
    >>> descent.step()
    >>> weight.item()
    0.75
    """

    optimizer: Optimizer
    scaler: Scaler

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of the scaled loss to those that are there."""
        self.scaler.scale(loss).backward()

    def step(self) -> None:
        """Update the weights, unless a gradient is not finite, and then the scale."""
        self.scaler.step(self.optimizer)
        self.scaler.update()


@final
@attrs.frozen(eq=False)
class ApexDescent:
    """Have apex scale the loss.

    Args:
        optimizer: one that `apex.amp.initialize` gave.
        scale_loss: that of `apex.amp`.

    >>> import contextlib, torch
    >>> weight = torch.nn.Parameter(torch.ones(1))
    >>> sgd = torch.optim.SGD([weight], lr=0.25)
    >>> descent = ApexDescent(sgd, lambda loss, optimizer: contextlib.nullcontext(2 * loss))
    >>> descent.backward(weight.sum())
    >>> weight.grad.item()
    2.0
    """

    optimizer: Optimizer
    scale_loss: Callable[[Tensor, Optimizer], AbstractContextManager[Tensor]]

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of the loss, scaled back by apex, to those that are there."""
        with self.scale_loss(loss, self.optimizer) as scaled:
            scaled.backward()  # type: ignore[no-untyped-call]  # as above

    def step(self) -> None:
        """Update the weights."""
        self.optimizer.step()


@final
@attrs.frozen(eq=False)
class XlaDescent:
    """Have PyTorch/XLA reduce the gradients, step, and run what it has put off till then.

    Args:
        optimizer: the optimizer of parameters on an XLA device.
        optimizer_step: that of `torch_xla.core.xla_model`.

    >>> import torch
    >>> weight = torch.nn.Parameter(torch.ones(1))
    >>> sgd = torch.optim.SGD([weight], lr=0.25)
    >>> descent = XlaDescent(sgd, lambda optimizer, *, barrier: optimizer.step())
    >>> descent.backward(weight.sum())
    >>> descent.step()
    >>> weight.item()
    0.75
    """

    optimizer: Optimizer
    optimizer_step: Callable[..., object]

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss to those that are there."""
        loss.backward()  # type: ignore[no-untyped-call]  # as above

    def step(self) -> None:
        """Update the weights."""
        self.optimizer_step(self.optimizer, barrier=True)
