"""The documentation shows what the reference automaton says, and that is what happens."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fengine import DOCUMENTED, IGNITE_0_5_5, Events, Limits, Recovery, Semantics, State
from fengine.testing import (
    Act,
    Ask,
    Data,
    Fail,
    Program,
    event_diagram,
    termination_table,
)
from tests.laws.recording import record

DOCUMENTS = Path(__file__).parents[2] / "docs"
GENERATED = {
    "event diagram": f"```text\n{event_diagram()}\n```",
    "termination table": termination_table(),
}

_BLOCK = re.compile(r"<!-- (?P<name>[\w ]+), generated -->\n(?P<text>.*?)\n<!-- end -->", re.DOTALL)


@pytest.mark.parametrize("name", GENERATED)
def test_the_documentation_shows_it(name: str) -> None:
    blocks = [
        block["text"]
        for document in DOCUMENTS.glob("*.md")
        for block in _BLOCK.finditer(document.read_text(encoding="utf-8"))
        if block["name"] == name
    ]
    assert blocks == [GENERATED[name]], f"between the marks there has to be\n{GENERATED[name]}"


# The termination table against real runs. Each row is played at each of its events.

ASKS: dict[str, State[Any, Any, Any]] = {
    "`terminate()`": State().terminate(),
    "`terminate(skip_completed=True)`": State().terminate(skip_completed=True),
    "`terminate_epoch()`": State().terminate_epoch(),
    "`terminate_epoch(skip_epoch_completed=True)`": State().terminate_epoch(
        skip_epoch_completed=True
    ),
    "`interrupt()`": State().interrupt(),
}
FAILS = {
    "an exception": Fail(),
    **{f"an exception, answered by {answer.name}": Fail(answer) for answer in Recovery},
}
LIMITS = {
    "`max_iters` reached within an epoch": Limits(max_iters=1, epoch_length=2),
    "a limit reached with the end of an epoch": Limits(max_epochs=1, epoch_length=1),
}
# What has these events fire at all.
CAUSES: dict[str, Ask | Fail] = {
    "terminate": Ask(State().terminate().requests),
    "terminate_single_epoch": Ask(State().terminate_epoch().requests),
    "interrupt": Ask(State().interrupt().requests),
    "exception_raised": Fail(),
}
NAMES = [event.name for event in Events.all()]


def rows() -> Iterator[tuple[str, str, Semantics, str]]:
    """Give what, at which event and under which semantics, and the cell."""
    what = ""
    for line in termination_table().splitlines()[2:]:
        first, at, documented, ignite = (cell.strip() for cell in line.strip("|").split(" | "))
        what = first or what
        ends = [NAMES.index(name.lower()) for name in re.split(" to |, ", at)]
        for name in NAMES[ends[0] : ends[-1] + 1]:
            yield what, name, DOCUMENTED, documented
            yield what, name, IGNITE_0_5_5, documented if ignite == "the same" else ignite


def fired(what: str, event: str, semantics: Semantics) -> list[str]:
    """Play a run, and give what fires after the event, without the last one."""
    limits = LIMITS.get(what, Limits(max_epochs=3, epoch_length=3))
    acts = []
    if event in CAUSES:
        acts.append(Act("iteration_completed", 1, CAUSES[event]))
    if what not in LIMITS:
        deed = FAILS[what] if what in FAILS else Ask(ASKS[what].requests)
        acts.append(Act(event, 1, deed))
    program = Program(Data("list", 2), limits, tuple(acts), semantics=semantics)
    trace = record(program.iterate()).trace
    if what in FAILS and event != "exited":
        # What failed left no moment; an exception of a handler of EXCEPTION_RAISED leaves none.
        found = trace.index("exception_raised") if "exception_raised" in trace else len(trace) - 1
    else:
        found = trace.index(event) + 1 if event in trace else len(trace)
    return [name.upper() for name in trace[found:] if name != "exited"]


def is_shown(cell: str, names: list[str]) -> bool:
    expected = [] if cell == "nothing" else cell.split(", ")
    if expected[:1] == ["..."]:
        expected = expected[1:]
        names = names[names.index("ITERATION_COMPLETED") :]
    if expected[-1:] == ["..."]:
        return names[: len(expected) - 1] == expected[:-1]
    return names == expected


def test_each_cell_of_the_termination_table_is_what_a_run_fires() -> None:
    cells = list(rows())
    assert {event for _, event, _, _ in cells} == set(NAMES)
    assert {what for what, *_ in cells} == {*ASKS, *FAILS, *LIMITS}
    wrong = [
        (what, event, semantics, cell, names)
        for what, event, semantics, cell in cells
        if not is_shown(cell, names := fired(what, event, semantics))
    ]
    assert not wrong
