"""Early stopping: end the run when a metric no longer improves.

What it remembers is a `Patience`, a part of the state.
"""

from __future__ import annotations

import math
from typing import Literal, TypeAlias, TypeVar, final, get_args

import attrs
from typing_extensions import override

from fengine import Loop, Part, State, When
from fengine.core.describe import made_by, typed
from fengine.features.reading import value_of, where_set

B = TypeVar("B")
O = TypeVar("O")  # noqa: E741  # the output, beside the batch and the user
U = TypeVar("U")
Mode: TypeAlias = Literal["max", "min"]


@final
@attrs.frozen
class Patience:
    """Remember the best value so far, and how long ago it was.

    Args:
        best: the value of the last improvement; not a number before the first one.
        since: how many values have come after it; 0 where the last one is the best.

    >>> Patience(best=0.5)
    Patience(best=0.5, since=0)
    """

    best: float = math.nan
    since: int = 0


@final
@attrs.frozen(repr=False)
class EarlyStopping:
    """Stop early; made by `early_stopping`.

    Attributes:
        part: where the `Patience` is kept.

    >>> early_stopping("loss", mode="min", patience=2).part.initial
    Patience(best=nan, since=0)
    """

    metric: str
    mode: Mode
    patience: int
    min_delta: float
    at: When | None
    name: str
    part: Part[Patience] = attrs.field(init=False)

    @part.default
    def _part(self) -> Part[Patience]:
        return Part(self.name, Patience())

    @override
    def __repr__(self) -> str:
        return made_by(early_stopping, self)

    def __call__(self, loop: Loop[B, O, U], /) -> Loop[B, O, U]:
        """Return the loop with what stops it.

        Raises:
            ValueError: no feature before this one sets the metric, or the name is taken.
        """
        at = where_set(loop, self.metric, self.at, self)
        return loop.with_part(self.part).on(at, _Stopping(self))

    def is_better(self, value: float, best: float) -> bool:
        """Tell whether a value improves on the best; what is not a number never does."""
        return improves(value, best, self.mode, self.min_delta)


@final
@attrs.frozen(repr=False)
class _Stopping:
    """Take a value into account, and ask for the end of the run when it is time."""

    feature: EarlyStopping

    @override
    def __repr__(self) -> str:
        return repr(self.feature)

    def __call__(self, state: State[B, O, U], payload: object = None) -> State[B, O, U]:
        feature = self.feature
        value = value_of(state, feature.metric, feature)
        before = state.part(feature.part)
        if feature.is_better(value, before.best):
            return state.with_part(feature.part, Patience(value))
        after = Patience(before.best, before.since + 1)
        state = state.with_part(feature.part, after)
        return state.terminate() if after.since >= feature.patience else state


def early_stopping(
    metric: str,
    *,
    mode: Mode,
    patience: int,
    min_delta: float = 0.0,
    at: When | None = None,
    name: str = "early_stopping",
) -> EarlyStopping:
    """Make a feature that ends the run when a metric no longer improves.

    Laws: a value that is not a number is never the best; the run ends at the `patience`-th value in
    a row that does not improve on the best by more than `min_delta`.

    Args:
        metric: the name of the metric.
        mode: "max" where a larger value is better, as of an accuracy; "min" for a loss.
        patience: number of values to wait for a better one, from 1.
        min_delta: by how much a value must improve on the best to be better, from 0.
        at: where to read the metric; None: where a feature before this one sets it.
        name: what the part is called.

    Raises:
        TypeError: `metric` is not a string, or `patience` not an int.
        ValueError: `mode` is not known, or `patience` or `min_delta` is too small.
        LookupError: in the run, the metric is not set.

    >>> from fengine import Events, outputs
    >>> from fengine.metrics import mean
    >>> stop = early_stopping("loss", mode="min", patience=2)
    >>> loop = Loop(outputs(float)) | mean("loss", over=Events.ITERATION_COMPLETED) | stop
    >>> final = loop.run([5, 3, 4, 3, 1])
    >>> final.iteration, final.part(stop.part)
    (4, Patience(best=3.0, since=2))
    """
    require_metric("early_stopping", metric)
    require_mode(mode)
    require_patience(patience, min_delta)
    return EarlyStopping(metric, mode, patience, min_delta, at, name)


def improves(value: float, best: float, mode: Mode, min_delta: float = 0.0) -> bool:
    """Tell whether a value improves on the best so far; what is not a number never does.

    >>> improves(0.5, math.nan, "min"), improves(0.5, 0.5, "min"), improves(math.nan, 0.5, "min")
    (True, False, False)
    """
    if math.isnan(best):
        return not math.isnan(value)
    gain = value - best if mode == "max" else best - value
    return gain > min_delta


def require_metric(feature: str, metric: object) -> None:
    """Refuse what is not the name of a metric.

    Raises:
        TypeError: it is no string.
    """
    if not isinstance(metric, str):
        raise TypeError(f"{feature} takes the name of a metric, not {typed(metric)}")


def require_mode(mode: object) -> None:
    """Refuse what says neither that larger nor that smaller values are better.

    Raises:
        ValueError: it is refused.
    """
    if mode not in get_args(Mode):
        raise ValueError(
            f'mode={mode!r} is not "max", for metrics of which more is better, or "min", for losses'
        )


def require_patience(patience: object, min_delta: float) -> None:
    """Refuse what says neither how long to wait nor for how much.

    Raises:
        TypeError: `patience` is not an int.
        ValueError: `patience` or `min_delta` is too small.
    """
    if type(patience) is not int:
        raise TypeError(f"patience={typed(patience)} is not an int")
    if patience < 1:
        raise ValueError(f"patience={patience} is too small; it is a number of values, from 1")
    if not min_delta >= 0:
        raise ValueError(f"min_delta={min_delta!r} is not a number from 0")
