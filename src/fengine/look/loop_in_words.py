"""A loop in words: its step, and at each event the handlers in the order in which they run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fengine.core.describe import describe, is_generator_function
from fengine.core.events import AnyEvent, Events
from fengine.core.registration import Registration
from fengine.core.registry import EventRegistry
from fengine.core.state import Batch, Output, User
from fengine.core.steps import Stages, remarks_on
from fengine.core.table import Table
from fengine.run.stepping import Step


def loop_in_words(
    step: Step[Batch, Output, User] | None,
    registry: EventRegistry,
    table: Table[Batch, Output, User],
) -> str:
    """Return the lines of a loop; events that nobody listens to are left out."""
    listening = table.in_order()
    lines = ["Loop without a step" if step is None else f"Loop of {describe(step)}"]
    lines.extend(f"  {remark}" for remark in remarks_on(step))
    for event in in_order(registry, step):
        registrations = listening.get(event.name, ())
        if registrations:
            lines.append(f"  {event!r}")
        lines.extend(
            f"    {place}. {registration_in_words(one)}"
            for place, one in enumerate(registrations, start=1)
        )
    return "\n".join(lines)


def registration_in_words(registration: Registration[Any, Any, Any]) -> str:
    """Name a handler with the filter on it."""
    handler = describe(registration.handler)
    return handler if registration.filter is None else f"{handler}, {registration.filter}"


def in_order(registry: EventRegistry, step: Step[Batch, Output, User] | None) -> Iterator[AnyEvent]:
    """Return the events of a loop in the order of a run: those of the step within the iteration."""
    own = [event for event in registry.events if event not in Events.all()]
    emitted = own if is_generator_function(step) else []
    if isinstance(step, Stages):
        emitted = list(step.events)
    for event in Events.all():
        yield event
        if event is Events.ITERATION_STARTED:
            yield from emitted
    yield from (event for event in own if event not in emitted)
