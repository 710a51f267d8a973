"""The supervised training step: forward, backward and update, with events between them.

The step is made of stages, with events between them. So what looks at the loss before backward,
clips gradients after it, or follows the weights is a handler of an event, and never a rewrite of
the step. The loss stays on its device: nothing here waits for one.

What an iteration does is written once, in `Training`. The stages do it one after the other, the
fused form in one call, and `accumulation` for each batch of a window. The model and the optimizer
are trained in place, and no state holds them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Generic, NamedTuple, TypeVar, final, overload

import attrs
from torch import Tensor, nn
from torch.optim import Optimizer
from typing_extensions import TypeVar as DefaultTypeVar

from fengine import PayloadEvent, Stages, State, stages
from fengine.core.describe import require_callable
from fengine.core.steps import fused
from fengine.training.going_backward import go_backward
from fengine.training.holding import Holding
from fengine.training.modes import TrainingMode, put_into_mode
from fengine.training.preparing import Device, PrepareBatch, non_blocking_for, prepare_batch

Batch = DefaultTypeVar("Batch", default=tuple[Tensor, Tensor])
User = DefaultTypeVar("User", default=None)
Inputs = TypeVar("Inputs")
Targets = TypeVar("Targets")
Predicted = TypeVar("Predicted")


class ForwardPass(NamedTuple):  # one is made at each iteration, and a tuple is made fastest
    """Hold one batch with what the model and the loss function made of it.

    Of a window of batches it holds the last one, and the loss of the whole window.

    Args:
        x: the inputs, as `prepare_batch` gave them.
        y: the targets, as `prepare_batch` gave them.
        y_pred: what the model made of `x`.
        loss: what the loss function made of `y_pred` and `y`; a scalar with its graph.

    >>> import torch
    >>> ForwardPass(x=None, y=None, y_pred=None, loss=torch.tensor(0.5)).loss.item()
    0.5
    """

    x: object
    y: object
    y_pred: object
    loss: Tensor


@final
class Backprop:
    """Name the two sides of backward; the payload of both is the `ForwardPass`.

    At STARTED the gradients are empty, or those of the window but its last batch; at COMPLETED they
    are there and not yet used, which is the place to clip or log them. Filters number both by the
    iteration.

    >>> Backprop.COMPLETED(every=100)
    PayloadEvent('backprop_completed', attr='iteration')(every(100))
    """

    STARTED: Final[PayloadEvent[ForwardPass]] = PayloadEvent("backprop_started", attr="iteration")
    COMPLETED: Final[PayloadEvent[ForwardPass]] = PayloadEvent(
        "backprop_completed", attr="iteration"
    )


@final
class Update:
    """Name the point after the update of the weights; the payload is the detached loss.

    It is the place for what follows the weights step by step, such as their moving average, before
    any handler of ITERATION_COMPLETED. Filters number it by the iteration.

    >>> Update.COMPLETED
    PayloadEvent('update_completed', attr='iteration')
    """

    COMPLETED: Final[PayloadEvent[Tensor]] = PayloadEvent("update_completed", attr="iteration")


@final
@attrs.frozen
class Training(Generic[Batch]):
    """Hold what a training is made of, and do the parts of an iteration, once for all forms of it.

    Called with a batch, it is the fused form. The parts are methods, since Python calls a method
    faster than a record that is callable.
    """

    model: nn.Module
    optimizer: Optimizer
    loss_fn: Callable[..., Tensor]
    prepare_batch: Callable[..., tuple[object, object]]
    device: Device | None
    non_blocking: bool | None

    def __call__(self, batch: Batch) -> Tensor:
        """Do all that the stages do in one call, which costs least."""
        loss = self.forward(batch, True)[3]
        go_backward(loss)
        return self.update(loss)

    def forward(self, batch: Batch, begins: bool) -> tuple[object, object, object, Tensor]:
        """Go forward with a batch, and return the fields of its `ForwardPass`.

        Args:
            batch: as the data gave it.
            begins: be in training mode and without gradients before the model is called.
        """
        pair: object = batch
        if (
            self.device is None
            and self.prepare_batch is prepare_batch
            and type(pair) is tuple
            and len(pair) == 2
        ):
            x, y = pair  # what `prepare_batch` would return, at less cost
        else:
            x, y = self.prepare_batch(batch, self.device, self.non_blocking)
        model = self.model
        if begins:
            if not model.training:  # someone else has switched it since the run began
                put_into_mode(model, True)
            self.optimizer.zero_grad()
        y_pred = model(x)
        return x, y, y_pred, self.loss_fn(y_pred, y)

    def update(self, loss: Tensor) -> Tensor:
        """Update the weights, and return the loss without its graph."""
        self.optimizer.step()
        return loss.detach()


@final
@attrs.frozen
class _Forward(Generic[Batch]):
    """Go forward with a batch: the first stage of the step."""

    training: Training[Batch]

    def __call__(self, state: State[Batch, Tensor, User]) -> ForwardPass:
        return ForwardPass(*self.training.forward(state.batch, True))


def backward(forward: ForwardPass) -> ForwardPass:
    """Go backward from the loss: the second stage of a step."""
    go_backward(forward.loss)
    return forward


@final
@attrs.frozen
class _Update(Generic[Batch]):
    """Update the weights: the last stage of a step."""

    training: Training[Batch] = attrs.field(repr=False)  # the first stage shows it

    def __call__(self, forward: ForwardPass) -> Tensor:
        return self.training.update(forward.loss)


@overload
def supervised(
    model: nn.Module,
    optimizer: Optimizer,
    loss_fn: Callable[[Predicted, Targets], Tensor],
    *,
    device: Device | None = None,
    non_blocking: bool | None = None,
) -> Stages[Batch, Tensor, Tensor, User]: ...


@overload
def supervised(
    model: nn.Module,
    optimizer: Optimizer,
    loss_fn: Callable[[Predicted, Targets], Tensor],
    *,
    device: Device | None = None,
    non_blocking: bool | None = None,
    prepare_batch: PrepareBatch[Batch, Inputs, Targets],
) -> Stages[Batch, Tensor, Tensor, User]: ...


def supervised(
    model: nn.Module,
    optimizer: Optimizer,
    loss_fn: Callable[[Predicted, Targets], Tensor],
    *,
    device: Device | None = None,
    non_blocking: bool | None = None,
    prepare_batch: Callable[..., tuple[object, object]] = prepare_batch,
) -> Stages[Batch, Tensor, Tensor, User]:
    """Make the step that trains a model on pairs of inputs and targets.

    Each iteration sets the gradients to None, computes the loss, fires `Backprop.STARTED`, goes
    backward, fires `Backprop.COMPLETED`, updates the weights and fires `Update.COMPLETED`.
    `state.output` is the loss, detached and still on its device; read it with `.item()` where a
    number is needed.

    A model that is not in training mode is put into it as a run begins, and as the run ends each of
    its modules is put back. A part in evaluation mode of a model in training mode stays so.

    Law: the weights are bitwise those of a loop written by hand.

    Args:
        model: trained in place.
        optimizer: holds the parameters of `model`; its `step` needs no closure.
        loss_fn: makes a scalar of the model's output and the targets, in this order.
        device: where to compute. The model is moved there now, and each batch as it comes; None
            leaves both where they are.
        non_blocking: let copies of batches between host and accelerator go on in the background;
            None: those from pinned memory to an accelerator; your own `prepare_batch` gets False.
        prepare_batch: makes the pair (x, y) of `(batch, device, non_blocking)`.

    Raises:
        TypeError: an argument is of the wrong kind; or, in the run, a batch is not a pair.
        ValueError: as a run begins, none of the optimizer's parameters is one of the model.

    >>> import torch
    >>> from fengine import Loop
    >>> model = nn.Linear(1, 1)
    >>> step = supervised(model, torch.optim.SGD(model.parameters(), 0.1), nn.MSELoss())
    >>> def clip(state: State, forward: ForwardPass) -> State:
    ...     nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
    ...     return state
    >>> loop = Loop(step).on(Backprop.COMPLETED, clip)
    >>> final = loop.run([(torch.ones(4, 1), torch.zeros(4, 1))], max_epochs=2)
    >>> final.output.shape, final.output.requires_grad
    (torch.Size([]), False)
    """
    require_trainable(model, optimizer, loss_fn, prepare_batch)
    if device is not None:
        model.to(device)
    chosen = non_blocking_for(prepare_batch, non_blocking)
    training = Training[Batch](model, optimizer, loss_fn, prepare_batch, device, chosen)
    step: Stages[Batch, Tensor, Tensor, User] = in_stages(_Forward(training), training)
    return fused(step, training)


def in_stages(
    forward: Callable[[State[Batch, Tensor, User]], ForwardPass], training: Training[Any]
) -> Stages[Batch, Tensor, Tensor, User]:
    """Make a training step of its first stage: go backward and update, with the events between."""
    begun: Stages[Batch, Tensor, ForwardPass, User] = stages(forward)
    return (
        begun.emit(Backprop.STARTED)
        .then(backward)
        .emit(Backprop.COMPLETED)
        .then(_Update(training))
        .emit(Update.COMPLETED)
        .within(TrainingMode(training.model))
        .within(Holding(training.model, training.optimizer))
    )


def require_trainable(
    model: object, optimizer: Optimizer, loss_fn: object, prepare_batch: object
) -> None:
    """Refuse parts of a training step that are of the wrong kind."""
    require_module(model)
    require_callable(loss_fn, "loss_fn", "y_pred", "y")
    require_callable(prepare_batch, "prepare_batch", "batch", "device", "non_blocking")
    # A scheduler puts a function over it that says of itself to take the optimizer, too.
    own_step = getattr(type(optimizer), "step", None)
    step = optimizer.step if own_step is None else own_step.__get__(optimizer)
    require_callable(step, "the step of the optimizer")


def require_module(model: object) -> None:
    """Refuse a model that is not an instance of `torch.nn.Module`."""
    if not isinstance(model, nn.Module):
        what = f"the class {model.__name__}" if isinstance(model, type) else f"{model!r}"
        raise TypeError(f"model is {what}; give an instance of torch.nn.Module")
