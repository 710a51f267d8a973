"""The types accept right programs and reject wrong ones, each at the very line of its mistake."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PROGRAMS = Path(__file__).parent / "typing"
_EXPECTED = re.compile(r"# error: (?P<codes>[\w-]+(, [\w-]+)*)$")


class Error(NamedTuple):
    """A complaint of the type checker, reported or expected."""

    program: str
    line: int
    code: str


def programs(kind: str) -> list[Path]:
    """List the programs of one kind; there is no folder without any."""
    found = sorted(set(PROGRAMS.joinpath(kind).glob("*.py")) - {PROGRAMS / kind / "__init__.py"})
    assert found, f"no program to check in {PROGRAMS / kind}"
    return found


def expected(program: Path) -> set[Error]:
    """Read the errors that a program asks for, as `# error: <code>[, <code>...]`."""
    return {
        Error(program.name, number, code)
        for number, line in enumerate(program.read_text(encoding="utf-8").splitlines(), start=1)
        if (match := _EXPECTED.search(line))
        for code in match["codes"].split(", ")
    }


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[Error]]:
    """Check all programs at once, since reading torch takes most of the time."""
    files = programs("accepted") + programs("rejected")
    arguments = ["--cache-dir", str(tmp_path_factory.mktemp("mypy")), "--output", "json"]
    mypy = subprocess.run(
        [sys.executable, "-m", "mypy", *arguments, *map(str, files)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert mypy.returncode in {0, 1}, mypy.stdout + mypy.stderr
    errors: dict[str, set[Error]] = {"accepted": set(), "rejected": set()}
    for message in map(json.loads, mypy.stdout.splitlines()):
        file = ROOT / message["file"]
        if message["severity"] == "error" and file.parent.parent == PROGRAMS:
            errors[file.parent.name].add(Error(file.name, message["line"], message["code"]))
    return errors


def test_right_programs_are_accepted(reported: dict[str, set[Error]]) -> None:
    assert reported["accepted"] == set()


def test_wrong_programs_are_rejected_where_they_are_wrong(reported: dict[str, set[Error]]) -> None:
    mistakes = {program: expected(program) for program in programs("rejected")}
    assert all(mistakes.values()), "a program in the folder of rejected ones expects no error"
    assert reported["rejected"] == set().union(*mistakes.values())
