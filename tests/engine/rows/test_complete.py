"""No row of the API, of its checks and of its warnings is without a test."""

from __future__ import annotations

import re
from collections import Counter

from tests.engine import test_deterministic, test_supervised, test_supervised_refusals
from tests.engine.rows import (
    test_api,
    test_api_built_in_events,
    test_api_engine,
    test_api_events,
    test_api_handlers,
    test_api_runs,
    test_api_state,
    test_checks,
)
from tests.engine.rows.refusals import REFUSALS
from tests.engine.rows.table import ids

CHECKED = (
    test_api,
    test_api_built_in_events,
    test_api_engine,
    test_api_events,
    test_api_handlers,
    test_api_runs,
    test_api_state,
    test_checks,
    test_deterministic,
    test_supervised,
    test_supervised_refusals,
)

NAMES = (range(1, 6),)
EVENTS = (range(10, 23), range(30, 42))
STATE = (range(50, 63), range(70, 74))
ENGINE = (range(80, 89), range(90, 106))
DETERMINISTIC = (range(110, 115),)
SUPERVISED = (range(120, 129),)
BESIDE = (range(130, 135),)


def test_every_row_has_one_check() -> None:
    checks = Counter(row for module in CHECKED for row in module.rows if re.match(r"[AEW]-", row))
    assert [row for row, count in checks.items() if count > 1] == []
    rows = {*checks, *(refusal.row for refusal in REFUSALS)}
    numbers = (*NAMES, *EVENTS, *STATE, *ENGINE, *DETERMINISTIC, *SUPERVISED, *BESIDE)
    assert rows == (ids("A", *numbers, digits=3) | ids("E", range(1, 63)) | ids("W", range(1, 4)))
