"""Runs that are killed and begun again end as the one that was not, and lose nothing."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from fengine import Events
from fengine.checkpoints import Best, Checkpoints, stores
from fengine.checkpoints.folder import folder_at
from tests.checkpoints.trainings import Training, in_child, run_of

EVERY = Events.ITERATION_COMPLETED(every=3) | Events.EPOCH_COMPLETED
POINTS = (
    "before the folder",
    "before the tensors",
    "after the tensors",
    "flushed",
    "after the manifest",
    "before the rename",
    "after the rename",
    "acknowledged",
    "before the trash",
    "in the trash",
)


def digest_of_whole(**keywords: Any) -> str:
    training = Training(**keywords)
    return training.digest(training.loop.run(training.data, max_epochs=3))


def ended(child: int) -> int | None:
    """Wait for a child; return its exit code, or None where it was killed."""
    _, status = os.waitpid(child, 0)
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else None


def require_readable(folder: Path) -> None:
    if folder.is_dir():
        for kept in folder_at(folder).kept():
            folder_at(folder).verify(kept.path.name)
        assert folder_at(folder).broken() == {}


def run_with_kills(tmp_path: Path, seed: int, kills: int, **keywords: Any) -> int:
    """Kill a run at random moments until it ends; return how often it was killed."""
    drawn, result = random.Random(seed), tmp_path / "result"
    folder = tmp_path / "kept"
    killed = 0
    while True:
        child = in_child(lambda: run_of(str(folder), str(result), **keywords))
        if killed < kills:
            time.sleep(drawn.uniform(0.02, 0.3))
            os.kill(child, signal.SIGKILL)
        code = ended(child)
        require_readable(folder)
        if code is not None:
            assert code == 0
            return killed
        killed += 1


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("windowed", [False, True])
def test_a_run_that_is_killed_at_random_moments_ends_alike(
    tmp_path: Path, background: bool, windowed: bool
) -> None:
    whole = digest_of_whole(windowed=windowed)
    keywords = {
        "every": EVERY,
        "best": Best("val_loss", mode="min"),
        "background": background,
        "windowed": windowed,
    }
    run_with_kills(tmp_path, seed=7 * background + windowed, kills=5, **keywords)
    assert json.loads((tmp_path / "result").read_text()) == whole


@pytest.mark.parametrize("point", POINTS)
def test_a_run_that_dies_at_a_point_of_a_save_ends_alike(
    tmp_path: Path, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, result = tmp_path / "kept", tmp_path / "result"

    def die_at(number: int) -> None:
        times = 0

        def reached(name: str) -> None:
            nonlocal times
            times += name == point
            if name == point and times == number:
                os.kill(os.getpid(), signal.SIGKILL)

        monkeypatch.setattr(stores, "reached", reached)
        run_of(str(folder), str(result), every=EVERY)

    for number in (1, 2):
        assert ended(in_child(lambda number=number: die_at(number))) is None  # type: ignore[misc]
        require_readable(folder)
    assert ended(in_child(lambda: run_of(str(folder), str(result), every=EVERY))) == 0
    assert json.loads(result.read_text()) == digest_of_whole()
    left = {path.name for path in folder.iterdir()}
    assert not {name for name in left if name.startswith((".tmp", ".trash"))}
    assert len(Checkpoints(folder).kept()) == 2


def test_what_was_acknowledged_is_there_after_a_kill(tmp_path: Path) -> None:
    read, write = os.pipe()

    def acknowledging() -> None:
        training = Training()
        checkpoints = Checkpoints(tmp_path / "kept", every=Events.ITERATION_COMPLETED)
        loop = checkpoints.saving(training.loop, training.data)
        for moment in loop.iterate(training.data, max_epochs=100):
            if moment.event == Events.ITERATION_COMPLETED:
                os.write(write, b"%d\n" % moment.state.iteration)

    child = in_child(acknowledging)
    os.close(write)
    with os.fdopen(read) as lines:
        for _ in range(7):
            lines.readline()
        os.kill(child, signal.SIGKILL)
        acknowledged = 7 + len(lines.read().splitlines())
    assert ended(child) is None
    kept = Checkpoints(tmp_path / "kept").latest()
    assert kept is not None
    assert kept.iteration >= acknowledged
