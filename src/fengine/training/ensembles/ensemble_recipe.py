"""What an ensemble step is made of: its stages, and how an ensemble for it begins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, SupportsIndex, TypeAlias, final, get_args

import attrs
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from typing_extensions import override

from fengine import Stages, State, stages
from fengine.core.describe import brief, call_in_words, require_callable, typed
from fengine.core.steps import Facts, telling, with_whole
from fengine.training.counting import count_samples
from fengine.training.ensembles.all_at_once import AllAtOnce
from fengine.training.ensembles.ensemble_state import EnsembleState, compact, row_of, stack
from fengine.training.ensembles.keeping_ensembles import EnsembleInPart, Kept, LendingEnsemble
from fengine.training.ensembles.one_by_one import OneByOne
from fengine.training.ensembles.own_optimizers import OwnOptimizer
from fengine.training.ensembles.settling import (
    Scheduled,
    Settling,
    numbers_of,
    rates_of,
    require_one_rate,
)
from fengine.training.ensembles.stacked_gradients import Forward, Randomness
from fengine.training.ensembles.stacked_optimizers import require_elementwise
from fengine.training.events import Update, Updated
from fengine.training.functional.lender import Lender
from fengine.training.functional.settings import settings_of
from fengine.training.modes import TrainingMode, put_into_mode
from fengine.training.objectives import LossOfPredictions
from fengine.training.preparing import prepare_batch
from fengine.training.random_state import require_seed
from fengine.training.training_step import Training, loss_of, require_optimizer, step_of

Method: TypeAlias = Literal["vmap", "loop"]
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


def recipe_of(
    model: nn.Module,
    optimizer: OwnOptimizer | Optimizer,
    loss_fn: Callable[..., Tensor],
    learning_rate: Scheduled | None,
    randomness: Randomness,
    clip: float | None,
    method: Method,
    is_compiled: bool,
) -> Recipe:
    """Make a recipe of the arguments of `ensemble_step`.

    Raises:
        TypeError: an argument is of the wrong kind.
        ValueError: they do not go together.
    """
    in_torch = _in_torch(model, optimizer)
    is_own = in_torch is not optimizer
    require_callable(loss_fn, "loss_fn", "y_pred", "y")
    _require_clip(clip)
    if learning_rate is not None and callable(learning_rate):
        require_callable(learning_rate, "learning_rate", "state")
    elif learning_rate is not None:
        rates = numbers_of(learning_rate)
        if not is_own and method == "vmap":
            require_one_rate(in_torch, rates)
    if is_compiled and (method == "loop" or not is_own):
        raise ValueError(
            "compile=True compiles forward, backward and update of all members into one call; that "
            "takes method='vmap' and an optimizer that is a function: sgd, adam or adamw of "
            "fengine.training"
        )
    lender = Lender(model, in_torch)
    trains: AllAtOnce | OneByOne
    if method == "vmap":
        if not is_own:
            require_elementwise(in_torch)
        forward = Forward(model, loss_fn, randomness, clip)
        trains = AllAtOnce(lender, forward, optimizer, is_compiled)
    else:
        objective = LossOfPredictions(model, loss_fn, prepare_batch, None, None)
        training = Training(model, in_torch, objective, None, count_samples, sharing=None)
        trains = OneByOne(lender, training, randomness, clip)
    settling = Settling(lender, is_own, is_alike=not is_own and method == "vmap")
    given: dict[str, object] = {
        "learning_rate": learning_rate,
        "randomness": None if randomness == "different" else randomness,
        "clip": clip,
        "method": None if method == "vmap" else method,
        "compile": is_compiled or None,
    }
    shown = {name: one for name, one in given.items() if one is not None}
    words = call_in_words("ensemble_step", model, optimizer, loss_fn, **shown)
    return Recipe(lender, optimizer, settling, learning_rate, trains, words)


def _in_torch(model: nn.Module, optimizer: OwnOptimizer | Optimizer) -> Optimizer:
    """Return the optimizer of torch that an optimizer is, or that does what it does.

    Raises:
        TypeError: it is no optimizer.
    """
    if isinstance(optimizer, Optimizer):
        require_callable(step_of(optimizer), "the step of the optimizer")
        return optimizer
    known: object = optimizer
    if not callable(getattr(known, "update", None)) or isinstance(known, type):
        require_optimizer(known, "ensemble_step")
        raise TypeError(
            f"optimizer is {brief(known)}; give sgd, adam or adamw of fengine.training, or an "
            "optimizer of torch that holds the parameters of the model"
        )
    parameters = list(model.parameters())
    if any(one.is_complex() for one in parameters):
        raise ValueError(
            f"{optimizer!r} is for real parameters, and the {type(model).__name__} has complex "
            "ones; give an optimizer of torch"
        )
    return optimizer(parameters)


def _require_clip(clip: object) -> None:
    if clip is None:
        return
    if isinstance(clip, bool) or not isinstance(clip, int | float):
        raise TypeError(f"clip={typed(clip)} is not a number")
    if not clip > 0:
        raise ValueError(f"clip={clip!r} is not above 0")


def require_one_of(name: str, given: object, known: Any) -> None:
    """Refuse an argument that is none of the words of a literal type.

    Raises:
        ValueError: it is refused.

    >>> require_one_of("method", "both", Method)
    Traceback (most recent call last):
    ValueError: method='both' is not one of 'vmap', 'loop'
    """
    if given not in get_args(known):
        words = ", ".join(map(repr, get_args(known)))
        raise ValueError(f"{name}={given!r} is not one of {words}")
