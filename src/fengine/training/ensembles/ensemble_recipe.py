"""What an ensemble step is made of: its stages, and how an ensemble for it begins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, SupportsIndex, final

import attrs
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from typing_extensions import override

from fengine import Stages, State, stages
from fengine.core.describe import brief
from fengine.core.steps import Facts, telling, with_whole
from fengine.training.counting import count_samples
from fengine.training.ensembles.all_at_once import AllAtOnce
from fengine.training.ensembles.ensemble_state import EnsembleState, row_of
from fengine.training.ensembles.keeping_ensembles import EnsembleInPart, Kept, LendingEnsemble
from fengine.training.ensembles.one_by_one import OneByOne
from fengine.training.ensembles.own_optimizers import OwnOptimizer
from fengine.training.ensembles.settling import (
    Scheduled,
    Settling,
    rates_of,
)
from fengine.training.ensembles.stacking import compact, stack
from fengine.training.events import Update, Updated
from fengine.training.functional.lender import Lender
from fengine.training.functional.settings import settings_of
from fengine.training.modes import TrainingMode, put_into_mode
from fengine.training.preparing import prepare_batch
from fengine.training.random_state import require_seed
from fengine.training.training_step import loss_of

_ALONE: Final = (
    "it averages no gradients over processes, so that the members would differ from rank to rank. "
    "Give each process an ensemble of its own, in a loop without ranks"
)


@final
@attrs.frozen(eq=False)
class Recipe:
    """Hold what the stages of an ensemble step are made of.

    Args:
        lender: has the model, and the optimizer or the one of torch that does what it does.
        optimizer: the optimizer.
        settling: has the settings of the members.
        learning_rate: a rate, one for each member, or a function of the state; None: their own.
        method: trains all members, at once or one after the other.
        words: the call that made the step.
    """

    lender: Lender
    optimizer: OwnOptimizer | Optimizer
    settling: Settling
    learning_rate: Scheduled | None
    method: AllAtOnce | OneByOne
    words: str

    def stages(self, place: Kept) -> Stages[Any, Tensor, Tensor, Any]:
        """Return the stages of the step, which keep the ensemble at a place of the state."""
        train, write = _Train(self, place), _Write(place)
        first: Stages[Any, Tensor, tuple[EnsembleState, Tensor], Any] = stages(train)
        step = (
            first.into(write, _read)
            .emit(Update.COMPLETED)
            .then(loss_of)
            .within(TrainingMode(self.lender.model))
        )
        parts = (place.key,) if isinstance(place, EnsembleInPart) else ()
        lending = LendingEnsemble(self.lender, place)
        facts = Facts(
            count_samples,
            Tensor,
            self.words,
            lending,
            parts,
            members=True,
            is_fixed=isinstance(self.method, AllAtOnce) and self.method.is_compiled,
            alone=_ALONE,
        )
        return with_whole(telling(step, facts), _Whole(train, write, self.words))

    def trained(
        self, ensemble: EnsembleState, state: State[Any, Tensor, Any]
    ) -> tuple[EnsembleState, Tensor]:
        """Return an ensemble that is trained on the batch of a state, and the loss of each member.

        Raises:
            ValueError: the members do not go with the step.
        """
        size = ensemble.size
        if not ensemble.training:
            return ensemble, torch.full((size,), torch.nan)
        # What is remembered from the first update on, those that are not trained do not have.
        if self._begins_to_remember(ensemble) or isinstance(self.method, OneByOne):
            ensemble = compact(ensemble)
        layout = self.lender.layout
        if not (ensemble.parameters.fits(layout.names) and ensemble.optimizer.fits(layout.held)):
            layout.require_fitting(row_of(ensemble, 0))
        given = self.learning_rate(state) if callable(self.learning_rate) else self.learning_rate
        settled = self.settling.settle(ensemble, None if given is None else rates_of(given, size))
        model = self.lender.model
        if not model.training:  # someone has switched it since the run began
            put_into_mode(model, True)
        x, y = prepare_batch(state.batch)
        after, losses = self.method(settled, x, y)
        if after.training == tuple(range(size)):
            return after, losses
        rows = [row for row, is_training in enumerate(after.is_training) if is_training]
        found = losses.new_full((size,), torch.nan)
        found[list(after.training)] = losses[rows]
        return after, found

    def _begins_to_remember(self, ensemble: EnsembleState) -> bool:
        own = self.optimizer
        remembers = isinstance(own, Optimizer) or own.remembers
        return remembers and not all(ensemble.optimizer.values())

    def init(
        self, models: Sequence[nn.Module], seeds: Sequence[SupportsIndex] | None
    ) -> EnsembleState:
        """Return an ensemble that begins with the weights of some models; see `EnsembleStep`."""
        given = list(models)
        if seeds is not None and len(seeds) != len(given):
            raise ValueError(
                f"{len(seeds)} seeds are given for {len(given)} models; give one for each"
            )
        trainings = []
        for number, model in enumerate(given):
            seed = None if seeds is None else require_seed(seeds[number])
            trainings.append(Lender(model, self._optimizer_of(model, number)).capture(seed))
        rate = self.learning_rate
        if rate is not None and not callable(rate):
            rates = rates_of(rate, len(trainings))
            trainings = [
                one.with_learning_rate(rate) for one, rate in zip(trainings, rates, strict=True)
            ]
        return stack(trainings)

    def _optimizer_of(self, model: object, number: int) -> Optimizer:
        """Return an optimizer of another model, of the kind that the step has."""
        if not isinstance(model, nn.Module):
            raise TypeError(
                f"model {number} is {brief(model)}; give the models of all members, each an "
                "instance of torch.nn.Module"
            )
        layout, named = self.lender.layout, dict(model.named_parameters())
        if tuple(named) != layout.names.names:
            raise ValueError(
                f"model {number}, a {type(model).__name__}, has the parameters "
                f"{', '.join(named) or 'none'}, and that of the step has "
                f"{', '.join(layout.names.names)}; all members are models of one kind"
            )
        if not isinstance(self.optimizer, Optimizer):
            return self.optimizer(model.parameters())
        groups = zip(layout.groups, settings_of(self.optimizer), strict=True)
        kind: Any = type(self.optimizer)
        made: Optimizer = kind(
            [{**settings, "params": [named[name] for name in names]} for names, settings in groups]
        )
        return made


@final
@attrs.frozen(repr=False)
class _Train:
    """Train all members on a batch: the first stage."""

    recipe: Recipe
    place: Kept

    @override
    def __repr__(self) -> str:
        return "train"

    def __call__(self, state: State[Any, Tensor, Any]) -> tuple[EnsembleState, Tensor]:
        return self.recipe.trained(self.place.read(state), state)


@final
@attrs.frozen(repr=False)
class _Write:
    """Write the ensemble and the losses into the state."""

    place: Kept

    @override
    def __repr__(self) -> str:
        return "write"

    def __call__(
        self, state: State[Any, Tensor, Any], made: tuple[EnsembleState, Tensor]
    ) -> State[Any, Tensor, Any]:
        ensemble, losses = made
        return self.place.write(state.evolve(output=losses), ensemble)


def _read(state: State[Any, Tensor, Any]) -> Updated:
    return Updated(state.output, True)


@final
@attrs.frozen(repr=False)
class _Whole:
    """Do all that the stages do in one call, which costs least."""

    train: _Train
    write: _Write
    words: str

    @override
    def __repr__(self) -> str:
        return self.words

    def __call__(self, state: State[Any, Tensor, Any]) -> State[Any, Tensor, Any]:
        return self.write(state, self.train(state))
