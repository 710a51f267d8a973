"""Early stopping: end the run when a score no longer improves.

The handler is pure. What it remembers is a `Patience`, a frozen part of the user's record, which
`focus` finds there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Generic, SupportsFloat, TypeVar, final

import attrs

from fengine import State
from fengine.core.describe import describe, require_callable

Batch = TypeVar("Batch")
Output = TypeVar("Output")


@final
@attrs.frozen
class Patience:
    """Remember the best score so far, and how long ago it was.

    Args:
        best: the score of the last improvement.
        since: how many scores have come after it; 0 where the last one is the best.

    >>> Patience()
    Patience(best=-inf, since=0)
    """

    best: float = -math.inf
    since: int = 0


@final
@attrs.frozen
class EarlyStopping(Generic[Batch, Output]):
    """Take a score, and ask for the end of the run when it is time; made by `early_stopping`.

    >>> stop = early_stopping(lambda state: state.metrics["accuracy"], patience=1)
    >>> stop(State(user=Patience(best=0.9)).with_metric("accuracy", 0.8)).requests.terminate
    <Terminate.ANNOUNCED: 'announced'>
    """

    score: Callable[[State[Batch, Output, Patience]], SupportsFloat]
    patience: int
    min_delta: float

    def __call__(self, state: State[Batch, Output, Patience]) -> State[Batch, Output, Patience]:
        """Give the state with this score taken into account."""
        score, before = self._number(state), state.user
        if score > before.best + self.min_delta:  # never true of not-a-number
            return state.evolve(user=Patience(best=score))
        after = Patience(before.best, before.since + 1)
        state = state.evolve(user=after)
        return state.terminate() if after.since >= self.patience else state

    def _number(self, state: State[Batch, Output, Patience]) -> float:
        score: object = self.score(state)
        if not isinstance(score, SupportsFloat):
            raise TypeError(
                f"score {describe(self.score)} returned {score!r} of type {type(score).__name__}; "
                "a score is a number, and a larger one is better"
            )
        return float(score)


def early_stopping(
    score: Callable[[State[Batch, Output, Patience]], SupportsFloat],
    *,
    patience: int,
    min_delta: float = 0.0,
) -> EarlyStopping[Batch, Output]:
    """Make a handler that ends the run when a score no longer improves.

    Laws: a score that is not a number is never the best; the run ends at the `patience`-th score in
    a row that does not exceed the best by more than `min_delta`.

    Args:
        score: makes a number of the state; larger is better, so give a loss with a minus.
        patience: number of scores to wait for a better one, from 1.
        min_delta: by how much a score must exceed the best to be better, from 0.

    Raises:
        TypeError: `score` is no function of one state, or in the run gives no number; or `patience`
            is not an int.
        ValueError: `patience` or `min_delta` is too small.

    >>> from fengine import Events, Loop, focus, outputs
    >>> @attrs.frozen
    ... class Notes:
    ...     stopping: Patience = Patience()
    >>> stop = early_stopping(lambda state: -state.output, patience=2)
    >>> loop = Loop(outputs(abs)).on(Events.ITERATION_COMPLETED, focus("stopping", stop))
    >>> final = loop.run([5, 3, 4, 3, 1], user=Notes())
    >>> final.iteration, final.user
    (4, Notes(stopping=Patience(best=-3.0, since=2)))
    """
    require_callable(score, "a score", "state")
    if type(patience) is not int:
        raise TypeError(f"patience={patience!r} of type {type(patience).__name__} is not an int")
    if patience < 1:
        raise ValueError(f"patience={patience} is too small; it is a number of scores, from 1")
    if not min_delta >= 0:
        raise ValueError(f"min_delta={min_delta!r} is not a number from 0")
    return EarlyStopping(score, patience, min_delta)
