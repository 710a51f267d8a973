"""Each set-up gives the same on pytorch-ignite's own Engine and on ours, installed in its place.

Both runs are programs of their own, since an engine can only be replaced before it is imported.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, TypeAlias

import ignite.handlers
import pytest
from ignite.metrics.metric import MetricUsage

from tests.engine.unmodified.setups import SETUPS, every

Outcomes: TypeAlias = dict[str, dict[str, Any]]

ROOT = Path(__file__).parents[3]
SOURCES = Path(__file__).parent / "setups"
PACKAGE = Path(ignite.handlers.__file__ or "").parents[1]

# What others derive from; none of them can be made.
ABSTRACT = {"BaseParamScheduler", "CyclicalScheduler", "ParamScheduler", "StateParamScheduler"}


def outcomes(*arguments: str) -> Any:
    """Run all set-ups in a program of their own."""
    program = subprocess.run(
        [sys.executable, "-m", "tests.engine.unmodified.setups", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert program.returncode == 0, program.stderr
    return json.loads(program.stdout)


@pytest.fixture(scope="module")
def theirs() -> Outcomes:
    found = outcomes()
    assert not found["fengine"]
    return dict(found["results"])


@pytest.fixture(scope="module")
def ours() -> Outcomes:
    found = outcomes("--fengine")
    assert found["fengine"]
    return dict(found["results"])


@pytest.mark.parametrize("name", SETUPS)
def test_a_setup_gives_the_same(name: str, theirs: Outcomes, ours: Outcomes) -> None:
    assert (theirs[name]["error"], ours[name]["error"]) == ("", "")
    assert ours[name]["result"] == theirs[name]["result"]
    assert theirs[name]["result"]
    assert SETUPS[name].file in theirs[name]["files"]


def test_every_file_of_handlers_has_a_setup() -> None:
    files = {f"handlers/{path.name}" for path in PACKAGE.joinpath("handlers").glob("*.py")}
    assert files - {setup.file for setup in SETUPS.values()} == {"handlers/__init__.py"}


def test_every_handler_is_in_a_setup() -> None:
    used = {
        node.id
        for path in SOURCES.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Name)
    }
    assert set(ignite.handlers.__all__) - used == ABSTRACT


def test_every_usage_of_metrics_has_a_setup() -> None:
    usages, found = [MetricUsage], set()
    while usages:
        usages += (more := usages.pop().__subclasses__())
        found |= set(more)
    usages_of_setups = every.metrics.USAGES
    assert {type(make()) for make in usages_of_setups.values()} == found
    assert {f"usage_{name}" for name in usages_of_setups} <= SETUPS.keys()
