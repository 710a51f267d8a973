"""The quick lane: what `python -m pytest -m quick` runs while one edits, room by room.

It holds the laws, with a few examples each, and for each room the tests that fail first where its
code is wrong. The doctests of a room show each of its public names once: each feature, for one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]

# The files and folders of each room, and single tests of files that take long.
LANE: Final[Mapping[str, Sequence[str]]] = {
    "core": (
        "src/fengine/core",
        "tests/laws/test_filters.py",
        "tests/laws/test_handlers.py",
        "tests/laws/test_joining.py",
        "tests/laws/test_parts.py",
        "tests/laws/test_values.py",
        "tests/test_bad_input.py",
        "tests/test_events_are_one.py",
    ),
    "run": (
        "src/fengine/run",
        "tests/laws/test_release.py",
        "tests/laws/test_runs.py",
        "tests/test_failures.py",
        "tests/test_going_on.py",
        "tests/test_stopping.py",
        "tests/test_within.py",
    ),
    "keep": ("src/fengine/keep", "tests/laws/test_snapshots.py"),
    "look": ("src/fengine/look", "tests/test_plan.py"),
    "loop": ("src/fengine/loop.py", "tests/laws/test_among_handlers.py"),
    "recorder": ("src/fengine/recorder.py", "tests/laws/test_recorder.py"),
    "later": ("src/fengine/later.py",),
    "fengine": ("tests/test_architecture.py",),
    "training": (
        "src/fengine/training",
        "tests/training/functional/test_laws.py",
        "tests/training/test_shuffling.py",
    ),
    "metrics": ("src/fengine/metrics", "tests/laws/test_metrics_merge.py"),
    "writers": ("src/fengine/writers",),
    "features": ("src/fengine/features",),
    "distributed": ("src/fengine/distributed", "tests/distributed/test_laws.py"),
    "checkpoints": (
        "src/fengine/checkpoints",
        "tests/checkpoints/test_not_lost.py",
        "tests/checkpoints/test_retention.py",
        "tests/checkpoints/test_tree.py",
        "tests/checkpoints/test_words.py",
    ),
    "runtime": ("tests/test_version_0_1.py",),
    "engine": ("src/fengine/engine/engine.py", "tests/engine/test_both_apis_agree.py"),
    "engine.supervised": ("src/fengine/engine/supervised",),
    "engine.ignite": ("tests/engine/test_free_names.py",),
    "testing": ("src/fengine/testing", "tests/testing/test_automaton.py"),
    "examples": ("tests/examples/test_digits.py::test_the_best_epoch_of_none_is_none",),
}

# Those of them that take longest: they start processes, or play many programs.
LEFT_OUT: Final = frozenset(
    {
        "src/fengine/testing/program_strategies.py::fengine.testing.program_strategies.acts",
        "src/fengine/writers/mlflow_runs.py::fengine.writers.mlflow_runs.MLflow",
        "src/fengine/writers/mlflow_runs.py::fengine.writers.mlflow_runs.mlflow",
        "tests/laws/test_snapshots.py::test_a_run_goes_on_in_a_new_process_at_every_event",
        "tests/test_events_are_one.py::test_it_is_one_in_another_process",
        "tests/training/functional/test_laws.py::test_a_run_goes_on_exactly_in_another_process",
        "tests/training/test_shuffling.py::test_the_order_is_the_same_in_another_process",
    }
)

_TESTS: Final = frozenset(one for room in LANE.values() for one in room)
_PATHS: Final = frozenset(ROOT / one.partition("::")[0] for one in _TESTS)


def is_quick(test: str) -> bool:
    """Tell whether a test is in the lane, by the id that pytest gives it."""
    bare = test.partition("[")[0]
    file = bare.partition("::")[0]
    return bare not in LEFT_OUT and not _TESTS.isdisjoint(
        {bare, file, *map(str, Path(file).parents)}
    )


def leads_to_quick(path: Path) -> bool:
    """Tell whether a file or folder is in the lane, or has something of it within."""
    return any(path == one or path in one.parents or one in path.parents for one in _PATHS)
