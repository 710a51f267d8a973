"""The handle that takes a handler away again."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any, Self

from fengine.engine.handler_lists import original
from fengine.engine.registrations import single_events


class RemovableEventHandle:
    """Take a registered handler away, once, at will or at the end of a with-statement.

    The handle keeps neither the handler nor the engine alive.

    Args:
        event_name: the event, or the list of events, that the handler is registered for.
        handler: the registered handler.
        engine: the engine that it is registered with.

    >>> from fengine.engine import Engine, Events
    >>> engine = Engine(lambda engine, batch: batch)
    >>> def print_epoch(engine):
    ...     print("epoch", engine.state.epoch)
    >>> with engine.add_event_handler(Events.EPOCH_COMPLETED, print_epoch):
    ...     state = engine.run([1], max_epochs=1)
    epoch 1
    >>> engine.has_event_handler(print_epoch)
    False
    """

    def __init__(self, event_name: Any, handler: Callable[..., Any], engine: Any) -> None:
        self.event_name = event_name
        self.handler = _weak(handler)
        self.engine: Callable[[], Any] = weakref.ref(engine)
        self._registered = [self.handler]

    def _with(self, handlers: Iterable[Callable[..., Any]]) -> Self:
        """Know the handler by each of its registrations, of which some may go before others."""
        self._registered = [_weak(handler) for handler in handlers]
        return self

    def remove(self) -> None:
        """Take the handler away; without effect where it is gone, or the engine is."""
        engine = self.engine()
        alive = [handler for ref in self._registered if (handler := ref()) is not None]
        if not alive or engine is None:
            return
        handler = original(alive[0])
        for event in single_events(self.event_name):
            if engine.has_event_handler(handler, event):
                engine.remove_event_handler(handler, event)

    def __enter__(self) -> Self:
        """Give the handle itself."""
        return self

    def __exit__(self, *args: object) -> None:
        """Take the handler away."""
        self.remove()


def _weak(handler: Callable[..., Any]) -> Callable[[], Callable[..., Any] | None]:
    try:
        return weakref.ref(handler)
    except TypeError:
        # A type with __slots__ and no place for weak references: the handle then keeps it.
        return lambda: handler
