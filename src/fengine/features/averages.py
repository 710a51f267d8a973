"""Averages: a moving average of the weights, which follows each update of them.

torch's AveragedModel does all of it. Here it is only joined to the loop.
"""

from __future__ import annotations

from typing import Generic, TypeVar, cast, final, overload

import attrs
from torch import nn
from torch.optim.swa_utils import AveragedModel
from typing_extensions import override

from fengine import Loop, State
from fengine.core.describe import call_in_words
from fengine.core.missing import MISSING, Missing
from fengine.core.stateful import unwrapped
from fengine.core.steps import require_not_lent
from fengine.features.averages_in_state import AveragedInState
from fengine.features.gradients import require_positive
from fengine.features.outside import is_named, modules_of
from fengine.features.taking_averages import TakeAverage
from fengine.training import Update, Updated
from fengine.training.training_step import require_module

B = TypeVar("B")
O = TypeVar("O")  # noqa: E741  # the output, beside the batch and the user
U = TypeVar("U")
Model = TypeVar("Model", bound=nn.Module)


@final
@attrs.frozen(repr=False)
class Averaged(Generic[Model]):
    """Keep a moving average of the weights; made by `ema`.

    Attributes:
        averaged: torch's AveragedModel, which snapshots hold.

    >>> ema(nn.Linear(1, 1), 0.5).averaged.n_averaged
    tensor(0)
    """

    source: Model
    decay: float
    name: str
    averaged: AveragedModel

    @property
    def model(self) -> Model:
        """The model with the averaged weights, to be evaluated beside the one that is trained."""
        return cast("Model", self.averaged.module)

    @override
    def __repr__(self) -> str:
        shown = {} if self.name == "ema" else {"name": self.name}
        return call_in_words("ema", self.source, self.decay, **shown)

    def __call__(self, loop: Loop[B, O, U], /) -> Loop[B, O, U]:
        """Return the loop with what averages.

        Raises:
            ValueError: the step of the loop does not tell of its updates, or trains another model,
                or keeps the training in the state; or the feature is in the loop already.
        """
        require_not_lent(
            loop.step, self.source, f"average it there: ema({self.decay!r})", repr(self)
        )
        if Update.COMPLETED not in loop.registry:
            raise ValueError(
                f"{self!r} acts at Update.COMPLETED, which the step of this loop does not fire; "
                "put it after Loop(training_step(...)), or have stages of your own emit it after "
                "the update, with the payload Updated(loss, stepped=True)"
            )
        if is_named(loop, self.averaged):
            raise ValueError(
                f"{self!r} is in the loop already, and would average each update twice; leave it "
                "out once"
            )
        trained = modules_of(loop)
        if trained and not is_named(loop, self.source):
            raise ValueError(
                f"{self!r} averages a model that this loop does not train, so the average would "
                f"never change; it trains {sorted(trained)}. Give ema the model that the step has"
            )
        return loop.with_external(**{self.name: self.averaged}).on(
            Update.COMPLETED, _Averaging(self)
        )


@final
@attrs.frozen(repr=False)
class _Averaging(Generic[Model]):
    feature: Averaged[Model]

    @override
    def __repr__(self) -> str:
        return repr(self.feature)

    def __call__(self, state: State[B, O, U], updated: Updated) -> State[B, O, U]:
        if updated.stepped:  # else a scaler has left the update out
            self.feature.averaged.update_parameters(self.feature.source)
        return state


@overload
def ema(decay: float, /, *, name: str = "ema") -> AveragedInState: ...


@overload
def ema(*, decay: float, name: str = "ema") -> AveragedInState: ...


@overload
def ema(model: Model, decay: float, *, name: str = "ema") -> Averaged[Model]: ...


def ema(
    model: Model | float | Missing = MISSING, decay: float | None = None, *, name: str = "ema"
) -> Averaged[Model] | AveragedInState:
    """Make a feature that keeps an exponential moving average of a model's weights.

    The first update is copied, and each later one moves the average by `1 - decay` of the way to
    the weights. Buffers, such as the statistics of batch norm, are averaged too. An update that a
    scaler has left out moves nothing. What is evaluated is `.model`: it is a copy of the model as
    it is now, so make the feature after the step, which may move the model to a device. Of a
    compiled model it is a copy that is not compiled, and of one in DistributedDataParallel a copy
    of the model within.

    Law: the average is bitwise that of a loop by hand, which calls `update_parameters` of a
    `torch.optim.swa_utils.AveragedModel` after each update.

    Of a training that is in the state, `ema(decay)` keeps the averages in a part. What is evaluated
    is the part: `evaluation(Loop(functional_evaluation_step(model)), data,
    user=OUTER.part(averaged.part))`. `averaged.of(final.user, final)` is the training with them.

    Args:
        model: the model that is trained; left out for a training that is in the state.
        decay: how much of the average stays at an update, between 0 and 1, such as 0.999.
        name: what the average is called in snapshots; a second one needs another name.

    Raises:
        TypeError: `model` is no module, or `decay` no number.
        ValueError: `decay` is not between 0 and 1.

    >>> import torch
    >>> from fengine.features import evaluation
    >>> from fengine.metrics import mean_loss
    >>> from fengine.training import evaluation_step, training_step
    >>> model = nn.Linear(1, 1)
    >>> step = training_step(model, torch.optim.SGD(model.parameters(), 0.1), nn.MSELoss())
    >>> data = [(torch.ones(4, 1), torch.zeros(4, 1))] * 3
    >>> averaged = ema(model, 0.5)
    >>> held_out = Loop(evaluation_step(averaged.model)) | mean_loss(nn.MSELoss())
    >>> loop = Loop(step) | averaged | evaluation(held_out, data, prefix="ema_")
    >>> sorted(loop.run(data).metrics), int(averaged.averaged.n_averaged)
    (['ema_loss'], 3)
    """
    if model is MISSING or (decay is None and not isinstance(model, nn.Module)):
        alone = decay if model is MISSING else model
        _require_decay(alone)
        return AveragedInState(cast("float", alone), name)
    require_module(model)
    _require_decay(decay)
    source, kept = cast("Model", model), cast("float", decay)
    averaged = AveragedModel(unwrapped(source), multi_avg_fn=TakeAverage(kept), use_buffers=True)
    return Averaged(source, kept, name, averaged)


def _require_decay(decay: object) -> None:
    require_positive("decay", decay)
    if not cast("float", decay) < 1:
        raise ValueError(
            f"decay={decay!r} is not below 1, so the average would never move; it is how much of "
            "the average stays at an update, such as 0.999"
        )
