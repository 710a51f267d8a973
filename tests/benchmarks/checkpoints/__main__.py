"""Measure what checkpoints cost, and what kills leave of them; print the findings as Markdown.

    python -m tests.benchmarks.checkpoints --markdown docs/benchmarks_checkpoints.md

Systems that are not installed are left out. Times are processor time, since other work on the
machine makes any other time useless; so what a disk takes is not in them.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Final, TypeAlias

import torch

from tests.benchmarks.checkpoints.costs import costs_of
from tests.benchmarks.checkpoints.kills import (
    PARAMETERS,
    Acknowledge,
    Listed,
    Training,
    left_by,
    saving_by,
)
from tests.benchmarks.checkpoints.lightning_keeper import ByLightning, train_by_lightning
from tests.benchmarks.checkpoints.report import BACKGROUND, OURS, TORCH, Findings
from tests.benchmarks.checkpoints.systems import (
    ByAccelerate,
    ByDcp,
    ByIgnite,
    ByTorch,
    Keeper,
    Ours,
    OursInBackground,
)
from tests.benchmarks.checkpoints.things import Things
from tests.benchmarks.systems import ACCELERATE, IGNITE, TRAINER, installed, missing, setting

Killed: TypeAlias = tuple[str, Training, Listed]
DCP: Final = "torch.distributed.checkpoint"
MEMORY: Final = Path("/dev/shm")
# What keeps the checkpoints of each system.
SYSTEMS: Final[dict[str, type[Keeper]]] = {
    OURS: Ours,
    BACKGROUND: OursInBackground,
    TORCH: ByTorch,
    DCP: ByDcp,
    IGNITE: ByIgnite,
    TRAINER: ByLightning,
    ACCELERATE: ByAccelerate,
}
# What not all have.
MODULES: Final = {
    IGNITE: "ignite.handlers",
    TRAINER: "lightning.pytorch",
    ACCELERATE: "accelerate",
}


def by_lightning(temporary: str | None) -> Training:
    """Return a training by a Trainer whose temporary files lie beside its checkpoints, or there."""

    def train(folder: Path, things: Things, acknowledge: Acknowledge) -> None:
        place = temporary or str(folder.parent)
        os.makedirs(place, exist_ok=True)
        tempfile.tempdir = place
        train_by_lightning(folder, things, acknowledge)

    return train


def _killed(elsewhere: str) -> dict[str, Killed]:
    """Return the ways in which systems are killed; elsewhere is a folder of another file system."""
    found: dict[str, Killed] = {
        f"{OURS}, keep=1": (OURS, saving_by(Ours), Ours.listed),
        f"{BACKGROUND}, keep=1": (BACKGROUND, saving_by(OursInBackground), Ours.listed),
        "torch.save over one name": (TORCH, saving_by(ByTorch), ByTorch.listed),
        f"{DCP} over one id": (DCP, saving_by(ByDcp), ByDcp.listed),
    }
    for kept in (1, 2):
        by_ignite = saving_by(partial(ByIgnite, kept=kept))
        found[f"{IGNITE}, n_saved={kept}"] = IGNITE, by_ignite, ByIgnite.listed
    for kept in (1, 2):
        by_accelerate = saving_by(partial(ByAccelerate, kept=kept))
        found[f"{ACCELERATE}, total_limit={kept}"] = ACCELERATE, by_accelerate, ByAccelerate.listed
    for where, temporary in (("", None), (", TMPDIR elsewhere", elsewhere)):
        train = by_lightning(temporary)
        found[f"{TRAINER}, save_top_k=1{where}"] = TRAINER, train, ByLightning.listed
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write, and give the exit status."""
    options = _parser().parse_args(arguments)
    have = installed() | {"matplotlib"}  # which is not needed
    for line in missing(have):
        print(line, file=sys.stderr)
    torch.set_num_threads(1)
    systems = {
        name: make
        for name, make in SYSTEMS.items()
        if name not in MODULES or MODULES[name].partition(".")[0] in have
    }
    for name in systems:
        import_module(MODULES.get(name, "torch"))
    with (
        tempfile.TemporaryDirectory(dir=options.folder, prefix="checkpoints-") as folder,
        tempfile.TemporaryDirectory(prefix="checkpoints-") as elsewhere,
    ):
        costs = costs_of(systems, Path(folder, "costs"), options.parameters, options.rounds)
        left = {}
        killed = {name: ways for name, ways in _killed(elsewhere).items() if ways[0] in systems}
        for number, (name, (_, train, listed)) in enumerate(killed.items()):
            sys.stderr.write(f"killing {name}\n")
            place = Path(folder, "kills", str(number))
            left[name] = left_by(train, listed, place, options.kills, options.killed_parameters)
    findings = Findings(
        setting=[*setting(installed() - {"matplotlib"})],
        place="a tmpfs" if options.folder == MEMORY else "a folder of a disk",
        rounds=options.rounds,
        parameters=options.parameters,
        costs=costs,
        kills=options.kills,
        killed_parameters=options.killed_parameters,
        left=left,
    )
    text = "\n".join(findings.document())
    print(text, end="")
    if options.markdown:
        options.markdown.write_text(text, encoding="utf-8")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m tests.benchmarks.checkpoints", description=__doc__)
    parser.add_argument("--parameters", type=int, default=50_000_000, help="of the saved model")
    parser.add_argument("--rounds", type=int, default=7, help="saves of each system")
    parser.add_argument("--kills", type=int, default=30, help="of each system")
    parser.add_argument(
        "--killed-parameters",
        type=int,
        default=PARAMETERS,
        help="of the model that is saved until a kill",
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=MEMORY if os.access(MEMORY, os.W_OK) else Path(tempfile.gettempdir()),
        help="where to save (default: /dev/shm, or where there is none, a temporary folder)",
    )
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write what is printed here")
    return parser


if __name__ == "__main__":
    sys.exit(main())
