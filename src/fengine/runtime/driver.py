"""The driver: it pulls the script and fires what the script says.

The one place where handlers run. What a handler raises goes into the script at the event where it
happened; a driver that is dropped closes its script and its source, and reports no failure.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Final, Protocol, cast

import attrs

from fengine.core.events import BUILT_IN, AnyEvent, Events
from fengine.core.ledger import Failure
from fengine.core.ports import Box, Raised
from fengine.core.state import Batch, Output, State, User, with_requests
from fengine.core.table import Compiled, fire, where_in_run
from fengine.core.transitions import show


class Ending(Protocol):
    """What a source does at the end of a run."""

    def look_behind(self, state: State[Batch, Output, User]) -> None:
        """See whether the data has more than it said, where the run ended well."""

    def close(self) -> None:
        """Give up what is held."""


def drive(
    course: Generator[AnyEvent, None, BaseException | None],
    box: Box[Batch, Output, User],
    table: Compiled[Batch, Output, User],
    source: Ending,
    begin: Callable[[], None],
    *,
    lazily: bool,
) -> Generator[AnyEvent, None, None]:
    """Fire the events of a script, and yield each behind its handlers if the run is lazy.

    Args:
        course: the script.
        box: what the script and its driver pass to each other.
        table: the handlers.
        source: what the script fetches batches from.
        begin: called before anything else.
        lazily: yield the events.

    Raises:
        BaseException: what ended the run, with notes on where; see `last_state`.
    """

    def answer(event: AnyEvent) -> None:
        if event is not Events.EXCEPTION_RAISED:
            box.state = fire(table, event, box.state, box.payload)
            return
        error = cast("BaseException", box.payload)
        say_where(error, box.state)
        box.state = fire(table, event, box.state, error)
        if not isinstance(error, Exception):
            _let_leave(box, error)

    try:
        begin()
        error = yield from pull(course, answer, lazily=lazily)
        if error is None:
            source.look_behind(box.state)
            return
        keep_state(error, box.state)
        try:
            if isinstance(error, StopIteration):
                stopped = RuntimeError(f"user code raised StopIteration {where_in_run(box.state)}")
                keep_state(stopped, box.state)
                raise stopped from error
            raise error
        finally:
            del error  # its traceback holds this frame
    except BaseException as interruption:
        show(box)
        # Ctrl-C can come between any two lines, these here among them.
        if _STATE not in interruption.__dict__:
            keep_state(interruption, box.state)
        raise
    finally:
        course.close()
        source.close()


def pull(
    course: Generator[AnyEvent, None, BaseException | None],
    answer: Callable[[AnyEvent], None],
    *,
    lazily: bool,
) -> Generator[AnyEvent, None, BaseException | None]:
    """Pull a script to its end: answer each event, then yield it if the run is lazy.

    What `answer` raises goes into the script at that event; the script decides what it means.

    Returns:
        The exception that ends the run, or None.
    """
    failure: Raised | None = None
    while True:
        try:
            event = next(course) if failure is None else course.throw(failure)
        except StopIteration as end:
            return cast("BaseException | None", end.value)
        finally:
            failure = None
        try:
            answer(event)
        except BaseException as error:
            failure = Raised(error)
            continue
        if lazily:
            yield event


def say_where(error: BaseException, state: State[Batch, Output, User]) -> None:
    """Note on an exception that came from no handler what raised it."""
    event = state.event
    if event is None or state.ledger.failure is not Failure.ELSEWHERE:
        return
    place = _PLACES.get(event.name, None if event.name in BUILT_IN else "the step")
    note = f"in {place} {where_in_run(state)}"
    # An exception object may be raised again, there or in another run.
    if place is not None and note not in getattr(error, "__notes__", ()):
        error.add_note(note)


def keep_state(error: BaseException, state: State[Batch, Output, User]) -> None:
    """Keep the last complete state with an exception that leaves a run, for `last_state`."""
    error.__dict__[_STATE] = state


def last_state(error: BaseException) -> State[object, object, object]:
    """Give the last complete state of the run that an exception left.

    It holds the work of every handler of earlier events, and of none of the event that failed.
    Given to `Loop.resume`, it goes on there: a failed event fires again, a failed step runs again.

    Raises:
        LookupError: the exception did not come out of a run.

    >>> from fengine import Loop, outputs
    >>> try:
    ...     Loop(outputs(lambda batch: 1 // batch)).run([2, 1, 0])
    ... except ZeroDivisionError as error:
    ...     print(last_state(error).iteration)
    3
    """
    state = getattr(error, _STATE, None)
    if not isinstance(state, State):
        raise LookupError(f"{error!r} did not come out of a run, so there is no state of one")
    return state


_STATE: Final = "_fengine_last_state"

# What runs behind these events that is no handler.
_PLACES: Final = {
    "epoch_started": "starting iteration over the data",
    "get_batch_started": "fetching a batch from the data",
    "dataloader_stop_iteration": "fetching a batch from the data started again",
    "iteration_started": "the step",
    "terminate_single_epoch": "starting iteration over the data again",
}


def _let_leave(box: Box[Batch, Output, User], error: BaseException) -> None:
    """Have KeyboardInterrupt and its like leave the run, whatever the handlers answered."""
    requests = box.state.requests
    if requests.recovery is not None:
        box.state = with_requests(box.state, attrs.evolve(requests, recovery=None))
        error.add_note(f"{type(error).__name__} always leaves the run, so recover() had no effect")
