"""Systems: how each keeps checkpoints of a model and its optimizer, as its guide shows.

Systems other than fengine are imported when they are first used. None but fengine flushes what it
writes; torch.save here does, as one who knows would have it.
"""

from __future__ import annotations

import logging
import os
import re
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from importlib import import_module
from pathlib import Path, PurePath
from typing import Any, ClassVar, Final, Protocol, final

import torch
from torch import Tensor
from typing_extensions import override

from fengine import Events, Loop, outputs
from fengine.checkpoints import Checkpoints, weights
from tests.benchmarks.checkpoints.things import Things, step_of

FOREVER: Final = 10**9
Reading = Callable[[], int]


class Keeper(Protocol):
    """Keep the checkpoints of some things in a folder."""

    def save(self) -> None:
        """Save the things as they are."""

    def acknowledged(self) -> int:
        """Return how many saves are done, as far as the system says so."""

    def finish(self) -> None:
        """Wait until the newest save is done."""

    def resume(self) -> None:
        """Have the things take up the newest checkpoint."""

    @staticmethod
    def listed(folder: Path) -> Iterable[Reading]:
        """Give what reads each checkpoint that users see, and returns its step."""


Making = Callable[[Path, Things], Keeper]


class Counting:
    """Keep checkpoints, each acknowledged where its save returns."""

    def __init__(self, folder: Path, things: Things) -> None:
        self.folder, self.things = folder, things
        self.saves = 0
        folder.mkdir(parents=True, exist_ok=True)

    def save(self) -> None:
        """Save the things as they are."""
        self.saves += 1
        self.write()

    def write(self) -> None:
        """Write a checkpoint."""
        raise NotImplementedError

    def acknowledged(self) -> int:
        """Return how many saves have returned."""
        return self.saves

    def finish(self) -> None:
        """Wait for nothing."""


def _mark_in(path: PurePath) -> int:
    return step_of(weights(path, "model")["mark"])


def _nothing(batch: int) -> None:
    """Train nothing: what is measured is the save."""


class _Resumed(Exception):
    """Leave a run that has gone on."""


class Ours:
    """Keep the newest checkpoint by `Checkpoints`, at each iteration of a Loop."""

    background: ClassVar[bool] = False

    def __init__(self, folder: Path, things: Things) -> None:
        done = Events.ITERATION_COMPLETED
        self.checkpoints = Checkpoints(folder, keep=1, background=self.background, every=done)
        loop = Loop(outputs(_nothing))
        self.loop = loop.with_external(model=things.model, optimizer=things.optimizer)
        self.begun = 0
        data = range(FOREVER)
        moments = self.checkpoints.saving(self.loop, data).iterate(data)
        self.iterations = (moment for moment in moments if moment.event == done)

    def save(self) -> None:
        """Go through one iteration, whose step does nothing."""
        self.begun += 1
        next(self.iterations)

    def acknowledged(self) -> int:
        """Return how many saves are done: in the background the newest may be under way."""
        return self.begun - self.background

    def finish(self) -> None:
        """Wait until the save is listed, and the one before it is not any more."""
        while [kept.iteration for kept in self.checkpoints.kept()] != [self.begun]:
            time.sleep(0.02)

    def resume(self) -> None:
        """Go on up to the first event that has a batch."""

        def leave(state: object) -> Any:
            raise _Resumed

        loop = self.loop.on(Events.ITERATION_STARTED, leave)
        try:
            self.checkpoints.run(loop, range(FOREVER))
        except _Resumed:
            return

    @staticmethod
    def listed(folder: Path) -> Iterator[Reading]:
        """Give the steps that are listed."""
        for kept in Checkpoints(folder).kept():
            yield partial(_mark_in, kept.path)


@final
class OursInBackground(Ours):
    """Keep the newest checkpoint, written by another thread."""

    background = True


@final
class ByTorch(Counting):
    """Write over one file by `torch.save`, and flush it."""

    @override
    def write(self) -> None:
        """Write all into the file, and flush it."""
        with (self.folder / "last.pt").open("wb") as file:
            torch.save(self.things.state_dicts(), file)
            file.flush()
            os.fsync(file.fileno())

    def resume(self) -> None:
        """Load the file."""
        self.things.load(torch.load(self.folder / "last.pt"))

    @staticmethod
    def listed(folder: Path) -> Iterator[Reading]:
        """Give the one file."""
        return files(folder, "*.pt", lambda states: states["model"]["mark"])


class ByIgnite(Counting):
    """Keep checkpoints by pytorch-ignite's `ModelCheckpoint`.

    Args:
        folder: where.
        things: what.
        kept: how many of the newest stay.
    """

    def __init__(self, folder: Path, things: Things, kept: int = 1) -> None:
        super().__init__(folder, things)
        self.engine = import_module("ignite.engine").Engine(lambda engine, batch: None)
        self.to_save = {"model": things.model, "optimizer": things.optimizer}
        handlers = import_module("ignite.handlers")
        self.checkpoint = handlers.ModelCheckpoint(
            folder, "kept", n_saved=kept, require_empty=False
        )

    @override
    def write(self) -> None:
        """Call the handler at the next iteration."""
        self.engine.state.iteration += 1
        self.checkpoint(self.engine, self.to_save)

    def resume(self) -> None:
        """Load the newest file."""
        newest = max(self.folder.glob("*.pt"), key=number_in)
        self.checkpoint.load_objects(self.to_save, newest)

    @staticmethod
    def listed(folder: Path) -> Iterator[Reading]:
        """Give the files."""
        return files(folder, "*.pt", lambda states: states["model"]["mark"])


class ByAccelerate(Counting):
    """Keep checkpoints by accelerate's `save_state`.

    Args:
        folder: where.
        things: what.
        kept: how many of the newest stay.
    """

    def __init__(self, folder: Path, things: Things, kept: int = 1) -> None:
        super().__init__(folder, things)
        project = import_module("accelerate.utils").ProjectConfiguration(
            str(folder), automatic_checkpoint_naming=True, total_limit=kept
        )
        logging.getLogger("accelerate").setLevel(logging.ERROR)
        self.accelerator = import_module("accelerate").Accelerator(cpu=True, project_config=project)
        self.accelerator.prepare(things.model, things.optimizer)

    @override
    def write(self) -> None:
        """Save the state of all that is prepared."""
        self.accelerator.save_state()

    def resume(self) -> None:
        """Load the newest one."""
        newest = max((self.folder / "checkpoints").glob("checkpoint_*"), key=number_in)
        self.accelerator.load_state(str(newest))

    @staticmethod
    def listed(folder: Path) -> Iterator[Reading]:
        """Give the folders; one is read whole if its model and its optimizer are."""
        for path in sorted((folder / "checkpoints").glob("checkpoint_*"), key=number_in):

            def read(path: Path = path) -> int:
                torch.load(path / "optimizer.bin")
                torch.load(path / "random_states_0.pkl", weights_only=False)
                load_file = import_module("safetensors.torch").load_file
                return step_of(load_file(path / "model.safetensors")["mark"])

            yield read


@final
class ByDcp(Counting):
    """Write over one folder by `torch.distributed.checkpoint`."""

    def __init__(self, folder: Path, things: Things) -> None:
        super().__init__(folder, things)
        warnings.filterwarnings("ignore", module=r"torch\.distributed")
        self.dcp = import_module("torch.distributed.checkpoint")
        self.states = import_module("torch.distributed.checkpoint.state_dict")

    def _states(self) -> dict[str, Any]:
        model, optimizer = self.states.get_state_dict(self.things.model, self.things.optimizer)
        return {"model": model, "optimizer": optimizer}

    @override
    def write(self) -> None:
        """Save under the one id."""
        self.dcp.save(self._states(), checkpoint_id=self.folder / "last", no_dist=True)

    def resume(self) -> None:
        """Load into the states of the things, and give these to them."""
        states = self._states()
        self.dcp.load(states, checkpoint_id=self.folder / "last", no_dist=True)
        self.states.set_state_dict(
            self.things.model,
            self.things.optimizer,
            model_state_dict=states["model"],
            optim_state_dict=states["optimizer"],
        )

    @staticmethod
    def listed(folder: Path) -> Iterator[Reading]:
        """Give the one folder, if it has been begun."""
        if not (folder / "last").exists():
            return

        def read() -> int:
            convert = import_module("torch.distributed.checkpoint.format_utils").dcp_to_torch_save
            with tempfile.TemporaryDirectory() as elsewhere:
                convert(folder / "last", Path(elsewhere) / "read.pt")
                states = torch.load(Path(elsewhere) / "read.pt")
            return step_of(states["model"]["mark"])

        yield read


def size_of(folder: Path) -> int:
    """Return how many bytes the files in a folder have."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def number_in(path: Path) -> int:
    """Return the last number in a name."""
    return int(re.findall(r"\d+", path.name)[-1])


def files(folder: Path, pattern: str, mark_of: Callable[[Any], Tensor]) -> Iterator[Reading]:
    """Give what reads each file in a folder that `torch.save` wrote."""
    for path in sorted(folder.glob(pattern)):

        def read(path: Path = path) -> int:
            return step_of(mark_of(torch.load(path, weights_only=False)))

        yield read
