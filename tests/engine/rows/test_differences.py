"""docs/engine.md shows the differences that the records prove, in the words of the records."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Final

import pytest

from tests.engine.rows.differences import TABLES, marked

DOCUMENT: Final = Path(__file__).parents[3] / "docs" / "engine.md"


@pytest.mark.parametrize("name", TABLES)
def test_the_documentation_shows_the_table(name: str) -> None:
    assert marked(name) in DOCUMENT.read_text(encoding="utf-8")


def test_the_module_prints_the_tables(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(Path(__file__).with_name("differences.py")), run_name="__main__")
    assert capsys.readouterr().out == "\n\n".join(map(marked, TABLES)) + "\n"


@pytest.mark.parametrize("name", TABLES)
def test_no_situation_is_told_twice(name: str) -> None:
    situations = [record.situation for record in TABLES[name].records]
    assert len(set(situations)) == len(situations) > 0
