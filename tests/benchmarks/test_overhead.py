"""The benchmark runs and shows what it should; how long anything takes is not tested."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.overhead import Target
from tests.benchmarks.tables import Table
from tests.benchmarks.timing import Spread, differences, ratios, rounds

ROOT = Path(__file__).parents[2]


def test_the_benchmark_shows_every_system_with_every_workload() -> None:
    options = ("--quick", "--iterations", "20", "--repetitions", "2")
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.overhead", *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 100
    assert re.match(r"\w+ 3\.\S+, fengine \S+, torch \S+, ignite \S+$", lines[0])
    shown = [line.split("  ") for line in lines]
    cells = [[cell.strip() for cell in row if cell.strip()] for row in shown]
    number, quartiles = r"-?\d+\.\d+", r"-?\d+\.\d+ \.\. -?\d+\.\d+"
    for handlers in ("0", "1", "10", "10, every=100", "100"):
        for system in ("core", "Engine", "ignite"):
            (row,) = [row for row in cells if row[:2] == [handlers, system]]
            patterns = (number, quartiles, number, quartiles)
            assert all(map(re.fullmatch, patterns, row[2:]))
    for trainer in ("fengine.training.supervised", "fengine.engine trainer", "ignite trainer"):
        (row,) = [row for row in cells if row[:1] == [trainer]]
        assert row[-1] == "0"  # no weight differs from those of the loop written by hand
    verdicts = [row[-1] for row in cells if len(row) == 4 and row[1].startswith("<=")]
    assert len(verdicts) == 11
    assert set(verdicts) <= {"reached", "MISSED"}


def test_contenders_take_turns() -> None:
    seen: list[str] = []
    seconds = rounds({name: lambda name=name: seen.append(name) for name in "abc"}, 4)  # type: ignore[misc]  # mypy infers no type for a default of a lambda
    assert {name: len(found) for name, found in seconds.items()} == {"a": 4, "b": 4, "c": 4}
    turns = [tuple(seen[place : place + 3]) for place in range(0, len(seen), 3)]
    assert all(sorted(turn) == ["a", "b", "c"] for turn in turns)
    assert len(set(turns)) > 1


def test_contenders_are_compared_within_a_round() -> None:
    slow_machine_in_round_two = [3.0, 30.0, 3.0], [1.0, 10.0, 1.0]
    assert differences(*slow_machine_in_round_two) == [2.0, 20.0, 2.0]
    assert ratios(*slow_machine_in_round_two) == [3.0, 3.0, 3.0]
    assert Spread.of([1.0, 2.0, 3.0, 4.0, 50.0]) == Spread(2.0, 3.0, 4.0)


@pytest.mark.parametrize(
    ("got", "verdict"), [(0.1, "reached"), (0.2, "reached"), (0.3, "MISSED"), (None, "")]
)
def test_a_number_is_reached_up_to_its_bound(got: float | None, verdict: str) -> None:
    target = Target("core", 0.2, "x ignite", got)
    assert target.cells()[-1] == verdict
    assert target.reached == (verdict == "reached")


def test_tables_are_written_as_text_and_as_markdown() -> None:
    table = Table("Costs", ("system", "each"), [("core", "0.5"), ("a long name", "12.5")])
    assert table.plain().splitlines() == [
        "Costs",
        "",
        "  system       each",
        "  core          0.5",
        "  a long name  12.5",
    ]
    assert table.markdown().splitlines()[2:] == [
        "| system | each |",
        "| --- | ---: |",
        "| core | 0.5 |",
        "| a long name | 12.5 |",
    ]
