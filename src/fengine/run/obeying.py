"""Obeying: where the requests of handlers, and the answers to an exception, lead.

This is the one place that ranks requests. To obey is to jump: the script leaves the place where it
is, and goes on from another rank of the run. So stopping, pausing, recovering and resuming are all
the same to the script.

Nothing here moves the run on, and nothing here fires an event.
"""

from __future__ import annotations

from typing import final

from fengine.core.events import AnyEvent, Events, rank_at
from fengine.core.outcome import Failure, Status
from fengine.core.phases import (
    EPOCH_COMPLETED,
    EPOCH_CUT,
    EPOCH_OVER,
    EPOCH_STARTED,
    EXIT,
    INTERRUPTED,
    ITERATION_COMPLETED,
    ITERATION_STARTED,
    PAUSED,
    STARTED,
    STOPPED,
    is_in_epoch,
    is_in_iteration,
)
from fengine.core.requests import NO_REQUESTS, Recovery, RequestError, TerminateEpoch
from fengine.core.state import Batch, Output, User
from fengine.run.box import Box


@final
class Jump(Exception):
    """Leave the current place for the rank `to`; never leaves the script."""

    def __init__(self, to: int) -> None:
        self.to = to
        super().__init__(to)


def obey(box: Box[Batch, Output, User], *, finish_iteration: bool, no_batch: bool = False) -> None:
    """Jump to where the requests lead: a terminate, else a terminate_epoch, else an interrupt.

    Args:
        box: the run.
        finish_iteration: a stop waits for the end of the iteration.
        no_batch: there is no iteration to wait for, since the data has no batch for it.

    Raises:
        Jump: something is to be obeyed here.
        RequestError: a request makes no sense here.
    """
    requests, at = box.requests, rank_at(box.event)
    waits = finish_iteration and not no_batch and EPOCH_STARTED <= at <= ITERATION_STARTED
    refuse_recovery(box)
    if not _is_agreed(box, box.event):
        return
    if requests.terminate is not None and not waits:
        raise Jump(STOPPED)
    if requests.terminate_epoch is not None and not waits:
        if at in (STARTED, EPOCH_STARTED) and not finish_iteration:
            raise RequestError(
                f"terminate_epoch() was asked for at {box.event!r}, before any batch of an epoch; "
                "ask for it from GET_BATCH_STARTED on"
            )
        if at != STARTED:
            raise Jump(EPOCH_CUT)
    if requests.interrupt is not None:
        raise Jump(PAUSED)


def was_asked_since(box: Box[Batch, Output, User], *, finish_iteration: bool) -> bool:
    """Tell whether a stop that was asked for since the run was paused acts before anything else."""
    requests, at = box.requests, rank_at(box.event)
    if at in (STARTED, EPOCH_COMPLETED):
        return requests.terminate is not None
    stops = requests.terminate is not None or requests.terminate_epoch is not None
    return finish_iteration and stops and not EPOCH_STARTED <= at <= ITERATION_STARTED


def refuse_recovery(box: Box[Batch, Output, User]) -> None:
    """Refuse a recovery where there is nothing to recover from.

    Raises:
        RequestError: one was asked for; it is taken out first.
    """
    recovery = box.requests.recovery
    if recovery is not None:
        box.ask(recovery=None)
        raise RequestError(
            f"recover({recovery.name}) was asked for at {box.event!r}, where nothing had failed; "
            "recover in a handler of Events.EXCEPTION_RAISED"
        )


def ends_silently(box: Box[Batch, Output, User]) -> bool:
    """Tell whether an epoch ends without EPOCH_COMPLETED."""
    silent = box.requests.terminate_epoch is TerminateEpoch.SILENT
    return silent and _is_agreed(box, Events.EPOCH_COMPLETED)


def _is_agreed(box: Box[Batch, Output, User], event: AnyEvent | None) -> bool:
    """Tell whether a request acts at an event: on several ranks, once all have agreed there."""
    return not box.is_shared or box.agreed is event


def end_epoch(box: Box[Batch, Output, User], *, finish_iteration: bool) -> None:
    """Forget a request to end the epoch, and obey the others.

    Raises:
        Jump: something is to be obeyed here.
        RequestError: a request makes no sense here.
    """
    if box.requests is NO_REQUESTS:
        return
    box.ask(terminate_epoch=None)
    obey(box, finish_iteration=finish_iteration)


def recovered(box: Box[Batch, Output, User]) -> int:
    """Take the answer to an exception out of the requests, and return where it leads.

    A request that was refused is taken out too where the run goes on; it would be refused again.
    """
    recovery, at = box.requests.recovery, rank_at(box.event)
    goes_on = recovery is not Recovery.END_RUN
    if box.failure is Failure.REFUSED and goes_on:
        requests = box.asking(recovery=None, terminate_epoch=None)
    else:
        requests = box.asking(recovery=None)
    box.requests, box._notes, box._handled, box.answered = (
        requests,
        box.noting(failure=None),
        None,
        box.answered + 1,
    )
    if recovery is Recovery.END_RUN:
        return EXIT
    if box.status is Status.INTERRUPTED:
        return INTERRUPTED
    if recovery is Recovery.END_EPOCH and is_in_epoch(at):
        return EPOCH_OVER
    if recovery is Recovery.SKIP_BATCH and is_in_iteration(at):
        box.event = Events.ITERATION_COMPLETED
        return ITERATION_COMPLETED
    return at
