"""Rows P-01 to P-13 hold of pytorch-ignite, and of this package once it is installed in its place.

Here pytorch-ignite is imported already; so a program of its own installs, and reports by row.
"""

from __future__ import annotations

from collections.abc import Iterator

import ignite.engine
import pytest

from tests.engine.rows.outside_code import row
from tests.engine.rows.table import Check
from tests.engine.unmodified.reporting import reported


@pytest.fixture
def _registry() -> Iterator[None]:
    """Leave the counters that every engine of pytorch-ignite shares as they were."""
    registry = ignite.engine.State.event_to_attr
    known = set(registry)
    yield
    for event in set(registry) - known:
        del registry[event]


@pytest.mark.usefixtures("_registry")
@pytest.mark.parametrize("check", row.params())
def test_row_of_pytorch_ignite(check: Check) -> None:
    check()


@pytest.fixture(scope="module")
def wrong() -> dict[str, str]:
    return reported("tests.engine.rows.outside_code", "row")


@pytest.mark.parametrize("name", sorted(row))
def test_row(name: str, wrong: dict[str, str]) -> None:
    assert wrong[name] == ""
