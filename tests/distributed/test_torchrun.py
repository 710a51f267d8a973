"""Programs started by torchrun: one file for one process and for many, and elastic restarts."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = "tests.distributed.launched_training"
SECONDS = 240


def run(folder: Path, fault: str, *launcher: str) -> int:
    """Run the program, started by torchrun with these options or by itself; return its status."""
    command = [sys.executable, "-m", PROGRAM, str(folder), fault]
    if launcher:
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", *launcher]
        command = [*torchrun, "--nproc-per-node", "2", "--module", *command[2:]]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    with subprocess.Popen(
        command,
        cwd=Path(__file__).parents[2],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        try:
            process.communicate(timeout=SECONDS)
        finally:
            process.terminate()  # the agent ends its workers
    return process.returncode


def finals(folder: Path) -> list[tuple[int, float, list[float]]]:
    return [ast.literal_eval(path.read_text()) for path in sorted(folder.glob("final-*"))]


def test_one_file_runs_alone_and_under_torchrun_with_a_restart(tmp_path: Path) -> None:
    alone, together = tmp_path / "alone", tmp_path / "together"
    alone.mkdir()
    together.mkdir()
    assert run(alone, "none") == 0
    # The first attempt is killed. Its store would have the addresses of workers that are dead.
    assert run(together, "killed", "--max-restarts=1") == 0
    (expected,) = finals(alone)
    one, other = finals(together)
    assert one == other
    assert one[0] == expected[0] == 12
    assert one[1] == pytest.approx(expected[1], abs=1e-6)
    assert one[2] == pytest.approx(expected[2], abs=1e-5)
    if (said := together / "error-0-0").exists():  # unless torchrun was faster to end it
        assert said.read_text().startswith("rank 1 failed")


def test_a_failure_fails_the_program(tmp_path: Path) -> None:
    assert run(tmp_path, "failed", "--max-restarts=0") != 0
    assert finals(tmp_path) == []
    if (said := tmp_path / "error-0-0").exists():
        assert said.read_text() == (
            "rank 1 failed: ValueError: no such class at epoch 1, iteration 4"
        )
