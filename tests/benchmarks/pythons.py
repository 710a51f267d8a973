"""Pythons: the core with the identity step, under other interpreters.

An interpreter measures itself when it runs this module, and prints its samples as JSON. It needs
what `import fengine` needs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import attrs

from tests.benchmarks.effort import Effort
from tests.benchmarks.identity import samples
from tests.benchmarks.sections import MICRO, Section, Table, spread_cells
from tests.benchmarks.systems import BARE
from tests.benchmarks.timing import Spread, ratios

ROOT: Final = Path(__file__).parents[2]
VISITS: Final = 3
TEXT: Final = """\
The core, which needs no torch, under each interpreter in new processes, {visits} times in random
order: microseconds an iteration with quartiles, and how often that is the time of the bare loop of
the same interpreter."""


def interpreter(python: str) -> str:
    """Take an interpreter that can measure itself; say of another what it lacks."""
    try:
        _output(python, "-c", "import fengine")
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", "") or str(error)
        raise argparse.ArgumentTypeError(
            f"{python} cannot import fengine ({said.strip().splitlines()[-1]}); install attrs, "
            "immutables and typing-extensions there"
        ) from None
    return python


def measure_pythons(effort: Effort, pythons: Sequence[str]) -> Section:
    """Measure this interpreter and others."""
    found: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    versions = set()
    order, shuffle = [sys.executable, *pythons], random.Random(0).shuffle
    share = attrs.evolve(effort, rounds=max(2, effort.rounds // VISITS))
    request = ("-m", "tests.benchmarks.pythons", json.dumps(attrs.asdict(share)))
    for _ in range(VISITS):
        shuffle(order)
        for python in order:
            version, seconds = json.loads(_output(python, *request))
            versions.add(version)
            for system, workload, costs in seconds:
                found[workload, system, version] += costs
    ordered = sorted(versions, key=lambda text: [*map(int, text.split("."))])
    rows = [
        (
            workload,
            system,
            *(
                _cell(found[workload, system, version], found["0", BARE, version])
                for version in ordered
            ),
        )
        for workload, system in dict.fromkeys(key[:2] for key in found)
    ]
    heads = ("handlers", "system", *(f"Python {version}" for version in ordered))
    return Section("Other Pythons", TEXT.format(visits=VISITS), Table(heads, rows, texts=2))


def _cell(seconds: Sequence[float], bare: Sequence[float]) -> str:
    median, quartiles = spread_cells(Spread.of(seconds), MICRO, 2)
    to_bare = Spread.of(ratios(seconds, bare)).median
    return f"{median} ({quartiles}), {to_bare:.1f} x"


def _output(python: str, *arguments: str) -> str:
    # Only the sources are shared: packages belong to their interpreter.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "src")))}
    return subprocess.run(
        [python, "-W", "ignore", *arguments],
        env=environment,
        capture_output=True,
        check=True,
        text=True,
    ).stdout


def main() -> None:
    """Measure this interpreter, and print its version and its samples."""
    effort = Effort(**json.loads(sys.argv[1]))
    found = samples(effort, frozenset())
    version = ".".join(map(str, sys.version_info[:3]))
    print(json.dumps([version, [(key[0], key[1].name, costs) for key, costs in found.items()]]))


if __name__ == "__main__":
    main()
