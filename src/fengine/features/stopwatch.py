"""The stopwatch: where the time of a run goes, by the handler, the step and the data.

It knows no loop and no engine: it is told when what begins. The time of a handler within something
else, such as the step, is that of the handler alone.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar, final

import attrs
from typing_extensions import override

Given = TypeVar("Given")

DATA: Final = "waiting for data"
STEP: Final = "the step"


@final
@attrs.frozen
class Timing:
    """Say how long something took in a run.

    Args:
        event: the event of a handler; "" for the step and the data.
        name: the handler, as `print(loop)` names it; or "the step", or "waiting for data".
        calls: how often.
        seconds: how long in all.

    >>> Timing("", "the step", 4, 2.0).mean
    0.5
    """

    event: str
    name: str
    calls: int
    seconds: float

    @property
    def mean(self) -> float:
        """How many seconds a call took."""
        return self.seconds / self.calls


@final
@attrs.frozen
class Profile:
    """Say where the time of a run went; printed, it is a table.

    Args:
        seconds: how long the run took.
        timings: what took how long, the longest first.
        traces: the files that torch's profiler has written.

    >>> print(Profile(4.0, (Timing("", "the step", 4, 2.0),)))
    4.000 seconds
      share    seconds    calls    mean ms
       50 %      2.000        4    500.000  the step
    """

    seconds: float
    timings: tuple[Timing, ...]
    traces: tuple[Path, ...] = ()

    @override
    def __str__(self) -> str:
        lines = [f"{self.seconds:.3f} seconds", "  share    seconds    calls    mean ms"]
        for one in self.timings:
            share = f"{one.seconds / self.seconds:5.0%}".replace("%", " %") if self.seconds else "-"
            name = f"{one.event}: {one.name}" if one.event else one.name
            lines.append(
                f"{share:>7} {one.seconds:10.3f} {one.calls:8} {1000 * one.mean:10.3f}  {name}"
            )
        return "\n".join([*lines, *(f"trace: {path}" for path in self.traces)])


@final
@attrs.define(eq=False)
class Stopwatch:
    """Take the times of one run.

    Args:
        clock: gives the time in seconds.
        began: when the run began.
        within: how long handlers took so far.
        mark: when what is under way began, and how long handlers had taken then.
        totals: the calls and the seconds of each event and name.
    """

    clock: Callable[[], float]
    began: float = attrs.field(init=False)
    within: float = 0.0
    mark: tuple[float, float] | None = None
    totals: dict[tuple[str, str], tuple[int, float]] = attrs.field(factory=dict)

    @began.default
    def _now(self) -> float:
        return self.clock()

    def call(self, key: tuple[str, str], handler: Callable[..., Given], *given: Any) -> Given:
        """Call a handler, and count what it takes, whether it returns or raises."""
        before, began = self.within, self.clock()
        try:
            return handler(*given)
        finally:
            took = self.clock() - began
            self.within = before + took  # those within it are counted already
            self._add(key, took)

    def begin(self) -> None:
        """Begin the data, or the step."""
        self.mark = self.clock(), self.within

    def end(self, name: str) -> None:
        """End what has begun, if anything has."""
        if self.mark is not None:
            began, within = self.mark
            self._add(("", name), self.clock() - began - (self.within - within))
        self.mark = None

    def profile(self, traces: tuple[Path, ...] = ()) -> Profile:
        """Return what took how long so far."""
        found = [Timing(*key, *total) for key, total in self.totals.items()]
        found.sort(key=lambda one: -one.seconds)
        return Profile(self.clock() - self.began, tuple(found), traces)

    def _add(self, key: tuple[str, str], seconds: float) -> None:
        calls, before = self.totals.get(key, (0, 0.0))
        self.totals[key] = calls + 1, before + seconds
