"""The types accept right programs and reject wrong ones, each at the very line of its mistake.

mypy is asked of all of them, pyright of those for the functional API.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.test_readme import Block, blocks

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


class Shown(NamedTuple):
    """A wrong program of the documentation, with what mypy is said to say of it."""

    program: str
    complaint: str


def shown() -> tuple[str, list[Shown]]:
    """Read the right program of the guide to types, and the wrong ones that go on from it."""
    found: list[Block] = list(blocks(ROOT / "docs" / "types.md"))
    right = "\n".join(block.text for block in found if block.label == "python")
    wrong = []
    for block in found:
        if block.label == "text":
            program, complaint = block.text.rstrip("\n").rsplit("\n# ", 1)
            wrong.append(Shown(program + "\n", complaint))
    return right, wrong


def test_the_guide_shows_what_mypy_says(tmp_path: Path) -> None:
    right, wrong = shown()
    assert len(wrong) == 10
    parts = [right, *(one.program for one in wrong)]
    file = tmp_path / "guide.py"
    file.write_text("\n\n".join(parts), encoding="utf-8")
    arguments = ["--cache-dir", str(tmp_path / "mypy"), "--output", "json", "--no-error-summary"]
    mypy = subprocess.run(
        [sys.executable, "-m", "mypy", *arguments, "--config-file", "mypy.ini", str(file)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    messages = [json.loads(line) for line in mypy.stdout.splitlines()]
    said = [f"{one['message']} [{one['code']}]" for one in messages if one["severity"] == "error"]
    assert said == [one.complaint for one in wrong]


def test_pyright_agrees(tmp_path: Path) -> None:
    right, wrong = shown()
    names = ("functional", "functional_steps", "features")
    for kind in ("accepted", "rejected"):
        for name in names:
            program = PROGRAMS.joinpath(kind, f"{name}.py").read_text(encoding="utf-8")
            strict = "# pyright: strict, reportUnusedExpression=false\n"
            tmp_path.joinpath(f"{kind}_{name}.py").write_text(program + strict, encoding="utf-8")
    for number, one in enumerate(wrong):
        tmp_path.joinpath(f"guide_{number}.py").write_text(right + "\n\n" + one.program, "utf-8")
    settings = {
        "pythonVersion": "3.11",
        "extraPaths": [str(ROOT / "src"), str(ROOT / "typings")],
    }
    tmp_path.joinpath("pyrightconfig.json").write_text(json.dumps(settings), encoding="utf-8")
    pyright = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    refused: dict[str, set[int]] = {}
    for one in json.loads(pyright.stdout)["generalDiagnostics"]:
        if one["severity"] == "error":
            lines = refused.setdefault(Path(one["file"]).name, set())
            lines.add(one["range"]["start"]["line"] + 1)
    for name in names:
        mistakes = {error.line for error in expected(PROGRAMS / "rejected" / f"{name}.py")}
        assert refused.pop(f"accepted_{name}.py", set()) == set()
        assert refused.pop(f"rejected_{name}.py") == mistakes
    first_wrong = right.count("\n") + 2
    assert len(refused) == len(wrong)
    assert all(min(lines) > first_wrong for lines in refused.values())
