"""Each training runs, is not longer than its peers, and is typed without a word of the user's."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.trainings.cnn import with_fengine as cnn
from tests.trainings.comparing import TRAININGS, lines_of
from tests.trainings.language_model import with_fengine as language_model
from tests.trainings.torchmetrics import with_fengine as torchmetrics

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("peer", ["lightning", "ignite"])
@pytest.mark.parametrize("training", TRAININGS)
def test_none_is_longer_than_its_peers(training: str, peer: str) -> None:
    assert lines_of(training, "fengine") <= lines_of(training, peer)


def test_the_network_learns_to_read_digits() -> None:
    metrics = cnn.train()
    assert metrics["val_accuracy"] > 0.9
    assert metrics["train_loss"] < 0.5


def test_the_metrics_of_torchmetrics_are_those_of_its_own_collection() -> None:
    from tests.trainings.torchmetrics.task import flowers, network
    from tests.trainings.torchmetrics.task import metrics as collection

    x, y = flowers()
    several = collection()
    with torch.no_grad():
        several.update(network()(x), y)
    wanted = {name: pytest.approx(float(value)) for name, value in several.compute().items()}
    assert torchmetrics.train() == wanted


@pytest.fixture
def _one_thread() -> Iterator[None]:
    """Compute as the program does that is killed: equal bits need equal sums."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_one_thread")
def test_the_language_model_is_killed_and_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    whole = language_model.train(tmp_path / "whole.pt")
    file = tmp_path / "killed.pt"
    program = (
        "from pathlib import Path; import torch; torch.set_num_threads(1); "
        "from tests.trainings.language_model.with_fengine import train; "
        f"train(Path({str(file)!r}), kill=15)"
    )
    killed = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False)
    assert killed.returncode == -9
    assert file.exists()
    assert language_model.train(file) == whole


def test_pyright_finds_nothing(tmp_path: Path) -> None:
    for training in TRAININGS:
        for name in ("task", "with_fengine"):
            program = ROOT / "tests" / "trainings" / training / f"{name}.py"
            text = program.read_text("utf-8")
            if name == "with_fengine":
                text += "# pyright: strict\n"
            copy = tmp_path / "tests" / "trainings" / training / f"{name}.py"
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(text, "utf-8")
    settings = {
        "pythonVersion": "3.11",
        "extraPaths": [str(ROOT / "src"), str(ROOT / "typings")],
    }
    tmp_path.joinpath("pyrightconfig.json").write_text(json.dumps(settings), "utf-8")
    pyright = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    found = json.loads(pyright.stdout)["generalDiagnostics"]
    errors = [one for one in found if one["severity"] == "error"]
    assert [one for one in errors if one["file"].endswith("with_fengine.py")] == []
