"""Registrations: the events of an Engine, who listens to them, and calling those.

Everything is checked before anything is changed, so that a refused call leaves no trace.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Self, final

import attrs

from fengine.core.events import Events as CoreEvents
from fengine.engine.calling import (
    ENGINE_ONLY,
    EXCEPTION,
    ITER_COUNTER,
    THE_ENGINE,
    entry,
    qualified_name,
)
from fengine.engine.enums import EVENT_OF, EventEnum, core_name, is_event, is_events_list
from fengine.engine.handler_lists import (
    Entry,
    Filtered,
    HandlerLists,
    Question,
    Surrounded,
    original,
)
from fengine.engine.state import State, attribute_of, box_of, count_by, is_reserved

_EXTRA = {
    CoreEvents.EXCEPTION_RAISED.name: EXCEPTION,
    CoreEvents.TERMINATE_SINGLE_EPOCH.name: ITER_COUNTER,
}


@final
class AsGiven(tuple[Any, ...]):
    """Hold arguments that begin with a weak reference of the user's, which is passed as it is."""

    __slots__ = ()


@final
class AllowedEvents(dict[Any, Any]):
    """Map each registered event to itself; code beside the Engine knows it as a list."""

    def append(self, event: Any) -> None:
        """Add an event."""
        self.setdefault(event, event)

    def extend(self, events: Iterable[Any]) -> None:
        """Add events."""
        for event in events:
            self.append(event)

    def remove(self, event: Any) -> None:
        """Take an event away.

        Raises:
            ValueError: it is not among them.
        """
        if self.pop(event, None) is None:
            raise ValueError(f"{event!r} is not among {[*self]}")

    def __iadd__(self, events: Iterable[Any]) -> Self:
        """Add events."""
        self.extend(events)
        return self


@final
@attrs.define(eq=False)
class Registrations:
    """Hold the events of one engine with their handlers.

    Args:
        allowed: each registered event, by itself.
        lists: the handlers of each event.
        fired: how often each event without a counter has been fired.
        last: the event that was fired last, and where the run stood then.
    """

    allowed: AllowedEvents = attrs.field(factory=AllowedEvents)
    lists: HandlerLists = attrs.field(factory=HandlerLists)
    fired: dict[Any, int] = attrs.field(factory=dict)
    last: tuple[Any, object] = (None, None)

    def register(
        self,
        events: tuple[Any, ...],
        event_to_attr: dict[Any, str] | None,
        state: State,
        *,
        any_event: bool,
    ) -> None:
        """Add events; see `Engine.register_events`."""
        if event_to_attr is not None and not isinstance(event_to_attr, dict):
            raise ValueError(
                f"event_to_attr={event_to_attr!r} of type {type(event_to_attr).__name__} is not a "
                "dict from events to attribute names"
            )
        for event in events:
            _check_kind(event, any_event=any_event)
        for attr in (event_to_attr or {}).values():
            if not isinstance(attr, str):
                raise TypeError(
                    f"event_to_attr names the attribute {attr!r}, which is not a string"
                )
            if attr not in ("iteration", "epoch") and is_reserved(attr):
                raise ValueError(
                    f"event_to_attr names the attribute {attr!r}, which the state needs for "
                    "itself; give the counter another name"
                )
        for event in events:
            self.allowed.setdefault(event, event)
            if event_to_attr and event in event_to_attr:
                count_by(state, event, event_to_attr[event])
        state._update_attrs()

    def registered(self, event: Any, engine: Any) -> Any:
        """Return the event as it was registered; of a filtered one, the plain event.

        Raises:
            ValueError: it is not an event of the engine.
        """
        try:
            return self.allowed[event]
        except (KeyError, TypeError):  # or it has no hash
            pass
        message = (
            f"{event!r} is not an event of this {type(engine).__name__}; "
            f"it knows {', '.join(map(str, self.allowed))}. Use register_events first"
        )
        engine.logger.error(message)
        raise ValueError(message)

    def entry(
        self,
        event: Any,
        handler: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        state: State,
    ) -> Entry:
        """Return what to put into the list of a registered event for a handler.

        Raises:
            TypeError: `handler` is not callable, or a call would run nothing.
            ValueError: it does not take these arguments.
        """
        extra = _EXTRA.get(core_name(event) or "")
        function, bound, keywords = entry(handler, extra, args, kwargs)
        if bound and isinstance(bound[0], weakref.ref):
            bound = AsGiven(bound)
        if not is_event(event) or event.filter is None:
            return function, bound, keywords
        takes_engine = bool(bound) and bound[0] is THE_ENGINE
        plain = self.allowed[event]
        question = Question(plain, attribute_of(state, event), event.filter)
        entries = self.lists.get(plain)
        before = entries[-1][0] if entries else None
        if question.is_pure and isinstance(before, Filtered) and before.question.is_pure:
            question = before.question if before.question == question else question
        filtered = Filtered(question, function, takes_engine)
        return filtered, (THE_ENGINE, *bound[takes_engine:]), keywords

    def has(self, handler: Callable[..., Any], event: Any) -> bool:
        """Tell whether a handler is registered for an event; for any, where that is None."""
        if event is None:
            lists: Iterable[list[Entry]] = self.lists.values()
        else:
            lists = [self.lists.get(event, [])]
        return any(original(added[0]) == handler for entries in lists for added in entries)

    def surround(self, around: Callable[..., Any]) -> None:
        """Have `around` call each handler that there is, where its filter holds.

        It is called with the names of the event and of the handler, the handler, and what that is
        to be called with.
        """
        for event, some in self.lists.items():
            some[:] = [(_surrounded(event, one[0], around), *one[1:]) for one in some]

    def count(self, event: Any, state: State) -> int:
        """Return how often an event has been fired, or what the counter of it says."""
        attr = attribute_of(state, event)
        return self.fired.get(event, 0) if attr is None else getattr(state, attr)

    def note_firing(self, event: Any, state: State) -> None:
        """Note that an event is being fired."""
        self.last = (event, _place(state))
        if attribute_of(state, event) is None:
            self.fired[event] = self.fired.get(event, 0) + 1

    def last_event(self, state: State) -> Any:
        """Return the event that was fired last, or None."""
        event, place = self.last
        stands_at = box_of(state).event
        if stands_at is not None and place != _place(state):
            return EVENT_OF[stands_at.name]
        return event

    def fire(
        self, event: Any, engine: Any, event_args: tuple[Any, ...], event_kwargs: dict[str, Any]
    ) -> None:
        """Call the handlers of an event with what the event adds."""
        entries = self.lists.get(event, [])
        if not (event_args or event_kwargs):
            call(entries, engine)
            return
        for handler, args, kwargs in entries:
            handler(*_arguments(engine, args, event_args), **(kwargs | event_kwargs))


def call(entries: list[Entry], engine: Any) -> None:
    """Call handlers with what they were added with; equal neighbours ask one question once."""
    refused: Question | None = None
    for handler, args, kwargs in entries:
        if args is ENGINE_ONLY and not kwargs:
            handler(engine)
        else:
            if type(handler) is Filtered:
                question = handler.question
                if question is refused:
                    continue
                if question.is_pure and not question.holds(engine):
                    refused = question
                    continue
            handler(*_arguments(engine, args), **kwargs)
        refused = None  # a handler may have changed what was asked for


def single_events(event_name: Any) -> list[Any]:
    """Return the single events of what a handler can be added to."""
    return list(event_name) if is_events_list(event_name) else [event_name]


def _arguments(
    engine: Any, args: tuple[Any, ...], event_args: tuple[Any, ...] = ()
) -> Iterable[Any]:
    if args and args[0] is THE_ENGINE:
        return (engine, *event_args, *args[1:])
    if args and type(args) is tuple and isinstance(args[0], weakref.ref):
        # An entry that was put into the list by hand, as pytorch-ignite has them.
        return (_alive(args[0]), *event_args, *args[1:])
    return (*event_args, *args)


def _alive(reference: Callable[[], Any]) -> Any:
    referent = reference()
    if referent is None:
        raise RuntimeError(
            f"a handler was added with {reference!r} for its engine, which is gone; put the engine "
            "itself there, or add the handler by add_event_handler"
        )
    return referent


def _surrounded(
    event: Any, handler: Callable[..., Any], around: Callable[..., Any]
) -> Callable[..., Any]:
    if isinstance(handler, Filtered):
        return attrs.evolve(handler, handler=_surrounded(event, handler.handler, around))
    key = getattr(event, "name", str(event)), qualified_name(handler)
    return Surrounded(handler, partial(around, key))


def _check_kind(event: Any, *, any_event: bool) -> None:
    if any_event:
        if isinstance(event, type):
            raise TypeError(f"{event!r} is a class, not an event; register its members")
        try:
            hash(event)
        except TypeError as error:
            raise TypeError(f"{event!r} cannot be an event: {error}") from None
    elif not isinstance(event, str | EventEnum) and not is_event(event):
        raise TypeError(
            f"{event!r} of type {type(event).__name__} cannot be an event; "
            "events are strings and members of an EventEnum"
        )


def _place(state: State) -> object:
    # Not the counters, which users write; EPOCH_STARTED is fired in every epoch.
    box = box_of(state)
    return box.event, box.batches
