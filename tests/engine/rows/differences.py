"""The differences that docs/engine.md shows, as tables of records: `python -m` this prints them."""

from __future__ import annotations

import re
import sys
from typing import Final

from tests.engine.rows import (
    apis_events,
    apis_handlers,
    apis_runs,
    apis_states,
    apis_training,
    by_semantics,
    fixed_events,
    fixed_runs,
    fixed_training,
)
from tests.engine.rows.records import Differences
from tests.engine.rows.table import Check, Rows

TABLES: Final[dict[str, Differences]] = {
    "semantics": by_semantics.VERSIONS,
    "fixed": fixed_events.FIXED + fixed_runs.FIXED + fixed_training.FIXED,
    "functional": (
        apis_events.APIS
        + apis_handlers.APIS
        + apis_runs.APIS
        + apis_states.APIS
        + apis_training.APIS
    ),
}


def with_records(rows: Rows, prefix: str) -> Rows:
    """Give checks, together with those of the records whose ids have a letter and this after it.

    A row that has both, or more than one record, has them all checked.
    """
    joined = Rows(rows)
    for table in TABLES.values():
        for record in table.records:
            for row in record.rows:
                if re.fullmatch(prefix, row):
                    joined[row] = both(joined.get(row), record.check)
    return joined


def both(first: Check | None, second: Check) -> Check:
    """Make one check of two."""

    def check() -> None:
        if first is not None:
            first()
        second()

    return check


def marked(name: str) -> str:
    """Give a table between the marks that it has in the documentation."""
    return f"<!-- {name}: generated -->\n\n{TABLES[name].markdown()}\n\n<!-- {name}: end -->"


if __name__ == "__main__":
    sys.stdout.write("\n\n".join(map(marked, TABLES)) + "\n")
