"""Events and handlers of an Engine: registering, adding, taking away, firing.

Everything is checked before anything is changed, so that a refused call leaves no trace.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from fengine.core.outcome import Status
from fengine.core.ports import Box
from fengine.core.semantics import DOCUMENTED, Semantics
from fengine.engine.calling import ENGINE_ONLY, EXCEPTION, ITER_COUNTER, THE_ENGINE, entry
from fengine.engine.enums import EVENT_OF, EventEnum, Events, core_name, is_event, is_events_list
from fengine.engine.handles import RemovableEventHandle
from fengine.engine.state import AnyRecord, Free, State
from fengine.engine.table import Entry, Filtered, HandlerTable, Question, original

Function = TypeVar("Function", bound=Callable[..., Any])


class Handling:
    """Be the part of an Engine that knows events and calls handlers."""

    semantics: Semantics = DOCUMENTED
    """Which version to follow where two versions of this API disagree."""

    def __init__(self) -> None:
        self.logger = logging.getLogger(f"fengine.engine.engine.{type(self).__name__}")
        self._event_handlers = HandlerTable()
        self._allowed_events: dict[Any, Any] = {}
        self._state = State()
        self._fired: dict[Any, int] = {}
        self._last_fired: tuple[Any, object] = (None, None)
        self.register_events(*Events)

    @property
    def state(self) -> State:
        """The state of the engine, the same object in and between all its runs."""
        return self._state

    @state.setter
    def state(self, state: State) -> None:
        if not isinstance(state, State):
            kind = type(state)
            raise TypeError(
                f"engine.state is given a {kind.__module__}.{kind.__qualname__}, which is not a "
                "fengine.engine.State; for that of pytorch-ignite call fengine.engine.install() "
                "before it is imported"
            )
        if state is not self._state:
            if state._box.state.status is Status.RUNNING:
                raise ValueError(
                    f"this state is that of an engine that is running, at epoch {state.epoch}, "
                    f"iteration {state.iteration}; share it before the run, or give a copy"
                )
            replaced = self._state
            kept = replaced._box.state
            state._adopt(replaced._box, replaced._attr_of)
            replaced.__setstate__((kept, {}, {}))
            self._state = state

    @property
    def _box(self) -> Box[Any, Any, Free]:
        return self._state._box

    def register_events(
        self, *event_names: Any, event_to_attr: dict[Any, str] | None = None
    ) -> None:
        """Add events that can be fired, and that handlers can be added to.

        Args:
            *event_names: members of an Enum, strings, or anything hashable.
            event_to_attr: which attribute of the state counts an event; the attribute is made, with
                the value 0, and left to you.

        Raises:
            TypeError: something cannot be an event.
            ValueError: `event_to_attr` is not a dict.

        >>> from enum import Enum
        >>> from fengine.engine import Engine
        >>> class Chunks(Enum):
        ...     CHUNK_STARTED = "chunk_started"
        >>> engine = Engine(lambda engine, batch: engine.fire_event(Chunks.CHUNK_STARTED))
        >>> engine.register_events(*Chunks, event_to_attr={Chunks.CHUNK_STARTED: "chunk"})
        >>> engine.state.chunk
        0
        """
        if event_to_attr is not None and not isinstance(event_to_attr, dict):
            raise ValueError(
                f"event_to_attr={event_to_attr!r} of type {type(event_to_attr).__name__} is not a "
                "dict from events to attribute names"
            )
        for event in event_names:
            self._check_kind(event)
        for attr in (event_to_attr or {}).values():
            if not isinstance(attr, str):
                raise TypeError(
                    f"event_to_attr names the attribute {attr!r}, which is not a string"
                )
            if attr not in ("iteration", "epoch") and State._is_reserved(attr):
                raise ValueError(
                    f"event_to_attr names the attribute {attr!r}, which the state needs for "
                    "itself; give the counter another name"
                )
        for event in event_names:
            self._allowed_events.setdefault(event, event)
            if event_to_attr and event in event_to_attr:
                self._state._count_by(event, event_to_attr[event])
        self._state._update_attrs()

    def has_registered_events(self, event: Any) -> bool:
        """Tell whether an event can be fired.

        >>> from fengine.engine import Engine
        >>> Engine(lambda engine, batch: None).has_registered_events("foo")
        False
        """
        return event in [*self._allowed_events]  # which may have no hash

    def add_event_handler(
        self, event_name: Any, handler: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> RemovableEventHandle:
        """Add a handler, which runs whenever the event fires.

        It is called with the engine, if it takes it, what the event adds (the exception at
        EXCEPTION_RAISED), and the arguments given here. A first parameter named `engine` always is
        the engine.

        Args:
            event_name: an event, filtered or not, or several joined by `|`.
            handler: what to call.
            *args: passed to the handler.
            **kwargs: passed to the handler.

        Returns:
            A handle that takes the handler away again.

        Raises:
            TypeError: `handler` is not callable, or is an async or generator function.
            ValueError: an event is not registered, or the handler does not take these arguments.

        >>> from fengine.engine import Engine
        >>> engine = Engine(lambda engine, batch: batch)
        >>> def print_epoch(engine, prefix):
        ...     print(prefix, engine.state.epoch)
        >>> handle = engine.add_event_handler(Events.EPOCH_COMPLETED, print_epoch, "epoch")
        >>> state = engine.run([1, 2], max_epochs=1)
        epoch 1
        """
        made = [
            (self._registered(event), self._entry(event, handler, args, kwargs))
            for event in self._single_events(event_name)
        ]
        if not made:
            raise ValueError("the list of events is empty, so the handler would never run")
        for event, added in made:
            self._event_handlers[event].append(added)
        return RemovableEventHandle(event_name, made[0][1][0], self)._with(
            added[0] for _, added in made
        )

    def on(self, event_name: Any, *args: Any, **kwargs: Any) -> Callable[[Function], Function]:
        """Add the decorated function as a handler; see `add_event_handler`.

        >>> from fengine.engine import Engine
        >>> engine = Engine(lambda engine, batch: batch)
        >>> @engine.on(Events.COMPLETED)
        ... def done():
        ...     print("done")
        >>> state = engine.run([1])
        done
        """

        def decorator(function: Function) -> Function:
            self.add_event_handler(event_name, function, *args, **kwargs)
            return function

        return decorator

    def has_event_handler(self, handler: Callable[..., Any], event_name: Any = None) -> bool:
        """Tell whether a handler is registered.

        Args:
            handler: the handler as it was added.
            event_name: where to look; None: at every event.

        >>> from fengine.engine import Engine
        >>> engine = Engine(lambda engine, batch: batch)
        >>> handle = engine.add_event_handler(Events.COMPLETED, print)
        >>> engine.has_event_handler(print), engine.has_event_handler(print, Events.STARTED)
        (True, False)
        """
        if event_name is None:
            lists: Iterable[list[Entry]] = self._event_handlers.values()
        else:
            lists = [self._event_handlers.get(event_name, [])]
        return any(original(added[0]) == handler for entries in lists for added in entries)

    def remove_event_handler(self, handler: Callable[..., Any], event_name: Any) -> None:
        """Take every registration of a handler at an event away.

        Args:
            handler: the handler as it was added.
            event_name: the event.

        Raises:
            ValueError: the handler is not registered there.

        >>> from fengine.engine import Engine
        >>> engine = Engine(lambda engine, batch: batch)
        >>> handle = engine.add_event_handler(Events.COMPLETED, print)
        >>> engine.remove_event_handler(print, Events.COMPLETED)
        """
        entries = self._event_handlers.get(event_name, [])
        kept = [added for added in entries if original(added[0]) != handler]
        if len(kept) == len(entries):
            raise ValueError(
                f"handler {getattr(handler, '__qualname__', handler)!r} is not registered for "
                f"{event_name!r} of this {type(self).__name__}, so it cannot be removed"
            )
        self._event_handlers[self._registered(event_name)] = kept

    def fire_event(self, event_name: Any) -> None:
        """Run all handlers of an event, at any time.

        The events of a run are fired by the run; this is for events of your own.

        Args:
            event_name: a registered event.

        Raises:
            ValueError: the event is not registered.

        >>> from fengine.engine import Engine
        >>> engine = Engine(lambda engine, batch: batch)
        >>> engine.register_events("tick")
        >>> handle = engine.add_event_handler("tick", lambda: print("tick"))
        >>> engine.fire_event("tick")
        tick
        """
        self._fire_event(self._registered(event_name))

    @property
    def last_event_name(self) -> Any:
        """The event that was fired last, or None."""
        event, place = self._last_fired
        record = self._box.state
        if record.event is not None and place != _place(record):
            return EVENT_OF[record.event.name]
        return event

    def _fire_event(self, event_name: Any, *event_args: Any, **event_kwargs: Any) -> None:
        """Run the handlers of an event; a subclass may replace this and sees every event then.

        Args:
            event_name: the event.
            *event_args: passed to the handlers behind the engine.
            **event_kwargs: passed to the handlers.
        """
        self.logger.debug("%s fires %s", type(self).__name__, event_name)
        self._last_fired = (event_name, _place(self._box.state))
        if self._state._attribute_of(event_name) is None:
            self._fired[event_name] = self._fired.get(event_name, 0) + 1
        entries = self._event_handlers.get(event_name, [])
        if not (event_args or event_kwargs):
            self._call(entries)
            return
        for handler, args, kwargs in entries:
            handler(*self._arguments(args, event_args), **(kwargs | event_kwargs))

    def _call(self, entries: list[Entry]) -> None:
        """Call handlers with what they were added with; equal neighbours ask one question once."""
        refused: Question | None = None
        for handler, args, kwargs in entries:
            if args is ENGINE_ONLY and not kwargs:
                handler(self)
            else:
                if type(handler) is Filtered:
                    question = handler.question
                    if question is refused:
                        continue
                    if question.is_pure and not question.holds(self):
                        refused = question
                        continue
                handler(*self._arguments(args), **kwargs)
            refused = None  # a handler may have changed what was asked for

    def _arguments(self, args: tuple[Any, ...], event_args: tuple[Any, ...] = ()) -> Iterable[Any]:
        if args and args[0] is THE_ENGINE:
            return (self, *event_args, *args[1:])
        return (*event_args, *args)

    def _count(self, event: Any) -> int:
        attr = self._state._attribute_of(event)
        return self._fired.get(event, 0) if attr is None else getattr(self._state, attr)

    def _check_kind(self, event: Any) -> None:
        if self.semantics.any_event:
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

    def _registered(self, event: Any) -> Any:
        """Give the event as it was registered; of a filtered one, the plain event."""
        try:
            return self._allowed_events[event]
        except (KeyError, TypeError):  # or it has no hash
            pass
        message = (
            f"{event!r} is not an event of this {type(self).__name__}; "
            f"it knows {', '.join(map(str, self._allowed_events))}. Use register_events first"
        )
        self.logger.error(message)
        raise ValueError(message)

    def _single_events(self, event_name: Any) -> list[Any]:
        return list(event_name) if is_events_list(event_name) else [event_name]

    def _entry(
        self, event: Any, handler: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Entry:
        extra = {"exception_raised": EXCEPTION, "terminate_single_epoch": ITER_COUNTER}.get(
            core_name(event) or ""
        )
        function, bound, keywords = entry(handler, extra, args, kwargs)
        if not is_event(event) or event.filter is None:
            return function, bound, keywords
        takes_engine = bool(bound) and bound[0] is THE_ENGINE
        plain = self._registered(event)
        question = Question(plain, self._state._attribute_of(event), event.filter)
        entries = self._event_handlers.get(plain)
        before = entries[-1][0] if entries else None
        if question.is_pure and isinstance(before, Filtered) and before.question.is_pure:
            question = before.question if before.question == question else question
        filtered = Filtered(question, function, takes_engine)
        return filtered, (THE_ENGINE, *bound[takes_engine:]), keywords


def _place(record: AnyRecord) -> object:
    # Not the counters, which users write; EPOCH_STARTED is fired in every epoch.
    return record.event, record.batches
