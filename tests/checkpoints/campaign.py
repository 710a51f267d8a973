"""The campaign: runs that are killed very often, and what that has done to them.

`python -m tests.checkpoints.campaign --kills 200` kills runs at random moments, half of them with
saves in the background. It prints how often an acknowledged checkpoint was lost and a listed one
unreadable, and how many of the runs ended to the bit as one that nobody kills. It exits with 1
where it was not as promised.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import torch

from fengine.checkpoints import Best, CheckpointError, stores
from fengine.checkpoints.folder import folder_at
from tests.checkpoints.killing import EVERY, digest_of_whole, require_readable, run_with_kills
from tests.checkpoints.trainings import run_of

ROW = "{:12} {:>6} {:>6} {:>11} {:>14}"


@final
class Tally:
    """Count what kills have done to the runs of one kind."""

    def __init__(self) -> None:
        self.kills = self.lost = self.unreadable = self.alike = self.runs = 0

    def judge(self, folder: Path) -> None:
        """Look at a folder after a process has died."""
        try:
            require_readable(folder)
        except (CheckpointError, AssertionError):
            self.unreadable += 1
        self.lost += _acknowledged(folder) > _newest(folder)

    @property
    def is_as_promised(self) -> bool:
        """Whether nothing was lost or unreadable, and all runs ended alike."""
        return not self.lost and not self.unreadable and self.alike == self.runs

    def cells(self) -> tuple[str, ...]:
        """Write the numbers of a row."""
        return (
            str(self.kills),
            str(self.lost),
            str(self.unreadable),
            f"{self.alike} of {self.runs}",
        )


def _acknowledged(folder: Path) -> tuple[int, ...]:
    file = folder.parent / "acknowledged"
    lines = file.read_text().splitlines() if file.exists() else []
    return tuple(json.loads(lines[-1])) if lines else ()


def _newest(folder: Path) -> tuple[int, ...]:
    kept = folder_at(folder).kept() if folder.is_dir() else ()
    return (kept[-1].iteration, kept[-1].save) if kept else ()


def _telling_run(folder: str, result: str, **keywords: Any) -> None:
    """Run, and write down beside the folder what has been acknowledged."""
    said = os.open(Path(folder).parent / "acknowledged", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def reached(point: str) -> None:
        if point == "acknowledged":
            os.write(said, json.dumps(_newest(Path(folder))).encode() + b"\n")

    stores.reached = reached  # of this process, which is forked, alone
    run_of(folder, result, **keywords)


def tally(kills: int, in_a_run: int, *, background: bool) -> Tally:
    """Kill runs until that many kills are made, and count what they have done."""
    found = Tally()
    wholes = {windowed: digest_of_whole(windowed=windowed) for windowed in (False, True)}
    while found.kills < kills:
        windowed = bool(found.runs % 2)
        with tempfile.TemporaryDirectory() as folder:
            made = run_with_kills(
                Path(folder),
                seed=2 * found.runs + background,
                kills=min(in_a_run, kills - found.kills),
                run=_telling_run,
                judge=found.judge,
                every=EVERY,
                best=Best("val_loss", mode="min"),
                background=background,
                windowed=windowed,
            )
            found.kills += made
            found.runs += 1
            found.alike += json.loads((Path(folder) / "result").read_text()) == wholes[windowed]
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the campaign, and give the exit status."""
    parser = argparse.ArgumentParser("python -m tests.checkpoints.campaign", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="how many in all (default: 200)")
    parser.add_argument("--in-a-run", type=int, default=5, help="of one run, at most (default: 5)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    print(ROW.format("saves", "kills", "lost", "unreadable", "ended alike"))
    tallies = []
    for name, share in (
        ("synchronous", options.kills - options.kills // 2),
        ("background", options.kills // 2),
    ):
        found = tally(share, options.in_a_run, background=name == "background")
        print(ROW.format(name, *found.cells()), flush=True)
        tallies.append(found)
    return 0 if all(found.is_as_promised for found in tallies) else 1


if __name__ == "__main__":
    sys.exit(main())
