"""The guard against what is not finite: it stops a training before the weights are changed.

It judges what is there before the update, so the parameters are those of the iteration before.
"""

from __future__ import annotations

import cmath
from collections.abc import Iterator
from typing import Final, TypeVar, final

import attrs
import torch
from immutables import Map
from torch import Tensor, nn
from typing_extensions import override

from fengine import Loop, State
from fengine.core.describe import made_by, typed
from fengine.core.stateful import identities
from fengine.core.table import where_in_run
from fengine.features.gradients import require_backprop
from fengine.features.outside import modules_of, things_of
from fengine.training import Backprop, ForwardPass

B = TypeVar("B")
O = TypeVar("O")  # noqa: E741  # the output, beside the batch and the user
U = TypeVar("U")
_MOST_NAMED: Final = 3


@final
@attrs.frozen(repr=False)
class StopOnNan:
    """Stop on what is not finite; made by `stop_on_nan`.

    >>> stop_on_nan() == StopOnNan(gradients=False)
    True
    """

    gradients: bool

    @override
    def __repr__(self) -> str:
        return made_by(stop_on_nan, self)

    def __call__(self, loop: Loop[B, O, U], /) -> Loop[B, O, U]:
        """Return the loop with the guard.

        Raises:
            ValueError: the step of the loop does not tell of its losses or gradients, or no module
                is named whose gradients could be judged.
        """
        if Backprop.STARTED not in loop.registry:
            raise ValueError(
                f"{self!r} acts at Backprop.STARTED, which the step of this loop does not fire; "
                "put it after Loop(training_step(...)), or have stages of your own emit it with a "
                "ForwardPass before backward"
            )
        guarded = loop.on(Backprop.STARTED, _JudgingLoss(self))
        if not self.gradients or _has_scaler(loop):
            return guarded
        require_backprop(loop, self)
        modules = modules_of(loop)
        if not modules:
            raise ValueError(
                f"{self!r} judges the gradients of the modules that the loop names, and it names "
                "none; have the step name its model: stages(...).changing(model=model)"
            )
        return guarded.on(Backprop.COMPLETED, _JudgingGradients(self, Map(modules)))


@final
@attrs.frozen(repr=False)
class _JudgingLoss:
    feature: StopOnNan

    @override
    def __repr__(self) -> str:
        return repr(self.feature)

    def __call__(self, state: State[B, O, U], forward: ForwardPass) -> State[B, O, U]:
        loss: object = forward.loss
        if isinstance(loss, Tensor) and not _is_finite(loss):
            raise _stopped(f"the loss is {_number(loss)}", state)
        return state


@final
@attrs.frozen(repr=False)
class _JudgingGradients:
    feature: StopOnNan
    modules: Map[str, nn.Module] = attrs.field(eq=identities)

    @override
    def __repr__(self) -> str:
        return repr(self.feature)

    def __call__(self, state: State[B, O, U], forward: ForwardPass) -> State[B, O, U]:
        gradients = dict(self._gradients())
        if not gradients or _is_sum_finite(list(gradients.values())):
            return state
        wrong = [name for name, gradient in gradients.items() if not _is_finite(gradient)]
        if not wrong:
            return state  # their sum is beyond what their dtype holds
        more = len(wrong) - _MOST_NAMED
        which = ", ".join(wrong[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
        raise _stopped(
            f"the gradients of {which} are not finite, where the loss is {_number(forward.loss)},",
            state,
        )

    def _gradients(self) -> Iterator[tuple[str, Tensor]]:
        met = set[int]()
        for name, module in sorted(self.modules.items()):
            for path, parameter in module.named_parameters(prefix=name):
                if parameter.grad is not None and id(parameter) not in met:
                    met.add(id(parameter))
                    yield path, parameter.grad


def is_guarding(handler: object) -> bool:
    """Tell whether a handler stops on what is not finite."""
    return isinstance(handler, _JudgingLoss | _JudgingGradients)


def _is_sum_finite(tensors: list[Tensor]) -> bool:
    """Tell whether the sum of tensors is finite, as then all of them are; it costs the least."""
    sums = [one.sum() for one in tensors]
    return cmath.isfinite(torch.stack([one.to(sums[0].device) for one in sums]).sum().item())


def _is_finite(tensor: Tensor) -> bool:
    values = tensor.coalesce().values() if tensor.is_sparse else tensor
    if values.numel() == 1:  # as a loss has, where this costs least
        return cmath.isfinite(values.item())
    return bool(torch.isfinite(values).all())


def _number(loss: Tensor) -> object:
    return loss.item() if loss.numel() == 1 else loss.detach()


def _stopped(what: str, state: State[B, O, U]) -> FloatingPointError:
    return FloatingPointError(
        f"{what} {where_in_run(state)}, so nothing is updated: the parameters are those of the "
        "iteration before. The batch is last_state(error).batch; to leave it out and go on, have a "
        "handler of Events.EXCEPTION_RAISED return state.recover(SKIP_BATCH)"
    )


def _has_scaler(loop: Loop[B, O, U]) -> bool:
    """Tell whether a scaler leaves out updates whose gradients are not finite."""
    return any(
        isinstance(one, torch.amp.GradScaler) and one.is_enabled()
        for one in things_of(loop).values()
    )


def stop_on_nan(*, gradients: bool = False) -> StopOnNan:
    """Make a feature that stops a training on a loss that is not finite, before backward.

    It raises a FloatingPointError, which names the loss, the epoch and the iteration. A handler of
    EXCEPTION_RAISED that returns `state.recover(SKIP_BATCH)` leaves the batch out and goes on.
    Each judgement waits for the device.

    Laws: where it raises, the parameters and the optimizer are those of the iteration before; where
    it does not, it changes nothing. What the forward pass changes by itself, such as the statistics
    of batch norm and the random state, it has changed.

    Args:
        gradients: judge the gradients too, after backward: those of all modules that the loop has
            named until here. The error names the first that are not finite. Put the feature before
            the one that clips, which spreads them. With a scaler that is enabled they are left to
            it, since it leaves such updates out itself.

    Raises:
        TypeError: `gradients` is not a bool.
        FloatingPointError: in the run, the loss or a gradient is not finite.

    >>> from fengine import SKIP_BATCH, Events
    >>> from fengine.training import training_step
    >>> model = nn.Linear(1, 1)
    >>> step = training_step(model, torch.optim.SGD(model.parameters(), 0.1), nn.MSELoss())
    >>> loop = Loop(step) | stop_on_nan()
    >>> x = torch.ones(1, 1)
    >>> good, bad = (x, x), (x, x * torch.nan)
    >>> loop.run([good, bad])
    Traceback (most recent call last):
    FloatingPointError: the loss is nan at epoch 1, iteration 2, so nothing is updated: ...
    >>> def skip(state, error):
    ...     return state.recover(SKIP_BATCH)
    >>> loop.on(Events.EXCEPTION_RAISED, skip).run([good, bad, good]).iteration
    3
    """
    if type(gradients) is not bool:
        raise TypeError(f"gradients={typed(gradients)} is not a bool")
    return StopOnNan(gradients)
