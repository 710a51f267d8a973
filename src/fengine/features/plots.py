"""Plotting: the curves of metrics become a picture when a run ends.

The numbers of the epochs are a part of the state, so a run that goes on draws those of the whole
run. Drawing is an effect at the edge: nothing of it ends a run.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import TypeVar, final

import attrs
from typing_extensions import override

from fengine import Events, Loop, Outcome, Part, State
from fengine.core.describe import made_by
from fengine.core.metrics import metric
from fengine.core.taking import Looking
from fengine.features.curves import save_curves
from fengine.features.early_stopping import require_metric
from fengine.features.reading import where_set
from fengine.training.attaching import AnyEngine, ranks_of, require_engine
from fengine.writers.log_files import prepared, require_path
from fengine.writers.writing import require_package, tell

B = TypeVar("B")
O = TypeVar("O")  # noqa: E741  # the output, beside the batch and the user
U = TypeVar("U")


@final
@attrs.frozen
class Curves:
    """Hold the numbers of the epochs so far.

    Args:
        epochs: of each epoch the metrics as they stand at its end, in the order in which they are
            drawn; not a number where one is not set.

    >>> Curves(((0.5, 0.9), (0.25, 0.95))).epochs[1]
    (0.25, 0.95)
    """

    epochs: tuple[tuple[float, ...], ...] = ()


@final
@attrs.frozen(repr=False)
class Plots:
    """Draw curves; made by `plots`.

    Attributes:
        part: where the `Curves` are kept.

    >>> plots("curves.png", "loss").part.initial
    Curves(epochs=())
    """

    path: str
    metrics: tuple[str, ...]
    name: str
    part: Part[Curves] = attrs.field(init=False)

    @part.default
    def _part(self) -> Part[Curves]:
        return Part(self.name, Curves())

    @override
    def __repr__(self) -> str:
        return made_by(plots, self)

    def __call__(self, loop: Loop[B, O, U], /) -> Loop[B, O, U]:
        """Return the loop with what draws its curves; of several ranks, the first one draws them.

        Raises:
            ValueError: no feature before this one sets one of the metrics, or the name is taken.
        """
        for one in self.metrics:
            where_set(loop, one, None, self)
        followed = loop.with_part(self.part).on(Events.EPOCH_COMPLETED, _Following(self))
        return followed if loop.ranks.rank else followed.on(Events.EXITED, _Drawing(self))

    def attach(self, engine: AnyEngine) -> None:
        """Draw the curves of the runs of an Engine, of the numbers of its `state.metrics`.

        Attach it after what sets them. It draws after each epoch, since an Engine tells nobody
        where an exception ends a run. What it has drawn is forgotten in another process.

        Args:
            engine: a `fengine.engine.Engine`.

        Raises:
            TypeError: `engine` is none.

        >>> import os, tempfile
        >>> from pathlib import Path
        >>> from fengine.engine import Engine
        >>> def step(engine, batch):
        ...     engine.state.metrics["loss"] = batch
        >>> engine = Engine(step)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     plots(Path(folder, "curves.png"), "loss").attach(engine)
        ...     done = engine.run([1, 2], max_epochs=2)
        ...     os.listdir(folder)
        ['curves.png']
        """
        require_engine(engine, self)
        if ranks_of(engine).rank:
            return
        drawn = Curves()

        def draw(engine: AnyEngine) -> None:
            nonlocal drawn
            state = engine.state
            drawn = self.followed(drawn, state.epoch, state.metrics)
            self.draw(drawn, None)

        engine.add_event_handler("EPOCH_COMPLETED", draw)

    def followed(self, curves: Curves, epoch: int, metrics: Mapping[str, object]) -> Curves:
        """Return the curves with the numbers of an epoch, after those before it."""
        before = curves.epochs[: epoch - 1]
        missing = ((math.nan,) * len(self.metrics),) * (epoch - 1 - len(before))
        return Curves((*before, *missing, tuple(_number(metrics, one) for one in self.metrics)))

    def draw(self, curves: Curves, error: BaseException | None) -> None:
        """Draw the curves, if an epoch is over, and say where that fails.

        Args:
            curves: what to draw.
            error: the exception that leaves the run, which gets a note then.
        """
        if not curves.epochs:
            return
        named = dict(zip(self.metrics, zip(*curves.epochs, strict=True), strict=True))
        try:
            save_curves(prepared(self.path), named, title="Metrics of each epoch")
        except Exception as failure:
            words = f"{self!r} could not draw: {type(failure).__name__}: {failure}"
            if error is None:
                tell(words)
            else:
                error.add_note(words)


def _number(metrics: Mapping[str, object], name: str) -> float:
    try:
        return metric(name, metrics.get(name, math.nan))
    except TypeError:
        return math.nan


@final
@attrs.frozen(repr=False)
class _Following:
    feature: Plots

    @override
    def __repr__(self) -> str:
        return repr(self.feature)

    def __call__(self, state: State[B, O, U]) -> State[B, O, U]:
        part = self.feature.part
        curves = self.feature.followed(state.part(part), state.epoch, state.metrics)
        return state.with_part(part, curves)


@final
@attrs.frozen(repr=False)
class _Drawing(Looking):
    feature: Plots

    @override
    def __repr__(self) -> str:
        return f"{self.feature!r}, drawing"

    def __call__(self, state: State[B, O, U], outcome: Outcome) -> State[B, O, U]:
        self.feature.draw(state.part(self.feature.part), outcome.error)
        return state


def plots(path: str | os.PathLike[str], *metrics: str, name: str = "plots") -> Plots:
    """Make a feature that draws the curves of metrics over the epochs as a PNG file.

    It draws when the run ends, whether that is complete, pauses or fails, if an epoch is over.
    Where drawing fails, a warning says so.

    Law: what a run that goes on draws is what the whole run does.

    Args:
        path: the file, which is replaced as a whole; its folder is made where there is none.
        *metrics: the names of metrics, one panel each, from top to bottom.
        name: what the part is called.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
        TypeError: `path` is no path, or a metric is not a string.
        ValueError: there is no metric, or one twice.

    >>> import os, tempfile
    >>> from pathlib import Path
    >>> from fengine import outputs
    >>> from fengine.metrics import mean
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     drawn = plots(Path(folder, "curves.png"), "loss")
    ...     done = (Loop(outputs(float)) | mean("loss") | drawn).run([1, 2], max_epochs=2)
    ...     os.listdir(folder)
    ['curves.png']
    """
    require_path("plots", path)
    for metric_name in metrics:
        require_metric("plots", metric_name)
    if not metrics or len({*metrics}) < len(metrics):
        raise ValueError(
            "plots takes the names of the metrics to draw, each once, and got "
            f"{', '.join(metrics) or 'none'}"
        )
    require_package("matplotlib", "a plot", "plots")
    return Plots(os.fspath(path), metrics, name)
