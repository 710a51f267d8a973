"""Ranks: the points of a run in their order, and where requests and recoveries lead.

A rank says what is behind: a run at rank ITERATION_STARTED has fired that event. The script enters
its loop with a rank, so that to resume, to stop and to recover are all the same: going on from
another one.
"""

from __future__ import annotations

from typing import Final, final

import attrs

from fengine.core.events import Events
from fengine.core.ledger import Failure
from fengine.core.outcome import Status
from fengine.core.ports import Box
from fengine.core.requests import NO_REQUESTS, Recovery, RequestError
from fengine.core.semantics import Semantics
from fengine.core.state import Batch, Output, State, User, with_requests
from fengine.core.transitions import at_event, with_failure


@final
class Jump(Exception):
    """Leave the current place for the rank `to`; never leaves the script."""

    def __init__(self, to: int) -> None:
        self.to = to
        super().__init__(to)


(
    START,
    STARTED,
    EPOCH_STARTED,
    GET_BATCH_STARTED,
    STOP_ITERATION,
    GET_BATCH_COMPLETED,
    ITERATION_STARTED,
    ITERATION_COMPLETED,
    EPOCH_OVER,
    EPOCH_CUT,
    EPOCH_TERMINATED,
    EPOCH_COMPLETED,
    STOPPED,
    TERMINATED,
    COMPLETED,
    EXIT,
    PAUSED,
) = range(17)

RANKS: Final = {
    "started": STARTED,
    "epoch_started": EPOCH_STARTED,
    "get_batch_started": GET_BATCH_STARTED,
    "dataloader_stop_iteration": STOP_ITERATION,
    "get_batch_completed": GET_BATCH_COMPLETED,
    "iteration_started": ITERATION_STARTED,
    "iteration_completed": ITERATION_COMPLETED,
    "terminate_single_epoch": EPOCH_TERMINATED,
    "epoch_completed": EPOCH_COMPLETED,
    "terminate": TERMINATED,
    "completed": COMPLETED,
}


# Where a stop waits for the end of the iteration, if the semantics say so.
_BEFORE_STEP: Final = frozenset(
    {
        "epoch_started",
        "get_batch_started",
        "dataloader_stop_iteration",
        "get_batch_completed",
        "iteration_started",
    }
)

# Behind which requests are obeyed on entering; the others are followed by no such check.
OBEYED: Final = frozenset(range(STARTED, EPOCH_OVER))


def rank(state: State[Batch, Output, User]) -> int:
    """Give the rank of the event that a state stands at; within the step, that before it."""
    return START if state.event is None else RANKS.get(state.event.name, ITERATION_STARTED)


def obey(box: Box[Batch, Output, User], semantics: Semantics, *, no_batch: bool = False) -> None:
    """Jump to where the requests lead; the one place that ranks them.

    A terminate goes before a terminate_epoch, and that before an interrupt.

    Raises:
        RequestError: a request makes no sense here.
    """
    requests, event = box.state.requests, box.state.event
    name = "" if event is None else event.name
    waits = semantics.finish_iteration and not no_batch and name in _BEFORE_STEP
    refuse_recovery(box)
    if requests.terminate is not None and not waits:
        raise Jump(STOPPED)
    if requests.terminate_epoch is not None and not waits:
        if name in ("started", "epoch_started") and not semantics.finish_iteration:
            raise RequestError(
                f"terminate_epoch() was asked for at {event!r}, before any batch of an epoch; "
                "ask for it from GET_BATCH_STARTED on"
            )
        if name != "started":
            raise Jump(EPOCH_CUT)
    if requests.interrupt is not None:
        raise Jump(PAUSED)


def asked_since(state: State[Batch, Output, User], semantics: Semantics) -> bool:
    """Tell whether a stop that was asked for since a run was paused acts before anything else."""
    name = "" if state.event is None else state.event.name
    requests = state.requests
    if name in ("started", "epoch_completed"):
        return requests.terminate is not None
    stops = requests.terminate is not None or requests.terminate_epoch is not None
    return semantics.finish_iteration and stops and name not in _BEFORE_STEP


def refuse_recovery(box: Box[Batch, Output, User]) -> None:
    """Refuse a recovery where there is nothing to recover from.

    Raises:
        RequestError: one was asked for; it is taken out first.
    """
    requests = box.state.requests
    if requests.recovery is not None:
        box.state = with_requests(box.state, attrs.evolve(requests, recovery=None))
        raise RequestError(
            f"recover({requests.recovery.name}) was asked for at {box.state.event!r}, where "
            "nothing had failed; recover in a handler of Events.EXCEPTION_RAISED"
        )


def end_of_epoch(box: Box[Batch, Output, User], semantics: Semantics) -> None:
    """Forget a request to end the epoch, and obey the others."""
    requests = box.state.requests
    if requests.terminate_epoch is not None:
        box.state = with_requests(box.state, attrs.evolve(requests, terminate_epoch=None))
    if box.state.requests is not NO_REQUESTS:
        obey(box, semantics)


def after_recovery(box: Box[Batch, Output, User]) -> int:
    """Take the recovery out of the state, and give the rank from which it goes on.

    A request that was refused goes out with it where the run goes on, or it were refused again.
    """
    recovery, at = box.state.requests.recovery, rank(box.state)
    requests = attrs.evolve(box.state.requests, recovery=None)
    if box.state.ledger.failure is Failure.REFUSED and recovery is not Recovery.END_RUN:
        requests = attrs.evolve(requests, terminate_epoch=None)
    box.state = with_failure(with_requests(box.state, requests), None)
    if recovery is Recovery.END_RUN:
        return EXIT
    if box.state.status is Status.INTERRUPTED:
        return PAUSED
    if recovery is Recovery.END_EPOCH and EPOCH_STARTED <= at < EPOCH_OVER:
        return EPOCH_OVER
    if recovery is Recovery.SKIP_BATCH and EPOCH_STARTED < at < EPOCH_OVER:
        box.state = at_event(box.state, Events.ITERATION_COMPLETED)
        return ITERATION_COMPLETED
    return at
