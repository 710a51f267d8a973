"""Consoles: a log that is read while it is written, a line for each place."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol, final

import attrs
from typing_extensions import override

from fengine import Status
from fengine.core.describe import call_in_words
from fengine.writers.places import Place
from fengine.writers.writing import Scalar

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Writable(Protocol):
    """Be what lines are written to."""

    def write(self, text: str, /) -> object:
        """Write a text."""

    def flush(self) -> object:
        """Write what is held back."""


@final
@attrs.frozen(repr=False)
class Console:
    """Write lines; made by `console`.

    >>> console().file is None
    True
    """

    file: Writable | None = attrs.field(eq=id)

    @override
    def __repr__(self) -> str:
        return call_in_words("console", **({} if self.file is None else {"file": type(self.file)}))

    def __call__(self, place: Place, /) -> _Printed:
        """Begin to write."""
        return _Printed(self.file)


@final
@attrs.frozen
class _Printed:
    file: Writable | None

    def parameters(self, parameters: Mapping[str, Scalar], /) -> None:
        """Write them in one line."""
        self._say("parameters", *(f"{name} {parameters[name]}" for name in sorted(parameters)))

    def numbers(self, place: Place, numbers: Mapping[str, float], /) -> None:
        """Write a line."""
        words = (f"{name} {number:.4g}" for name, number in numbers.items())
        self._say(f"epoch {place.epoch}", f"iteration {place.iteration}", *words)

    def figure(self, place: Place, name: str, figure: Figure, /) -> None:
        """Leave it out."""

    def end(self, status: Status, /) -> None:
        """Leave the stream open: it is not ours."""

    def _say(self, *words: str) -> None:
        file = sys.stdout if self.file is None else self.file
        # In a program without a terminal there may be no stream.
        if file is not None:
            write_text(file, "  ".join(words) + "\n")
            file.flush()


def write_text(file: Writable, text: str) -> None:
    """Write a text, with question marks for letters that the file has not."""
    try:
        file.write(text)
    except UnicodeEncodeError:
        file.write(text.encode("ascii", "replace").decode())


def console(file: Writable | None = None) -> Console:
    """Make a log of lines on the terminal, with four digits of each number.

    Hyperparameters are a line of their own. Figures are left out.

    Args:
        file: where to write: anything with `write` and `flush`; None: what the standard output
            stream is at that time.

    Raises:
        TypeError: `file` has no `write` and `flush`.

    >>> from fengine import Loop, outputs
    >>> from fengine.features import log_to
    >>> from fengine.metrics import mean
    >>> done = (Loop(outputs(float)) | mean("loss") | log_to(console())).run([1, 2], max_epochs=2)
    epoch 1  iteration 2  loss 1.5
    epoch 2  iteration 4  loss 1.5
    """
    require_writable(file)
    return Console(file)


def require_writable(file: object) -> None:
    """Refuse a file that nothing can be written to; None is a stream of the process.

    Raises:
        TypeError: it has no `write` and `flush`.
    """
    lacking = [name for name in ("write", "flush") if not callable(getattr(file, name, None))]
    if file is not None and lacking:
        raise TypeError(f"file={file!r} has no {' and no '.join(lacking)}, so nothing can be shown")
