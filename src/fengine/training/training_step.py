"""The training step: forward, backward and update, with events between them.

The step is made of stages, with events between them. So what looks at the loss before backward,
clips gradients after it, or follows the weights is a handler of an event, and never a rewrite of
the step. The loss stays on its device: nothing here waits for one, but for a scaler's.

What an iteration does is written once, in `Training`. The stages do it one after the other, the
fused form in one call. Of a window of batches, one after the other goes forward and backward, and
the weights are updated once. What each batch counts for is known before the first of them goes
backward, so the gradients are those of one large batch.

The model and the optimizer are trained in place, and no state holds them: the step names them, so
that snapshots do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol, TypeAlias, TypeVar, cast, final, overload

import attrs
import torch
from immutables import Map
from torch import Tensor, nn
from torch.optim import Optimizer
from typing_extensions import TypeVar as DefaultTypeVar
from typing_extensions import override

from fengine import Stages, State, Stateful, stages
from fengine.core.describe import call_in_words, require_callable, typed
from fengine.core.events import AnyEvent
from fengine.core.steps import Facts, fused, telling
from fengine.training.counting import count_samples
from fengine.training.events import Backprop, ForwardPass, Update, Updated
from fengine.training.going_backward import go_backward
from fengine.training.holding import Holding
from fengine.training.modes import TrainingMode, put_into_mode
from fengine.training.objectives import (
    Fields,
    InPrecision,
    LossOfPredictions,
    Objective,
    OwnLoss,
    require_dtype,
    shown_precision,
)
from fengine.training.preparing import Device, PrepareBatch, non_blocking_for, prepare_batch
from fengine.training.random_state import RandomState
from fengine.training.sharing import Sharing, sharing_of
from fengine.training.windows import Window

# Bound by Any, so that pyright takes Any for the argument of a lambda, and not object.
Batch = DefaultTypeVar("Batch", bound=Any, default=tuple[Tensor, Tensor])
Fed = TypeVar("Fed")
Own = TypeVar("Own")
Model = TypeVar("Model", bound=nn.Module)
Inputs = TypeVar("Inputs")
Targets = TypeVar("Targets")
Predicted = TypeVar("Predicted")
Context: TypeAlias = Callable[[], AbstractContextManager[object]]


class TrainingStep(Protocol[Fed]):
    """Be the stages of a training step, over batches or over windows of them.

    It fits a loop with any record of the user's. Made by `training_step`.

    >>> model = nn.Linear(1, 1)
    >>> step = training_step(model, torch.optim.SGD(model.parameters(), 0.1), nn.MSELoss())
    >>> sorted(step.external)
    ['model', 'optimizer', 'random']
    """

    @overload
    def __call__(self, state: State[Fed, Tensor, None], /) -> State[Fed, Tensor, None]: ...
    @overload
    def __call__(self, state: State[Fed, Tensor, Own], /) -> State[Fed, Tensor, Own]: ...
    @overload
    def __call__(
        self, state: State[Window[Fed], Tensor, None], /
    ) -> State[Window[Fed], Tensor, None]: ...
    @overload
    def __call__(
        self, state: State[Window[Fed], Tensor, Own], /
    ) -> State[Window[Fed], Tensor, Own]: ...

    @property
    def events(self) -> Iterator[AnyEvent]:
        """The events between the stages, in their order."""

    @property
    def external(self) -> Map[str, Stateful]:
        """What the step changes outside the state, by name."""

    def changing(self, **external: Stateful) -> TrainingStep[Fed]:
        """Name more of what the step changes outside the state; see `Stages.changing`."""

    def within(self, context: Context) -> TrainingStep[Fed]:
        """Have each run of the step in a context; see `Stages.within`."""


@final
@attrs.frozen(repr=False)
class Training:
    """Hold what a training is made of, and do the parts of an iteration, once for all forms of it.

    Called with a batch, it is the fused form. The parts are methods, since Python calls a method
    faster than a record that is callable.
    """

    model: nn.Module
    optimizer: Optimizer
    objective: Objective
    scaler: torch.amp.GradScaler | None
    weight: Callable[[Any], float]
    sharing: Sharing | None

    def __call__(self, batch: Any) -> Tensor:
        """Do all that the stages do in one call, which costs least."""
        if self.scaler is not None or self.sharing is not None or type(batch) is Window:
            loss = self.forward(batch)[3]
            self.backward(loss)
            return self.update(loss).loss
        # What `forward`, `backward` and `update` do, without their calls.
        optimizer = self.optimizer
        if not self.model.training:
            put_into_mode(self.model, True)
        optimizer.zero_grad()
        loss = self.objective.loss(batch)
        go_backward(loss)
        optimizer.step()
        return loss.detach()

    def forward(self, batch: Any) -> Fields:
        """Go forward with a batch or a window, and return the fields of its `ForwardPass`.

        Of a window, all batches but the last go backward here too.
        """
        if not self.model.training:  # someone has switched it since the run began
            put_into_mode(self.model, True)
        self.optimizer.zero_grad()
        if self.scaler is not None:
            _forget_unscaled(self.scaler, self.optimizer)
        if type(batch) is Window:
            return self._window(batch)
        if self.sharing is None:
            return self.objective(batch)
        counting = self.sharing.begin(self.weight(batch))
        x, y, y_pred, loss = self.objective(batch)
        return x, y, y_pred, counting(loss)

    def _window(self, window: Window[Any]) -> Fields:
        *earlier, (last, part) = self._parts(window)
        counting: Callable[[Tensor], Tensor] = _as_it_is
        apart: Context = nullcontext
        if self.sharing is not None:
            counting = self.sharing.begin(sum(map(self.weight, window)))
            apart = self.sharing.apart
        with apart():
            losses = [self._add_gradients(batch, part, counting) for batch, part in earlier]
        x, y, y_pred, loss = self.objective(last)
        # Its value is the loss of the window, and its graph that of the last batch.
        return x, y, y_pred, counting(sum(losses, start=loss * part))

    def _parts(self, window: Window[Any]) -> list[tuple[Any, float]]:
        """Return the batches that count, each with the part of the window that it is."""
        if len(window) == 1:
            return [(window.batches[0], 1.0)]
        weights = [self.weight(batch) for batch in window]
        total = sum(weights)
        if not (total > 0 and all(weight >= 0 for weight in weights)):
            raise ValueError(
                f"the batches of a window weigh {weights}, so their mean is unknown; weight gives "
                "numbers from 0 on, and not 0 for all of them"
            )
        # The mean over nothing is not a number, and would remain so with the part 0.
        return [(batch, w / total) for batch, w in zip(window, weights, strict=True) if w]

    def _add_gradients(
        self, batch: Any, part: float, counting: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Add the gradients of a batch, and return its part of the loss of the window."""
        loss = counting(self.objective(batch)[3] * part)
        go_backward(loss, self.scaler)
        return loss.detach()

    def backward(self, loss: Tensor) -> None:
        """Go backward; whoever looks at the gradients sees the true ones, without a scale."""
        go_backward(loss, self.scaler)
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)

    def update(self, loss: Tensor) -> Updated:
        """Update the weights, and return the loss without its graph."""
        if self.scaler is None:
            self.optimizer.step()
            return Updated(loss.detach(), True)
        scale = self.scaler.get_scale()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        # It makes the scale smaller where, and only where, it has left the update out.
        return Updated(loss.detach(), scale > 0 and self.scaler.get_scale() >= scale)


def _as_it_is(loss: Tensor) -> Tensor:
    return loss


def _forget_unscaled(scaler: torch.amp.GradScaler, optimizer: Optimizer) -> None:
    """Have a scaler forget an iteration that failed between backward and the update."""
    pending: Any = getattr(scaler, "_per_optimizer_states", None)
    if pending:
        pending.pop(id(optimizer), None)


@final
@attrs.frozen
class Weighing:
    """Return how much a batch, or a window of them, counts in a mean.

    >>> Weighing(len)([1, 2, 3]), Weighing(len)(Window(([1], [1, 2])))
    (3, 3)
    """

    weight: Callable[[Any], float]

    def __call__(self, batch: Any) -> float:
        """Return how much a batch counts."""
        return sum(map(self.weight, batch)) if type(batch) is Window else self.weight(batch)


@final
@attrs.frozen(repr=False)
class _Forward:
    """Go forward with a batch: the first stage."""

    training: Training

    @override
    def __repr__(self) -> str:
        return "forward"

    def __call__(self, state: State[Any, Tensor, Any]) -> ForwardPass:
        return ForwardPass(*self.training.forward(state.batch))


@final
@attrs.frozen(repr=False)
class _Backward:
    """Go backward from the loss: the second stage."""

    training: Training

    @override
    def __repr__(self) -> str:
        return "backward"

    def __call__(self, forward: ForwardPass) -> ForwardPass:
        self.training.backward(forward.loss)
        return forward


@final
@attrs.frozen(repr=False)
class _Update:
    """Update the weights: the third stage."""

    training: Training

    @override
    def __repr__(self) -> str:
        return "update"

    def __call__(self, forward: ForwardPass) -> Updated:
        return self.training.update(forward.loss)


def loss_of(updated: Updated) -> Tensor:
    """Return the loss, which is the output of the step: its last stage."""
    return updated.loss


# Without "...", pyright would take the type of batches from the default.
@overload
def training_step(
    model: nn.Module,
    optimizer: Optimizer,
    loss_fn: Callable[[Predicted, Targets], Tensor],
    *,
    device: Device | None = None,
    non_blocking: bool | None = None,
    weight: Callable[[Batch], float] = ...,
    autocast: torch.dtype | None = None,
    scaler: torch.amp.GradScaler | None = None,
) -> TrainingStep[Batch]: ...


@overload
def training_step(
    model: nn.Module,
    optimizer: Optimizer,
    loss_fn: Callable[[Predicted, Targets], Tensor],
    *,
    device: Device | None = None,
    non_blocking: bool | None = None,
    prepare_batch: PrepareBatch[Batch, Inputs, Targets],
    weight: Callable[[Batch], float] = ...,
    autocast: torch.dtype | None = None,
    scaler: torch.amp.GradScaler | None = None,
) -> TrainingStep[Batch]: ...


@overload
def training_step(
    model: Model,
    optimizer: Optimizer,
    *,
    loss: Callable[[Model, Batch], Tensor],
    device: Device | None = None,
    non_blocking: bool | None = None,
    weight: Callable[[Batch], float] = ...,
    autocast: torch.dtype | None = None,
    scaler: torch.amp.GradScaler | None = None,
) -> TrainingStep[Batch]: ...


def training_step(
    model: nn.Module,
    optimizer: Optimizer,
    loss_fn: Callable[..., Tensor] | None = None,
    *,
    loss: Callable[[Any, Any], Tensor] | None = None,
    device: Device | None = None,
    non_blocking: bool | None = None,
    prepare_batch: Callable[..., tuple[object, object]] = prepare_batch,
    weight: Callable[[Any], float] = count_samples,
    autocast: torch.dtype | None = None,
    scaler: torch.amp.GradScaler | None = None,
) -> TrainingStep[Any]:
    """Make the step that trains a model: on pairs of inputs and targets, or by a loss of your own.

    Each iteration sets the gradients that the optimizer holds to None, computes the loss, fires
    `Backprop.STARTED`, goes backward, fires `Backprop.COMPLETED`, updates the weights and fires
    `Update.COMPLETED`.
    `state.output` is the loss, detached and still on its device; read it with `.item()` where a
    number is needed.

    The same step takes batches and windows of them, of `windows(data, size)`. The batches of a
    window go to the device, forward and backward one after the other; then the weights are updated
    once. The events are fired once for a window, and the output is its loss.

    A model that is not in training mode is put into it as a run begins, and as the run ends each of
    its modules is put back. A part in evaluation mode of a model in training mode stays so.

    Snapshots of a loop with this step hold the model, the optimizer, the scaler and the random
    state.

    Several processes may train one model, a DistributedDataParallel or one of `fully_shard`, each
    with its part of a batch. Then each part counts by its weight, so that the gradients are those
    of one process on the whole batch, and a window reduces them once. The output is the loss of the
    part.

    Laws: the weights are bitwise those of a loop written by hand. Those of windows are those of
    batches that hold a whole window, to rounding, if the model treats each sample by itself and
    the loss is a mean over what `weight` counts.

    Args:
        model: trained in place.
        optimizer: holds the parameters of `model`; its `step` needs no closure.
        loss_fn: makes a scalar of the model's output and the targets, in this order.
        loss: instead of `loss_fn`, makes a scalar of the model and the batch; for models that make
            their own loss, for batches that are no pairs, and for several losses or inputs.
        device: where to compute. The model is moved there now, and each batch as it comes; None
            leaves both where they are.
        non_blocking: let copies of batches between host and accelerator go on in the background;
            None: those from pinned memory to an accelerator; your own `prepare_batch` gets False.
        prepare_batch: makes the pair (x, y) of `(batch, device, non_blocking)`.
        weight: counts in a batch, as the data gave it, what the loss is the mean over: by default
            the samples; for a loss over tokens, the tokens. A batch of a window that has the weight
            0 is left out. `fengine.metrics.mean` weighs with it too.
        autocast: the dtype of mixed precision, torch.bfloat16 or torch.float16, in which forward
            and the loss are computed; None: as they are.
        scaler: scales the loss, so that small gradients survive in torch.float16. The gradients are
            unscaled before `Backprop.COMPLETED`.

    Raises:
        TypeError: an argument is of the wrong kind, or both or none of `loss_fn` and `loss` are
            given; or, in the run, a batch is not a pair, or cannot be weighed.
        ValueError: in the run, the weights of a window have no mean; or, as it begins, none of the
            optimizer's parameters is one of the model.

    >>> from fengine import Loop
    >>> model = nn.Linear(1, 1)
    >>> step = training_step(model, torch.optim.SGD(model.parameters(), 0.1), nn.MSELoss())
    >>> final = Loop(step).run([(torch.ones(4, 1), torch.zeros(4, 1))], max_epochs=2)
    >>> final.output.shape, final.output.requires_grad
    (torch.Size([]), False)
    """
    require_trainable(model, optimizer, prepare_batch)
    require_callable(weight, "weight", "batch")
    require_dtype(autocast)
    made = objective_of(model, loss_fn, loss, prepare_batch, device, non_blocking)
    if device is not None:
        model.to(device)
    objective = made if autocast is None else InPrecision(made, autocast)
    training = Training(model, optimizer, objective, scaler, weight, sharing_of(model))
    begun: Stages[Any, Tensor, ForwardPass, Any] = stages(_Forward(training))
    step: Stages[Any, Tensor, Tensor, Any] = (
        begun.emit(Backprop.STARTED)
        .then(_Backward(training))
        .emit(Backprop.COMPLETED)
        .then(_Update(training))
        .emit(Update.COMPLETED)
        .then(loss_of)
        .within(TrainingMode(model))
        .within(Holding(model, optimizer))
        .changing(model=model, optimizer=optimizer, random=RandomState())
    )
    if scaler is not None:
        step = step.changing(scaler=scaler)
    shown: dict[str, object] = {} if loss is None else {"loss": loss}
    shown |= shown_precision(autocast)
    if scaler is not None:
        shown["scaler"] = type(scaler)
    named = [model, optimizer, *([] if loss_fn is None else [loss_fn])]
    words = call_in_words("training_step", *named, **shown)
    made_of = telling(step, Facts(Weighing(weight), Tensor, words))
    return cast("TrainingStep[Any]", fused(made_of, training))


def objective_of(
    model: nn.Module,
    loss_fn: Callable[..., Tensor] | None,
    loss: Callable[[Any, Any], Tensor] | None,
    prepare: Callable[..., tuple[object, object]],
    device: Device | None,
    non_blocking: bool | None,
) -> LossOfPredictions | OwnLoss:
    """Make what makes the loss of a batch, from the arguments of a training step.

    Raises:
        TypeError: both or none of `loss_fn` and `loss` are given, or one is of the wrong kind.
    """
    if (loss_fn is None) == (loss is None):
        given = "none" if loss is None else "both"
        raise TypeError(
            f"{given} of loss_fn and loss= are given; give loss_fn, which takes (y_pred, y), or "
            "loss=, which takes (model, batch)"
        )
    if loss_fn is not None:
        require_callable(loss_fn, "loss_fn", "y_pred", "y")
        chosen = non_blocking_for(prepare, non_blocking)
        return LossOfPredictions(model, loss_fn, prepare, device, chosen)
    require_callable(loss, "loss", "model", "batch")
    if prepare is not prepare_batch:
        raise TypeError(
            "prepare_batch= makes pairs for loss_fn, and loss= takes the batch as it is; leave one "
            "of them out"
        )
    return OwnLoss(model, cast("Callable[[Any, Any], Tensor]", loss), device, non_blocking)


def require_trainable(model: object, optimizer: Optimizer, prepare_batch: object) -> None:
    """Refuse parts of a training step that are of the wrong kind."""
    require_module(model)
    require_optimizer(optimizer, "training_step")
    require_callable(prepare_batch, "prepare_batch", "batch", "device", "non_blocking")
    require_callable(step_of(optimizer), "the step of the optimizer")


def require_optimizer(optimizer: object, maker: str) -> None:
    """Refuse what is no optimizer, for the function that makes a step of it."""
    if not callable(getattr(optimizer, "zero_grad", None)) or isinstance(
        optimizer, nn.Module | type
    ):
        raise TypeError(
            f"optimizer is {typed(optimizer)}, which has no zero_grad() and step(); the order is "
            f"{maker}(model, optimizer, loss_fn)"
        )


def step_of(optimizer: Optimizer) -> Callable[..., object]:
    """Return the step of an optimizer with the arguments that its class says of it.

    A scheduler puts a function over it that says of itself to take the optimizer, too.
    """
    own_step = getattr(type(optimizer), "step", None)
    step: Callable[..., object] = (
        optimizer.step if own_step is None else own_step.__get__(optimizer)
    )
    return step


def require_module(model: object) -> None:
    """Refuse a model that is not an instance of `torch.nn.Module`."""
    if not isinstance(model, nn.Module):
        what = typed(model)
        raise TypeError(f"model is {what}; give an instance of torch.nn.Module")
