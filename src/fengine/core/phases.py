"""Phases: the order of the events of a run, written once.

Each built-in event is one row of `PHASES`. Whatever else knows about order asks a row, or the rank
in it; no other file lists events. The reference automaton of `fengine.testing` is the exception:
it is the oracle that this table is tested against, so it shares nothing with it.

A rank is a point of a run. A run at rank ITERATION_STARTED has fired that event, and all of the
event is done. Ranks grow within an iteration, within an epoch and within a run, so "is there a
batch already" is a comparison of two numbers. Some points have no event: EPOCH_CUT, for instance,
is where an epoch goes that was asked to end.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, final

import attrs

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
    PAUSED,
    EXIT,
    INTERRUPTED,
) = range(18)


@final
class Fires(Enum):
    """Say how often an event fires."""

    IN_EACH_RUN = "once in a run, as number 1"
    IN_EACH_EPOCH = "once in an epoch"
    IN_EACH_ITERATION = "once in an iteration"
    WHERE_DATA_ENDS = "where the data ends before the epoch does"
    ON_REQUEST = "where something was asked for, or something failed"


@final
@attrs.frozen
class Phase:
    """Hold what the order of a run says about one event.

    Args:
        name: the name of the event.
        rank: the point of the run that the event stands for; None for an event that fires beside
            the order, while the state stays at the event before it.
        fires: how often it fires.
        attr: the counter that numbers its firings; None where the loop counts them.
        then: what of the user's runs next, if that is no handler.
        reports: it tells what has happened, so that it is not fired again where a run goes on.
    """

    name: str
    rank: int | None
    fires: Fires
    attr: str | None = None
    then: str | None = None
    reports: bool = False

    @property
    def is_numbered_in_epoch(self) -> bool:
        """Whether several firings in an epoch have different numbers."""
        return self.fires is Fires.IN_EACH_ITERATION


PHASES: Final = {
    phase.name: phase
    for phase in (
        Phase("started", STARTED, Fires.IN_EACH_RUN),
        Phase(
            "epoch_started",
            EPOCH_STARTED,
            Fires.IN_EACH_EPOCH,
            "epoch",
            "starting iteration over the data",
        ),
        Phase(
            "get_batch_started",
            GET_BATCH_STARTED,
            Fires.IN_EACH_ITERATION,
            None,
            "fetching a batch from the data",
        ),
        Phase(
            "dataloader_stop_iteration",
            STOP_ITERATION,
            Fires.WHERE_DATA_ENDS,
            None,
            "fetching a batch from the data started again",
        ),
        Phase("get_batch_completed", GET_BATCH_COMPLETED, Fires.IN_EACH_ITERATION),
        Phase(
            "iteration_started", ITERATION_STARTED, Fires.IN_EACH_ITERATION, "iteration", "the step"
        ),
        Phase("iteration_completed", ITERATION_COMPLETED, Fires.IN_EACH_ITERATION, "iteration"),
        Phase(
            "terminate_single_epoch",
            EPOCH_TERMINATED,
            Fires.ON_REQUEST,
            None,
            "starting iteration over the data again",
        ),
        Phase("epoch_completed", EPOCH_COMPLETED, Fires.IN_EACH_EPOCH, "epoch"),
        Phase("interrupt", None, Fires.ON_REQUEST),
        Phase("terminate", TERMINATED, Fires.ON_REQUEST),
        Phase("exception_raised", None, Fires.ON_REQUEST, reports=True),
        Phase("completed", COMPLETED, Fires.IN_EACH_RUN),
        Phase("exited", None, Fires.IN_EACH_RUN, reports=True),
    )
}


def rank_of(name: str | None) -> int:
    """Return the rank of the event that a state stands at.

    An event of the user's fires within the step, so it has the rank of the event before the step.

    Args:
        name: the name of the event; None before the run.

    >>> rank_of(None) == START, rank_of("chunk_started") == ITERATION_STARTED
    (True, True)
    """
    if name is None:
        return START
    rank = PHASES[name].rank if name in PHASES else ITERATION_STARTED
    if rank is None:
        raise ValueError(f"no state stands at {name}, which fires beside the order of a run")
    return rank


def is_report(name: str) -> bool:
    """Tell whether an event tells what has happened, and is not fired again.

    >>> is_report("exited"), is_report("interrupt"), is_report("chunk_started")
    (True, False, False)
    """
    return name in PHASES and PHASES[name].reports


def is_counted(name: str, attr: str | None) -> bool:
    """Tell whether the loop counts the firings of an event one by one, for nothing else does.

    >>> is_counted("terminate", None), is_counted("completed", None), is_counted("chunk", "chunk")
    (True, False, False)
    """
    if name in PHASES:
        return PHASES[name].fires in (Fires.WHERE_DATA_ENDS, Fires.ON_REQUEST)
    return attr is None


def has_batch_to_come(rank: int) -> bool:
    """Tell whether an iteration is under way whose batch is not there yet."""
    return EPOCH_STARTED <= rank < GET_BATCH_COMPLETED


def has_step_to_come(rank: int) -> bool:
    """Tell whether the step is still to be done with a batch that is there."""
    return GET_BATCH_COMPLETED <= rank < ITERATION_COMPLETED


def is_in_epoch(rank: int) -> bool:
    """Tell whether an epoch has begun and is not over."""
    return EPOCH_STARTED <= rank < EPOCH_OVER


def is_in_iteration(rank: int) -> bool:
    """Tell whether a batch has been asked for, and the iteration it is for is not left."""
    return GET_BATCH_STARTED <= rank <= ITERATION_COMPLETED
