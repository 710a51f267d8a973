"""Failures: what a run keeps with an exception that it met: its last state, and notes on where.

The exception is the user's. What is kept with it is a courtesy: an exception that takes no notes
goes without, a copy or a pickle of it holds no state, and one that is raised again holds what the
newest run has said. Its traceback goes from the call of the run to the code that failed, and
leaves out what lies here between them.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any, Final, final

from typing_extensions import override

from fengine.core.events import Events
from fengine.core.outcome import Failure
from fengine.core.phases import PHASES
from fengine.core.state import State
from fengine.core.table import where_in_run
from fengine.run.box import Box

_KEPT: Final = "_fengine"
_HERE: Final = __file__.removesuffix(os.path.join("run", os.path.basename(__file__)))
_EXAMPLES: Final = os.path.join(_HERE, "examples", "")


@final
class Kept:
    """Hold what runs have kept with an exception; copies and pickles of it hold nothing.

    Args:
        owner: the `id` of the exception, which a copy of it that shares this does not have.

    Attributes:
        state: the last state of the run that the exception left; None if it has left none.
        notes: what the runs have noted.
        failure: the number of the run, and which of its failures that is.
    """

    __slots__ = ("failure", "notes", "owner", "state")

    def __init__(self, owner: int | None = None) -> None:
        self.owner = owner
        self.state: State[Any, Any, Any] | None = None
        self.notes: list[str] = []
        self.failure = (-1, -1)

    @override
    def __reduce__(self) -> tuple[type[Kept], tuple[()]]:
        """Return what `copy` and `pickle` make it of."""
        return Kept, ()


def note(error: BaseException, text: str) -> None:
    """Add a note to an exception, if it takes notes."""
    with contextlib.suppress(Exception):
        if text not in getattr(error, "__notes__", ()):
            error.add_note(text)


def interrupt_of_workers(error: BaseException) -> BaseException:
    """Return the KeyboardInterrupt that a complaint about lost workers has hidden.

    Ctrl-C reaches the workers of a DataLoader, too. Where the DataLoader sees them go before the
    KeyboardInterrupt has left it, it raises a RuntimeError instead. Any other exception is
    returned as it is.
    """
    if is_of_lost_workers(error):
        hidden = error.__context__
        while hidden is not None and not isinstance(hidden, KeyboardInterrupt):
            hidden = hidden.__context__
        return error if hidden is None else hidden
    return error


def is_of_lost_workers(error: BaseException) -> bool:
    """Tell whether an exception is the complaint of a DataLoader whose workers are gone."""
    complains = type(error) is RuntimeError and str(error).startswith("DataLoader worker")
    return complains or type(error) in (ConnectionResetError, BrokenPipeError, EOFError)


def note_failure(error: BaseException, text: str, box: Box[Any, Any, Any]) -> None:
    """Note on an exception what of a run raised it.

    Notes of an earlier failure, whose exception is raised again, are taken away. Those of a run
    within this one stay.
    """
    kept, failure = _kept(error), (box.number, box.answered)
    if kept.failure != failure and kept.failure[0] <= box.number:
        with contextlib.suppress(Exception):
            error.__notes__ = [one for one in error.__notes__ if one not in kept.notes]
        kept.notes = []
    kept.failure = failure
    kept.notes.append(text)
    note(error, text)


def said_of(error: BaseException) -> str:
    """Return the last note that a run has kept with an exception: what raised it, and where."""
    notes = _kept(error).notes
    return notes[-1] if notes else ""


def say_where(error: BaseException, box: Box[Any, Any, Any]) -> None:
    """Note on an exception that came from no handler what raised it."""
    event = box.event
    if event is None or box.failure is not Failure.ELSEWHERE:
        return
    place = PHASES[event.name].then if event.name in PHASES else "the step"
    if place is not None:
        fetching = event is Events.GET_BATCH_STARTED
        number = f" (batch {box.batches + 1} of epoch {box.epoch})" if fetching else ""
        note_failure(error, f"in {place} {where_in_run(box)}{number}", box)


def keep_state(error: BaseException, box: Box[Any, Any, Any]) -> None:
    """Keep the last complete state with an exception that leaves a run, for `last_state`."""
    _kept(error).state = box.state


def leave_out_ours(error: BaseException) -> None:
    """Leave out of a traceback what lies here between the run and what the user has written.

    An exception that comes from no code but ours keeps all of it.
    """
    frames = error.__traceback__
    while frames is not None and _is_ours(frames.tb_frame.f_code.co_filename):
        frames = frames.tb_next
    if frames is not None:
        BaseException.with_traceback(error, frames)  # also of one that refuses to be changed


def _is_ours(file: str) -> bool:
    return file.startswith(_HERE) and not file.startswith(_EXAMPLES)


def last_state(error: BaseException) -> State[object, object, object]:
    """Return the last complete state of the run that an exception left.

    It holds the work of every handler that has returned, but for those of INTERRUPT,
    EXCEPTION_RAISED and EXITED where one of them failed. `Loop.resume` goes on there: a failed
    handler is called again, and those after it; a failed step runs again.

    Raises:
        LookupError: the exception did not come out of a run, or is a copy of one that did.

    >>> from fengine import Loop, outputs
    >>> try:
    ...     Loop(outputs(lambda batch: 1 // batch)).run([2, 1, 0])
    ... except ZeroDivisionError as error:
    ...     print(last_state(error).iteration)
    3
    """
    kept = _kept(error)
    if kept.state is None:
        raise LookupError(
            f"{error!r} did not come out of a run, or is a copy of what did, so it has no state"
        )
    return kept.state


def _kept(error: BaseException) -> Kept:
    kept = error.__dict__.get(_KEPT)
    if not isinstance(kept, Kept) or kept.owner != id(error):
        kept = error.__dict__[_KEPT] = Kept(id(error))
    return kept
