"""The ensemble step: several trainings in one loop, whose tensors are stacked in the state.

Where the training step is made of stages for one model, this one does the whole iteration of all
members in one. Between its update and the end of the iteration `Update.COMPLETED` is fired; there
is no event with gradients, since those of the members are stacked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, SupportsIndex, TypeVar, cast, final, overload

import attrs
from immutables import Map
from torch import Tensor, nn
from torch.optim import Optimizer
from typing_extensions import override

from fengine import Part, Stages, State, Stateful
from fengine.core.describe import brief, typed
from fengine.core.events import AnyEvent
from fengine.core.steps import contexts_of
from fengine.training.ensembles.ensemble_arguments import Method, recipe_of, require_one_of
from fengine.training.ensembles.ensemble_recipe import Recipe
from fengine.training.ensembles.ensemble_state import EnsembleState
from fengine.training.ensembles.keeping_ensembles import EnsembleInPart, EnsembleInUser
from fengine.training.ensembles.own_optimizers import OwnOptimizer
from fengine.training.ensembles.settling import Scheduled
from fengine.training.ensembles.stacked_gradients import Randomness
from fengine.training.training_step import (
    Batch,
    Context,
    Fed,
    Predicted,
    Targets,
    require_module,
)

Mine = TypeVar("Mine")


class EnsembleStep(Protocol[Fed]):
    """Be an ensemble step; the user's record of its runs is an `EnsembleState`.

    Made by `ensemble_step`.

    >>> from fengine.training import sgd
    >>> step = ensemble_step(nn.Linear(1, 1), sgd(0.1), nn.MSELoss())
    >>> list(step.external), step.init([nn.Linear(1, 1), nn.Linear(1, 1)]).size
    ([], 2)
    """

    def __call__(
        self, state: State[Fed, Tensor, EnsembleState], /
    ) -> State[Fed, Tensor, EnsembleState]:
        """Give the state with all members trained on its batch, and their losses."""

    @property
    def events(self) -> Iterator[AnyEvent]:
        """The events of the step: `Update.COMPLETED`."""

    @property
    def external(self) -> Map[str, Stateful]:
        """What the step changes outside the state, by name: nothing, if you have named nothing."""

    def init(
        self, models: Sequence[nn.Module], *, seeds: Sequence[SupportsIndex] | None = None
    ) -> EnsembleState:
        """Return an ensemble that begins with copies of the weights of some models.

        It is `stack` of what the `init` of a functional step of each of them returns. The models
        stay as they are.

        Args:
            models: one for each member.
            seeds: what the random states begin with, for each member; None: with that of the
                program.

        Raises:
            TypeError: something is no model, or a seed is no int.
            ValueError: there is none; a model has other parameters than that of the step; or there
                are not as many seeds or learning rates as models.
        """

    def at(self, key: Part[EnsembleState]) -> EnsembleStepInPart[Fed]:
        """Return the step with the ensemble in a part, so that the user's record is free.

        Args:
            key: the part; its initial value is what a run begins with.

        Raises:
            TypeError: `key` is no part of that kind.
        """

    def changing(self, **external: Stateful) -> EnsembleStep[Fed]:
        """Name what the step changes outside the state; see `Stages.changing`."""

    def within(self, context: Context) -> EnsembleStep[Fed]:
        """Have each run of the step in a context; see `Stages.within`."""


class EnsembleStepInPart(Protocol[Fed]):
    """Be an ensemble step that keeps the ensemble in a part; made by `EnsembleStep.at`.

    >>> import torch
    >>> from fengine import Loop
    >>> from fengine.training import sgd
    >>> step = ensemble_step(nn.Linear(1, 1), sgd(0.1), nn.MSELoss())
    >>> key = Part("ensemble", step.init([nn.Linear(1, 1)]))
    >>> final = Loop(step.at(key)).run([(torch.ones(2, 1), torch.ones(2, 1))], user="mine")
    >>> final.part(key).updates, final.user
    ((1,), 'mine')
    """

    @overload
    def __call__(self, state: State[Fed, Tensor, None], /) -> State[Fed, Tensor, None]: ...
    @overload
    def __call__(self, state: State[Fed, Tensor, Mine], /) -> State[Fed, Tensor, Mine]: ...

    @property
    def events(self) -> Iterator[AnyEvent]:
        """The events of the step: `Update.COMPLETED`."""

    @property
    def external(self) -> Map[str, Stateful]:
        """What the step changes outside the state, by name."""

    def changing(self, **external: Stateful) -> EnsembleStepInPart[Fed]:
        """Name what the step changes outside the state; see `Stages.changing`."""

    def within(self, context: Context) -> EnsembleStepInPart[Fed]:
        """Have each run of the step in a context; see `Stages.within`."""


@final
@attrs.frozen(repr=False)
class _Step:
    """Be an ensemble step: the stages of the run, and what goes with them."""

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

    def init(
        self, models: Sequence[nn.Module], *, seeds: Sequence[SupportsIndex] | None = None
    ) -> EnsembleState:
        return self.recipe.init(models, seeds)

    def at(self, key: Part[EnsembleState]) -> EnsembleStepInPart[Any]:
        known: object = key
        if not isinstance(known, Part) or known.kind is not EnsembleState:
            raise TypeError(
                f"{brief(known)} is no part that begins as an EnsembleState; give "
                "Part('ensemble', step.init(models))"
            )
        there = self.recipe.stages(EnsembleInPart(key)).changing(**self.stages.external)
        step = attrs.evolve(there, contexts=contexts_of(self.stages, of_moments=True))
        return cast("EnsembleStepInPart[Any]", step)

    def changing(self, **external: Stateful) -> _Step:
        return attrs.evolve(self, stages=self.stages.changing(**external))

    def within(self, context: Context) -> _Step:
        return attrs.evolve(self, stages=self.stages.within(context))


def ensemble_step(
    model: nn.Module,
    optimizer: OwnOptimizer | Optimizer,
    loss_fn: Callable[[Predicted, Targets], Tensor],
    *,
    learning_rate: Scheduled | None = None,
    randomness: Randomness = "different",
    clip: float | None = None,
    method: Method = "vmap",
    compile: bool = False,
) -> EnsembleStep[Batch]:
    """Make the step that trains several models of one kind at once, each on the same batches.

    The user's record of the run is an `EnsembleState`, made by `step.init(models)`, or by `stack`
    of trainings of functional steps. The tensors of the members are stacked, so that K small models
    take little more time than one. `state.output` holds the losses, a tensor of shape (K,); that of
    a member which is no longer trained is not a number. The step fires `Update.COMPLETED`, whose
    payload has the losses, too.

    A model may do whatever `vmap` knows; for others, such as an LSTM, `method="loop"` trains the
    members one after the other. The model and the optimizer are a template, and stay as they are.

    Laws: if nothing is drawn, each member is to rounding what a functional step makes of it alone,
    in float64 to 1e-9; with `method="loop"` bitwise. A member that is no longer trained is bitwise
    unchanged. Where something is drawn, as by dropout, `vmap` draws for all members from one random
    state, so that a member is like a run alone in distribution only.

    Args:
        model: what all members are like; it is not trained itself.
        optimizer: `sgd`, `adam` or `adamw`; or an instance of a class of `torch.optim` that treats
            each number by itself, made of `model`, which takes one learning rate for all.
        loss_fn: makes a scalar of the model's output and the targets, in this order.
        learning_rate: one number, one for each member, or a function of the state that returns
            either; None: what the members have, as from `with_learning_rate`.
        randomness: whether members draw different numbers or the same, or may draw none: "error".
        clip: the largest norm of the gradients of each member, to which it is clipped; None: none.
        method: "vmap" for all at once, or "loop" for one after the other.
        compile: compile the whole iteration with `torch.compile`, which takes a minute or two and
            makes the iterations faster; for `sgd`, `adam` and `adamw`.

    Raises:
        TypeError: an argument is of the wrong kind.
        ValueError: an argument is out of its range; or the optimizer would mix the members, or
            takes one learning rate and is given several; or, in the run, the members do not go with
            the step, or the loop has several ranks.

    >>> import torch
    >>> from fengine import Loop
    >>> from fengine.training import members, sgd
    >>> model = nn.Linear(1, 1)
    >>> step = ensemble_step(model, sgd(), nn.MSELoss(), learning_rate=[0.0, 0.1])
    >>> start = step.init([model, model])
    >>> final = Loop(step).run([(torch.ones(4, 1), torch.zeros(4, 1))], user=start, max_epochs=2)
    >>> final.output.shape
    torch.Size([2])
    >>> still, moved = members(final.user)
    >>> still.parameters == members(start)[0].parameters, moved.learning_rates
    (True, (0.1,))
    """
    require_module(model)
    require_one_of("randomness", randomness, Randomness)
    require_one_of("method", method, Method)
    if type(compile) is not bool:
        raise TypeError(f"compile={typed(compile)} is not a bool")
    recipe = recipe_of(model, optimizer, loss_fn, learning_rate, randomness, clip, method, compile)
    return _Step(recipe.stages(EnsembleInUser()), recipe)
