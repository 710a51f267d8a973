"""Differences as records: a situation, and what each of two does in it, in words and as a program.

A table of them shows the words in the documentation; the tests run the programs.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import TypeAlias, final

import attrs

from tests.engine.rows.sides import (
    AS_DOCUMENTED,
    AS_IGNITE,
    IGNITE,
    OURS,
    SIDES,
    Program,
    Side,
    play,
)

Says: TypeAlias = tuple[str, object]


@final
@attrs.frozen
class Way:
    """What one of two does: in words, the value that its programs give, and the programs."""

    says: str
    gives: object
    programs: tuple[Callable[[], object], ...]


@final
@attrs.frozen
class Difference:
    """What two do in one situation; `rows` are the ids that it proves."""

    rows: tuple[str, ...]
    situation: str
    ways: tuple[Way, Way]

    def check(self) -> None:
        """Run the programs of both; no two may give the same."""
        first, second = self.ways
        assert first.gives != second.gives
        for way in self.ways:
            assert way.programs
            for program in way.programs:
                assert program() == way.gives, (way.says, program)

    def line(self) -> str:
        cells = (", ".join(self.rows), self.situation, *(way.says for way in self.ways))
        return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


@final
@attrs.frozen
class Differences:
    """A table of differences between two; calling it makes a decorator that puts one in.

    Args:
        header: names the two.
        first: the sides that the program of the first is played on.
        second: the same of the second, unless it has a program of its own.
    """

    header: tuple[str, str]
    first: tuple[Side, ...]
    second: tuple[Side, ...]
    records: list[Difference] = attrs.field(factory=list)

    def __call__(
        self,
        rows: str,
        situation: str,
        first: Says,
        second: Says,
        loop: Callable[[], object] | None = None,
    ) -> Callable[[Program], Program]:
        def put(program: Program) -> Program:
            one, other = (
                tuple(partial(play, program, side) for side in sides)
                for sides in (self.first, self.second)
            )
            ways = Way(*first, one), Way(*second, other if loop is None else (loop,))
            self.records.append(Difference(tuple(rows.split()), situation, ways))
            return program

        return put

    def __add__(self, other: Differences) -> Differences:
        return attrs.evolve(self, records=[*self.records, *other.records])

    def markdown(self) -> str:
        head = [f"| row | situation | {' | '.join(self.header)} |", "|---|---|---|---|"]
        return "\n".join([*head, *(record.line() for record in sorted(self.records, key=_place))])


def _place(record: Difference) -> tuple[str, int]:
    letter, number = re.findall(r"\D+|\d+", record.rows[0])
    return letter, int(number)


def fixed() -> Differences:
    """Begin a table of what is not as in pytorch-ignite under either semantics."""
    return Differences(("pytorch-ignite 0.5.5", "`Engine`"), (IGNITE,), OURS)


def versions() -> Differences:
    """Begin a table of what the semantics decide."""
    header = "`DOCUMENTED`", "`IGNITE_0_5_5`, as pytorch-ignite"
    return Differences(header, (AS_DOCUMENTED,), (AS_IGNITE, IGNITE))


def apis() -> Differences:
    """Begin a table of what the Engine keeps of pytorch-ignite, and `Loop` does otherwise."""
    return Differences(("`Engine`, as pytorch-ignite", "`Loop`"), SIDES, ())
