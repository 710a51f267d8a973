"""Hypothesis profiles, and the quick lane.

HYPOTHESIS_PROFILE chooses a profile; by default every run tries the same examples, a hundred of
each law, and a few where `-m quick` selects the lane.
"""

import os
from pathlib import Path

import pytest
from hypothesis import settings

from tests.quick import is_quick, leads_to_quick

# pytest would import every module it looks for doctests in; these are for the type checker only.
collect_ignore = ["typing"]

# No deadline in any of them: how long an example takes says more about the machine than the code.
settings.register_profile("ci", deadline=None, derandomize=True, max_examples=100)
settings.register_profile("quick", settings.get_profile("ci"), max_examples=5)
settings.register_profile("thorough", deadline=None, max_examples=5000)

settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def _selects_the_lane(config: pytest.Config) -> bool:
    return bool(config.getoption("markexpr") == "quick")


def pytest_configure(config: pytest.Config) -> None:
    """Have few examples in the lane, before any test is imported."""
    if _selects_the_lane(config) and "HYPOTHESIS_PROFILE" not in os.environ:
        settings.load_profile("quick")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave files that have nothing of the lane unread: to import them all takes longest."""
    return True if _selects_the_lane(config) and not leads_to_quick(collection_path) else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of the lane, before `-m` selects by marks."""
    for item in items:
        if is_quick(item.nodeid):
            item.add_marker("quick")
