"""Killing: a run that is killed at random moments, and begun again until it ends."""

from __future__ import annotations

import functools
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from fengine import Events
from fengine.checkpoints.folder import folder_at
from tests.checkpoints.trainings import Training, in_child, run_of

EVERY: Final = Events.ITERATION_COMPLETED(every=3) | Events.EPOCH_COMPLETED


@functools.cache
def digest_of_whole(**keywords: Any) -> str:
    """Return the digest of a run that nobody kills."""
    training = Training(**keywords)
    return training.digest(training.loop.run(training.data, max_epochs=3))


def ended(child: int) -> int | None:
    """Wait for a child; return its exit code, or None where it was killed."""
    _, status = os.waitpid(child, 0)
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else None


def require_readable(folder: Path) -> None:
    """Refuse a folder in which something that is listed cannot be read.

    Raises:
        CheckpointError: it cannot.
        AssertionError: something has no whole manifest.
    """
    if folder.is_dir():
        for kept in folder_at(folder).kept():
            folder_at(folder).verify(kept.path.name)
        assert folder_at(folder).broken() == {}


def run_with_kills(
    tmp_path: Path,
    seed: int,
    kills: int,
    *,
    run: Callable[..., None] = run_of,
    judge: Callable[[Path], None] = require_readable,
    **keywords: Any,
) -> int:
    """Kill a run at random moments until it ends; return how often it was killed.

    Args:
        tmp_path: where it keeps its checkpoints, in `kept`, and writes how it ended, in `result`.
        seed: of the moments.
        kills: how often it is killed at most.
        run: what runs, as `run_of` does.
        judge: called with the folder whenever the process has died or ended.
        **keywords: for `run`.
    """
    drawn, result = random.Random(seed), tmp_path / "result"
    folder = tmp_path / "kept"
    killed = 0
    while True:
        child = in_child(lambda: run(str(folder), str(result), **keywords))
        if killed < kills:
            time.sleep(drawn.uniform(0.02, 0.3))
            os.kill(child, signal.SIGKILL)
        code = ended(child)
        judge(folder)
        if code is not None:
            assert code == 0
            return killed
        killed += 1
