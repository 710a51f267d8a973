"""The reference automaton: what may come next in a run, as one table.

A run stands at a place: the last event, or a point between two events that has no event of its own.
At a place the moves are tried from the top, and the first whose conditions all hold says where the
run goes. INTERRUPT and EXCEPTION_RAISED fire beside the order, so the run keeps its place at them.

The table is plain data. Here it judges traces; `drawing` makes the pictures and tables of the
documentation from it. Where a condition is unknown, as in a trace of bare names, both answers are
tried, so that a trace is refused only if no run could have left it.

Does not live here: what handlers, data and steps do (`program`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Final, final

import attrs

from fengine.core.requests import NO_REQUESTS, Recovery, Requests, Terminate, TerminateEpoch

ANYWHERE: Final = "anywhere"
START: Final = "start"


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(", ")) if text else ()


@final
@attrs.frozen
class Move:
    """Say where a run goes from a place.

    Args:
        at: the places, by name, with a comma between; ANYWHERE for all but the last one.
        when: the conditions, by name, with a comma between; see `CONDITIONS`.
        to: the place that comes next. A place that is an event is reached by firing it.
        silent: reach that place without firing the event.
        forgets: the request that is no longer open then.

    >>> Move("completed", "", "exited").to
    'exited'
    """

    at: tuple[str, ...] = attrs.field(converter=_names)
    when: tuple[str, ...] = attrs.field(converter=_names)
    to: str
    silent: bool = attrs.field(default=False, kw_only=True)
    forgets: str | None = attrs.field(default=None, kw_only=True)


CONDITIONS: Final[Mapping[str, str]] = {
    "terminate": "terminate() is asked for",
    "terminate_epoch": "terminate_epoch() is asked for",
    "interrupt": "interrupt() is asked for",
    "skip_completed": "terminate(skip_completed=True) is asked for",
    "skip_epoch_completed": "terminate_epoch(skip_epoch_completed=True) is asked for",
    "at once": "a stop acts at once (IGNITE_0_5_5)",
    "data": "the run has data",
    "batch": "the data gives a batch",
    "restart": "the data has ended, and the epoch has not",
    "used up": "the data of an Engine gives nothing more, and max_iters is not reached",
    "full": "the epoch has all its batches",
    "max_iters": "max_iters is reached",
    "done": "the limits are reached",
    "raises": "something raises",
    "paused": "INTERRUPT has fired",
    "failed": "EXCEPTION_RAISED has fired",
    "skip_batch": "SKIP_BATCH is the answer",
    "end_epoch": "END_EPOCH is the answer",
    "no answer": "no answer has the run go on",
}

_FETCHING = "get_batch_started, dataloader_stop_iteration, get_batch_completed"
_BEFORE_STEP = f"epoch_started, {_FETCHING}, iteration_started"
_ITERATION = f"{_FETCHING}, iteration_started, iteration_completed"

MOVES: Final = (
    # Beside the order of a run.
    Move(ANYWHERE, "failed, no answer", "exited"),
    Move(ANYWHERE, "failed, paused", "exited"),
    Move(ANYWHERE, "raises", "exception_raised"),
    Move(ANYWHERE, "paused", "exited"),
    Move(_ITERATION, "failed, skip_batch", "iteration_completed", silent=True),
    Move(f"epoch_started, {_ITERATION}", "failed, end_epoch", "cut epoch", silent=True),
    # A run begins.
    Move(START, "", "started"),
    Move("started", "terminate", "terminate"),
    Move("started", "terminate_epoch, at once", "exception_raised", forgets="terminate_epoch"),
    Move("started", "interrupt", "interrupt", forgets="interrupt"),
    Move("started", "done", "completed"),
    Move("started", "", "epoch_started"),
    # Up to the step, where a stop may have to wait.
    Move(_BEFORE_STEP, "terminate, at once", "terminate"),
    Move("epoch_started", "terminate_epoch, at once", "exception_raised",
         forgets="terminate_epoch"),
    Move(_BEFORE_STEP, "terminate_epoch, at once", "terminate_single_epoch"),
    Move(_BEFORE_STEP, "interrupt", "interrupt", forgets="interrupt"),
    Move("epoch_started", "", "next batch", silent=True),
    Move("next batch", "data", "get_batch_started"),
    Move("next batch", "", "iteration_started"),
    Move("get_batch_started, dataloader_stop_iteration", "batch", "get_batch_completed"),
    Move("get_batch_started", "restart", "dataloader_stop_iteration"),
    Move("get_batch_started, dataloader_stop_iteration", "", "no batch", silent=True),
    Move("no batch", "terminate", "terminate"),
    Move("no batch", "terminate_epoch", "terminate_single_epoch"),
    Move("no batch", "", "end of epoch", silent=True),
    Move("get_batch_completed", "", "iteration_started"),
    Move("iteration_started", "", "iteration_completed"),
    # After the step.
    Move("iteration_completed", "terminate", "terminate"),
    Move("iteration_completed", "terminate_epoch", "terminate_single_epoch"),
    Move("iteration_completed", "interrupt", "interrupt", forgets="interrupt"),
    Move("iteration_completed", "full", "end of epoch", silent=True),
    Move("iteration_completed", "max_iters", "terminate"),
    Move("iteration_completed", "", "next batch", silent=True),
    # An epoch ends, and another one begins.
    Move("terminate_single_epoch, cut epoch", "skip_epoch_completed",
         "between epochs", silent=True, forgets="terminate_epoch"),
    Move("terminate_single_epoch, cut epoch, end of epoch", "", "epoch_completed"),
    Move("epoch_completed", "", "between epochs", silent=True, forgets="terminate_epoch"),
    Move("between epochs", "terminate", "terminate"),
    Move("between epochs", "used up", "terminate"),
    Move("between epochs", "interrupt", "interrupt", forgets="interrupt"),
    Move("between epochs", "done", "completed"),
    Move("between epochs", "", "epoch_started"),
    # A run ends.
    Move("terminate", "skip_completed", "exited"),
    Move("terminate", "", "completed"),
    Move("completed", "", "exited"),
)  # fmt: skip


def joined(asked: Requests, more: Requests) -> Requests:
    """Join requests with later ones, which replace those of the same kind.

    >>> from fengine import State
    >>> joined(State().interrupt().requests, State().terminate().requests).interrupt is None
    False
    """
    new = attrs.asdict(more, recurse=False, filter=lambda _, kind: kind is not None)
    return attrs.evolve(asked, **new)


@final
@attrs.frozen
class Standing:
    """Say where a run stands.

    Args:
        at: the place.
        paused: whether INTERRUPT has fired there.
        failed: whether EXCEPTION_RAISED has fired there.
        asked: the requests that are open; None where they are unknown.

    >>> Standing().at
    'start'
    """

    at: str = START
    paused: bool = False
    failed: bool = False
    asked: Requests | None = NO_REQUESTS

    def asking(self, requests: Requests) -> Standing:
        """Stand there with more requests open, in place of those of the same kind."""
        if self.asked is None:
            return self
        return attrs.evolve(self, asked=joined(self.asked, requests))

    def after(self, move: Move) -> Standing:
        """Stand where a move leads."""
        asked = self.asked
        if asked is not None and move.forgets is not None:
            asked = attrs.evolve(asked, **{move.forgets: None})
        if move.to == "interrupt":
            return attrs.evolve(self, paused=True, asked=asked)
        if asked is not None:
            asked = attrs.evolve(asked, recovery=None)
        if move.to == "exception_raised":
            return attrs.evolve(self, failed=True, asked=asked)
        return Standing(move.to, asked=asked)

    def holds(self, condition: str, known: Mapping[str, bool]) -> bool | None:
        """Tell whether a condition holds here; None where that is unknown."""
        if condition in ("paused", "failed"):
            return self.paused if condition == "paused" else self.failed
        if condition not in _ASKED:
            return known.get(condition)
        return None if self.asked is None else _ASKED[condition](self.asked)


_ASKED: Final[Mapping[str, Callable[[Requests], bool]]] = {
    "terminate": lambda asked: asked.terminate is not None,
    "terminate_epoch": lambda asked: asked.terminate_epoch is not None,
    "interrupt": lambda asked: asked.interrupt is not None,
    "skip_completed": lambda asked: asked.terminate is Terminate.SILENT,
    "skip_epoch_completed": lambda asked: asked.terminate_epoch is TerminateEpoch.SILENT,
    "skip_batch": lambda asked: asked.recovery is Recovery.SKIP_BATCH,
    "end_epoch": lambda asked: asked.recovery is Recovery.END_EPOCH,
    "no answer": lambda asked: asked.recovery in (None, Recovery.END_RUN),
}


@final
@attrs.frozen
class Automaton:
    """Hold the moves of a run, and follow them.

    Args:
        moves: the table; the first move that applies is taken.

    >>> for move, there in AUTOMATON.next_events(Standing("completed"), {"raises": False}):
    ...     print(move.to)
    exited
    """

    moves: tuple[Move, ...] = MOVES

    def emitting(self, *names: str) -> Automaton:
        """Give the automaton of a run whose step emits own events, in this order."""
        moves: list[Move] = []
        chain = ("iteration_started", *names, "iteration_completed")
        for move in self.moves:
            if move == Move("iteration_started", "", "iteration_completed"):
                moves.extend(Move(at, "", to) for at, to in itertools.pairwise(chain))
            elif "failed" in move.when and "iteration_started" in move.at:
                within = ", ".join((*move.at, *names))
                moves.append(Move(within, ", ".join(move.when), move.to, silent=move.silent))
            else:
                moves.append(move)
        return Automaton(tuple(moves))

    def next_events(
        self, standing: Standing, known: Mapping[str, bool]
    ) -> Iterator[tuple[Move, Standing]]:
        """Give the moves that may fire the next event, each with where the run stands then.

        Args:
            standing: where the run stands.
            known: the conditions whose answer is known; that of requests, `standing` knows.
        """
        for move in self.moves:
            if standing.at not in move.at and (move.at != (ANYWHERE,) or standing.at == "exited"):
                continue
            answers = [standing.holds(condition, known) for condition in move.when]
            if False in answers:
                continue
            if move.silent:
                yield from self.next_events(standing.after(move), known)
            else:
                yield move, standing.after(move)
            if None not in answers:
                return


AUTOMATON: Final = Automaton()
"""The order of events of a run, under the semantics that a Loop has."""
