"""Scripts for pytorch-ignite print and write the same by `python -m fengine.engine SCRIPT`."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engine.unmodified.setups.common import plain
from tests.engine.unmodified.setups.loggers import written

SCRIPTS = Path(__file__).parent / "scripts"
THEIRS = (sys.executable,)
OURS = (sys.executable, "-m", "fengine.engine")


def ran(python: tuple[str, ...], folder: Path, name: str, *arguments: str) -> Any:
    """Run a script in a folder; give its exit code and its output, without times."""
    folder.mkdir(exist_ok=True)
    script = subprocess.run(
        [*python, str(SCRIPTS / name), *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in script.stderr, script.stderr
    return script.returncode, re.sub(r"[\d.]+ seconds", "time", script.stdout)


def checkpoints(folder: Path) -> dict[str, Any]:
    """Read all checkpoints below a folder."""
    return {
        str(path.relative_to(folder)): plain(torch.load(path, weights_only=True))
        for path in sorted(folder.rglob("*.pt"))
    }


def test_quick_start(tmp_path: Path) -> None:
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    code, output = ran(THEIRS, theirs, "quick_start.py", "--lr", "0.4")
    assert ran(OURS, ours, "quick_start.py", "--lr", "0.4") == (code, output)
    assert code == 0
    assert "Events.TERMINATE" in output
    assert checkpoints(ours) == checkpoints(theirs)
    assert len(checkpoints(ours)) == 2
    scalars, _ = written(str(ours / "board"))
    assert {"training/loss", "validation/nll", "lr/group_0"} <= scalars.keys()
    assert written(str(theirs / "board")) == written(str(ours / "board"))


def test_workflow(tmp_path: Path) -> None:
    code, output = ran(THEIRS, tmp_path, "workflow.py")
    assert ran(OURS, tmp_path, "workflow.py") == (code, output)
    assert code == 0
    assert "stopped by ArithmeticError" in output


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Train three epochs with either engine; give the folders of the two."""
    folder = tmp_path_factory.mktemp("begun")
    theirs, ours = folder / "theirs", folder / "ours"
    code, output = ran(THEIRS, theirs, "resume.py")
    assert ran(OURS, ours, "resume.py") == (code, output)
    assert "starts in epoch 0, iteration 0" in output
    return theirs, ours


def test_what_is_saved(begun: tuple[Path, Path]) -> None:
    theirs, ours = begun
    assert checkpoints(ours) == checkpoints(theirs)
    assert list(checkpoints(ours)) == [f"checkpoints/run_checkpoint_{n}.pt" for n in (12, 18)]


def test_either_engine_goes_on_from_what_the_other_saved(
    begun: tuple[Path, Path], tmp_path: Path
) -> None:
    outputs: list[Any] = []
    for python, saved in zip((THEIRS, OURS), reversed(begun), strict=True):
        checkpoint = saved / "checkpoints" / "run_checkpoint_12.pt"
        arguments = ["--resume-from", str(checkpoint), "--max-epochs", "5"]
        folder = tmp_path / str(len(outputs))
        outputs.append((ran(python, folder, "resume.py", *arguments), checkpoints(folder)))
    assert outputs[0] == outputs[1]
    assert "starts in epoch 2, iteration 12" in outputs[0][0][1]


def test_the_exit_code_of_a_script_is_kept(tmp_path: Path) -> None:
    arguments = ["--resume-from", "nowhere.pt"]
    expected = (3, "there is no checkpoint nowhere.pt\n")
    assert ran(OURS, tmp_path, "resume.py", *arguments) == expected
