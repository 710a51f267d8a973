"""Keeping the best: the weights from where a metric was best, put back when the run is complete.

The copies are not pure, so they are outside the state, and snapshots hold them by name. Where they
are from is a part of the state.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any, Final, TypeVar, final

import attrs
from immutables import Map
from typing_extensions import override

from fengine import Events, Loop, Part, State, Stateful, When
from fengine.core.describe import made_by
from fengine.core.stateful import identities, named
from fengine.core.steps import require_not_lent
from fengine.features.early_stopping import Mode, improves, require_metric, require_mode
from fengine.features.outside import is_named
from fengine.features.reading import value_of, where_set
from fengine.keep.external import restoring

B = TypeVar("B")
O = TypeVar("O")  # noqa: E741  # the output, beside the batch and the user
U = TypeVar("U")

_WAY: Final = (
    "keep the value itself, which never changes: where the metric is best, have a handler return "
    "state.with_part(best, state.user), with best = Part('best', step.init())"
)


@final
@attrs.frozen
class BestValue:
    """Say what the best value of a metric is, and where it is from.

    Args:
        value: the best value so far; not a number before the first one.
        epoch: the epoch that it is from.
        iteration: the iteration that it is from.

    >>> BestValue(0.5, epoch=3, iteration=120)
    BestValue(value=0.5, epoch=3, iteration=120)
    """

    value: float = math.nan
    epoch: int = 0
    iteration: int = 0


@final
@attrs.define(eq=False)
class BestStates:
    """Hold copies of the states of things, from where a metric was best.

    Args:
        names: what the things are called.
        states: the copies; empty before the first one.

    >>> kept = BestStates(("model",))
    >>> kept.load_state_dict({"model": {"weight": 0.5}})
    >>> kept.state_dict()
    {'model': {'weight': 0.5}}
    """

    names: tuple[str, ...]
    states: Mapping[str, Any] = attrs.field(factory=dict)

    def state_dict(self) -> dict[str, Any]:
        """Return the copies, by name."""
        return dict(self.states)

    def load_state_dict(self, state_dict: Mapping[str, Any], /) -> None:
        """Take up copies that `state_dict` returned.

        Raises:
            ValueError: they are of things with other names.
        """
        if state_dict and set(state_dict) != set(self.names):
            raise ValueError(
                f"the best states are those of {sorted(state_dict)}, and those of "
                f"{sorted(self.names)} are kept here; give keep_best the same names"
            )
        self.states = dict(state_dict)


@final
@attrs.frozen(repr=False)
class KeepBest:
    """Keep the best; made by `keep_best`.

    Attributes:
        kept: the copies.
        part: where it is kept which value is the best, a `BestValue`.

    >>> from torch import nn
    >>> keep_best("loss", mode="min", model=nn.Linear(1, 1)).part.initial
    BestValue(value=nan, epoch=0, iteration=0)
    """

    metric: str
    mode: Mode
    at: When | None
    name: str
    things: Map[str, Stateful] = attrs.field(eq=identities)
    kept: BestStates = attrs.field(init=False)
    part: Part[BestValue] = attrs.field(init=False)

    @kept.default
    def _kept(self) -> BestStates:
        return BestStates(tuple(sorted(self.things)))

    @part.default
    def _part(self) -> Part[BestValue]:
        return Part(self.name, BestValue())

    @override
    def __repr__(self) -> str:
        things = {name: type(thing) for name, thing in self.things.items()}
        return made_by(keep_best, self, things=things)

    def __call__(self, loop: Loop[B, O, U], /) -> Loop[B, O, U]:
        """Return the loop with what keeps the best, and puts it back.

        Raises:
            ValueError: no feature before this one sets the metric; or a name is taken; or the step
                keeps a thing in the state.
        """
        for thing in self.things.values():
            require_not_lent(loop.step, thing, _WAY, repr(self))
        at = where_set(loop, self.metric, self.at, self)
        unknown = {name: one for name, one in self.things.items() if not is_named(loop, one)}
        return (
            loop.with_part(self.part)
            .with_external(**{self.name: self.kept}, **unknown)
            .on(at, _Keeping(self))
            .on(Events.COMPLETED, _PuttingBack(self))
        )


@final
@attrs.frozen(repr=False)
class _Keeping:
    """Copy the states where the value is the best so far."""

    feature: KeepBest

    @override
    def __repr__(self) -> str:
        return repr(self.feature)

    def __call__(self, state: State[B, O, U], payload: object = None) -> State[B, O, U]:
        feature = self.feature
        value = value_of(state, feature.metric, feature)
        if not improves(value, state.part(feature.part).value, feature.mode):
            return state
        states = {name: thing.state_dict() for name, thing in feature.things.items()}
        feature.kept.states = copy.deepcopy(states)
        return state.with_part(feature.part, BestValue(value, state.epoch, state.iteration))


@final
@attrs.frozen(repr=False)
class _PuttingBack:
    """Put the best states back, if there are any of this run."""

    feature: KeepBest

    @override
    def __repr__(self) -> str:
        return f"{self.feature!r}, putting back"

    def __call__(self, state: State[B, O, U]) -> State[B, O, U]:
        feature = self.feature
        if not math.isnan(state.part(feature.part).value):
            with restoring(feature.things, feature.kept.states):
                pass
        return state


def keep_best(
    metric: str,
    *,
    mode: Mode,
    at: When | None = None,
    name: str = "best",
    **things: Stateful,
) -> KeepBest:
    """Make a feature that keeps the weights from where a metric is best, and puts them back.

    At each value that is better than all before, it copies the states of the things, which stay in
    memory, on the device where they are. At COMPLETED, which also comes where early stopping ends a
    run, it puts them back: handlers of COMPLETED after it find the best weights, and so does the
    caller. The metrics stay those of the end. A run that is paused or fails goes on with the newest
    weights, so nothing is put back there.

    Snapshots hold the copies, so a run that goes on in another process puts the right ones back. To
    train longer from the newest weights, keep a snapshot from before COMPLETED.

    Laws: a value that is not a number is never the best; of equal values the first is the best;
    where no value was one, nothing is put back.

    Args:
        metric: the name of the metric.
        mode: "max" where a larger value is better, as of an accuracy; "min" for a loss.
        at: where to read the metric; None: where a feature before this one sets it.
        name: what the part and the copies are called; a second one needs another name.
        **things: what to copy: models, optimizers, or anything else with a state.

    Raises:
        TypeError: `metric` is not a string, or a thing has no state.
        ValueError: `mode` is not known, or there is nothing to keep.
        LookupError: in the run, the metric is not set.

    >>> import torch
    >>> from torch import nn
    >>> from fengine import outputs
    >>> from fengine.metrics import mean
    >>> model = nn.Linear(1, 1)
    >>> def step(batch):
    ...     nn.init.constant_(model.weight, batch)
    ...     return batch
    >>> best = keep_best("loss", mode="min", model=model)
    >>> loop = Loop(outputs(step)) | mean("loss", over=Events.ITERATION_COMPLETED) | best
    >>> final = loop.run([3.0, 1.0, 2.0])
    >>> final.part(best.part), model.weight.item()
    (BestValue(value=1.0, epoch=1, iteration=2), 1.0)
    """
    require_metric("keep_best", metric)
    require_mode(mode)
    if not things:
        raise ValueError(
            "keep_best has nothing to keep; name it: "
            f"keep_best({metric!r}, mode={mode!r}, model=model)"
        )
    return KeepBest(metric, mode, at, name, named(things))
