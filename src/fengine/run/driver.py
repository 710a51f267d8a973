"""The driver: it pulls the script, and fires what the script names.

This is the one place where the handlers of a Loop run. What a handler raises goes into the script
at the event where it happened. A driver that is dropped closes its script and its source, and
reports no failure.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Final, Protocol, cast

from fengine.core.events import AnyEvent, Events
from fengine.core.state import Batch, Output, User
from fengine.core.table import Compiled, where_in_run
from fengine.run.box import Box, Raised
from fengine.run.failures import note, say_where
from fengine.run.firing import Dispatcher

Course = Generator[AnyEvent, None, BaseException | None]
_FAILURE: Final = Events.EXCEPTION_RAISED


class Ending(Protocol):
    """Be what a source does at the end of a run."""

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
        BaseException: what ended the run, with notes on where.
    """
    fire = Dispatcher(box, table).fire

    def fire_failure(event: AnyEvent) -> None:
        error = cast("BaseException", box.payload)
        say_where(error, box)
        fire(event)
        if not isinstance(error, Exception) and box.requests.recovery is not None:
            # KeyboardInterrupt and its like leave the run, whatever the handlers answer.
            box.ask(recovery=None)
            note(error, f"{type(error).__name__} always leaves the run, so recover() had no effect")

    failure: Raised | None = None
    error: BaseException | None = None
    try:
        begin()
        while True:
            try:
                error = yield from pull(course, fire, fire_failure, failure, lazily=lazily)
                break
            except GeneratorExit:
                raise
            except BaseException as stray:  # a signal, between two lines of the driver
                failure = Raised(stray)
        if error is None:
            return
        try:
            if isinstance(error, StopIteration):
                stopped = RuntimeError(f"user code raised StopIteration {where_in_run(box)}")
                raise stopped from error
            raise error
        finally:
            del error, failure  # their tracebacks hold this frame
    finally:
        course.close()
        source.close()


def pull(
    course: Course,
    fire: Callable[[AnyEvent], None],
    fire_failure: Callable[[AnyEvent], None],
    failure: Raised | None = None,
    *,
    lazily: bool,
) -> Course:
    """Pull a script to its end: fire each event, then yield it if the run is lazy.

    What firing raises goes into the script at that event; the script decides what it means.

    Args:
        course: the script.
        fire: fires an event.
        fire_failure: fires EXCEPTION_RAISED.
        failure: what the driver has met since it pulled last, to go into the script first.
        lazily: yield the events.

    Returns:
        The exception that ends the run, or None.
    """
    send = course.send
    while True:
        try:
            try:
                event = send(None) if failure is None else course.throw(failure)
            except StopIteration as end:
                return cast("BaseException | None", end.value)
            except Raised as unheard:  # the script is at its end already
                return unheard.error
            finally:
                failure = None  # its traceback holds this frame
            if event is _FAILURE:
                fire_failure(event)
            else:
                fire(event)
        except BaseException as error:
            failure = Raised(error)
            continue
        if lazily:
            yield event
