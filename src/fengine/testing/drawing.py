"""What the documentation shows of the reference automaton: a diagram and a table of its moves.

Nothing about a run is known here: a move that changes, changes these texts.
"""

from __future__ import annotations

import itertools
from typing import Final, TypeAlias

import attrs

from fengine.core.events import Events
from fengine.core.requests import (
    NO_REQUESTS,
    Interrupt,
    Recovery,
    Requests,
    Terminate,
    TerminateEpoch,
)
from fengine.core.semantics import DOCUMENTED, IGNITE_0_5_5, Semantics
from fengine.testing.automaton import AUTOMATON, CONDITIONS, Standing

# From the top of the diagram to its bottom; what fires beside this order is not drawn.
_PLACES: Final = (
    "started",
    "epoch_started",
    "next batch",
    "get_batch_started",
    "dataloader_stop_iteration",
    "no batch",
    "get_batch_completed",
    "iteration_started",
    "iteration_completed",
    "terminate_single_epoch",
    "end of epoch",
    "epoch_completed",
    "between epochs",
    "terminate",
    "completed",
    "exited",
)
_LETTERS: Final = {
    "terminate": "t",
    "terminate_epoch": "e",
    "skip_completed": "c",
    "skip_epoch_completed": "n",
    "data": "d",
    "batch": "b",
    "restart": "r",
    "used up": "u",
    "full": "f",
    "max_iters": "m",
    "done": "l",
}

# A line of the diagram: its text, and what stands where it meets the column of a place.
_Line: TypeAlias = tuple[str, dict[int, str]]


def event_diagram() -> str:
    """Draw the order of the events of a run, as text.

    Drawn is a `DOCUMENTED` run without INTERRUPT and EXCEPTION_RAISED. Where a line leaves a place,
    letters name the conditions of that way; a way without one is taken where no other way is.

    >>> print(event_diagram())
    STARTED
      |-...
    """
    ways = _ways()
    jumps = {(at, to): letters for (at, to), letters in ways.items() if to != at + 1}
    lines: list[_Line] = []
    for number, place in enumerate(_PLACES):
        arriving = {number: "+"} if any(to == number for _, to in jumps) else {}
        leaving = {to: letters or "+" for (at, to), letters in jumps.items() if at == number}
        stem = ways.get((number, number + 1), "'") or "|"
        lines += [(_shown(place) + " <" * bool(arriving), arriving), (f"  {stem}", leaving)]
    spans = {
        to: [number for number, (_, ends) in enumerate(lines) if to in ends] for _, to in jumps
    }
    columns = sorted(spans, key=lambda to: (spans[to][-1] - spans[to][0], to))
    drawn = [_drawn(number, line, columns, spans) for number, line in enumerate(lines[:-1])]
    legend = [f"{letter}  {CONDITIONS[name]}" for name, letter in _LETTERS.items()]
    return "\n".join([*drawn, "", *legend])


def _ways() -> dict[tuple[int, int], str]:
    """Give the ways from place to place, with the letters of their conditions."""
    ways: dict[tuple[int, int], str] = {}
    for move in AUTOMATON.moves:
        if move.to not in _PLACES or not _LETTERS.keys() >= set(move.when):
            continue
        for at in (at for at in move.at if at in _PLACES):
            way = _PLACES.index(at), _PLACES.index(move.to)
            ways[way] = ways.get(way, "") + "".join(_LETTERS[name] for name in move.when)
    return ways


def _drawn(number: int, line: _Line, columns: list[int], spans: dict[int, list[int]]) -> str:
    """Draw a line: its text, and dashes from there to the last of the columns where it ends."""
    text, ends = line
    reach = max((columns.index(to) for to in ends), default=-1)
    drawn = text.ljust(max(map(len, _PLACES)) + 3, "-" if ends else " ")
    for place, to in enumerate(columns):
        fill = "-" if place < reach else " "
        passed = "|" if spans[to][0] < number < spans[to][-1] else fill
        drawn += ends.get(to, passed).ljust(3, fill)
    return drawn.rstrip()


@attrs.frozen
class _Way:
    """Hold a way to stop: what is asked for, how a failure is answered, what else holds."""

    requests: Requests = NO_REQUESTS
    answer: Requests = NO_REQUESTS
    holds: tuple[str, ...] = ()


_STOPS: Final = {
    "`terminate()`": _Way(Requests(terminate=Terminate.ANNOUNCED)),
    "`terminate(skip_completed=True)`": _Way(Requests(terminate=Terminate.SILENT)),
    "`terminate_epoch()`": _Way(Requests(terminate_epoch=TerminateEpoch.ANNOUNCED)),
    "`terminate_epoch(skip_epoch_completed=True)`": _Way(
        Requests(terminate_epoch=TerminateEpoch.SILENT)
    ),
    "`interrupt()`": _Way(Requests(interrupt=Interrupt.ANNOUNCED)),
    "an exception": _Way(holds=("raises",)),
    **{
        f"an exception, answered by {answer.name}": _Way(
            answer=Requests(recovery=answer), holds=("raises",)
        )
        for answer in Recovery
    },
}
_LIMITS: Final = {
    "`max_iters` reached within an epoch": _Way(holds=("max_iters",)),
    "a limit reached with the end of an epoch": _Way(holds=("full", "done")),
}
# Where a run stands in the handlers of the events that have a cause; at the others it just does.
_STANDINGS: Final = {
    "terminate_single_epoch": Standing(
        "terminate_single_epoch", asked=Requests(terminate_epoch=TerminateEpoch.ANNOUNCED)
    ),
    "interrupt": Standing("iteration_completed", paused=True),
    "terminate": Standing("terminate", asked=Requests(terminate=Terminate.ANNOUNCED)),
    "exception_raised": Standing("iteration_completed", failed=True),
}


def termination_table() -> str:
    """Tabulate, as Markdown, what fires after each way to stop, at each event.

    >>> print(termination_table())
    | what | at | `DOCUMENTED` fires | `IGNITE_0_5_5` fires |
    |---|---|---|---|
    | `terminate()` | STARTED | TERMINATE, COMPLETED | the same |
    ...
    """
    everywhere = [event.name for event in Events.all()]
    cells = [(what, name, way) for what, way in _STOPS.items() for name in everywhere]
    cells += [(what, "iteration_completed", way) for what, way in _LIMITS.items()]
    rows = [
        (what, _shown(name), _fired(name, way, DOCUMENTED), _fired(name, way, IGNITE_0_5_5))
        for what, name, way in cells
    ]
    lines = ["| what | at | `DOCUMENTED` fires | `IGNITE_0_5_5` fires |", "|---|---|---|---|"]
    shown = ""
    for (what, one, other), alike in itertools.groupby(rows, lambda row: (row[0], row[2], row[3])):
        names = [row[1] for row in alike]
        at = f"{names[0]} to {names[-1]}" if len(names) > 2 else ", ".join(names)
        first = "" if what == shown else what
        lines.append(f"| {first} | {at} | {one} | {'the same' if one == other else other} |")
        shown = what
    return "\n".join(lines)


def _fired(event: str, way: _Way, semantics: Semantics) -> str:
    """Say what fires after the handlers of an event, until the run ends or goes on as it would."""
    standing = _STANDINGS.get(event, Standing(event)).asking(way.requests)
    known = dict.fromkeys(CONDITIONS, False) | {"data": True, "batch": True}
    known |= {"at once": not semantics.finish_iteration} | dict.fromkeys(way.holds, True)
    at_limit = known["max_iters"] or known["done"]
    fired: list[str] = []
    while standing.at != "exited":
        move, standing = next(AUTOMATON.next_events(standing, known))
        if move.to == "exited":
            break
        fired.append(_shown(move.to))
        if move.to == "exception_raised":
            standing, known["raises"] = standing.asking(way.answer), False
        elif standing == Standing(standing.at) and not at_limit:
            fired.append("...")
            break
    if "ITERATION_COMPLETED" in fired:
        fired[: fired.index("ITERATION_COMPLETED")] = ["..."]
    return ", ".join(fired) or "nothing"


def _shown(place: str) -> str:
    return place.upper() if place.isidentifier() else f"({place})"
