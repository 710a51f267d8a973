"""A registration: one handler, the event that it listens to, and when it runs there."""

from __future__ import annotations

from typing import Any, Generic, final

import attrs

from fengine.core.events import AnyEvent
from fengine.core.filters import Filter
from fengine.core.handlers import AnyHandler
from fengine.core.state import Batch, Output, User


@final
@attrs.frozen
class Registration(Generic[Batch, Output, User]):
    """Hold one handler with the event that it listens to.

    Args:
        event: the event.
        filter: at which firings of it; None: at all.
        handler: the handler.
        runs_before: handlers of the same event that run behind this one.
        runs_after: handlers of the same event that run ahead of this one.

    >>> from fengine import Events, State
    >>> Registration(Events.STARTED, None, State.terminate).event
    Events.STARTED
    """

    event: AnyEvent
    filter: Filter | None
    handler: AnyHandler[Batch, Output, User]
    runs_before: tuple[AnyHandler[Batch, Output, User], ...] = ()
    runs_after: tuple[AnyHandler[Batch, Output, User], ...] = ()

    def is_alike(self, other: Registration[Any, Any, Any]) -> bool:
        """Tell whether another one calls the same handler at the same firings."""
        return (self.event, self.filter, self.handler) == (other.event, other.filter, other.handler)
