"""The report: all that was found, as one Markdown document."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from tests.benchmarks.sections import Section, Table
from tests.benchmarks.systems import ALL

METHOD: Final = """\
Every system runs once a round, in a new random order, over data that reads the clock: processor
time is taken from the first batch to the last, so that beginning and ending a run is not in it.
The garbage collector is off meanwhile, so that nobody is charged for what another has left. Systems
are compared within a round only. A number is the median over all rounds, with the quartiles around
it. Times differ from machine to machine, ratios much less."""
SUMMARY: Final = """\
Microseconds an iteration, and in brackets how often that is the time of pytorch-ignite. A system
stands only where it has something to do: Fabric and accelerate have no loop of their own."""


def beginning(setting: Sequence[str], picture: str | None) -> str:
    """Write the title, and where and how everything was measured."""
    shown = f"\n![What training costs, and how costs grow]({picture})\n" if picture else ""
    lines = "\n".join(f"- {line}" for line in setting)
    return f"# Benchmarks\n\n{METHOD}\n\n{lines}\n{shown}"


def summary(sections: Sequence[Section]) -> str:
    """Write the table that stands in front: systems side by side."""
    rows = [row for section in sections for row in section.summary.items()]
    systems = [name for name in ALL if any(name in cells for _, cells in rows)]
    table = Table(
        ("us an iteration", *systems),
        [(label, *(cells.get(name, "") for name in systems)) for label, cells in rows],
    )
    return f"## In short\n\n{SUMMARY}\n\n{table.markdown()}"


def targets(sections: Sequence[Section]) -> str:
    """Write which numbers are reached."""
    rows = [target.cells() for section in sections for target in section.targets]
    return f"## Targets\n\n{Table(('number', 'to reach', 'measured', ''), rows).markdown()}"


def document(
    setting: Sequence[str], picture: str | None, sections: Sequence[Section]
) -> Iterator[str]:
    """Give the parts of the whole."""
    yield beginning(setting, picture)
    if any(section.summary for section in sections):
        yield summary(sections)
    for section in sections:
        yield section.markdown()
    if any(section.targets for section in sections):
        yield targets(sections)
