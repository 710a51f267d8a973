"""Open logs: what one run has open to write its log, and what becomes of a writer that fails.

All writers are called, whatever one of them raises. What a writer raises is told once in a run, by
a warning, or raised after all of them were called; of several the first is raised, with a note on
each other. It never takes the place of an exception that leaves the run: that one gets a note.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Literal, Never, TypeAlias, cast, final

import attrs

from fengine import Status
from fengine.core.describe import describe
from fengine.core.metrics import metric
from fengine.writers import OpensWriter, Place, Scalar, Writer
from fengine.writers.places import NAMES
from fengine.writers.writing import tell

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OnError: TypeAlias = Literal["warn", "raise"]
MakesFigure: TypeAlias = "Callable[[Never], Figure]"


@final
@attrs.frozen
class Told:
    """Hold what `log_to` was told to write, and where."""

    logs: tuple[OpensWriter, ...]
    parameters: Mapping[str, Scalar]
    figures: Mapping[str, MakesFigure]
    on_error: OnError


@final
@attrs.define(eq=False)
class OpenLogs:
    """Hold the writers of one run; each opens with what it is given first.

    In a process that was forked meanwhile nothing is written: the log is its parent's.

    Args:
        told: what to write, and where.
        begun: the place where the run had something to write first.
    """

    told: Told
    begun: Place
    process: int = attrs.field(factory=os.getpid, init=False)
    writers: dict[int, Writer] = attrs.field(factory=dict, init=False)
    warned: set[object] = attrs.field(factory=set, init=False)

    def begin(self) -> None:
        """Open all writers."""
        self._tell(self._failures(lambda writer: None), self.begun, None)

    def write(
        self,
        place: Place,
        metrics: Mapping[str, object],
        source: object,
        error: BaseException | None = None,
    ) -> None:
        """Write the numbers of a place, and the figures.

        Args:
            place: the place.
            metrics: the numbers by name; what is no number is left out.
            source: what figures are made of.
            error: the exception that the run is about to end with.
        """
        if os.getpid() != self.process:
            return
        failures: list[Failed] = []
        try:
            numbers = _numbers(metrics)
        except ValueError as clash:
            failures.append((None, clash))
        else:
            failures += self._failures(lambda writer: writer.numbers(place, numbers))
        for name, make in self.told.figures.items():
            failures += self._drawn(place, name, make, source)
        self._tell(failures, place, error)

    def end(self, status: Status, place: Place, error: BaseException | None = None) -> None:
        """End all writers."""
        if os.getpid() != self.process:
            return
        failures = self._failures(lambda writer: writer.end(status), opened=True)
        self.writers.clear()
        self._tell(failures, place, error)

    def _failures(self, act: Callable[[Writer], object], *, opened: bool = False) -> list[Failed]:
        """Call all writers, or those that are open; return which of them have failed."""
        failed: list[Failed] = []
        for number, log in enumerate(self.told.logs):
            try:
                if number not in self.writers and not opened:
                    self.writers[number] = log(self.begun)
                    if self.told.parameters:
                        self.writers[number].parameters(self.told.parameters)
                if number in self.writers:
                    act(self.writers[number])
            except Exception as error:
                failed.append((log, error))
        return failed

    def _drawn(self, place: Place, name: str, make: MakesFigure, source: object) -> list[Failed]:
        try:
            figure = cast("Callable[[object], Figure]", make)(source)
        except Exception as error:
            return [(make, error)]
        try:
            return self._failures(lambda writer: writer.figure(place, name, figure))
        finally:
            pyplot = sys.modules.get("matplotlib.pyplot")
            if pyplot is not None:  # which would keep it for ever
                pyplot.close(figure)

    def _tell(self, failed: list[Failed], place: Place, error: BaseException | None) -> None:
        where = f"at {place.event}, epoch {place.epoch}, iteration {place.iteration}"
        raised: Exception | None = None
        for culprit, failure in failed:
            who = "log_to" if culprit is None else describe(culprit)
            if error is not None:
                error.add_note(f"{who} could not write {where}: {_in_words(failure)}")
            elif self.told.on_error == "raise":
                failure.add_note(f"in {who}, {where}")
                error = raised = failure
            elif id(culprit) not in self.warned:
                self.warned.add(id(culprit))
                tell(
                    f"{who} could not write {where}: {_in_words(failure)}. The run goes on, with "
                    "what it can write, and this is said once; on_error='raise' ends the run"
                )
        if raised is not None:
            raise raised


Failed: TypeAlias = tuple[object, Exception]


def _in_words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _numbers(metrics: Mapping[str, object]) -> dict[str, float]:
    """Return what are numbers, by name, sorted.

    Raises:
        ValueError: a name is that of what says the place.
    """
    require_names(metrics)
    return dict(sorted(_found(metrics)))


def _found(metrics: Mapping[str, object]) -> Iterator[tuple[str, float]]:
    for name, value in metrics.items():
        try:
            yield name, metric(name, value)
        except TypeError:
            continue


def require_names(metrics: Mapping[str, object]) -> None:
    """Refuse metrics with the names of what says the place.

    Raises:
        ValueError: there is one.
    """
    for name in NAMES:
        if name in metrics:
            raise ValueError(
                f"there is a metric {name!r}, and a log says by that name where a number was "
                "written; give the metric another name"
            )
