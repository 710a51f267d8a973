"""Two sides compared: what is seen must be equal, up to where a named row lets them part."""

from __future__ import annotations

from fengine import Semantics
from tests.engine.differential.player import play
from tests.engine.differential.program import Program
from tests.engine.differential.seen import Result
from tests.engine.differential.sides import MendedSide, OurSide


def compare(program: Program, semantics: Semantics) -> tuple[Result, Result]:
    """Play a program on both sides, and assert that what is seen is equal.

    What one side saved, the other one loads too.

    Returns:
        What was seen here and there.
    """
    theirs = play(program, MendedSide(semantics))
    ours = play(program, OurSide(semantics), theirs.saved)
    check(program, ours, theirs)
    if ours.saved and not theirs.rows:
        check(program, ours, play(program, MendedSide(semantics), ours.saved))
    return ours, theirs


def check(program: Program, ours: Result, theirs: Result) -> None:
    """Assert that two results are equal, up to the first row that was met."""
    ends = list(theirs.rows.values())
    if not ends:
        assert ours.endless == theirs.endless, explain(program, ours, theirs)
    if ours.endless and theirs.endless:
        ends += len(ours.seen), len(theirs.seen)
    end = min(ends, default=None)
    assert ours.seen[:end] == theirs.seen[:end], explain(program, ours, theirs)


def explain(program: Program, ours: Result, theirs: Result) -> str:
    """Show where two results part."""
    same = 0
    for here, there in zip(ours.seen, theirs.seen, strict=False):
        if here != there:
            break
        same += 1
    shown = [f"  both: {seen}" for seen in ours.seen[max(0, same - 6) : same]]
    shown += [f"  ours: {seen}" for seen in ours.seen[same : same + 3]]
    shown += [f"theirs: {seen}" for seen in theirs.seen[same : same + 3]]
    shown.append(f"endless: {ours.endless}, {theirs.endless}; rows: {theirs.rows}")
    return "\n".join([str(program), *shown])
