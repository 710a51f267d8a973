"""Tables: rows of text, aligned for a terminal or written as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import attrs

from tests.benchmarks.timing import Spread


@final
@attrs.frozen
class Table:
    """Hold a title, the heads of the columns, and rows of cells.

    The first `texts` columns hold words and are set to the left; the others hold numbers.
    """

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    texts: int = 1

    def plain(self) -> str:
        """Align the columns with spaces."""
        lines = [self.heads, *self.rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        set_lines = [
            "  ".join(
                cell.ljust(width) if place < self.texts else cell.rjust(width)
                for place, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        ]
        return "\n".join([self.title, "", *("  " + line for line in set_lines), ""])

    def markdown(self) -> str:
        """Write a Markdown table under a heading."""
        rule = ["---" if place < self.texts else "---:" for place in range(len(self.heads))]
        lines = [f"| {' | '.join(line)} |" for line in (self.heads, rule, *self.rows)]
        return "\n".join([f"### {self.title}", "", *lines, ""])


def spread_cells(spread: Spread, scale: float, digits: int) -> tuple[str, str]:
    """Write a median, and the quartiles around it, in units of `1 / scale`."""
    low, median, high = (
        f"{value * scale:.{digits}f}" for value in (spread.low, spread.median, spread.high)
    )
    return median, f"{low} .. {high}"
