"""Progress: how far a run is, with metrics: a bar where one can be drawn, else a line an epoch.

What is shown is read from the state, so nothing is counted here, and a run that goes on shows what
the whole run does. It is an effect at the edge: it changes no state, and nothing of it ever ends a
run. Each run has a bar of its own.

It needs tqdm, of the extra `progress`, which is imported when the feature is made.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, final

import attrs
from typing_extensions import override

from fengine import Events, Loop, Outcome, State
from fengine.core.describe import made_by
from fengine.core.taking import Looking
from fengine.features.early_stopping import require_metric
from fengine.features.reading import where_set
from fengine.run.box import RUNNING
from fengine.writers.consoles import Writable, require_writable, write_text

if TYPE_CHECKING:
    from tqdm import tqdm

B = TypeVar("B")
O = TypeVar("O")  # noqa: E741  # the output, beside the batch and the user
U = TypeVar("U")
Deed: TypeAlias = Literal["begin", "advance", "end"]


@final
class _Screens(dict[int | None, "_Screen"]):
    """Hold the screen of each run that is under way; a copy of it holds none."""

    @override
    def __reduce__(self) -> tuple[type[_Screens], tuple[()]]:
        """Return what `copy` and `pickle` make it of."""
        return _Screens, ()


@final
@attrs.frozen(repr=False)
class Progress:
    """Show progress; made by `progress`.

    >>> progress("loss").metrics
    ('loss',)
    """

    metrics: tuple[str, ...]
    file: Writable | None = attrs.field(eq=id)
    _screens: _Screens = attrs.field(factory=_Screens, init=False, eq=False)

    @override
    def __repr__(self) -> str:
        return made_by(progress, self, file=None if self.file is None else type(self.file))

    def __call__(self, loop: Loop[B, O, U], /) -> Loop[B, O, U]:
        """Return the loop with what shows its progress; of several ranks, the first one shows it.

        Raises:
            ValueError: no feature before this one sets one of the metrics.
        """
        for metric in self.metrics:
            where_set(loop, metric, None, self)
        if loop.ranks.rank:
            return loop
        return (
            loop.on(Events.EPOCH_STARTED, _Showing(self, "begin"))
            .on(Events.ITERATION_COMPLETED, _Showing(self, "advance"))
            .on(Events.EPOCH_COMPLETED, _Showing(self, "end"))
            .on(Events.EXITED, _Closing(self))
        )

    def screen_of(self, state: State[B, O, U]) -> _Screen:
        """Return the screen of the run of a state."""
        run = state._notes.run
        if run not in self._screens:
            for dropped in self._screens.keys() - RUNNING.keys():
                self._screens.pop(dropped).wipe()
            file = sys.stderr if self.file is None else self.file
            self._screens[run] = _Screen(file)
        return self._screens[run]

    def close(self, state: State[B, O, U]) -> None:
        """Let go of the screen of a run that is over."""
        screen = self._screens.pop(state._notes.run, None)
        if screen is not None:
            screen.close(self._line(state), always=bool(self.metrics))

    def show(self, state: State[B, O, U], deed: Deed) -> None:
        """Show where a run is."""
        screen, length = self.screen_of(state), state.limits.epoch_length
        if deed == "begin" or screen.epoch != state.epoch:
            screen.open(state.epoch, _title(state), length)
        if deed == "advance":
            screen.reach(state.batches, self._values(state))
        elif deed == "end":
            screen.close(self._line(state), always=bool(self.metrics))

    def _values(self, state: State[B, O, U]) -> dict[str, str]:
        known = state.metrics
        return {name: f"{known[name]:.4g}" for name in self.metrics if name in known}

    def _line(self, state: State[B, O, U]) -> str:
        values = [f"{name} {value}" for name, value in self._values(state).items()]
        return "  ".join([_title(state), f"iteration {state.iteration}", *values])


def _title(state: State[Any, Any, Any]) -> str:
    last = state.limits.max_epochs
    return f"epoch {state.epoch}" + ("" if last is None else f"/{last}")


@final
@attrs.frozen(repr=False)
class _Showing(Looking):
    feature: Progress
    deed: Deed

    @override
    def __repr__(self) -> str:
        return repr(self.feature)

    def __call__(self, state: State[B, O, U]) -> State[B, O, U]:
        with contextlib.suppress(Exception):
            self.feature.show(state, self.deed)
        return state


@final
@attrs.frozen(repr=False)
class _Closing(Looking):
    feature: Progress

    @override
    def __repr__(self) -> str:
        return repr(self.feature)

    def __call__(self, state: State[B, O, U], outcome: Outcome) -> State[B, O, U]:
        with contextlib.suppress(Exception):
            self.feature.close(state)
        return state


@final
@attrs.define(eq=False)
class _Screen:
    """Show one run: by a bar where it can be drawn over, else by lines."""

    file: Writable | None
    epoch: int = 0
    bar: tqdm | None = None
    said: str = ""

    def open(self, epoch: int, title: str, total: int | None) -> None:
        """Begin an epoch."""
        self.wipe()
        self.epoch = epoch
        if self.file is not None and _can_be_drawn_over(self.file):
            self.bar = _kind_of_bar()(
                desc=title,
                total=total,
                unit=" batches",
                file=_Forgiving(self.file),
                leave=False,
                miniters=1,
            )

    def reach(self, done: int, values: dict[str, str]) -> None:
        """Show that so many batches are done; it is drawn ten times a second at most."""
        if self.bar is not None:
            if values:
                self.bar.set_postfix(values, refresh=False)
            self.bar.update(done - self.bar.n)

    def wipe(self) -> None:
        """Wipe the bar away."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def close(self, line: str, *, always: bool) -> None:
        """Wipe the bar away, and leave a line that is not there yet: always, or without a bar."""
        self.wipe()
        if self.file is None or line == self.said:
            return
        if not _can_be_drawn_over(self.file):
            write_text(self.file, line + "\n")
        elif always:
            # Another run may have a bar there, which is drawn anew below the line.
            _kind_of_bar().write(line, file=_Forgiving(self.file))
        self.said = line
        self.file.flush()


def _can_be_drawn_over(file: Writable) -> bool:
    """Tell whether a bar can be drawn anew in its place: on a terminal, and in a notebook."""
    isatty = getattr(file, "isatty", None)
    if callable(isatty) and isatty():
        return True
    return any(kind.__module__.partition(".")[0] == "ipykernel" for kind in type(file).__mro__)


@final
@attrs.frozen
class _Forgiving:
    """Write to a terminal that may go away at any time."""

    file: Any

    @property
    def encoding(self) -> str:
        return str(getattr(self.file, "encoding", None) or "utf-8")

    def fileno(self) -> int:
        number: int = self.file.fileno()
        return number

    def write(self, text: str) -> None:
        with contextlib.suppress(Exception):
            self.file.write(text)

    def flush(self) -> None:
        with contextlib.suppress(Exception):
            self.file.flush()


@functools.cache
def _kind_of_bar() -> type[tqdm]:
    try:
        from tqdm import tqdm
    except ModuleNotFoundError as missing:
        raise ModuleNotFoundError(
            "progress needs tqdm; install it with: pip install 'fengine[progress]'"
        ) from missing

    class Bar(tqdm):
        # Otherwise tqdm leaves a thread behind, which watches for updates that come too rarely.
        monitor_interval = 0

    return Bar


def progress(*metrics: str, file: Writable | None = None) -> Progress:
    """Make a feature that shows how far a run is, and its metrics.

    On a terminal and in a notebook it is a bar for each epoch, and after it a line that stays, if
    there are metrics to show. Elsewhere, as in the log of a job, it is a line for each epoch.
    Whatever happens to the output, the run goes on.

    Args:
        *metrics: the names of metrics to show.
        file: where to show it: anything with `write` and `flush`; None: the standard error stream.

    Raises:
        ModuleNotFoundError: tqdm is not installed.
        TypeError: a metric is not a string, or `file` has no `write` and `flush`.

    >>> import sys
    >>> from fengine import outputs
    >>> from fengine.metrics import mean
    >>> loop = Loop(outputs(float)) | mean("loss") | progress("loss", file=sys.stdout)
    >>> final = loop.run([1, 2], max_epochs=2)
    epoch 1/2  iteration 2  loss 1.5
    epoch 2/2  iteration 4  loss 1.5
    """
    for metric in metrics:
        require_metric("progress", metric)
    require_writable(file)
    _kind_of_bar()
    return Progress(metrics, file)
