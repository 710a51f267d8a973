"""Before and after: another checkout of fengine and this one, measured in turns in one process."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeAlias

from tests.benchmarks.contenders import (
    Workload,
    engine,
    loop,
    loop_by_moments,
    loop_of_a_plain_step,
)
from tests.benchmarks.effort import Effort
from tests.benchmarks.identity import NONE, WORKLOADS
from tests.benchmarks.sections import MICRO, Section, Table, spread_cells
from tests.benchmarks.systems import ENGINE, LOOP
from tests.benchmarks.timing import Pair, Spread, in_turns, per_epoch, per_iteration, ratios, rounds
from tests.benchmarks.versions import Version, other_version, this_version

Row: TypeAlias = tuple[str, str]

LOADS: Final = {
    **{f"handlers: {workload.name}": workload for workload in WORKLOADS},
    "own events fired in the step: 10": Workload(fired=10),
}
EPOCHS: Final = "epochs of one iteration"
TEXT: Final = """\
The identity step in the version of the other checkout, before, and in that of this one, after. Both
are imported in this process, and in each round one runs right after the other. Microseconds an
iteration, with quartiles; then the ratio of the two times, after to before, within a round. It is
below 1 where this version is faster."""


def measure_before(effort: Effort, have: frozenset[str], source: Path) -> Section:
    """Compare this version with the one in a folder of sources."""
    if "torch" in have:
        # As in every program that trains: runs look whether it is there.
        importlib.import_module("torch")
    before, after = other_version(source, have), this_version(have)
    old, new = contenders_of(before, effort), contenders_of(after, effort)
    found = rounds({row: in_turns(old[row], new[row]) for row in new}, effort.rounds)
    heads = (
        "system",
        "row",
        f"us {before.name}",
        "quartiles",
        f"us {after.name}",
        "quartiles",
        f"{after.name} / {before.name}",
        "quartiles",
    )
    rows = [(*row, *_cells(pairs)) for row, pairs in found.items()]
    return Section("Before and after", TEXT, Table(heads, rows, texts=2))


def _cells(pairs: Sequence[Pair]) -> tuple[str, ...]:
    before, after = zip(*pairs, strict=True)
    return (
        *spread_cells(Spread.of(before), MICRO, 3),
        *spread_cells(Spread.of(after), MICRO, 3),
        *spread_cells(Spread.of(ratios(after, before)), 1, 3),
    )


def contenders_of(version: Version, effort: Effort) -> Mapping[Row, Callable[[], float]]:
    """Make what is measured of a version, which is the active one whenever it runs."""
    with version.active():
        made = dict(_made(version, effort))
    return {row: _while_active(version, contender) for row, contender in made.items()}


def _while_active(version: Version, contender: Callable[[], float]) -> Callable[[], float]:
    def measured() -> float:
        with version.active():
            return contender()

    return measured


def _made(version: Version, effort: Effort) -> Iterator[tuple[Row, Callable[[], float]]]:
    data, epochs = range(effort.iterations), effort.short_epochs
    functional, package = version.functional, version.engine
    for what, load in LOADS.items():
        yield (LOOP, what), per_iteration(loop(functional, load), data)
    yield (LOOP, "a plain step"), per_iteration(loop_of_a_plain_step(functional), data)
    yield (LOOP, "iterate, all moments"), per_iteration(loop_by_moments(functional), data)
    yield (LOOP, EPOCHS), per_epoch(loop(functional, NONE), epochs)
    if package is not None:
        for what, load in LOADS.items():
            yield (ENGINE, what), per_iteration(engine(package, load), data)
        yield (ENGINE, EPOCHS), per_epoch(engine(package, NONE), epochs)
