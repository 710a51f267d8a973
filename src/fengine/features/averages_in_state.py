"""Averages in the state: a moving average of a training that is itself in the state, as a part."""

from __future__ import annotations

from typing import Any, TypeVar, final

import attrs
from torch import Tensor
from typing_extensions import override

from fengine import Loop, Part, State
from fengine.core.describe import call_in_words
from fengine.core.steps import Lends, facts_of, lends_of
from fengine.features.taking_averages import TakeAverage
from fengine.training import TrainState, Update, Updated, Values

B = TypeVar("B")
O = TypeVar("O")  # noqa: E741  # the output, beside the batch and the user
U = TypeVar("U")


@final
@attrs.frozen(repr=False)
class AveragedInState:
    """Keep a moving average of a training in the state; made by `ema(decay)`.

    Attributes:
        part: the averages as a training of their own, without an optimizer; its `updates` count
            what was averaged.

    >>> from fengine.features import ema
    >>> ema(0.5).part.name
    'ema'
    """

    decay: float
    name: str
    part: Part[TrainState] = attrs.field(init=False)

    @part.default
    def _part(self) -> Part[TrainState]:
        return Part(self.name, TrainState())

    @override
    def __repr__(self) -> str:
        shown = {} if self.name == "ema" else {"name": self.name}
        return call_in_words("ema", self.decay, **shown)

    def __call__(self, loop: Loop[B, O, U], /) -> Loop[B, O, U]:
        """Return the loop with what averages.

        Raises:
            ValueError: the step of the loop keeps no training in the state, or the name is taken.
        """
        lends = lends_of(loop.step)
        if facts_of(loop.step).members:
            raise ValueError(
                f"{self!r} averages one training, and the step of this loop trains the members of "
                "an ensemble; average a member that trains alone: members(final.user)[0]"
            )
        if lends is None or Update.COMPLETED not in loop.registry:
            raise ValueError(
                f"{self!r} averages a training that is in the state, and the step of this loop "
                "keeps none there; put it after Loop(functional_step(...)), or give it the model "
                f"that is trained in place: ema(model, {self.decay!r})"
            )
        return loop.with_part(self.part).on(Update.COMPLETED, _AveragingInState(self, lends))

    def of(self, train_state: TrainState, state: State[Any, Any, Any]) -> TrainState:
        """Return a training with the averaged parameters and buffers, as for `restore`.

        Args:
            train_state: the training, such as `state.user`.
            state: has the averages; before the first update they are the training's own.
        """
        averaged = state.part(self.part)
        if not averaged.updates:
            return train_state
        return attrs.evolve(train_state, parameters=averaged.parameters, buffers=averaged.buffers)


@final
@attrs.frozen(repr=False)
class _AveragingInState:
    feature: AveragedInState
    lends: Lends

    @override
    def __repr__(self) -> str:
        return repr(self.feature)

    def __call__(self, state: State[B, O, U], updated: Updated) -> State[B, O, U]:
        if not updated.stepped:
            return state  # a scaler has left the update out
        part = self.feature.part
        before, now = state.part(part), self.lends.read(state)
        take = TakeAverage(self.feature.decay)
        averaged = TrainState(
            _averaged(before.parameters, now.parameters, take, before.updates),
            _averaged(before.buffers, now.buffers, take, before.updates),
            updates=before.updates + 1,
        )
        return state.with_part(part, averaged)


def _averaged(
    before: Values[Tensor], now: Values[Tensor], take: TakeAverage, number: int
) -> Values[Tensor]:
    """Return averages that are moved towards what there is now; the first are copies of it."""
    if not number:
        return Values({name: one.clone() for name, one in now.named()})
    moved = {name: one.clone() for name, one in before.named()}
    # The way to average is chosen by the kind of numbers, so there are some of one kind each time.
    for dtype in dict.fromkeys(one.dtype for one in moved.values()):
        names = [name for name, one in moved.items() if one.dtype == dtype]
        take([moved[name] for name in names], [now[name] for name in names], number)
    return Values(moved)
