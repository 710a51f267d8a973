"""The Lightning Trainer: saves by `save_checkpoint`, and by a `ModelCheckpoint` while it trains."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any, final

from typing_extensions import override

from tests.benchmarks.checkpoints.systems import Counting, Reading, files
from tests.benchmarks.checkpoints.things import Things


@final
class ByLightning(Counting):
    """Write over one file by a Trainer that has trained for one step."""

    def __init__(self, folder: Path, things: Things) -> None:
        super().__init__(folder, things)
        self.module = _module(things)
        self.trainer: Any = None

    @override
    def write(self) -> None:
        """Save by the trainer."""
        if self.trainer is None:
            self.trainer = _trainer()
            self.trainer.fit(self.module, [0])
        self.trainer.save_checkpoint(self.folder / "last.ckpt")

    def resume(self) -> None:
        """Go on from the file in a new trainer, which has nothing left to do."""
        _trainer().fit(self.module, [0], ckpt_path=self.folder / "last.ckpt")

    @staticmethod
    def listed(folder: Path) -> Iterator[Reading]:
        """Give the files."""
        return files(folder, "*.ckpt", lambda states: states["state_dict"]["model.mark"])


def train_by_lightning(folder: Path, things: Things, acknowledge: Callable[[int], None]) -> None:
    """Train on and on, while a `ModelCheckpoint` keeps the newest at each step."""
    pytorch: Any = import_module("lightning.pytorch")
    checkpoint: Any = import_module("lightning.pytorch.callbacks").ModelCheckpoint(
        folder, save_top_k=1, every_n_train_steps=1
    )

    class Marking(pytorch.Callback):  # type: ignore[misc]
        def on_train_batch_start(
            self, trainer: Any, module: Any, batch: object, number: int
        ) -> None:
            if number:  # the callback that saves comes after all others of the step before
                acknowledge(number)

        def on_train_batch_end(
            self, trainer: Any, module: Any, outputs: object, batch: object, number: int
        ) -> None:
            things.put_mark(number + 1)

    trainer = _trainer(max_steps=-1, callbacks=[Marking(), checkpoint])
    trainer.fit(_module(things), _Endless())


class _Endless:
    def __iter__(self) -> Iterator[int]:
        return iter(count())


def _module(things: Things) -> Any:
    pytorch: Any = import_module("lightning.pytorch")

    class Module(pytorch.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = things.model
            self.automatic_optimization = False

        def training_step(self, batch: object, number: int) -> None:
            """Count a step, in which nothing changes."""
            self.optimizers().step()

        def configure_optimizers(self) -> Any:
            return things.optimizer

    return Module()


def _trainer(**options: Any) -> Any:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"lightning\.")
    options = {"max_steps": 1, "enable_checkpointing": "callbacks" in options, **options}
    return import_module("lightning.pytorch").Trainer(
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
