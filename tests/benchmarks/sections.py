"""Sections: what the benchmark found, as data: tables, numbers to reach, lines of the summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Final, final

import attrs

from tests.benchmarks.timing import Spread

MICRO: Final = 1e6
MILLI: Final = 1e3


@final
@attrs.frozen
class Table:
    """Hold the heads of the columns, and rows of cells; the first `texts` columns hold words."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    texts: int = 1

    def markdown(self) -> str:
        """Write a Markdown table that is aligned in a terminal, too."""
        lines = [self.heads, *self.rows]
        widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
        rule = [
            "-" * width if place < self.texts else "-" * (width - 1) + ":"
            for place, width in enumerate(widths)
        ]
        return "".join(
            "| "
            + " | ".join(
                cell.ljust(width) if place < self.texts else cell.rjust(width)
                for place, (cell, width) in enumerate(zip(line, widths, strict=True))
            )
            + " |\n"
            for line in (self.heads, rule, *self.rows)
        )


@final
@attrs.frozen
class Target:
    """Hold a number to reach, and the number that was measured, or None."""

    what: str
    most: float
    unit: str
    got: float | None

    @property
    def reached(self) -> bool:
        """Whether it was measured and is small enough."""
        return self.got is not None and self.got <= self.most

    def cells(self) -> tuple[str, str, str, str]:
        """Write the row of the table."""
        got = "not measured" if self.got is None else f"{self.got:.3g} {self.unit}".rstrip()
        verdict = "reached" if self.reached else "MISSED" if self.got is not None else ""
        return self.what, f"<= {self.most:g} {self.unit}".rstrip(), got, verdict


@final
@attrs.frozen
class Bars:
    """Hold a panel of the picture: one number for each system."""

    title: str
    unit: str
    values: Mapping[str, Spread]


@final
@attrs.frozen
class Lines:
    """Hold a panel of the picture: what each system costs, in seconds, at each size.

    Args:
        title: of what there is more and more.
        unit: what is counted on the other axis.
        values: of each system, for each size.
        flat: whether costs should not depend on the size.
    """

    title: str
    unit: str
    values: Mapping[str, Mapping[int, Spread]]
    flat: bool


@final
@attrs.frozen
class Section:
    """Hold one thing that was measured.

    Args:
        title: its heading.
        text: says what was measured and how to read the table.
        table: the numbers.
        targets: which numbers were to be reached.
        summary: rows of the table that stands in front: a label, and a cell for each system.
        panels: what the picture shows of it.
    """

    title: str
    text: str
    table: Table
    targets: Sequence[Target] = ()
    summary: Mapping[str, Mapping[str, str]] = attrs.field(factory=dict)
    panels: Sequence[Bars | Lines] = ()

    def markdown(self) -> str:
        """Write it under its heading."""
        return f"## {self.title}\n\n{fill(self.text, 100)}\n\n{self.table.markdown()}"


def spread_cells(spread: Spread, scale: float, digits: int) -> tuple[str, str]:
    """Write a median, and the quartiles around it, in units of `1 / scale`."""
    low, median, high = (
        f"{value * scale:.{digits}f}" for value in (spread.low, spread.median, spread.high)
    )
    return median, f"{low} .. {high}"
