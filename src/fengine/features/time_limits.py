"""The time limit: it pauses a run that has taken too long, so that it can go on later.

What has been counted is not part of the state, since it means nothing to a run that goes on: that
one counts anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar, final

import attrs
from typing_extensions import override

from fengine import Events, Loop, State
from fengine.core.describe import made_by, require_callable
from fengine.core.taking import Looking
from fengine.features.by_run import ByRun
from fengine.features.gradients import require_positive

B = TypeVar("B")
O = TypeVar("O")  # noqa: E741  # the output, beside the batch and the user
U = TypeVar("U")


@final
@attrs.frozen(repr=False)
class TimeLimit:
    """Pause a run after some time; made by `time_limit`.

    >>> time_limit(60).seconds
    60
    """

    seconds: float
    clock: Callable[[], float]
    _begun: ByRun[float] = attrs.field(factory=ByRun, init=False, eq=False)

    @override
    def __repr__(self) -> str:
        return made_by(time_limit, self)

    def __call__(self, loop: Loop[B, O, U], /) -> Loop[B, O, U]:
        """Return the loop with its limit."""
        # A run that goes on begins at any of these.
        first = (
            Events.STARTED
            | Events.EPOCH_STARTED
            | Events.GET_BATCH_STARTED
            | Events.ITERATION_STARTED
        )
        return loop.on(first, _Counting(self)).on(Events.ITERATION_COMPLETED, _Pausing(self))

    def began(self, state: State[B, O, U]) -> float:
        """Return when the run of a state began: where it is asked first."""
        return self._begun.of(state, self.clock)


@final
@attrs.frozen(repr=False)
class _Counting(Looking):
    """Begin to count."""

    feature: TimeLimit

    is_tried = True

    @override
    def __repr__(self) -> str:
        return f"{self.feature!r}, counting"

    def __call__(self, state: State[B, O, U]) -> State[B, O, U]:
        self.feature.began(state)
        return state


@final
@attrs.frozen(repr=False)
class _Pausing:
    """Ask for a pause where the time is over."""

    feature: TimeLimit

    @override
    def __repr__(self) -> str:
        return repr(self.feature)

    def __call__(self, state: State[B, O, U]) -> State[B, O, U]:
        began = self.feature.began(state)
        over = self.feature.clock() - began >= self.feature.seconds
        return state.interrupt() if over else state


def time_limit(seconds: float, *, clock: Callable[[], float] = time.monotonic) -> TimeLimit:
    """Make a feature that pauses a run which has taken so many seconds.

    It counts from the beginning of this `run` or `resume`. Once the time is over, it asks for a
    pause at the end of the iteration; so a run may take longer, by that iteration. The state that
    `run` returns is INTERRUPTED: take a snapshot of it, and go on with `resume`, which has all of
    the time again.

    Law: runs that go on until the end are together the run without a limit, but for the pauses.

    Args:
        seconds: how long a run may take, above 0.
        clock: gives the time in seconds, and never goes back; see `fengine.testing.FakeClock`.

    Raises:
        TypeError: `seconds` is not a number, or `clock` takes arguments.
        ValueError: `seconds` is not above 0.

    >>> from fengine import outputs
    >>> from fengine.testing import FakeClock
    >>> clock = FakeClock()
    >>> loop = Loop(outputs(clock.advance)) | time_limit(5, clock=clock)
    >>> paused = loop.run([2, 2, 2, 2])
    >>> paused.iteration, paused.status.value
    (3, 'interrupted')
    >>> loop.resume(paused, [2, 2, 2, 2]).status.value
    'completed'
    """
    require_positive("seconds", seconds)
    require_callable(clock, "clock")
    return TimeLimit(seconds, clock)
