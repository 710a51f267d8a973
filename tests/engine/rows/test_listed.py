"""The list of rows and the tests say the same: no row without a check, and no check beside it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from tests.engine import (
    test_deterministic,
    test_supervised,
    test_supervised_mended,
    test_supervised_refusals,
)
from tests.engine.differential.rows import MENDED, STAND
from tests.engine.rows import (
    outside_code,
    test_api,
    test_api_built_in_events,
    test_api_engine,
    test_api_events,
    test_api_handlers,
    test_api_runs,
    test_api_state,
    test_checks,
    test_defects,
    test_documented,
    test_failure_rules,
    test_loop_rules,
    test_memory_rules,
    test_quirks,
    test_stop_rules,
    test_versions,
)
from tests.engine.rows.differences import TABLES
from tests.engine.rows.refusals import REFUSALS
from tests.engine.rows.table import Rows

ROOT: Final = Path(__file__).parents[3]
LIST: Final = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
LINES: Final = re.findall(r"^- `(.+?)`: (.+)$", LIST, re.M)
LISTED: Final = {row for row, _ in LINES}

CHECKS: Final[tuple[Rows, ...]] = (
    outside_code.row,
    test_api.rows,
    test_api_built_in_events.rows,
    test_api_engine.rows,
    test_api_events.rows,
    test_api_handlers.rows,
    test_api_runs.rows,
    test_api_state.rows,
    test_checks.rows,
    test_defects.ROWS,
    test_deterministic.rows,
    test_documented.ROWS,
    test_failure_rules.ROWS,
    test_loop_rules.ROWS,
    test_memory_rules.ROWS,
    test_quirks.ROWS,
    test_stop_rules.ROWS,
    test_supervised.rows,
    test_supervised_mended.rows,
    test_supervised_refusals.rows,
    test_versions.ROWS,
)


def test_the_list_names_a_row_once_and_says_what_it_is() -> None:
    assert len(LINES) == len(LISTED)
    assert [row for row, words in LINES if not re.fullmatch(r"[A-Z`].*\.", words)] == []


def test_each_row_has_a_check_and_each_check_a_row() -> None:
    checked = {row for rows in CHECKS for row in rows} | {refusal.row for refusal in REFUSALS}
    assert checked == LISTED


def test_each_difference_is_in_the_list() -> None:
    shown = {row for table in TABLES.values() for record in table.records for row in record.rows}
    played = {difference.row for difference in (*MENDED, *STAND)}
    assert (shown | played) - LISTED == set()


@pytest.mark.parametrize("place", ["tests/engine", "docs"])
def test_no_other_row_is_named(place: str) -> None:
    """Without a hyphen a row looks like the words of the tests, so these are not read here."""
    files = [file for kind in ("py", "md") for file in (ROOT / place).rglob(f"*.{kind}")]
    named = {
        row
        for file in files
        for row in re.findall(r"\b[ABCEPQRW]-\d{2,3}\b", file.read_text(encoding="utf-8"))
    }
    assert named
    assert named - LISTED == set()
