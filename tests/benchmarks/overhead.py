"""Measure what an iteration costs: `python -m tests.benchmarks.overhead`.

It compares the core, the Engine and ignite with loops written by hand, all in one run, and shows
which of the project's numbers are reached. What is not installed is left out. Times differ from
machine to machine, ratios much less; `--check` makes a missed number an error.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import os
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, final

import attrs

from tests.benchmarks.contenders import (
    ENGINE,
    FUNCTIONAL,
    HAND,
    HUNDRED,
    NO_HANDLERS,
    ONE,
    RARE,
    WORKLOADS,
    Run,
    Supervised,
    Workload,
    bare,
    core,
    engine,
    ignite,
)
from tests.benchmarks.tables import Table, spread_cells
from tests.benchmarks.timing import Spread, differences, import_seconds, ratios, rounds

MICRO: Final = 1e6
MILLI: Final = 1e3
NOT_MEASURED: Final = "not measured"


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
        got = NOT_MEASURED if self.got is None else f"{self.got:.3g} {self.unit}"
        verdict = "reached" if self.reached else "MISSED" if self.got is not None else ""
        return self.what, f"<= {self.most:g} {self.unit}".rstrip(), got.rstrip(), verdict


@final
@attrs.frozen
class Effort:
    """Say how much is measured."""

    iterations: int
    repetitions: int

    # The difference of two long times is small beside their noise: supervised runs are short and
    # many, yet long enough that beginning a run, under 0.1 ms, hardly counts.

    @property
    def batches(self) -> int:
        """Number of batches of a supervised run."""
        return max(1, self.iterations // 5)

    @property
    def supervised(self) -> int:
        """Number of rounds of supervised runs."""
        return 2 * self.repetitions

    @property
    def imports(self) -> int:
        """How often each import is timed."""
        return min(7, self.repetitions)


def measure_identity(effort: Effort, have: set[str]) -> Iterator[Table | Target]:
    """Compare loops with an identity step and handlers that do nothing."""
    data = list(range(effort.iterations))
    systems: dict[str, Callable[[Sequence[int], Workload], Run]] = {"core": core}
    if "torch" in have:
        systems["Engine"] = engine
    if "ignite" in have:
        systems["ignite"] = ignite
    runs = {
        (name, workload): make(data, workload)
        for workload in WORKLOADS
        for name, make in systems.items()
    }
    none = ("bare", NO_HANDLERS)
    seconds = rounds({none: bare(data), **runs}, effort.repetitions)
    per_iteration = {key: [s / len(data) for s in found] for key, found in seconds.items()}
    over = {key: differences(per_iteration[key], per_iteration[none]) for key in runs}
    shares = {
        (name, workload): Spread.of(ratios(over[name, workload], over["ignite", workload]))
        for name, workload in runs
        if "ignite" in systems
    }
    rows = []
    for workload in WORKLOADS:
        for name in systems:
            share = shares.get((name, workload))
            rows.append(
                (
                    workload.name,
                    name,
                    *spread_cells(Spread.of(over[name, workload]), MICRO, 3),
                    *(("-", "-") if share is None else spread_cells(share, 1, 3)),
                )
            )
    bare_cost = Spread.of(per_iteration[none]).median * MICRO
    yield Table(
        f"Identity step: microseconds an iteration over a bare loop ({bare_cost:.3f})",
        ("handlers", "system", "over bare", "quartiles", "of ignite", "quartiles"),
        rows,
        texts=2,
    )
    extra = {
        name: Spread.of(
            difference / (HUNDRED.handlers - ONE.handlers)
            for difference in differences(over[name, HUNDRED], over[name, ONE])
        )
        for name in systems
    }
    yield Table(
        "Each extra plain handler, from 1 to 100: microseconds an iteration",
        ("system", "each", "quartiles"),
        [(name, *spread_cells(spread, MICRO, 4)) for name, spread in extra.items()],
    )
    for name, workload, most in (
        ("core", NO_HANDLERS, 0.20),
        ("core", RARE, 0.10),
        ("Engine", NO_HANDLERS, 0.30),
        ("Engine", RARE, 0.15),
    ):
        share = shares.get((name, workload))
        got = None if share is None else share.median
        yield Target(f"{name}, handlers: {workload.name}", most, "x ignite", got)
    yield Target("core, each extra plain handler", 0.06, "us", extra["core"].median * MICRO)


def measure_supervised(effort: Effort, have: set[str]) -> Iterator[Table | Target]:
    """Compare trainers with a loop written by hand."""
    if "torch" not in have:
        for name in (FUNCTIONAL, ENGINE):
            yield Target(f"{name}, over the loop", 5, "us", None)
            yield Target(f"{name}, weights that differ", 0, "", None)
        return
    trainers = Supervised(effort.batches, with_ignite="ignite" in have)
    seconds = rounds(trainers.runs, effort.supervised)
    per_batch = {key: [s / effort.batches for s in found] for key, found in seconds.items()}
    over = {
        name: Spread.of(differences(per_batch[name], per_batch[HAND]))
        for name in trainers.runs
        if name != HAND
    }
    yield Table(
        "Supervised training, Linear(8, 1), batch 1: microseconds an iteration over a loop by "
        f"hand ({Spread.of(per_batch[HAND]).median * MICRO:.1f})",
        ("trainer", "over it", "quartiles", "weights that differ"),
        [
            (
                name,
                *spread_cells(spread, MICRO, 2),
                str(trainers.differing_weights(name)),
            )
            for name, spread in over.items()
        ],
    )
    for name in (FUNCTIONAL, ENGINE):
        yield Target(f"{name}, over the loop", 5, "us", over[name].median * MICRO)
        yield Target(f"{name}, weights that differ", 0, "", trainers.differing_weights(name))


def measure_imports(effort: Effort, have: set[str]) -> Iterator[Table | Target]:
    """Time what our imports add to a bare interpreter, and to one with torch."""
    ours, engine_of_ours = ("fengine", "time"), ("fengine.engine", "torch")
    imports = [ours]
    if "torch" in have:
        imports.append(engine_of_ours)
    found: dict[tuple[str, str], list[float]] = {key: [] for key in imports}
    for _ in range(effort.imports):
        for module, behind in imports:
            found[module, behind].append(import_seconds(module, behind=behind))
    spreads = {key: Spread.of(seconds) for key, seconds in found.items()}
    yield Table(
        "Imports: milliseconds in a new interpreter",
        ("import", "in", "milliseconds", "quartiles"),
        [
            (
                module,
                "bare Python" if behind == "time" else f"Python with {behind}",
                *spread_cells(spread, MILLI, 1),
            )
            for (module, behind), spread in spreads.items()
        ],
        texts=2,
    )
    for key, most, over in ((ours, 60, "bare Python"), (engine_of_ours, 40, "import torch")):
        got = spreads[key].median * MILLI if key in spreads else None
        yield Target(f"import {key[0]} over {over}", most, "ms", got)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and give the exit status."""
    options = _parser().parse_args(arguments)
    effort = Effort(
        options.iterations or (1000 if options.quick else 2000),
        options.repetitions or (11 if options.quick else 51),
    )
    have = {name for name in ("torch", "ignite") if importlib.util.find_spec(name) is not None}
    if "torch" in have:
        import torch

        torch.set_num_threads(1)
    print("\n".join(_setting(effort)), flush=True)
    targets = []
    for measure in (measure_identity, measure_supervised, measure_imports):
        for found in measure(effort, have):
            if isinstance(found, Target):
                targets.append(found)
            else:
                _show(found, markdown=options.markdown)
    rows = [target.cells() for target in targets]
    heads = ("number", "to reach", "measured", "")
    _show(Table("Numbers to reach", heads, rows), markdown=options.markdown)
    return 0 if not options.check or all(target.reached for target in targets) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m tests.benchmarks.overhead", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="measure less, for a first look")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a number is missed")
    parser.add_argument("--markdown", action="store_true", help="write tables as Markdown")
    parser.add_argument("--iterations", type=_number, help="iterations of a run")
    parser.add_argument("--repetitions", type=_number, help="rounds in which each system runs once")
    return parser


def _number(text: str) -> int:
    if (number := int(text)) < 2:
        raise argparse.ArgumentTypeError("at least 2, so that there is a spread")
    return number


def _show(table: Table, *, markdown: bool) -> None:
    print("\n" + (table.markdown() if markdown else table.plain()), end="", flush=True)


def _setting(effort: Effort) -> Iterator[str]:
    distributions = {"fengine": "fengine", "torch": "torch", "ignite": "pytorch-ignite"}
    versions = ", ".join(f"{name} {_version(of)}" for name, of in distributions.items())
    yield f"{platform.python_implementation()} {platform.python_version()}, {versions}"
    yield f"{_processor()}, {os.cpu_count()} cores, of which one is used"
    yield (
        f"{effort.repetitions} rounds of {effort.iterations} iterations, supervised "
        f"{effort.supervised} of {effort.batches}; processor time, medians"
    )


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "(no distribution)"


def _processor() -> str:
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        for line in listing.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    sys.exit(main())
