"""The arguments of an ensemble step: what they make, and which of them do not go together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias, get_args

from torch import Tensor, nn
from torch.optim import Optimizer

from fengine.core.describe import brief, call_in_words, require_callable, typed
from fengine.training.counting import count_samples
from fengine.training.ensembles.all_at_once import AllAtOnce
from fengine.training.ensembles.ensemble_recipe import Recipe
from fengine.training.ensembles.one_by_one import OneByOne
from fengine.training.ensembles.own_optimizers import OwnOptimizer
from fengine.training.ensembles.settling import (
    Scheduled,
    Settling,
    numbers_of,
    require_one_rate,
)
from fengine.training.ensembles.stacked_gradients import Forward, Randomness
from fengine.training.ensembles.stacked_optimizers import require_elementwise
from fengine.training.functional.lender import Lender
from fengine.training.objectives import LossOfPredictions
from fengine.training.preparing import prepare_batch
from fengine.training.training_step import Training, require_optimizer, step_of

Method: TypeAlias = Literal["vmap", "loop"]


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
