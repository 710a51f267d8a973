"""Everything that the documentation shows is true: its programs run, and CI types its commands."""

import doctest
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
DOCUMENTS = [README, *sorted(ROOT.glob("docs/*.md"))]

# What a block may be labelled: a program, commands, or something that is only shown.
LABELS = {"python", "bash", "console", "text", "toml"}

_FENCE = re.compile(r"^ *```(?P<label>.*)$")


class Block(NamedTuple):
    """A fenced block: its label, its text and the number of the line before its first."""

    label: str
    text: str
    line: int


def blocks(document: Path) -> Iterator[Block]:
    """Read the fenced blocks of a document, in order."""
    lines = enumerate(document.read_text(encoding="utf-8").splitlines(keepends=True), start=1)
    for number, line in lines:
        if opening := _FENCE.match(line):
            text = []
            for _, inner in lines:
                if _FENCE.match(inner):
                    break
                text.append(inner)
            yield Block(opening["label"].strip(), "".join(text), number)


def execute(block: Block, document: Path, namespace: dict[str, object]) -> None:
    """Run a program or a session in a namespace; a failure points at the line of the document."""
    if ">>>" not in block.text:
        padded = "\n" * block.line + block.text
        exec(compile(padded, str(document), "exec", dont_inherit=True), namespace)
        return
    session = doctest.DocTestParser().get_doctest(
        block.text, {}, document.name, str(document), block.line
    )
    session.globs = namespace  # the parser would copy them, and the next block see nothing
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    results = runner.run(session, out=report.append, clear_globs=False)
    assert not results.failed, "".join(report)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_the_programs_of_a_document_run_in_order(
    document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A real module, so that what a program defines can be pickled and its annotations resolved.
    module = ModuleType(f"_document_{document.stem}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.chdir(tmp_path)
    for block in blocks(document):
        if block.label == "python":
            execute(block, document, vars(module))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_every_block_of_a_document_has_a_known_label(document: Path) -> None:
    unknown = [(block.line, block.label) for block in blocks(document) if block.label not in LABELS]
    assert not unknown


def test_ci_runs_the_first_two_shell_blocks() -> None:
    dry_run = subprocess.run(
        ["bash", ".ci/run", "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    commands = [line[2:] for line in dry_run.stdout.splitlines() if line.startswith("+ ")]
    first, second, *_ = [block.text for block in blocks(README) if block.label == "bash"]
    documented = (first + second).splitlines()
    assert commands[: len(documented)] == documented
    assert "python -m fengine.examples.digits" in first
    assert "python -m pytest" in second
