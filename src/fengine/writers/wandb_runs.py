"""Runs of Weights & Biases: a log that is a run there, or one that waits on this machine."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, final, get_args

import attrs
from typing_extensions import override

from fengine import Status
from fengine.core.describe import call_in_words
from fengine.writers.event_files import as_png
from fengine.writers.log_files import require_path
from fengine.writers.places import Place
from fengine.writers.writing import Scalar, closing, require_package, require_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from wandb import Run

Mode: TypeAlias = Literal["online", "offline", "disabled"]


@final
@attrs.frozen(repr=False)
class WandB:
    """Write to a run of Weights & Biases; made by `wandb`.

    >>> wandb("first", project="digits").project
    'digits'
    """

    run: str
    project: str | None
    mode: Mode | None
    folder: str | None

    @override
    def __repr__(self) -> str:
        shown = {"project": self.project, "mode": self.mode, "folder": self.folder}
        return call_in_words("wandb", self.run, **{k: v for k, v in shown.items() if v is not None})

    def __call__(self, place: Place, /) -> _WandBRun:
        """Begin a run, or go on with the one of that name.

        Raises:
            Exception: it cannot do so.
        """
        import wandb as package

        if self.folder is not None:
            Path(self.folder).mkdir(parents=True, exist_ok=True)
        run = package.init(
            project=self.project,
            id=self.run,
            name=self.run,
            mode=self.mode,
            dir=self.folder,
            resume=None if place.is_start else "allow",
            reinit="create_new",
            settings=package.Settings(console="off", silent=True),
        )
        return _WandBRun(run)


@final
class _WandBRun:
    def __init__(self, run: Run) -> None:
        self._run = run
        self._drop = closing(self, run.finish, 1)
        self._drop.atexit = False  # it ends its runs itself when a program ends
        # Steps of its own may not go back, as those of a run that goes on do.
        run.define_metric("*", step_metric="iteration")

    def parameters(self, parameters: Mapping[str, Scalar], /) -> None:
        """Write the configuration."""
        self._run.config.update(dict(parameters), allow_val_change=True)

    def numbers(self, place: Place, numbers: Mapping[str, float], /) -> None:
        """Write a row."""
        self._run.log({"epoch": place.epoch, "iteration": place.iteration, **numbers})

    def figure(self, place: Place, name: str, figure: Figure, /) -> None:
        """Write an image."""
        from PIL import Image
        from wandb import Image as Logged

        with Image.open(io.BytesIO(as_png(figure))) as image:
            self._run.log({name: Logged(image), "iteration": place.iteration})

    def end(self, status: Status, /) -> None:
        """Say how the run has ended."""
        self._drop.detach()
        self._run.finish(exit_code=int(status is Status.FAILED))


def wandb(
    run: str,
    *,
    project: str | None = None,
    mode: Mode | None = None,
    folder: str | os.PathLike[str] | None = None,
) -> WandB:
    """Make a log that is a run of Weights & Biases.

    The iteration is the axis of all numbers, and the epoch is one of them. A run that begins takes
    the place of the one of that name. One that goes on adds to it: what stands there from where it
    writes first stays, and comes a second time under the same iteration.

    Args:
        run: the name of the run, and its id; it has no slash, backslash, #, ?, % and :.
        project: the name of the project; None: as wandb is set up.
        mode: "online", "offline" for a run that waits in `folder`, or "disabled"; None: as wandb is
            set up.
        folder: where the files of the run are; None: as wandb is set up.

    Raises:
        ModuleNotFoundError: wandb is not installed.
        TypeError: a name is not a string.
        ValueError: it is empty or has a letter that an id has not, or the mode is not known.

    >>> wandb("first", project="digits", mode="offline")
    wandb('first', project='digits', mode='offline')
    """
    require_text("wandb", "run", run)
    if any(one in "/\\#?%:" for one in run):
        raise ValueError(
            f"wandb: run={run!r} is an id too, which has no slash, backslash, #, ?, % and :"
        )
    if project is not None:
        require_text("wandb", "project", project)
    if mode is not None and mode not in get_args(Mode):
        raise ValueError(f"wandb: mode={mode!r} is none of {', '.join(get_args(Mode))}")
    if folder is not None:
        require_path("wandb", folder)
    require_package("wandb", "wandb", "wandb")
    return WandB(run, project, mode, None if folder is None else os.fspath(folder))
