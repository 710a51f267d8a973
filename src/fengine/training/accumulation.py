"""Gradient accumulation: one update of the weights for a window of several batches.

A window is the batch of an iteration. So it is part of the state, an epoch or a run can only end
after a whole update, and the last window of the data is merely shorter. What each batch counts for
is known before the first of them goes backward, so the gradients are those of one large batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar, final, overload

import attrs
from torch import Tensor, nn
from torch.optim import Optimizer
from typing_extensions import TypeVar as DefaultTypeVar

from fengine import Stages, State
from fengine.core.describe import require_callable
from fengine.training.going_backward import go_backward
from fengine.training.modes import put_into_mode
from fengine.training.preparing import Device, PrepareBatch, non_blocking_for, prepare_batch
from fengine.training.supervised_step import (
    ForwardPass,
    Training,
    in_stages,
    require_trainable,
)

Batch = DefaultTypeVar("Batch", default=tuple[Tensor, Tensor])
User = DefaultTypeVar("User", default=None)
Inputs = TypeVar("Inputs")
Targets = TypeVar("Targets")
Predicted = TypeVar("Predicted")


def count_samples(batch: object) -> int:
    """Return the number of rows of the targets in a pair of inputs and targets.

    Raises:
        TypeError: `batch` is no pair, or its targets are not one tensor with rows.

    >>> import torch
    >>> count_samples((torch.ones(3, 2), torch.ones(3)))
    3
    """
    if isinstance(batch, tuple | list) and len(batch) == 2:
        y = batch[1]
        if isinstance(y, Tensor) and y.ndim:
            return len(y)
    raise TypeError(
        f"the samples of a {type(batch).__name__} cannot be counted: that takes a pair (x, y) with "
        "rows of targets in y. Does the data come from windows(data, size)? If so, give "
        "weight=function(batch) that counts them"
    )


@final
@attrs.frozen
class _ForwardWindow(Generic[Batch]):
    training: Training[Batch]
    weight: Callable[[Batch], float]

    def __call__(self, state: State[tuple[Batch, ...], Tensor, User]) -> ForwardPass:
        """Go forward and backward with each batch, and leave backward of the last to a stage."""
        *earlier, (last, part) = self._parts(state.batch)
        model = self.training.model
        if not model.training:
            put_into_mode(model, True)
        self.training.optimizer.zero_grad()
        losses = [self._backward(batch, part) for batch, part in earlier]
        x, y, y_pred, loss = self.training.forward(last, False)
        # Its value is the loss of the window, and its graph that of the last batch.
        return ForwardPass(x, y, y_pred, sum(losses, start=loss * part))

    def _parts(self, window: tuple[Batch, ...]) -> list[tuple[Batch, float]]:
        """Return the batches that count, each with the part of the window that it is."""
        weights = [self.weight(batch) for batch in window]
        total = sum(weights)
        if not (total > 0 and all(weight >= 0 for weight in weights)):
            raise ValueError(
                f"the batches of a window weigh {weights}, so their mean is unknown; weight gives "
                "numbers from 0 on, and not 0 for all of them"
            )
        # The mean over nothing is not a number, and would remain so with the part 0.
        return [(batch, w / total) for batch, w in zip(window, weights, strict=True) if w]

    def _backward(self, batch: Batch, part: float) -> Tensor:
        """Add the gradients of a batch, and return its part of the loss of the window."""
        loss = self.training.forward(batch, False)[3] * part
        go_backward(loss)
        return loss.detach()


@overload
def supervised_accumulation(
    model: nn.Module,
    optimizer: Optimizer,
    loss_fn: Callable[[Predicted, Targets], Tensor],
    *,
    device: Device | None = None,
    non_blocking: bool | None = None,
    weight: Callable[[Batch], float] = count_samples,
) -> Stages[tuple[Batch, ...], Tensor, Tensor, User]: ...


@overload
def supervised_accumulation(
    model: nn.Module,
    optimizer: Optimizer,
    loss_fn: Callable[[Predicted, Targets], Tensor],
    *,
    device: Device | None = None,
    non_blocking: bool | None = None,
    prepare_batch: PrepareBatch[Batch, Inputs, Targets],
    weight: Callable[[Batch], float] = count_samples,
) -> Stages[tuple[Batch, ...], Tensor, Tensor, User]: ...


def supervised_accumulation(
    model: nn.Module,
    optimizer: Optimizer,
    loss_fn: Callable[[Predicted, Targets], Tensor],
    *,
    device: Device | None = None,
    non_blocking: bool | None = None,
    prepare_batch: Callable[..., tuple[object, object]] = prepare_batch,
    weight: Callable[[Batch], float] = count_samples,
) -> Stages[tuple[Batch, ...], Tensor, Tensor, User]:
    """Make the step that trains a model on windows of batches, with one update for each window.

    Of each window, one batch after the other goes to the device, forward and backward. The events
    are those of `supervised`, fired once for a window, and `state.output` is its loss.

    Law: the gradients are those of one batch that holds the whole window, to rounding, if the model
    treats each sample by itself and the loss is a mean over what `weight` counts.

    Args:
        model: trained in place.
        optimizer: holds the parameters of `model`; its `step` needs no closure.
        loss_fn: makes a scalar of the model's output and the targets, in this order.
        device: where to compute. The model is moved there now, and each batch as its turn comes;
            None leaves both where they are.
        non_blocking: let copies of batches between host and accelerator go on in the background;
            None: those from pinned memory to an accelerator; your own `prepare_batch` gets False.
        prepare_batch: makes the pair (x, y) of `(batch, device, non_blocking)`.
        weight: counts in a batch, as the data gave it, what the loss is the mean over: by default
            the rows of its targets; for a loss over tokens, the tokens. A batch of weight 0 is left
            out.

    Raises:
        TypeError: an argument is of the wrong kind; or, in the run, a batch cannot be weighed.
        ValueError: in the run, the weights of a window have no mean; or, as it begins, none of the
            optimizer's parameters is one of the model.

    >>> import torch
    >>> from fengine import Loop
    >>> from fengine.training import windows
    >>> model = nn.Linear(1, 1)
    >>> sgd = torch.optim.SGD(model.parameters(), 0.1)
    >>> loop = Loop(supervised_accumulation(model, sgd, nn.MSELoss()))
    >>> batches = [(torch.ones(n, 1), torch.zeros(n, 1)) for n in (4, 4, 1)]
    >>> loop.run(windows(batches, 2), max_epochs=3).iteration
    6
    """
    require_trainable(model, optimizer, loss_fn, prepare_batch)
    require_callable(weight, "weight", "batch")
    if device is not None:
        model.to(device)
    chosen = non_blocking_for(prepare_batch, non_blocking)
    training = Training[Batch](model, optimizer, loss_fn, prepare_batch, device, chosen)
    return in_stages(_ForwardWindow(training, weight), training)
