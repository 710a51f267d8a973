"""Progress: a bar on the terminal that follows each epoch of a run.

What the bar shows is read from the state, so it counts nothing of its own and is right after a
resume too. The bar is an effect at the edge; the handlers that draw it change no state. It needs
tqdm, of the extra `progress`, which is imported when a bar is made.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from typing import TYPE_CHECKING, Final, TextIO, TypeVar, final

import attrs

from fengine import Events, Loop, Outcome, State

if TYPE_CHECKING:
    from tqdm import tqdm

Batch = TypeVar("Batch")
Output = TypeVar("Output")
User = TypeVar("User")


@final
@attrs.define(eq=False)
class ProgressBar:
    """Draw how far an epoch is, where there is a terminal to draw on.

    It never disturbs a run: where `file` is no terminal nothing is drawn, and once the terminal is
    gone nothing more is.

    Args:
        file: where to draw; None: the standard error stream of the time.

    Raises:
        ModuleNotFoundError: tqdm is not installed.

    >>> import io
    >>> paper = io.StringIO()  # not a terminal
    >>> bar = ProgressBar(paper)
    >>> bar.open("epoch 1", total=10)
    >>> bar.reach(5)
    >>> bar.close()
    >>> paper.getvalue()
    ''
    """

    file: TextIO | None = None
    _bar: tqdm | None = attrs.field(default=None, init=False)
    _epoch: int = attrs.field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        _kind_of_bar()

    def open(self, title: str, total: int | None) -> None:
        """Begin a bar that counts to `total`, or on and on where that is None."""
        self.close()
        file = sys.stderr if self.file is None else self.file
        if file is not None and not file.closed and file.isatty():
            self._bar = _kind_of_bar()(
                desc=title,
                total=total,
                unit=" batches",
                file=_Forgiving(file),
                leave=False,
                miniters=1,
            )

    def reach(self, done: int) -> None:
        """Show that `done` batches are done; it is drawn ten times a second at most."""
        if self._bar is not None:
            self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """Wipe the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _begin(self, state: State[Batch, Output, User]) -> State[Batch, Output, User]:
        self._epoch, last = state.epoch, state.limits.max_epochs
        title = f"epoch {state.epoch}" + ("" if last is None else f"/{last}")
        self.open(title, state.limits.epoch_length)
        return state

    def _advance(self, state: State[Batch, Output, User]) -> State[Batch, Output, User]:
        if state.epoch != self._epoch:  # a run that is resumed begins within an epoch
            self._begin(state)
        self.reach(state.batches)
        return state

    def _end(
        self, state: State[Batch, Output, User], outcome: Outcome | None = None
    ) -> State[Batch, Output, User]:
        self.close()
        return state

    def following(self, loop: Loop[Batch, Output, User]) -> Loop[Batch, Output, User]:
        """Give a loop with this bar after the handlers that it has; see `progress`."""
        return (
            loop.on(Events.EPOCH_STARTED, self._begin)
            .on(Events.ITERATION_COMPLETED, self._advance)
            .on(Events.EPOCH_COMPLETED, self._end)
            .on(Events.EXITED, self._end)
        )


def progress(
    loop: Loop[Batch, Output, User], *, file: TextIO | None = None
) -> Loop[Batch, Output, User]:
    """Give a loop with a bar that follows each epoch and is wiped away after it.

    What handlers print at EPOCH_COMPLETED comes after the bar where they are registered later.
    Two runs of the loop at once share the bar.

    Args:
        loop: the loop to follow.
        file: where to draw; None: the standard error stream of the time. Where it is no terminal,
            nothing is drawn.

    Raises:
        ModuleNotFoundError: tqdm is not installed.

    >>> from fengine import outputs
    >>> progress(Loop(outputs(abs))).run([-1, -2]).output
    2
    """
    return ProgressBar(file).following(loop)


@final
@attrs.frozen
class _Forgiving:
    """Write to a terminal that may go away at any time."""

    file: TextIO

    @property
    def encoding(self) -> str:
        return self.file.encoding

    def fileno(self) -> int:
        return self.file.fileno()

    def write(self, text: str) -> None:
        with contextlib.suppress(*_GONE):
            self.file.write(text)

    def flush(self) -> None:
        with contextlib.suppress(*_GONE):
            self.file.flush()


_GONE: Final = (OSError, ValueError)  # a closed file raises a ValueError


@functools.cache
def _kind_of_bar() -> type[tqdm]:
    try:
        from tqdm import tqdm
    except ModuleNotFoundError as missing:
        raise ModuleNotFoundError(
            "a progress bar needs tqdm; install it with: pip install 'fengine[progress]'"
        ) from missing

    class Bar(tqdm):
        # Otherwise tqdm leaves a thread behind, which watches for updates that come too rarely.
        monitor_interval = 0

    return Bar
