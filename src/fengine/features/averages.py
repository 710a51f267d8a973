"""Averages: a moving average of the weights, which follows each update of them.

torch's AveragedModel does all of it. Here it is only joined to the loop.
"""

from __future__ import annotations

import functools
from typing import Final, Generic, TypeVar, cast, final

import attrs
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from typing_extensions import override

from fengine import Loop, State
from fengine.core.describe import call_in_words
from fengine.core.stateful import uncompiled
from fengine.features.gradients import require_positive
from fengine.features.outside import is_named, modules_of
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
            ValueError: the step of the loop does not tell of its updates, or trains another model;
                or the feature is in the loop already.
        """
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


_made_by_torch: Final = functools.cache(get_ema_multi_avg_fn)


@final
@attrs.frozen
class _TakeAverage:
    """Take the average as torch's own function does, which itself could not be pickled."""

    decay: float

    def __call__(
        self,
        averaged: tuple[Tensor, ...] | list[Tensor],
        current: tuple[Tensor, ...] | list[Tensor],
        number: Tensor | int,
    ) -> None:
        _made_by_torch(self.decay)(averaged, current, number)


def ema(model: Model, decay: float, *, name: str = "ema") -> Averaged[Model]:
    """Make a feature that keeps an exponential moving average of a model's weights.

    The first update is copied, and each later one moves the average by `1 - decay` of the way to
    the weights. Buffers, such as the statistics of batch norm, are averaged too. An update that a
    scaler has left out moves nothing. What is evaluated is `.model`: it is a copy of the model as
    it is now, so make the feature after the step, which may move the model to a device. Of a
    compiled model it is a copy that is not compiled.

    Law: the average is bitwise that of a loop by hand, which calls `update_parameters` of a
    `torch.optim.swa_utils.AveragedModel` after each update.

    Args:
        model: the model that is trained.
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
    require_module(model)
    require_positive("decay", decay)
    if not decay < 1:
        raise ValueError(
            f"decay={decay!r} is not below 1, so the average would never move; it is how much of "
            "the average stays at an update, such as 0.999"
        )
    averaged = AveragedModel(uncompiled(model), multi_avg_fn=_TakeAverage(decay), use_buffers=True)
    return Averaged(model, decay, name, averaged)
