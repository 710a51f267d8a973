"""Dispatcher: a fold of the run over the handlers of an event.

This is the one place where handlers are called, those of a run and those of `fire`. A picture of
the run is taken where somebody looks, and threaded through the handlers. The registers are written
once, when all handlers have run: so a run whose handler fails stands where it stood before them.
"""

from __future__ import annotations

from typing import Final, Generic, final

from fengine.core.describe import describe
from fengine.core.events import AnyEvent
from fengine.core.filters import Filter
from fengine.core.handlers import AnyHandler, accepted, kind_of
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
        shown: what the first handler sees, if that is not a new picture of the run; then what the
            last one has left.
    """

    __slots__ = ("_box", "_table", "shown")

    def __init__(
        self,
        box: Box[Batch, Output, User],
        table: Compiled[Batch, Output, User],
        shown: State[Batch, Output, User] | None = None,
    ) -> None:
        self._box, self._table, self.shown = box, table, shown

    def fire(self, event: AnyEvent) -> None:
        """Run the handlers of an event whose filters hold, in their order.

        Raises:
            TypeError: a handler returned something else than a state.
            ValueError: a handler returned a state that stands elsewhere in the run, or in another
                run.
            BaseException: whatever a handler raised, with a note that says which one and where.
        """
        box = self._box
        state = before = self.shown
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
                            or result._run is not state._run
                        ):
                            result = _accepted(handler, result, event, state)
                        state = result
            if state is None or state is before:
                box.firing = False
            else:
                box.__dict__, box.firing = state.__dict__.copy(), False
                if before is self.shown:
                    self.shown = state
        except BaseException as error:
            box.called = handler is not None or wanted is not None
            role, called = ("handler", handler) if wanted is None else ("filter", wanted)
            said = f"in {role} {describe(called)} of {event!r} {where_in_run(box)}"
            note_failure(error, said, box)
            raise


def fire(
    table: Compiled[Batch, Output, User],
    event: AnyEvent,
    state: State[Batch, Output, User],
    payload: object = None,
) -> State[Batch, Output, User]:
    """Thread a state through the handlers of an event whose filters hold, in their order.

    Laws: it equals calling those handlers by hand, one after the other; where there are none, the
    very state comes back.

    Args:
        table: the handlers, as `Table.compiled` returns them.
        event: the event that fires.
        state: the state, standing at the event.
        payload: what a payload event hands to its handlers.

    Raises:
        TypeError: a handler returned something else than a state.
        ValueError: a handler returned a state that stands elsewhere in the run, or in another run.
        BaseException: whatever a handler raised, with a note that says which one and where.

    >>> from fengine import Events, Registration, Table
    >>> table = Table().adding(Registration(Events.STARTED, None, State.terminate)).compiled()
    >>> fire(table, Events.STARTED, State()).requests.terminate
    <Terminate.ANNOUNCED: 'announced'>
    """
    box = Box(state)
    box.payload = payload
    dispatcher = Dispatcher(box, table, shown=state)
    dispatcher.fire(event)
    assert dispatcher.shown is not None
    return dispatcher.shown


def _accepted(
    handler: object, result: object, event: AnyEvent, state: State[Batch, Output, User]
) -> State[Batch, Output, User]:
    """Return what a handler returned as a state of this run, or say what is wrong with it."""
    if type(result) is State:
        return accepted(state, result, f"handler {describe(handler)}")
    hint = " Did you forget 'return state'?" if result is None else ""
    raise TypeError(
        f"handler {describe(handler)} returned {kind_of(result)} from {event!r} "
        f"{where_in_run(state)}; a handler returns a State.{hint}"
    )
