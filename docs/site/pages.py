"""Pages of the site that are no files under docs/, and the links between all of them.

A document links other files of the repository by relative paths, as GitHub wants it. The site has
the README as its home and the changelog as a page. A source file that a document links is a page
with its text. A folder is the page of its `__init__.py`; one without is named, and not linked.

The pages of the reference are those that the navigation names.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
# The pages that are documents of the repository which lie outside docs/.
OUTSIDE = {"index.md": ROOT / "README.md", "changes.md": ROOT / "CHANGELOG.md"}

_FENCED = re.compile(r"(^ *```.*?^ *```$)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?P<text>\[[^\]]+\])\((?P<path>[^):#\s]+)(?P<anchor>#[^)\s]+)?\)")
_NEEDS = re.compile(r"^( *```python) \S+$", re.MULTILINE)  # says to the tests what a program needs
_PROMPT = re.compile(r"^( *```)python$(?=\n *>>> )", re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made of other files."""
    for uri, path in OUTSIDE.items():
        files.append(File.generated(config, uri, content=path.read_text("utf-8")))
    for uri in _reference(config.nav):
        files.append(File.generated(config, uri, content=_reference_page(Path(uri).stem)))
    documents = [DOCS / file.src_uri for file in files.documentation_pages()]
    for path in sorted(
        {path for one in documents for path in _sources(OUTSIDE.get(one.name, one))}
    ):
        page = File.generated(config, _uri(path), content=_source_page(path))
        page.inclusion = InclusionLevel.NOT_IN_NAV
        files.append(page)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Have links lead to pages of the site, and sessions be shown as such."""
    uri = page.file.src_uri
    if uri.startswith("source/"):
        return markdown
    document = OUTSIDE.get(uri, DOCS / uri)

    def replaced(link: re.Match[str]) -> str:
        path = _linked(document, link)
        if path is None:
            return link[0]
        if path.is_dir():
            return link["text"][1:-1]
        there = os.path.relpath(_uri(path), start=Path(uri).parent)
        return f"{link['text']}({there}{link['anchor'] or ''})"

    parts = _FENCED.split(markdown)
    parts[::2] = [_LINK.sub(replaced, prose) for prose in parts[::2]]
    return _PROMPT.sub(r"\1pycon", _NEEDS.sub(r"\1", "".join(parts)))


def _reference(nav: object) -> Iterator[str]:
    """Give the pages of the reference, wherever in the navigation."""
    match nav:
        case str():
            if nav.startswith("reference/"):
                yield nav
        case list():
            for one in nav:
                yield from _reference(one)
        case dict():
            yield from _reference(list(nav.values()))


def _reference_page(module: str) -> str:
    return f"# {module}\n\n::: {module}\n"


def _source_page(path: Path) -> str:
    """Show a file; the search leaves it out."""
    language = "python" if path.suffix == ".py" else "text"
    title = path.relative_to(ROOT).as_posix()
    head = f"---\nsearch:\n  exclude: true\n---\n\n# {title}\n\n"
    return f"{head}````{language}\n{path.read_text('utf-8')}````\n"


def _sources(document: Path) -> Iterator[Path]:
    """Give the files that a document links and that are no pages by themselves."""
    if document.is_file():
        for link in _LINK.finditer(_FENCED.sub("", document.read_text("utf-8"))):
            path = _linked(document, link)
            if path is not None and path.is_file() and _uri(path).startswith("source/"):
                yield path


def _linked(document: Path, link: re.Match[str]) -> Path | None:
    """Find the file, or the folder without a file to show, that a link of a document leads to."""
    path = (document.parent / link["path"]).resolve()
    if not path.is_relative_to(ROOT) or not path.exists():
        return None
    package = path / "__init__.py"
    return package if package.is_file() else path


def _uri(path: Path) -> str:
    """Name the page of a file of the repository."""
    for uri, outside in OUTSIDE.items():
        if path == outside:
            return uri
    if path.is_relative_to(DOCS):
        return path.relative_to(DOCS).as_posix()
    return f"source/{path.relative_to(ROOT).as_posix()}.md"
