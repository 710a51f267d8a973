"""No rule, quirk, difference or defect of the Engine is without a test."""

from __future__ import annotations

from typing import Final

from tests.engine import test_supervised, test_supervised_mended
from tests.engine.rows import (
    test_defects,
    test_documented,
    test_failure_rules,
    test_loop_rules,
    test_memory_rules,
    test_quirks,
    test_stop_rules,
    test_versions,
)
from tests.engine.rows.table import ids

CHECKED: Final = (
    test_documented.ROWS,
    test_failure_rules.ROWS,
    test_loop_rules.ROWS,
    test_memory_rules.ROWS,
    test_quirks.ROWS,
    test_stop_rules.ROWS,
    test_versions.ROWS,
)

# Those of the supervised engines that are no differences.
SUPERVISED: Final = {*test_supervised.rows, *test_supervised_mended.rows}


def test_every_row_has_a_check() -> None:
    checked = [row for rows in CHECKED for row in rows]
    assert len(set(checked)) == len(checked)
    wanted = ids("R", range(1, 28), range(40, 45)) | ids("B", range(1, 14))
    wanted |= ids("Q", range(1, 31)) | ids("C", range(1, 41))
    assert {*checked} <= wanted <= {*checked} | SUPERVISED


def test_every_defect_has_a_check() -> None:
    last = {"A": 16, "B": 14, "C": 17, "D": 21, "E": 15}
    wanted = {f"{letter}{number}" for letter in last for number in range(1, last[letter] + 1)}
    assert test_defects.ROWS.keys() <= wanted <= test_defects.ROWS.keys() | SUPERVISED
