"""Everything that the documentation shows is true: its programs run, and CI types its commands."""

import doctest
import importlib.util
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
DOCUMENTS = [
    README,
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    *sorted(ROOT.glob("docs/*.md")),
]

# What a block may be labelled: a program, commands, or something that is only shown.
LABELS = {"python", "bash", "console", "text", "toml"}
# A program may need a package that is not always there, which its label names: `python lightning`.
NEEDED = {"lightning", "accelerate"}

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


def test_programs_that_need_another_package_run_where_it_is_installed(tmp_path: Path) -> None:
    document = ROOT / "docs" / "coming_from.md"
    first, *others = [block for block in blocks(document) if block.label == "python"]
    by_hand = others[0]
    needing = [block for block in blocks(document) if block.label.startswith("python ")]
    assert {block.label.removeprefix("python ") for block in needing} == NEEDED
    for block in needing:
        program = "\n".join((first.text, by_hand.text, block.text))
        compile(program, f"{document}, line {block.line}", "exec")
        if importlib.util.find_spec(block.label.removeprefix("python ")) is not None:
            subprocess.run(
                [sys.executable, "-W", "ignore", "-c", program], cwd=tmp_path, check=True
            )


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_every_block_of_a_document_has_a_known_label(document: Path) -> None:
    known = LABELS | {f"python {package}" for package in NEEDED}
    unknown = [(block.line, block.label) for block in blocks(document) if block.label not in known]
    assert not unknown


def test_ci_runs_the_first_two_shell_blocks() -> None:
    dry_run = subprocess.run(
        ["bash", ".ci/run", "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    commands = [line[2:] for line in dry_run.stdout.splitlines() if line.startswith("+ ")]
    first, second, *_ = [block.text for block in blocks(README) if block.label == "bash"]
    documented = (first + second).splitlines()
    start = commands.index(documented[0])
    assert commands[start : start + len(documented)] == documented
    assert "python -m fengine.examples.digits" in first
    assert "python -m pytest" in second


_LINK = re.compile(r"(?<!!)\[[^\]]+\]\((?P<path>[^)#\s]*)(?:#(?P<anchor>[^)\s]+))?\)")
_PICTURE = re.compile(r"!\[[^\]]*\]\((?P<path>[^)\s]+)\)")


def prose(document: Path) -> str:
    """Return the text of a document without its fenced blocks."""
    text = document.read_text(encoding="utf-8")
    return re.sub(r"^ *```.*?^ *```$", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(document: Path) -> set[str]:
    """Return what the headings of a document are linked by."""
    headings = re.findall(r"^#+ (.+)$", prose(document), re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings
    }


def links(document: Path) -> Iterator[tuple[Path, str | None]]:
    """Give the files that a document links, each with the heading that is meant, if one is."""
    for found in _LINK.finditer(prose(document)):
        if "://" not in found["path"]:
            path = document if not found["path"] else (document.parent / found["path"]).resolve()
            yield path, found["anchor"]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_what_a_document_links_is_there(document: Path) -> None:
    pictures = [document.parent / found["path"] for found in _PICTURE.finditer(prose(document))]
    for path in pictures:
        assert path.exists(), f"{document.name} shows {path}, which does not exist"
    for path, anchor in links(document):
        assert path.exists(), f"{document.name} links {path}, which does not exist"
        if anchor is not None:
            assert anchor in anchors(path), f"{document.name} links {path.name}#{anchor}"


def test_every_page_is_reached_from_the_readme() -> None:
    reached, coming = set[Path](), [README]
    while coming:
        document = coming.pop()
        if document not in reached:
            reached.add(document)
            coming += [path for path, _ in links(document) if path.suffix == ".md"]
    missing = [document.name for document in DOCUMENTS if document not in reached]
    assert not missing, f"no page that the README leads to links {missing}"
