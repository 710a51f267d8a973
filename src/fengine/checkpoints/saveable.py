"""Saveable: at which events a run can be saved, and what of its state is left out."""

from __future__ import annotations

from typing import TypeVar

import attrs

from fengine import State, When
from fengine.checkpoints.tree import NotPlain, split
from fengine.core.events import Event, EventSet, FilteredPayloadEvent, PayloadEvent
from fengine.core.missing import MISSING
from fengine.core.phases import PHASES, has_step_to_come, rank_of
from fengine.core.registration import members

B = TypeVar("B")
O = TypeVar("O")  # noqa: E741  # the output, beside the batch and the user
U = TypeVar("U")


def with_plain_output(state: State[B, O, U]) -> State[B, O, U]:
    """Return the state without an output that is no plain data: nobody could read it again."""
    if state.has_output:
        try:
            split({"output": state.output})
        except NotPlain:
            return attrs.evolve(state, output=MISSING)
    return state


def require_saveable(every: When) -> None:
    """Refuse an event at which a run cannot be saved.

    Raises:
        TypeError: it is no event.
        ValueError: the step is under way there, or no state stands there.
    """
    if not isinstance(every, Event | EventSet | PayloadEvent | FilteredPayloadEvent):
        raise TypeError(f"every={every!r} is no event, such as Events.EPOCH_COMPLETED")
    for event, _ in members(every):
        phase = PHASES.get(event.name)
        if phase is not None and phase.rank is None:
            raise ValueError(
                f"every={event!r} fires as a run is left, and no run goes on from there; leave it "
                "out, since the end of a run and a pause are saved anyway"
            )
        if phase is None or has_step_to_come(rank_of(event.name)):
            raise ValueError(
                f"every={event!r} fires before the step is done with its batch, which a run that "
                "goes on would fetch again; save at ITERATION_COMPLETED or EPOCH_COMPLETED"
            )
