"""Fire an event at a state, as a run does that stands there."""

from __future__ import annotations

from typing import TypeVar

from fengine import State
from fengine.core.events import AnyEvent
from fengine.core.table import Compiled
from fengine.run.box import Box
from fengine.run.firing import Dispatcher

Batch = TypeVar("Batch")
Output = TypeVar("Output")
User = TypeVar("User")


def fire(
    table: Compiled[Batch, Output, User], event: AnyEvent, state: State[Batch, Output, User]
) -> State[Batch, Output, User]:
    """Return the state that the handlers of an event make of another one."""
    box = Box(state)
    Dispatcher(box, table).fire(event)
    return box.state
