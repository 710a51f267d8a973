"""A registration: one handler, the event that it listens to, and when it runs there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeAlias, final

import attrs
from typing_extensions import override

from fengine.core.events import (
    AnyEvent,
    Event,
    EventSet,
    FilteredPayloadEvent,
    PayloadEvent,
    take_up,
)
from fengine.core.filters import Filter
from fengine.core.handlers import AnyHandler
from fengine.core.registry import EventRegistry, not_an_event
from fengine.core.showing import shown
from fengine.core.state import Batch, Output, State, User
from fengine.core.taking import require_handler

# Handlers named by `runs_before` and `runs_after`.
Others: TypeAlias = AnyHandler[Batch, Output, User] | tuple[AnyHandler[Batch, Output, User], ...]


@final
@attrs.frozen(repr=False)
class Registration(Generic[Batch, Output, User]):
    """Hold one handler with the event that it listens to.

    Args:
        event: the event.
        filter: at which firings of it; None: at all.
        handler: the handler.
        runs_before: handlers of the same event that run after this one.
        runs_after: handlers of the same event that run before this one.

    >>> from fengine import Events, State
    >>> Registration(Events.STARTED, None, State.terminate).event
    Events.STARTED
    """

    event: AnyEvent
    filter: Filter | None
    handler: AnyHandler[Batch, Output, User]
    runs_before: tuple[AnyHandler[Batch, Output, User], ...] = ()
    runs_after: tuple[AnyHandler[Batch, Output, User], ...] = ()

    def __setstate__(self, kept: Any) -> None:
        """Take up what `copy` and `pickle` kept, of version 0.1 too."""
        take_up(self, kept)

    @override
    def __repr__(self) -> str:
        return shown(self)

    def is_alike(self, other: Registration[Any, Any, Any]) -> bool:
        """Tell whether another one calls the same handler at the same firings."""
        return (self.event, self.filter, self.handler) == (other.event, other.filter, other.handler)


def registrations(
    registry: EventRegistry,
    events: object,
    handler: Callable[..., State[Batch, Output, User]],
    runs_before: Others[Batch, Output, User] = (),
    runs_after: Others[Batch, Output, User] = (),
) -> list[Registration[Batch, Output, User]]:
    """Make the registrations of a handler, one for each single event.

    Raises:
        TypeError: there is no event, or a handler does not take what it is called with.
        ValueError: an event is not registered.
    """
    if not isinstance(events, Event | EventSet | PayloadEvent | FilteredPayloadEvent):
        raise TypeError(not_an_event(events))
    made = []
    for event, filter in members(events):
        registry.require(event)
        given = ("state", "payload") if isinstance(event, PayloadEvent) else ("state",)
        require_handler(handler, f"a handler of {event!r}", *given)
        ahead, behind = _others("runs_before", runs_before), _others("runs_after", runs_after)
        made.append(Registration(event, filter, handler, ahead, behind))
    return made


def require_known(registry: EventRegistry, events: object) -> None:
    """Refuse what is no event, or one that is not registered.

    Raises:
        TypeError: it is no event.
        ValueError: it is not registered.
    """
    if not isinstance(events, Event | EventSet | PayloadEvent | FilteredPayloadEvent):
        raise TypeError(not_an_event(events))
    for event, _ in members(events):
        registry.require(event)


def members(
    event: AnyEvent | EventSet | FilteredPayloadEvent[Any],
) -> Iterator[tuple[AnyEvent, Filter | None]]:
    """Give the single events of anything a handler can be registered for, with their filters."""
    if isinstance(event, EventSet):
        yield from event
    elif isinstance(event, FilteredPayloadEvent):
        yield event.event, event.filter
    else:
        yield event, None


def _others(
    wish: str, others: Others[Batch, Output, User]
) -> tuple[AnyHandler[Batch, Output, User], ...]:
    # A handler may be a named tuple that can be called.
    named = others if isinstance(others, tuple) and not callable(others) else (others,)
    for handler in named:
        if not callable(handler):
            raise TypeError(f"{wish} names handlers; {handler!r} is not callable")
    return named
