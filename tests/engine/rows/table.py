"""A table of checks by row id: `@row("A-001")` above a function puts it in.

A file of rows has one `Rows`, and one test that is parametrized with it, so that the ids are the
names of the tests.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import pytest

Check: TypeAlias = Callable[[], None]


class Rows(dict[str, Check]):
    """Map row ids to checks."""

    def __call__(self, *ids: str) -> Callable[[Check], Check]:
        """Put the decorated check in, for each of these rows."""

        def put(check: Check) -> Check:
            for row in ids:
                assert row not in self, f"row {row} has a check already"
                self[row] = check
            return check

        return put

    def params(self) -> list[object]:
        """Give the checks as parameters of a test, each with its id."""
        return [pytest.param(check, id=row) for row, check in sorted(self.items())]
