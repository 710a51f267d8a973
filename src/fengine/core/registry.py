"""The registry: which events one loop knows, as a value that the loop owns.

No registry is global: what one loop registers, no other sees. Within one registry a name stands
for one event, so that a name clash is an error at registration and never a silent mix-up.
"""

from __future__ import annotations

from typing import Any, Final, final

import attrs
from immutables import Map
from typing_extensions import override

from fengine.core.events import AnyEvent, Event, Events, PayloadEvent, take_up


@final
@attrs.frozen(repr=False)
class EventRegistry:
    """Hold the events that handlers of one loop may be registered for.

    Law: `register` returns a new registry and changes nothing else.

    >>> chunk = Event("chunk_started", attr="chunk")
    >>> registry = BUILT_IN_EVENTS.register(chunk)
    >>> chunk in registry, chunk in BUILT_IN_EVENTS
    (True, False)
    >>> registry.event_to_attr[chunk]
    'chunk'
    """

    events: tuple[AnyEvent, ...] = attrs.field(eq=frozenset)

    def __setstate__(self, kept: Any) -> None:
        """Take up what `copy` and `pickle` kept, of version 0.1 too."""
        take_up(self, kept)

    @override
    def __repr__(self) -> str:
        added = [event for event in self.events if event not in Events.all()]
        if len(added) + len(Events.all()) != len(self.events):
            return f"EventRegistry({self.events!r})"
        more = f".register({', '.join(map(repr, added))})" if added else ""
        return f"BUILT_IN_EVENTS{more}"

    def __contains__(self, event: object) -> bool:
        """Tell whether the very event is registered."""
        return event in self.events

    @property
    def event_to_attr(self) -> Map[AnyEvent, str]:
        """Map each event that has a counter attribute to the name of it."""
        return Map({event: event.attr for event in self.events if event.attr is not None})

    def register(self, *events: AnyEvent) -> EventRegistry:
        """Give a registry that knows these events too.

        Raises:
            TypeError: something is not an event.
            ValueError: a name already stands for a different event.
        """
        known = {event.name: event for event in self.events}
        for event in events:
            if not isinstance(event, Event | PayloadEvent):
                raise TypeError(not_an_event(event))
            met = known.setdefault(event.name, event)
            if met != event:
                raise ValueError(
                    f"cannot register {event!r}: the name {event.name!r} already stands for "
                    f"{met!r}; give the new event another name"
                )
        return EventRegistry(tuple(known.values()))

    def require(self, event: AnyEvent) -> None:
        """Refuse an event that is not registered.

        Raises:
            ValueError: the event is unknown here.
        """
        if event not in self.events:
            raise ValueError(
                f"{event!r} is not registered with this loop, so it would never fire; known are "
                f"{', '.join(map(repr, self.events))}. Make it known with "
                f"loop.register({event.name}), and have a stage of the step emit it: "
                f"stages(...).emit({event.name})"
            )


def not_an_event(value: object) -> str:
    """Say why a value cannot be used as an event, and what to use."""
    hint = "use a constant of fengine.Events, or make one: Event('name')"
    parts = iter(value) if hasattr(value, "__iter__") and hasattr(value, "__len__") else iter(())
    if _is_of_an_engine(value) or _is_of_an_engine(next(parts, None)):
        hint = "that is an event of an Engine; a Loop takes those of 'from fengine import Events'"
    elif isinstance(value, list | tuple | set):
        hint = "join events by |: Events.STARTED | Events.COMPLETED"
    return f"{value!r} of type {type(value).__qualname__} is not an event; {hint}"


def _is_of_an_engine(value: object) -> bool:
    return not isinstance(value, type) and hasattr(value, "name") and hasattr(value, "filter")


BUILT_IN_EVENTS: Final = EventRegistry(Events.all())
