"""The examples on several processes: what they print, what they leave, and that they go on."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fengine.checkpoints import Checkpoints
from fengine.distributed import Ranks
from fengine.examples.distributed.__main__ import main
from fengine.examples.distributed.training import train
from tests.distributed.processes import on_ranks

SECONDS = 240
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2")
EPOCH = re.compile(r"^epoch .*", re.M)


def train_whole(ranks: Ranks, folder: str) -> None:
    """Train as the example does where nobody is killed."""
    train(ranks, Path(folder), epochs=3, killed_in=0)


def run(*arguments: str) -> str:
    """Run Python, which has to end well, and return what it has printed."""
    with subprocess.Popen(
        [sys.executable, "-m", *arguments],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            printed, complaints = process.communicate(timeout=SECONDS)
        finally:
            process.terminate()  # torchrun ends its processes
    assert process.returncode == 0, complaints
    return printed


def test_a_process_that_is_killed_changes_nothing_but_the_time(tmp_path: Path) -> None:
    printed = run(
        "fengine.examples.distributed", "--epochs=3", "--killed-in=2", f"--out={tmp_path}"
    )
    assert "rank 1 kills itself in epoch 2\ngoing on after epoch 1\n" in printed
    losses = [float(line.split()[3]) for line in EPOCH.findall(printed)]
    assert losses == sorted(losses, reverse=True)
    assert len(losses) == 3
    folder = tmp_path / "checkpoints"
    assert printed.endswith(f"Its checkpoints:  {folder}\n")
    on_ranks(2, train_whole, str(tmp_path / "whole"))
    killed, whole = (Checkpoints(one).kept()[-1] for one in (folder, tmp_path / "whole"))
    assert killed.epoch == whole.epoch == 3
    assert killed.metrics == whole.metrics


def test_the_digits_train_in_two_processes(tmp_path: Path) -> None:
    options = ("--epochs=2", f"--out={tmp_path}")
    printed = run(*TORCHRUN, "-m", "fengine.examples.digits", *options)
    assert printed.count("2 processes") == 1
    assert [line.split()[1] for line in EPOCH.findall(printed)] == ["1/2", "2/2"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.pt", "curves.png"]


@pytest.mark.parametrize("option", ["--processes=0", "--epochs=no", "--killed-in=-1"])
def test_bad_arguments_are_answered_in_a_line(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main([option])
    assert left.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("distributed: error: argument ")
    assert said.count("\n") == 1


def test_help_says_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--help"])
    assert left.value.code == 0
    said = capsys.readouterr().out
    for option in ("--processes", "--epochs", "--killed-in", "--out", "exit code"):
        assert option in said
