"""Dispatcher: a fold of the run over the handlers of an event.

This is the one place where handlers are called. A picture of the run is taken where somebody looks,
and threaded through the handlers. The registers are written once, when all handlers have run: so a
run whose handler fails stands where it stood before them.
"""

from __future__ import annotations

from typing import Any, Final, Generic, cast, final

from fengine.core.describe import describe
from fengine.core.events import AnyEvent
from fengine.core.filters import Filter
from fengine.core.handlers import AnyHandler
from fengine.core.returned import accepted, stated
from fengine.core.state import Batch, Output, State, User, new_object, set_fields
from fengine.core.table import (
    COUNTED_BY_THE_LOOP,
    Compiled,
    count,
    count_in_epoch,
    where_in_run,
)
from fengine.run.box import Box
from fengine.run.failures import note_failure

# No firing has this number.
_UNKNOWN: Final = -1
_NOBODY: Final = False, ()


@final
class Dispatcher(Generic[Batch, Output, User]):
    """Fire the events of a run.

    Args:
        box: the run.
        table: the handlers, as `Table.compiled` returns them.

    Laws: it equals calling those handlers by hand, one after the other; where there are none, the
    run stays as it is.

    >>> from fengine import Events, Registration, State, Table
    >>> box = Box(State())
    >>> table = Table().adding(Registration(Events.STARTED, None, State.terminate)).compiled()
    >>> Dispatcher(box, table).fire(Events.STARTED)
    >>> box.state.requests.terminate
    <Terminate.ANNOUNCED: 'announced'>
    """

    __slots__ = ("_box", "_table")

    def __init__(self, box: Box[Batch, Output, User], table: Compiled[Batch, Output, User]) -> None:
        self._box, self._table = box, table

    def fire(self, event: AnyEvent) -> None:
        """Run the handlers of an event whose filters hold, in their order.

        Raises:
            TypeError: a handler returned something else than a state.
            ValueError: a handler returned a state that stands elsewhere in the run, or in another
                run.
            BaseException: whatever a handler raised, with a note that says which one and where.
        """
        box = self._box
        state: State[Batch, Output, User] | None = None
        before: State[Batch, Output, User] | None = None
        wanted: Filter | None = None
        handler: AnyHandler[Batch, Output, User] | None = None
        number = in_epoch = _UNKNOWN
        try:
            carries, groups = self._table.get(event.name, _NOBODY)
            for filter, numbers, handlers in groups:
                wanted = filter
                if filter is not None:
                    if number == _UNKNOWN or event.attr not in COUNTED_BY_THE_LOOP:
                        place = box if state is None else state
                        number, in_epoch = count(event, place), count_in_epoch(event, place)
                    if numbers and not filter.holds(number, in_epoch):
                        continue
                if state is None:
                    # What `box.look` does: a call less, each time that somebody listens.
                    state = before = new_object(State)
                    set_fields(state, box.__dict__.copy())
                if filter is not None:
                    if not numbers and not filter.holds(number, in_epoch, state):
                        continue
                    wanted = None
                for handler in handlers:
                    result: object = handler(state, box.payload) if carries else handler(state)
                    if result is not state:
                        if (
                            type(result) is not State
                            or result.iteration != state.iteration
                            or result.epoch != state.epoch
                            or result.batches != state.batches
                            or (result.event is not state.event and result.event != state.event)
                            or result._notes is not state._notes
                        ):
                            where = f" from {event!r} {where_in_run(state)}"
                            made = stated(handler, cast("State[Any, Any, Any]", result), where)
                            result = accepted(state, made, f"handler {describe(handler)}")
                        state = result
            if state is None or state is before:
                box.firing = False
            else:
                box.__dict__, box.firing = state.__dict__.copy(), False
        except BaseException as error:
            box.called = handler is not None or wanted is not None
            role, called = ("handler", handler) if wanted is None else ("filter", wanted)
            said = f"in {role} {describe(called)} of {event!r} {where_in_run(box)}"
            note_failure(error, said, box)
            raise
