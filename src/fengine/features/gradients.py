"""Gradients: clip them after backward and before the update, where a scaler has unscaled them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, final

import attrs
from torch import Tensor, nn
from typing_extensions import override

from fengine import Loop, State
from fengine.core.describe import made_by, typed
from fengine.core.steps import facts_of
from fengine.features.early_stopping import require_metric
from fengine.training import Backprop, ForwardPass
from fengine.training.training_step import require_module

B = TypeVar("B")
O = TypeVar("O")  # noqa: E741  # the output, beside the batch and the user
U = TypeVar("U")


@final
@attrs.frozen(repr=False)
class ClipGradNorm:
    """Clip the norm of gradients; made by `clip_grad_norm`.

    >>> clip_grad_norm(nn.Linear(1, 1), 0.5).max_norm
    0.5
    """

    model: nn.Module
    max_norm: float
    metric: str | None

    @override
    def __repr__(self) -> str:
        return made_by(clip_grad_norm, self)

    def __call__(self, loop: Loop[B, O, U], /) -> Loop[B, O, U]:
        """Return the loop with what clips.

        Raises:
            ValueError: the step of the loop does not tell where gradients are made, or the name
                of the metric is taken.
        """
        require_backprop(loop, self)
        if self.metric is not None:
            loop = loop.with_metrics(self.metric, at=Backprop.COMPLETED)
        return loop.on(Backprop.COMPLETED, _ClippingNorm(self))


@final
@attrs.frozen(repr=False)
class _ClippingNorm:
    feature: ClipGradNorm

    @override
    def __repr__(self) -> str:
        return repr(self.feature)

    def __call__(self, state: State[B, O, U], forward: ForwardPass) -> State[B, O, U]:
        feature = self.feature
        norm = nn.utils.clip_grad_norm_(feature.model.parameters(), feature.max_norm)
        if feature.metric is None:
            return state
        # Of gradients that are sharded over ranks, each rank has a part of the norm.
        whole: Callable[[], Tensor] | None = getattr(norm, "full_tensor", None)
        return state.with_metric(feature.metric, norm if whole is None else whole())


def clip_grad_norm(model: nn.Module, max_norm: float, *, metric: str | None = None) -> ClipGradNorm:
    """Make a feature that clips the norm of all gradients of a model together.

    Law: the weights are bitwise those of a loop by hand that calls
    `torch.nn.utils.clip_grad_norm_` between backward and the update.

    Args:
        model: its parameters' gradients are clipped.
        max_norm: the largest norm that is left as it is.
        metric: the name of the metric that the norm before clipping becomes, which waits for the
            device; None: nobody asks for it.

    Raises:
        TypeError: `model` is no module, or an argument is of the wrong kind.
        ValueError: `max_norm` is not above 0.

    >>> from torch import optim
    >>> from fengine.training import training_step
    >>> model = nn.Linear(1, 1)
    >>> step = training_step(model, optim.SGD(model.parameters(), 0.1), nn.MSELoss())
    >>> print(Loop(step) | clip_grad_norm(model, 1.0))
    Loop of training_step(Linear of 2 parameters, SGD of 2 parameters, MSELoss())
      Backprop.COMPLETED
        1. clip_grad_norm(Linear of 2 parameters, 1.0)
    """
    require_module(model)
    require_positive("max_norm", max_norm)
    if metric is not None:
        require_metric("clip_grad_norm", metric)
    return ClipGradNorm(model, max_norm, metric)


@final
@attrs.frozen(repr=False)
class ClipGradValue:
    """Clip each gradient; made by `clip_grad_value`.

    >>> clip_grad_value(nn.Linear(1, 1), 0.5).max_value
    0.5
    """

    model: nn.Module
    max_value: float

    @override
    def __repr__(self) -> str:
        return made_by(clip_grad_value, self)

    def __call__(self, loop: Loop[B, O, U], /) -> Loop[B, O, U]:
        """Return the loop with what clips.

        Raises:
            ValueError: the step of the loop does not tell where gradients are made.
        """
        require_backprop(loop, self)
        return loop.on(Backprop.COMPLETED, _ClippingValue(self))


@final
@attrs.frozen(repr=False)
class _ClippingValue:
    feature: ClipGradValue

    @override
    def __repr__(self) -> str:
        return repr(self.feature)

    def __call__(self, state: State[B, O, U], forward: ForwardPass) -> State[B, O, U]:
        nn.utils.clip_grad_value_(self.feature.model.parameters(), self.feature.max_value)
        return state


def clip_grad_value(model: nn.Module, max_value: float) -> ClipGradValue:
    """Make a feature that clips each element of each gradient of a model.

    Args:
        model: its parameters' gradients are clipped.
        max_value: gradients are brought into the range from `-max_value` to `max_value`.

    Raises:
        TypeError: `model` is no module, or `max_value` no number.
        ValueError: `max_value` is not above 0.

    >>> clip_grad_value(nn.Linear(1, 1), 0.5)
    clip_grad_value(Linear of 2 parameters, 0.5)
    """
    require_module(model)
    require_positive("max_value", max_value)
    return ClipGradValue(model, max_value)


def require_backprop(loop: Loop[B, O, U], feature: object) -> None:
    """Refuse a loop whose step does not tell where gradients are made.

    Raises:
        ValueError: it is refused.
    """
    if facts_of(loop.step).members:
        raise ValueError(
            f"{feature!r} would take the gradients of all members of the ensemble for those of one "
            "model, as their tensors are stacked. The norm of each member by itself is clipped by "
            "the step: ensemble_step(..., clip=...)"
        )
    if Backprop.COMPLETED not in loop.registry:
        raise ValueError(
            f"{feature!r} acts at Backprop.COMPLETED, which the step of this loop does not fire; "
            "put it after Loop(training_step(...)), or have stages of your own emit it between "
            "backward and the update"
        )


def require_positive(role: str, number: object) -> None:
    """Refuse what is not a number above 0.

    Raises:
        TypeError: it is no number.
        ValueError: it is not above 0.
    """
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise TypeError(f"{role}={typed(number)} is not a number")
    if not number > 0:
        raise ValueError(f"{role}={number!r} is not above 0")
