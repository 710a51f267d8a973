"""The driver: it pulls the script, and fires what the script names.

This is the one place where the handlers of a Loop run. What a handler raises goes into the script
at the event where it happened. A driver that is dropped closes its script and its source, and
reports no failure.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Final, Protocol, cast

from fengine.core.events import AnyEvent, Events
from fengine.core.outcome import Failure
from fengine.core.phases import PHASES
from fengine.core.state import Batch, Output, State, User
from fengine.core.table import Compiled, where_in_run
from fengine.run.box import Box, Raised
from fengine.run.firing import Dispatcher

Course = Generator[AnyEvent, None, BaseException | None]
_FAILURE: Final = Events.EXCEPTION_RAISED


class Ending(Protocol):
    """Be what a source does at the end of a run."""

    def look_for_more(self, box: Box[Any, Any, Any]) -> None:
        """See whether the data has more than it said, where the run ended well."""

    def close(self) -> None:
        """Let go of what is held."""


def drive(
    course: Course,
    box: Box[Batch, Output, User],
    table: Compiled[Batch, Output, User],
    source: Ending,
    begin: Callable[[], None],
    *,
    lazily: bool,
) -> Generator[AnyEvent, None, None]:
    """Fire the events of a script; yield each after its handlers if the run is lazy.

    Args:
        course: the script.
        box: the run.
        table: the handlers.
        source: what the script fetches batches from.
        begin: called before anything else.
        lazily: yield the events.

    Raises:
        BaseException: what ended the run, with notes on where; see `last_state`.
    """
    fire = Dispatcher(box, table).fire

    def fire_failure(event: AnyEvent) -> None:
        error = cast("BaseException", box.payload)
        say_where(error, box)
        fire(event)
        if not isinstance(error, Exception) and box.requests.recovery is not None:
            # KeyboardInterrupt and its like leave the run, whatever the handlers answer.
            box.ask(recovery=None)
            error.add_note(
                f"{type(error).__name__} always leaves the run, so recover() had no effect"
            )

    try:
        begin()
        error = yield from pull(course, fire, fire_failure, lazily=lazily)
        if error is None:
            source.look_for_more(box)
            return
        keep_state(error, box.state)
        try:
            if isinstance(error, StopIteration):
                stopped = RuntimeError(f"user code raised StopIteration {where_in_run(box)}")
                keep_state(stopped, box.state)
                raise stopped from error
            raise error
        finally:
            del error  # its traceback holds this frame
    except BaseException as interruption:
        # Ctrl-C can come between any two lines, these here among them.
        if _STATE not in interruption.__dict__:
            keep_state(interruption, box.state)
        raise
    finally:
        course.close()
        source.close()


def pull(
    course: Course,
    fire: Callable[[AnyEvent], None],
    fire_failure: Callable[[AnyEvent], None],
    *,
    lazily: bool,
) -> Course:
    """Pull a script to its end: fire each event, then yield it if the run is lazy.

    What firing raises goes into the script at that event; the script decides what it means.

    Args:
        course: the script.
        fire: fires an event.
        fire_failure: fires EXCEPTION_RAISED.
        lazily: yield the events.

    Returns:
        The exception that ends the run, or None.
    """
    send, failure = course.send, None
    while True:
        try:
            event = send(None) if failure is None else course.throw(failure)
        except StopIteration as end:
            return cast("BaseException | None", end.value)
        finally:
            failure = None
        try:
            if event is _FAILURE:
                fire_failure(event)
            else:
                fire(event)
        except BaseException as error:
            failure = Raised(error)
            continue
        if lazily:
            yield event


def say_where(error: BaseException, box: Box[Any, Any, Any]) -> None:
    """Note on an exception that came from no handler what raised it."""
    event = box.event
    if event is None or box.failure is not Failure.ELSEWHERE:
        return
    place = PHASES[event.name].then if event.name in PHASES else "the step"
    note = f"in {place} {where_in_run(box)}"
    # An exception object may be raised again, there or in another run.
    if place is not None and note not in getattr(error, "__notes__", ()):
        error.add_note(note)


def keep_state(error: BaseException, state: State[Batch, Output, User]) -> None:
    """Keep the last complete state with an exception that leaves a run, for `last_state`."""
    error.__dict__[_STATE] = state


def last_state(error: BaseException) -> State[object, object, object]:
    """Return the last complete state of the run that an exception left.

    It holds the work of every handler of earlier events, and of none of the event that failed.
    `Loop.resume` goes on there: a failed event fires again, a failed step runs again.

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
