"""The driver: it pulls the script, and has what the script names fired.

What firing raises goes into the script at the event where it happened. So does a signal between two
lines of the driver. A driver that is dropped closes its script and its source, and reports no
failure. Neither does one in a process that did not begin the run: there an exception only leaves.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Generator
from typing import Final, Protocol, TypeAlias, TypeVar, cast

from fengine.core.events import AnyEvent, Events
from fengine.core.state import Batch, Output, User
from fengine.core.table import Compiled, where_in_run
from fengine.run.box import Box, Raised, call_none
from fengine.run.failures import note, say_where
from fengine.run.firing import Dispatcher, dispatching
from fengine.run.preemption import watching
from fengine.run.together import Together

Shown = TypeVar("Shown")
Course: TypeAlias = Generator[AnyEvent, None, BaseException | None]
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
    show: Callable[[AnyEvent], Shown] | None = None,
    together: Together | None = None,
) -> Generator[Shown, None, None]:
    """Fire the events of a script; yield what is shown of each after its handlers.

    What is thrown into it where it waits is taken for what the handlers of that event raised.

    Args:
        course: the script.
        box: the run.
        table: the handlers.
        source: what the script fetches batches from.
        begin: called before anything else.
        show: makes what is yielded of an event; None to yield nothing.
        together: has the run be one on several ranks; None on one.

    Raises:
        BaseException: what ended the run, with notes on where.
    """
    fire = dispatching(box, table)
    box.again = Dispatcher(box, table).again
    if together is not None:
        fire = together.agreeing_after(fire)
    if box.preemption is not None:
        fire = watching(fire, box, box.preemption)

    def fire_failure(event: AnyEvent) -> None:
        error = cast("BaseException", box.payload)
        say_where(error, box)
        leaving = box.payload = error if together is None else together.tell(error)
        fire(event)
        stays = not isinstance(error, Exception) or together is not None
        if stays and box.requests.recovery is not None:
            # KeyboardInterrupt and its like leave the run, whatever the handlers answer.
            box.ask(recovery=None)
            why = f"{type(error).__name__} always leaves the run"
            if together is not None:
                why = f"one of {together.ranks.size} ranks cannot go on by itself"
            note(leaving, f"{why}, so recover() had no effect")
        if leaving is not error:
            raise leaving

    failure: Raised | None = None
    error: BaseException | None = None
    process = os.getpid()
    try:
        begin()
        while True:
            try:
                error = yield from pull(course, fire, fire_failure, failure, show)
                break
            except GeneratorExit:
                raise
            except BaseException as stray:  # a signal, between two lines of the driver
                if os.getpid() != process:
                    raise
                failure = Raised(stray)
        if error is None:
            return
        if together is not None:
            error = together.tell(error)
        try:
            if isinstance(error, StopIteration):
                stopped = RuntimeError(f"user code raised StopIteration {where_in_run(box)}")
                raise stopped from error
            raise error
        finally:
            del error, failure  # their tracebacks hold this frame
    except BaseException:
        with contextlib.suppress(Exception):  # it is the exception above that leaves
            course.close()
            source.close()
        raise
    finally:
        course.close()
        source.close()
        box.again = call_none  # which the dispatcher would hold, and the box it


def pull(
    course: Course,
    fire: Callable[[AnyEvent], None],
    fire_failure: Callable[[AnyEvent], None],
    failure: Raised | None = None,
    show: Callable[[AnyEvent], Shown] | None = None,
) -> Generator[Shown, None, BaseException | None]:
    """Pull a script to its end: fire each event, then yield what is shown of it.

    What firing raises goes into the script at that event; the script decides what it means. In a
    process that was forked meanwhile it leaves at once: the handlers of the end are its parent's.

    Args:
        course: the script.
        fire: fires an event.
        fire_failure: fires EXCEPTION_RAISED.
        failure: what the driver has met since it pulled last, to go into the script first.
        show: makes what is yielded of an event; None to yield nothing.

    Returns:
        The exception that ends the run, or None.
    """
    send, process = course.send, os.getpid()
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
            if os.getpid() != process:
                raise
            failure = Raised(error)
            continue
        if show is not None:
            yield show(event)
