"""Dispatcher: a fold of the run over the handlers of an event.

This is the one place where handlers are called. A picture of the run is taken where somebody looks,
and threaded through the handlers. The registers are written once: when all handlers have run, or
when one has failed. Then they have what those before it made, and their names, so that a run that
goes on from there calls the others.

An event that reports what happened is not fired again where a run goes on, and a pause is asked for
again. Where a handler of such an event fails, the others have changed nothing.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, Final, Generic, cast, final

from fengine.core.describe import describe
from fengine.core.events import AnyEvent
from fengine.core.filters import Filter
from fengine.core.handlers import AnyHandler
from fengine.core.outcome import Status
from fengine.core.phases import is_report
from fengine.core.returned import accepted, stated
from fengine.core.state import (
    Batch,
    Output,
    State,
    User,
    after_handlers,
    new_object,
    set_fields,
)
from fengine.core.table import (
    COUNTED_BY_THE_LOOP,
    Compiled,
    Groups,
    count,
    count_in_epoch,
    where_in_run,
)
from fengine.core.taking import StandIn
from fengine.run.box import RUNNING, Box
from fengine.run.ending import asking
from fengine.run.failures import note_failure

# Where a run stands, for whoever asks whether a state stands there.
_PLACE: Final = ("iteration", "epoch", "batches", "event", "counts", "_notes")
# No firing has this number.
_UNKNOWN: Final = -1


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
    Terminate.ANNOUNCED
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
        listening = self._table.get(event.name)
        if listening is None:
            if not is_report(event.name):
                box._handled = None
            box.exiting = False
            return
        state: State[Batch, Output, User] | None
        before: State[Batch, Output, User] | None
        wanted: Filter | None
        handler: AnyHandler[Batch, Output, User] | None
        handlers: tuple[AnyHandler[Batch, Output, User], ...]
        upto: tuple[str, ...]
        state = before = wanted = handler = None
        number = in_epoch = _UNKNOWN
        handlers = upto = ()
        carries, reports, last, groups = listening
        try:
            for filter, numbers, handlers, upto in groups:
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
                    if not numbers:
                        box.left, box.named = iter(()), upto[: len(upto) - len(handlers) + 1]
                        if not filter.holds(number, in_epoch, state):
                            continue
                    wanted = None
                left = iter(handlers)
                box.left, box.named = left, upto
                for handler in left:
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
                            result = _accepted(handler, result, state, event)
                        if result.requests is not state.requests:
                            box.asked = asking(describe(handler), event, box)
                        if handler is last or reports:
                            state = result
                        else:
                            state = box.made = after_handlers(result, handled(box))
            if reports:
                self._end_report(None if state is before else state)
            elif state is None or state is before:
                box._handled, box.made = None, None
            else:
                registers = state.__dict__.copy()
                registers["_handled"] = None
                box.__dict__, box.made = registers, None
        except BaseException as error:
            box.called = handler is not None or wanted is not None
            if box.status is Status.INTERRUPTED:
                box.made = None  # where it goes on, the run pauses again
            elif not reports and box._handled is not None:
                have_run = () if handler is None else handled(box)[:-1]
                if wanted is not None:
                    have_run = upto[: len(upto) - len(handlers)]
                _keep(box, have_run)
            role, called = ("handler", handler) if wanted is None else ("filter", wanted)
            said = f"in {role} {describe(called)} of {event!r} {where_in_run(box)}"
            note_failure(error, said, box)
            raise

    def again(self, event: AnyEvent, most: int | None) -> None:
        """Call the first handlers of an event again, for what they do to what the step lends.

        The states that they return are dropped. Handlers that only look on are left out.

        Args:
            event: the event.
            most: how many of its handlers had run, those left out by their filters among them;
                None: all.
        """
        listening = self._table.get(event.name)
        if listening is None:
            return
        carries, _, _, groups = listening
        box = self._box
        state = box.look()
        state.__dict__["event"] = event
        number, in_epoch = count(event, state), count_in_epoch(event, state)
        for filter, _, handlers, upto in groups:
            if filter is not None and not filter.holds(number, in_epoch, state):
                continue
            had_run = None if most is None else max(0, most - (len(upto) - len(handlers)))
            for handler in handlers[:had_run]:
                if not isinstance(handler, StandIn) or handler.stands_for() is not None:
                    _ = handler(state, box.payload) if carries else handler(state)

    def _end_report(self, state: State[Batch, Output, User] | None) -> None:
        """End an event that reports, of which the handlers have made another state, or none."""
        box = self._box
        if state is None:
            box.exiting = False
        else:
            box.__dict__, box.exiting = state.__dict__ | {"_handled": box._handled}, False


def _keep(box: Box[Any, Any, Any], have_run: tuple[str, ...]) -> None:
    """Write what handlers have made of the run into the registers, where another one has failed."""
    made = box if box.made is None else box.made
    names = max(made._handled or (), have_run, key=len)
    box.__dict__, box.made = made.__dict__ | {"_handled": names}, None


def _accepted(
    handler: object, result: object, state: State[Batch, Output, User], event: AnyEvent
) -> State[Batch, Output, User]:
    """Return what a handler made of a state as one of its run, or refuse it."""
    where = f" from {event!r} {where_in_run(state)}"
    made = stated(handler, cast("State[Batch, Output, User]", result), where)
    return accepted(state, made, f"handler {describe(handler)}")


def handled(box: Box[Any, Any, Any]) -> tuple[str, ...]:
    """Name the handlers that have been called, the newest among them."""
    return box.named[: len(box.named) - operator.length_hint(box.left)]


def caught_up(state: State[Batch, Output, User]) -> State[Batch, Output, User]:
    """Return the state that a handler was given, with the names of all that have run before it.

    They are more than those that had run as the state was made, where some have returned it as it
    is. Any other state comes back as it is.
    """
    box = RUNNING.get(state._notes.run)
    if box is None or state._handled is None:
        return state
    newest = box if box.made is None else box.made
    if state._handled != newest._handled:
        return state
    if any(getattr(state, name) != getattr(box, name) for name in _PLACE):
        return state
    names = handled(box)[:-1]
    if len(names) <= len(state._handled):
        return state
    return after_handlers(state, names)


def dispatching(
    box: Box[Batch, Output, User], table: Compiled[Batch, Output, User]
) -> Callable[[AnyEvent], None]:
    """Return what fires the events of a run, which may go on among the handlers of one."""
    whole = Dispatcher(box, table).fire
    if not (box._handled or box._notes.paused_after):
        return whole

    def fire(event: AnyEvent) -> None:
        if not box._handled or event.name not in table or is_report(event.name):
            whole(event)
        else:
            carries, reports, last, groups = table[event.name]
            left = carries, reports, last, _without(groups, len(box._handled))
            Dispatcher(box, {event.name: left}).fire(event)

    return fire


def _without(groups: Groups[Batch, Output, User], number: int) -> Groups[Batch, Output, User]:
    """Leave out the first handlers."""
    return tuple(
        (filter, numbers, handlers[max(0, number - len(upto) + len(handlers)) :], upto)
        for filter, numbers, handlers, upto in groups
        if number < len(upto)
    )
