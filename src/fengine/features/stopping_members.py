"""Stopping members: those of an ensemble that no longer improve are no longer trained.

What is remembered of each is a `Patience`, as for a run alone. It stops one member where early
stopping would end its run. The run itself ends where the last member has stopped.
"""

from __future__ import annotations

from typing import Any, TypeVar, final

import attrs
from typing_extensions import override

from fengine import Events, Loop, Part, State, When
from fengine.core.describe import made_by
from fengine.core.steps import Lends, facts_of
from fengine.features.early_stopping import (
    Mode,
    Patience,
    improves,
    require_metric,
    require_mode,
    require_patience,
)
from fengine.features.reading import where_set
from fengine.metrics.of_members import member_values, names_of_members
from fengine.training import EnsembleState, compact

B = TypeVar("B")
O = TypeVar("O")  # noqa: E741  # the output, beside the batch and the user
U = TypeVar("U")


@final
@attrs.frozen
class StoppedMembers:
    """Remember how the members of an ensemble have done, and where they have stopped.

    Args:
        patience: the best value of each and how long ago it was; none before the first values.
        epochs: the epoch in which each has stopped; 0 for one that is trained.

    >>> StoppedMembers((Patience(0.5, 2), Patience(0.25)), (3, 0)).epochs
    (3, 0)
    """

    patience: tuple[Patience, ...] = ()
    epochs: tuple[int, ...] = ()


@final
@attrs.frozen(repr=False)
class StopMembers:
    """Stop members early; made by `stop_members`.

    Attributes:
        part: where a `StoppedMembers` is kept.

    >>> stop_members("val_loss", mode="min", patience=2).part.initial
    StoppedMembers(patience=(), epochs=())
    """

    metric: str
    mode: Mode
    patience: int
    min_delta: float
    at: When | None
    name: str
    part: Part[StoppedMembers] = attrs.field(init=False)

    @part.default
    def _part(self) -> Part[StoppedMembers]:
        return Part(self.name, StoppedMembers())

    @override
    def __repr__(self) -> str:
        return made_by(stop_members, self)

    def __call__(self, loop: Loop[B, O, U], /) -> Loop[B, O, U]:
        """Return the loop with what stops its members.

        Raises:
            ValueError: the step of the loop trains no ensemble, no feature before this one measures
                the metric for each member, or the name is taken.
        """
        facts = facts_of(loop.step)
        if not facts.members or facts.lends is None:
            raise ValueError(
                f"{self!r} stops members of an ensemble, and the step of this loop trains none; "
                "put it after Loop(ensemble_step(...)). For one model there is early_stopping"
            )
        at = where_set(loop, names_of_members(self.metric)[0], self.at, self)
        stopped = loop.with_part(self.part).on(at, _Stopping(self, facts.lends))
        if facts.is_fixed:
            return stopped
        return stopped.on(Events.EPOCH_COMPLETED, _Compacting(self, facts.lends))


@final
@attrs.frozen(repr=False)
class _Stopping:
    """Take the values of the members into account, and stop those whose time it is."""

    feature: StopMembers
    lends: Lends

    @override
    def __repr__(self) -> str:
        return repr(self.feature)

    def __call__(self, state: State[B, O, U], payload: object = None) -> State[B, O, U]:
        feature, ensemble = self.feature, self._read(state)
        values = member_values(state, feature.metric)
        before = state.part(feature.part)
        patience = before.patience or (Patience(),) * len(values)
        epochs = before.epochs or (0,) * len(values)
        training = ensemble.training
        after = list(patience)
        for number in training:
            after[number] = self._after(patience[number], values[number])
        stopping = [one for one in training if after[one].since >= feature.patience]
        now = tuple(state.epoch if one in stopping else epoch for one, epoch in enumerate(epochs))
        state = state.with_part(feature.part, StoppedMembers(tuple(after), now))
        if not stopping:
            return state
        state = self.lends.write(state, ensemble.stopping(stopping))
        return state.terminate() if len(stopping) == len(training) else state

    def _after(self, before: Patience, value: float) -> Patience:
        feature = self.feature
        if improves(value, before.best, feature.mode, feature.min_delta):
            return Patience(value)
        return Patience(before.best, before.since + 1)

    def _read(self, state: State[Any, Any, Any]) -> EnsembleState:
        ensemble: EnsembleState = self.lends.read(state)
        return ensemble


@final
@attrs.frozen(repr=False)
class _Compacting:
    """Take those that have stopped out of the stack, where they would cost as much as before."""

    feature: StopMembers
    lends: Lends

    @override
    def __repr__(self) -> str:
        return f"{self.feature!r}, compacting"

    def __call__(self, state: State[B, O, U]) -> State[B, O, U]:
        ensemble: EnsembleState = self.lends.read(state)
        after = compact(ensemble)
        return state if after is ensemble else self.lends.write(state, after)


def stop_members(
    metric: str,
    *,
    mode: Mode,
    patience: int,
    min_delta: float = 0.0,
    at: When | None = None,
    name: str = "stop_members",
) -> StopMembers:
    """Make a feature that stops each member of an ensemble when its metric no longer improves.

    A member that has stopped stays as it is, and is measured on. At the end of the epoch it is
    taken out of the stack, so that the others are trained sooner; a step with `compile=True` keeps
    it, since another number of members would be compiled again. The run ends where all have
    stopped.

    Law: each member stops where `early_stopping` would end a run with it alone.

    Args:
        metric: the name of a metric of members, without `_best` or `_mean`.
        mode: "max" where a larger value is better, as of an accuracy; "min" for a loss.
        patience: number of values to wait for a better one, from 1.
        min_delta: by how much a value must improve on the best to be better, from 0.
        at: where to read the metric; None: where a feature before this one sets it.
        name: what the part is called.

    Raises:
        TypeError: `metric` is not a string, or `patience` not an int.
        ValueError: `mode` is not known, or `patience` or `min_delta` is too small.
        LookupError: in the run, the metric is not set.

    >>> import torch
    >>> from torch import nn
    >>> from fengine.metrics import mean
    >>> from fengine.training import ensemble_step, sgd
    >>> model = nn.Linear(1, 1)
    >>> step = ensemble_step(model, sgd(), nn.MSELoss(), learning_rate=[0.1, 0.0])
    >>> stop = stop_members("loss", mode="min", patience=1)
    >>> loop = Loop(step) | mean("loss") | stop
    >>> data = [(torch.ones(4, 1), torch.zeros(4, 1))]
    >>> final = loop.run(data, user=step.init([model, model]), max_epochs=3)
    >>> final.user.training, final.part(stop.part).epochs
    ((0,), (0, 2))
    """
    require_metric("stop_members", metric)
    require_mode(mode)
    require_patience(patience, min_delta)
    return StopMembers(metric, mode, patience, min_delta, at, name)
