"""Runs that are killed and begun again end as the one that was not, and lose nothing."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from fengine import Events
from fengine.checkpoints import Best, Checkpoints, stores
from tests.checkpoints.campaign import main
from tests.checkpoints.killing import (
    EVERY,
    digest_of_whole,
    ended,
    require_readable,
    run_with_kills,
)
from tests.checkpoints.trainings import Training, in_child, run_of

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


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("windowed", [False, True])
def test_a_run_that_is_killed_at_random_moments_ends_alike(
    tmp_path: Path, background: bool, windowed: bool
) -> None:
    whole = digest_of_whole(windowed=windowed)
    keywords: dict[str, Any] = {
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


def test_a_campaign_counts_what_kills_have_done(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--kills", "4", "--in-a-run", "2"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    for row, way in zip(rows[-2:], ("synchronous", "background"), strict=True):
        assert row[:4] == [way, "2", "0", "0"]  # kills, lost, unreadable
        assert row[4] == row[6] != "0"  # runs that ended alike, of how many
