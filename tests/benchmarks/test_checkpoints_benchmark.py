"""The benchmark of checkpoints runs and counts; how long anything takes is not tested."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.benchmarks.checkpoints import __main__ as command
from tests.benchmarks.checkpoints.kills import left_by, saving_by
from tests.benchmarks.checkpoints.report import BACKGROUND, OURS, TORCH
from tests.benchmarks.checkpoints.systems import ByTorch, Ours, Reading
from tests.benchmarks.checkpoints.things import Things
from tests.benchmarks.systems import ACCELERATE, IGNITE, TRAINER, installed

TINY = ("--parameters", "2000", "--killed-parameters", "2000", "--rounds", "2", "--kills", "2")


def rows_under(title: str, text: str) -> dict[str, list[str]]:
    """Read the rows of the table under a heading, by their first cells."""
    section = text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    return {first: others for first, *others in cells}


def test_the_benchmark_compares_systems_and_writes_a_document(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = tmp_path / "found.md"
    files = ("--folder", str(tmp_path), "--markdown", str(document))
    assert command.main([*TINY, *files]) == 0
    text, said = capsys.readouterr()
    assert text == document.read_text(encoding="utf-8")
    names = {"ignite": IGNITE, "lightning": TRAINER, "accelerate": ACCELERATE}
    there = {name for module, name in names.items() if module in installed()}
    for module in names.keys() - installed():
        assert re.search(rf"{module}.* is not installed and left out", said)
    costs, kills = rows_under("Costs", text), rows_under("Kills", text)
    ours = {OURS, BACKGROUND}
    assert costs.keys() == ours | {TORCH, command.DCP} | there
    for cells in costs.values():
        assert re.fullmatch(r"\d+ \(\d+\.\d\d x\)", cells[0])
        assert re.fullmatch(r"\d+\.\d\d \([+-]\d+\.\d{3}%\)", cells[3])
    assert {kills[f"{name}, keep=1"][0] for name in ours} == {"0 (0)"}
    assert {kills[f"{name}, keep=1"][1] for name in ours} == {"0"}
    assert all(any(row.startswith(name) for row in kills) for name in there)
    assert [cells[0] for cells in rows_under("Targets", text).values()] == [
        "<= 1.6 x torch.save",
        "<= 0.35 x torch.save",
        "<= 1.01 x torch.save",
        "<= 0",
        "<= 0",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["found.md"]  # what was saved is gone


def test_a_checkpoint_that_is_gone_or_cut_short_is_counted(tmp_path: Path) -> None:
    def deleting(folder: Path, things: Things, acknowledge: Callable[[int], None]) -> None:
        keeper = ByTorch(folder, things)
        keeper.save()
        (folder / "last.pt").unlink()
        acknowledge(2)
        while True:
            pass

    def listed(folder: Path) -> list[Reading]:
        def cut_short() -> int:
            raise EOFError

        return [cut_short]

    gone = left_by(deleting, ByTorch.listed, tmp_path / "a", 1, parameters=100)
    assert (gone.lost, gone.nothing, gone.unreadable) == (1, 1, 0)
    short = left_by(saving_by(Ours), listed, tmp_path / "b", 1, parameters=100)
    assert (short.lost, short.nothing, short.unreadable) == (1, 1, 1)
