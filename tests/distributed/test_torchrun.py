"""Programs started by torchrun: one file for one process and for many, and elastic restarts."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fengine.checkpoints import Checkpoints
from tests.distributed.launched_checkpoints import train
from tests.distributed.processes import on_ranks, values
from tests.test_readme import blocks

PROGRAM = "tests.distributed.launched_training"
SECONDS = 240
ROOT = Path(__file__).parents[2]
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def launch(*arguments: str, folder: Path = ROOT) -> tuple[int, str]:
    """Run Python in a folder; return its status, and what it has printed."""
    with subprocess.Popen(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            printed, _ = process.communicate(timeout=SECONDS)
        finally:
            process.terminate()  # the agent ends its workers
    return process.returncode, printed


def run(folder: Path, fault: str, *options: str, program: str = PROGRAM) -> int:
    """Run the program, started by torchrun with these options or by itself; return its status."""
    launcher = (*TORCHRUN, *options, "--module") if options else ("-m",)
    status, _ = launch(*launcher, program, str(folder), fault)
    return status


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


def test_the_program_of_the_tutorial_trains_the_same_in_two_processes(tmp_path: Path) -> None:
    programs = [
        block.text for block in blocks(ROOT / "docs" / "tutorial.md") if block.label == "python"
    ]
    losses = []
    for name, launcher in {"alone": (), "together": TORCHRUN}.items():
        folder = tmp_path / name
        folder.mkdir()
        folder.joinpath("train.py").write_text(programs[-1], "utf-8")
        status, printed = launch(*launcher, "train.py", folder=folder)
        assert status == 0, printed
        [said] = [line for line in printed.splitlines() if line.startswith("epoch 10 loss")]
        losses.append(float(said.split()[-1]))
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)


def test_a_run_that_torchrun_ends_and_one_that_it_restarts_go_on_bitwise(tmp_path: Path) -> None:
    program = "tests.distributed.launched_checkpoints"
    kept = tmp_path / "kept"
    # SIGTERM to the agent, which tells all ranks: they save and end with 143, and torchrun with 1.
    assert run(tmp_path, "preempted", "--max-restarts=0", program=program) == 1
    assert [path.read_text() for path in sorted(tmp_path.glob("code-*"))] == ["143", "143"]
    assert [one.iteration for one in Checkpoints(kept).kept()][-1] == 5
    # One worker is killed, and the next attempt goes on from what was kept last.
    assert run(tmp_path, "killed", "--max-restarts=1", program=program) == 0
    expected = values(on_ranks(2, train, str(tmp_path / "whole"), "none"))
    for rank in (0, 1):
        assert ast.literal_eval((tmp_path / f"final-{rank}").read_text()) == expected[rank]
