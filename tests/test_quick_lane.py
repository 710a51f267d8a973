"""The quick lane has tests of each room, and names nothing that is not there."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.quick import LANE, LEFT_OUT, ROOT, is_quick, leads_to_quick
from tests.test_architecture import ROOMS


def number_of_tests(path: Path) -> int:
    """Count the tests and the doctests that a file has, or the files of a folder."""
    files = path.rglob("*.py") if path.is_dir() else [path]
    return sum(
        file.read_text(encoding="utf-8").count(">>> " if "src" in file.parts else "\ndef test_")
        for file in files
    )


def require_there(one: str) -> None:
    """Refuse a name that no test of the lane has."""
    file, _, test = one.partition("::")
    assert number_of_tests(ROOT / file), f"{file} has no test"
    if test:
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        defined = {getattr(node, "name", "") for node in tree.body}
        assert test.rpartition(".")[2] in defined, f"{file} has no {test}"


def test_the_lane_covers_each_room() -> None:
    assert LANE.keys() == set(ROOMS)


@pytest.mark.parametrize("room", LANE)
def test_what_the_lane_names_of_a_room_has_tests(room: str) -> None:
    assert LANE[room]
    for one in LANE[room]:
        require_there(one)


def test_what_is_left_out_of_the_lane_would_be_in_it() -> None:
    for one in LEFT_OUT:
        require_there(one)
        assert leads_to_quick(ROOT / one.partition("::")[0])


@pytest.mark.parametrize(
    ("test", "is_in_it"),
    [
        ("tests/laws/test_runs.py::test_any", True),
        ("tests/laws/test_runs.py::test_any[1]", True),
        ("src/fengine/features/averages.py::fengine.features.averages.ema", True),
        ("tests/examples/test_digits.py::test_the_best_epoch_of_none_is_none", True),
        ("tests/examples/test_digits.py::test_the_main_job", False),
        ("tests/test_signals.py::test_any[src/fengine/core]", False),
    ],
)
def test_a_test_is_in_the_lane_by_its_id(test: str, is_in_it: bool) -> None:
    assert is_quick(test) == is_in_it


def test_files_with_nothing_of_the_lane_are_left_unread() -> None:
    for path in ("src", "tests/laws", "src/fengine/core/state.py", "tests/examples/test_digits.py"):
        assert leads_to_quick(ROOT / path)
    for path in ("docs", "tests/test_signals.py", "tests/benchmarks"):
        assert not leads_to_quick(ROOT / path)
