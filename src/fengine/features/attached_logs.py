"""Attached logs: what an Engine calls to have its log written.

An Engine tells nobody that an exception or a pause has ended its run. So the log of such a run ends
when the next one begins.
"""

from __future__ import annotations

from typing import final

from fengine import Status
from fengine.features.open_logs import OpenLogs, Told
from fengine.training.attaching import AnyEngine
from fengine.writers import Place


@final
class Attached:
    """Write the log of the runs of an Engine.

    >>> Attached(Told((), {}, {}, "warn")).end(None)
    """

    def __init__(self, told: Told) -> None:
        self._told = told
        self._open: OpenLogs | None = None

    def begin(self, engine: AnyEngine) -> None:
        """Open the log of a run that begins; that of one that goes on opens as it writes first."""
        goes_on = engine.state.iteration > 0
        if self._open is not None:  # an exception or a pause has ended the run before
            self._open.end(Status.INTERRUPTED if goes_on else Status.FAILED, self._open.begun)
            self._open = None
        if not goes_on:
            self._open = OpenLogs(self._told, _place_in(engine, "started"))
            self._open.begin()

    def write(self, engine: AnyEngine) -> None:
        """Write the numbers."""
        place = _place_in(engine, getattr(engine, "last_event_name", ""))
        if self._open is None:
            self._open = OpenLogs(self._told, place)
        self._open.write(place, engine.state.metrics, engine.state)

    def end(self, engine: AnyEngine) -> None:
        """End the log."""
        if self._open is not None:
            self._open.end(Status.COMPLETED, _place_in(engine, "completed"))
            self._open = None


def _place_in(engine: AnyEngine, event: object) -> Place:
    state = engine.state
    return Place(state.epoch, state.iteration, str(getattr(event, "value", event)).lower())
