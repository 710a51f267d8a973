"""Traces: what fired in a run, judged by the reference automaton.

A trace is a sequence of names of events, of events, or of moments. The more is known of a firing,
the sharper is the verdict: of a bare name only the order counts, of a moment its counters, limits
and requests too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from typing import Any, TypeAlias, final

import attrs
from immutables import Map

from fengine.core.events import AnyEvent, Event, Events, PayloadEvent
from fengine.core.outcome import Failure, Status
from fengine.core.requests import Requests
from fengine.core.semantics import Semantics
from fengine.loop import Moment
from fengine.testing.automaton import (
    ANYWHERE,
    AUTOMATON,
    CONDITIONS,
    START,
    Automaton,
    Move,
    Standing,
)


@final
@attrs.frozen
class Fired:
    """Note that an event fired, and what is known of the run after its handlers.

    Args:
        event: the name of the event.
        epoch: the number of the epoch.
        iteration: the number of the iteration.
        requests: what was asked for there, or is open; None if that is unknown.
        known: the conditions of the automaton whose answer is known, by name.

    >>> Fired("epoch_started", epoch=1).iteration is None
    True
    """

    event: str
    epoch: int | None = None
    iteration: int | None = None
    requests: Requests | None = None
    known: Mapping[str, bool] = Map()


Firing: TypeAlias = str | AnyEvent | Moment[Any, Any, Any] | Fired


def assert_word(
    trace: Iterable[Firing],
    *,
    semantics: Semantics | None = None,
    data: bool | None = None,
    emitted: Iterable[AnyEvent] = (),
    start: str = START,
    complete: bool = True,
) -> None:
    """Assert that a trace is one that a run can leave.

    Args:
        trace: names of events, events, moments of `Loop.iterate`, or `Fired`, in their order.
        semantics: when stops act; None: either way.
        data: whether the run has data; None if that is unknown.
        emitted: own events that the stages of the step emit, in their order.
        start: the name of the event after which a run was resumed.
        complete: the trace goes to the end of the run; False: it may stop anywhere.

    Raises:
        AssertionError: it is none; the message says at which place and why.
        TypeError: something in the trace is none of these, or the trace is a lone name.
        ValueError: no run can be resumed after `start`.

    >>> from fengine import Loop, outputs
    >>> assert_word(Loop(outputs(abs)).iterate([-1, -2], max_epochs=2))
    >>> assert_word(["started", "epoch_started", "epoch_completed"])
    Traceback (most recent call last):
    AssertionError: firing 3 is EPOCH_COMPLETED, which cannot follow EPOCH_STARTED; there may follow
      EXCEPTION_RAISED, where something raises
      TERMINATE, where terminate() is asked for, and a stop acts at once (IGNITE_0_5_5)
      ...
    """
    if isinstance(trace, str):
        raise TypeError(f"{trace!r} is one name, and no trace; give [{trace!r}]")
    known = {} if data is None else {"data": data}
    if semantics is not None:
        known["at once"] = not semantics.finish_iteration
    begin = Standing(start, asked=Requests() if start == START else None)
    automaton = AUTOMATON.emitting(*(event.name for event in emitted))
    starts = {name for move in automaton.moves for name in move.at if name.isidentifier()}
    starts = (starts | {"exited"}) - {ANYWHERE}
    if start not in starts:
        known_places = ", ".join(sorted(starts))
        raise ValueError(f"start={start!r} is no place to begin at; known: {known_places}")
    ends = follow(automaton, {begin}, trace, known)
    if complete and not any(standing.at == "exited" for standing in ends):
        places = " or ".join(sorted({_shown(standing.at) for standing in ends}))
        raise AssertionError(f"the trace stops at {places}, before EXITED")


def follow(
    automaton: Automaton,
    standings: Set[Standing],
    trace: Iterable[Firing],
    known: Mapping[str, bool],
) -> Set[Standing]:
    """Follow a trace through an automaton.

    Args:
        automaton: the moves.
        standings: where the run may stand before the trace.
        trace: as for `assert_word`.
        known: the conditions whose answer is known at any time.

    Returns:
        Where the run may stand after the trace.

    Raises:
        AssertionError: nowhere: no run leaves this trace.
        TypeError: something in the trace is no firing.

    >>> [after] = follow(AUTOMATON, {Standing()}, ["started"], {})
    >>> after.at
    'started'
    """
    before: Fired | None = None
    start = " or ".join(sorted({_shown(standing.at) for standing in standings}))
    for number, fired in enumerate(_noted(trace), start=1):
        now = known if before is None else {**known, **before.known}
        ways = [way for standing in standings for way in automaton.next_events(standing, now)]
        standings = {_told(after, fired) for move, after in ways if move.to == fired.event}
        if not standings:
            raise AssertionError(
                _refusal(number, fired, before or start, [move for move, _ in ways])
            )
        if before is not None:
            _check_counters(number, fired, before)
        before = fired
    return standings


def _told(standing: Standing, fired: Fired) -> Standing:
    if fired.requests is None:
        return attrs.evolve(standing, asked=None)
    return standing.asking(fired.requests)


def _check_counters(number: int, fired: Fired, before: Fired) -> None:
    for counter, event in (("epoch", "epoch_started"), ("iteration", "iteration_started")):
        old, new = getattr(before, counter), getattr(fired, counter)
        if None in (old, new) or new == old + (fired.event == event):
            continue
        raise AssertionError(
            f"firing {number}: the {counter} goes from {old} at {_shown(before.event)} to {new} at "
            f"{_shown(fired.event)}; it grows by 1 at each {_shown(event)}, and nowhere else"
        )


def _refusal(number: int, fired: Fired, before: Fired | str, moves: list[Move]) -> str:
    place = before if isinstance(before, str) else _shown(before.event)
    if isinstance(before, Fired) and before.iteration is not None:
        place += f" (epoch {before.epoch}, iteration {before.iteration})"
    message = f"firing {number} is {_shown(fired.event)}, which cannot follow {place}; there "
    if not moves:
        return f"{message}may follow nothing"
    ways = []
    for move in moves:
        where = ", and ".join(CONDITIONS[condition] for condition in move.when)
        ways.append(f"  {_shown(move.to)}" + (f", where {where}" if where else ""))
    return "\n".join([f"{message}may follow", *dict.fromkeys(ways)])


def _shown(event: str) -> str:
    if event == START:
        return "the start"
    return event.upper() if event.isidentifier() else event


def _noted(trace: Iterable[Firing]) -> Iterator[Fired]:
    """Note what is known of each firing; a moment tells of the failed ones before it too."""
    last = ""
    for item in trace:
        if isinstance(item, Moment):
            notes = [*_failed_before(item, last), _of_moment(item)]
        elif isinstance(item, Event | PayloadEvent):
            notes = [Fired(item.name)]
        elif isinstance(item, str):
            notes = [Fired(item)]
        elif isinstance(item, Fired):
            notes = [item]
        else:
            raise TypeError(
                f"{item!r} of type {type(item).__name__} is not a firing: a trace holds events, "
                "their names, moments of Loop.iterate, or Fired"
            )
        yield from notes
        last = notes[-1].event


def _of_moment(moment: Moment[Any, Any, Any]) -> Fired:
    state = moment.state
    limits = state.limits
    known = {
        "full": state.batches == limits.epoch_length,
        "max_iters": limits.max_iters is not None and state.iteration >= limits.max_iters,
        "done": limits.are_reached(state.epoch, state.iteration),
        "used up": False,  # which is an error in a Loop
    }
    return Fired(moment.event.name, state.epoch, state.iteration, state.requests, known)


def _failed_before(moment: Moment[Any, Any, Any], last: str) -> Iterator[Fired]:
    """Note the firings that gave no moment, because a handler of theirs raised."""
    state, failure = moment.state, moment.state.failure
    missing = []
    if moment.event is Events.EXCEPTION_RAISED or (
        moment.event is Events.EXITED and failure is not None and last != "exception_raised"
    ):
        if state.status is Status.INTERRUPTED:
            missing.append("interrupt")
        elif failure is Failure.AT_EVENT and state.event is not None:
            missing.append(state.event.name)
        if moment.event is Events.EXITED:
            missing.append("exception_raised")
    for name in missing:
        yield Fired(name, state.epoch, state.iteration, Requests())
