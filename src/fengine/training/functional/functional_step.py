"""The functional step: a training whose parameters, optimizer and random state are in the state.

It has the stages and events of the training step, and does the same with the model; only that the
model is lent to each iteration. Before `Update.COMPLETED` the next value is in the state, and the
model is given back.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any, Protocol, SupportsIndex, cast, final, overload

import attrs
import torch
from immutables import Map
from torch import Tensor, nn
from torch.optim import Optimizer
from typing_extensions import override

from fengine import Part, Stages, State, Stateful
from fengine.core.describe import call_in_words, require_callable
from fengine.core.events import AnyEvent
from fengine.core.steps import contexts_of
from fengine.training.counting import count_samples
from fengine.training.functional.functional_stages import Rate, Recipe
from fengine.training.functional.keeping_in_state import InPart, InUser
from fengine.training.functional.lender import Lender
from fengine.training.functional.train_state import TrainState
from fengine.training.objectives import InPrecision, require_dtype, shown_precision
from fengine.training.preparing import Device, PrepareBatch, prepare_batch
from fengine.training.random_state import require_seed
from fengine.training.sharing import sharing_of
from fengine.training.training_step import (
    Batch,
    Context,
    Fed,
    Inputs,
    Model,
    Predicted,
    Targets,
    Training,
    TrainingStep,
    objective_of,
    require_module,
    require_optimizer,
    step_of,
)
from fengine.training.windows import Window


class FunctionalStep(Protocol[Fed]):
    """Be a functional step, over batches or over windows of them.

    The user's record of its runs is a `TrainState`. Made by `functional_step`.

    >>> model = nn.Linear(1, 1)
    >>> step = functional_step(model, torch.optim.SGD(model.parameters(), 0.1), nn.MSELoss())
    >>> list(step.external), step.init().updates
    ([], 0)
    """

    @overload
    def __call__(
        self, state: State[Fed, Tensor, TrainState], /
    ) -> State[Fed, Tensor, TrainState]: ...
    @overload
    def __call__(
        self, state: State[Window[Fed], Tensor, TrainState], /
    ) -> State[Window[Fed], Tensor, TrainState]: ...

    @property
    def events(self) -> Iterator[AnyEvent]:
        """The events between the stages, in their order."""

    @property
    def external(self) -> Map[str, Stateful]:
        """What the step changes outside the state, by name: nothing, if you have named nothing."""

    def init(self, *, seed: SupportsIndex | None = None) -> TrainState:
        """Return a training that begins with copies of what model and optimizer have now.

        Args:
            seed: what the random state begins with, from 0 to 4294967295; None: with that of the
                program, which draws on as if nothing had been.

        Raises:
            TypeError: `seed` is not an int.
            ValueError: it is out of the range, or the model has other parameters than when the step
                was made.
            RuntimeError: the model is lent to an iteration.
        """

    def at(self, key: Part[TrainState]) -> TrainingStep[Fed]:
        """Return the step with the training in a part, so that the user's record is free.

        Args:
            key: the part; its initial value is what a run begins with.

        Raises:
            TypeError: `key` is no part of that kind.

        >>> model = nn.Linear(1, 1)
        >>> step = functional_step(model, torch.optim.SGD(model.parameters(), 0.1), nn.MSELoss())
        >>> training = Part("training", step.init())
        >>> from fengine import Loop
        >>> final = Loop(step.at(training)).run([(torch.ones(2, 1), torch.ones(2, 1))])
        >>> final.part(training).updates, final.user
        (1, None)
        """

    def changing(self, **external: Stateful) -> FunctionalStep[Fed]:
        """Name what the step changes outside the state; see `Stages.changing`."""

    def within(self, context: Context) -> FunctionalStep[Fed]:
        """Have each run of the step in a context; see `Stages.within`."""


@final
@attrs.frozen(repr=False)
class _Step:
    """Be a functional step: the stages of the run, and what goes with them."""

    stages: Stages[Any, Tensor, Tensor, Any]
    recipe: Recipe

    @override
    def __repr__(self) -> str:
        return repr(self.stages)

    def __call__(self, state: Any, /) -> Any:
        return self.stages(state)

    @property
    def events(self) -> Iterator[AnyEvent]:
        return self.stages.events

    @property
    def external(self) -> Map[str, Stateful]:
        return self.stages.external

    def init(self, *, seed: SupportsIndex | None = None) -> TrainState:
        return self.recipe.lender.capture(None if seed is None else require_seed(seed))

    def at(self, key: Part[TrainState]) -> TrainingStep[Any]:
        known: object = key
        if not isinstance(known, Part) or known.kind is not TrainState:
            raise TypeError(
                f"{known!r} is no part that begins as a TrainState; give "
                "Part('training', step.init())"
            )
        there = self.recipe.stages(InPart(key))
        named = there.changing(**self.stages.external)
        step = attrs.evolve(named, contexts=contexts_of(self.stages, of_moments=True))
        return cast("TrainingStep[Any]", step)

    def changing(self, **external: Stateful) -> _Step:
        return attrs.evolve(self, stages=self.stages.changing(**external))

    def within(self, context: Context) -> _Step:
        return attrs.evolve(self, stages=self.stages.within(context))


# Without "...", pyright would take the type of batches from the default.
@overload
def functional_step(
    model: nn.Module,
    optimizer: Optimizer,
    loss_fn: Callable[[Predicted, Targets], Tensor],
    *,
    device: Device | None = None,
    non_blocking: bool | None = None,
    weight: Callable[[Batch], float] = ...,
    autocast: torch.dtype | None = None,
    scaler: torch.amp.GradScaler | None = None,
    learning_rate: Rate | None = None,
    donate: bool = False,
) -> FunctionalStep[Batch]: ...


@overload
def functional_step(
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
    learning_rate: Rate | None = None,
    donate: bool = False,
) -> FunctionalStep[Batch]: ...


@overload
def functional_step(
    model: Model,
    optimizer: Optimizer,
    *,
    loss: Callable[[Model, Batch], Tensor],
    device: Device | None = None,
    non_blocking: bool | None = None,
    weight: Callable[[Batch], float] = ...,
    autocast: torch.dtype | None = None,
    scaler: torch.amp.GradScaler | None = None,
    learning_rate: Rate | None = None,
    donate: bool = False,
) -> FunctionalStep[Batch]: ...


def functional_step(
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
    learning_rate: Rate | None = None,
    donate: bool = False,
) -> FunctionalStep[Any]:
    """Make the step that trains a model, with the whole training in the state.

    It has the arguments and the events of `training_step`, and does the same, bitwise. But the
    user's record of the run is a `TrainState`, made by `step.init()`: the parameters, the buffers,
    what the optimizer remembers, and torch's random state. The model and the optimizer are only
    lent, and are after each iteration what they were before; `restore` writes a value into them.

    At Update.COMPLETED and after it the state has the next value. At Backprop.STARTED and
    Backprop.COMPLETED it has the one before, the model has what was lent, and gradients can be
    changed. An optimizer that takes a closure, such as LBFGS, calls forward and backward itself, so
    the step fires neither of these two.

    Laws: two runs from one value are equal, and the value is as before; a run that goes on from
    any moment is the whole run. The weights are bitwise those of `training_step`, if what draws
    random numbers is the model alone.

    Args:
        model: what values are lent to; it is not trained itself.
        optimizer: holds parameters of `model`, and nothing else.
        loss_fn: as for `training_step`.
        loss: as for `training_step`.
        device: as for `training_step`.
        non_blocking: as for `training_step`.
        prepare_batch: as for `training_step`.
        weight: as for `training_step`.
        autocast: as for `training_step`.
        scaler: as for `training_step`; its state is in the value, too.
        learning_rate: a function of the state, which gives the learning rate of this iteration, or
            one for each group of parameters; None: the one that the value has.
        donate: train the tensors of a value in place, which saves the copies. The value is used up
            as its update begins: reading it raises.

    Raises:
        TypeError: as for `training_step`; or `learning_rate` cannot take a state, or `donate` is no
            bool.
        ValueError: the optimizer holds a parameter that is none of the model's; a parameter has no
            shape yet; an optimizer that takes a closure is given with a scaler; or several
            processes train the model together.

    >>> from fengine import Loop
    >>> model = nn.Linear(1, 1)
    >>> step = functional_step(model, torch.optim.SGD(model.parameters(), 0.1), nn.MSELoss())
    >>> start = step.init()
    >>> data = [(torch.ones(4, 1), torch.zeros(4, 1))]
    >>> one = Loop(step).run(data, user=start, max_epochs=2)
    >>> other = Loop(step).run(data, user=start.with_learning_rate(0.0), max_epochs=2)
    >>> one.user == start, other.user.parameters == start.parameters
    (False, True)
    """
    require_module(model)
    require_optimizer(optimizer, "functional_step")
    require_callable(prepare_batch, "prepare_batch", "batch", "device", "non_blocking")
    require_callable(weight, "weight", "batch")
    require_dtype(autocast)
    if learning_rate is not None:
        require_callable(learning_rate, "learning_rate", "state")
    if type(donate) is not bool:
        raise TypeError(f"donate={donate!r} of type {type(donate).__name__} is not a bool")
    if sharing_of(model) is not None:
        raise ValueError(
            f"several processes train the {type(model).__name__} together, and a training in the "
            "state is one of this process alone; give the model that it wraps, or train in place: "
            "training_step(model, ...)"
        )
    in_closure = _takes_closure(optimizer)
    if in_closure and scaler is not None:
        raise ValueError(
            f"a {type(optimizer).__name__} computes the loss several times in an update, which a "
            "scaler cannot follow; leave scaler= out, or take another optimizer"
        )
    made = objective_of(model, loss_fn, loss, prepare_batch, device, non_blocking)
    if device is not None:
        model.to(device)
    objective = made if autocast is None else InPrecision(made, autocast)
    training = Training(model, optimizer, objective, scaler, weight, sharing=None)
    lender = Lender(model, optimizer, scaler, donate)
    shown: dict[str, object] = {} if loss is None else {"loss": loss}
    shown |= shown_precision(autocast)
    if scaler is not None:
        shown["scaler"] = type(scaler)
    if learning_rate is not None:
        shown["learning_rate"] = learning_rate
    if donate:
        shown["donate"] = True
    named = [model, optimizer, *([] if loss_fn is None else [loss_fn])]
    words = call_in_words("functional_step", *named, **shown)
    recipe = Recipe(training, lender, learning_rate, weight, in_closure, words)
    return _Step(recipe.stages(InUser()), recipe)


def _takes_closure(optimizer: Optimizer) -> bool:
    """Tell whether an optimizer calls forward and backward itself.

    Raises:
        TypeError: its step takes something else.
    """
    step = step_of(optimizer)
    try:
        inspect.signature(step).bind()
    except TypeError:
        require_callable(step, "the step of the optimizer", "closure")
        return True
    return False
