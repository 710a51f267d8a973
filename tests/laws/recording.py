"""Record what generated programs do, for the laws."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TypeAlias

import attrs

from fengine import Moment
from fengine.testing.batches import Batch
from fengine.testing.program import Output, Played, Seen

Moments: TypeAlias = tuple[Moment[Batch, Output, Seen], ...]

# No generated program is this long: three epochs of four batches have about sixty events.
TOO_LONG = 2000


@attrs.frozen
class Recording:
    """Hold the moments of a run, and the exception that left it."""

    moments: Moments
    error: Exception | None

    @property
    def trace(self) -> list[str]:
        """The names of the events."""
        return [moment.event.name for moment in self.moments]

    @property
    def final(self) -> Played:
        """The state of the last moment."""
        return self.moments[-1].state

    def fails_like(self, other: Recording) -> bool:
        """Tell whether both ended well, or with equal exceptions."""
        return _described(self.error) == _described(other.error)


def _described(error: Exception | None) -> tuple[object, ...]:
    return (type(error), *(() if error is None else error.args))


def record(moments: Iterator[Moment[Batch, Output, Seen]]) -> Recording:
    """Run to the end, and keep everything."""
    taken: list[Moment[Batch, Output, Seen]] = []
    try:
        taken.extend(itertools.islice(moments, TOO_LONG))
    except Exception as error:
        return Recording(tuple(taken), error)
    assert len(taken) < TOO_LONG, "the run does not end"
    return Recording(tuple(taken), None)
