"""Preemption: a run pauses soon where the process has been asked to end.

Who asks is outside: a flag that a signal sets, for instance. The flag is read after the handlers
of each event. Where no batch is due then, the run pauses, as `state.interrupt()` would have it.
Without such a flag nothing is read.

A handler that runs another loop hands the flag on, with `preemption_of`. Where that loop has
paused, the handler raises `Preempted`: it has not run, and the run pauses before it. A run pauses
too where the workers of its data are lost while the process is asked to end: they have got the same
signal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, final

import attrs

from fengine.core.events import AnyEvent, rank_at
from fengine.core.outcome import Status
from fengine.core.phases import PHASES, STOPPED, has_step_to_come
from fengine.core.requests import Interrupt
from fengine.core.state import State
from fengine.run.box import RUNNING, Box, Raised
from fengine.run.ending import asking
from fengine.run.failures import is_of_lost_workers
from fengine.run.ports import Preempting


@final
class Preempted(Exception):
    """Leave a handler that has not run, since the process is asked to end."""


@final
@attrs.define(eq=False)
class AgreedPreemption(Preempting):
    """Tell whether the process of any rank is asked to end, once all have agreed on it.

    Args:
        own: tells it of this process; None where nobody does.
        asked: as agreed.
    """

    own: Preempting | None
    asked: bool = False

    def is_own(self) -> bool:
        """Tell whether this process is asked to end, or any."""
        return self.asked or (self.own is not None and self.own.asked)


# The events of the loop at which no batch is due, but for those after the last epoch.
PAUSES: Final = frozenset(
    name
    for name, phase in PHASES.items()
    if phase.rank is not None and phase.rank < STOPPED and not has_step_to_come(phase.rank)
)


def watching(
    fire: Callable[[AnyEvent], None], box: Box[Any, Any, Any], preemption: Preempting
) -> Callable[[AnyEvent], None]:
    """Return what fires the events of a run, and asks for a pause where the process is to end."""

    def fire_and_look(event: AnyEvent) -> None:
        fire(event)
        if preemption.asked and event.name in PAUSES:
            box.ask(interrupt=Interrupt.ANNOUNCED)
            box.asked = asking("whoever ends the process", event, box)

    return fire_and_look


def preemption_of(state: State[Any, Any, Any]) -> Preempting | None:
    """Return the flag of the run that a handler stands in, for a run within the handler.

    None where the run has no flag, or cannot pause: the run within then goes on to its end.
    """
    box = RUNNING.get(state._notes.run)
    return box.preemption if box is not None and _can_pause(box) else None


def is_preempted(failure: BaseException, box: Box[Any, Any, Any]) -> bool:
    """Tell whether a run is to pause instead of failing."""
    if box.preemption is None or not box.preemption.asked or not _can_pause(box):
        return False
    if isinstance(failure, Raised):
        return isinstance(failure.error, Preempted)
    return box._handled is None and is_of_lost_workers(failure)


def _can_pause(box: Box[Any, Any, Any]) -> bool:
    """Tell whether a run can pause before a handler of its event, or before a batch is fetched."""
    return box.status is Status.RUNNING and not has_step_to_come(rank_at(box.event))
