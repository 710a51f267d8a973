"""JSON lines: a log that is a file of one JSON object a line."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import attrs
from typing_extensions import override

from fengine import Status
from fengine.core.describe import call_in_words
from fengine.writers.log_files import (
    LogFile,
    as_json,
    prepared,
    require_path,
    set_aside,
    write_parameters,
)
from fengine.writers.places import NAMES, Place
from fengine.writers.writing import Scalar

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@final
@attrs.frozen(repr=False)
class JsonLines:
    """Write JSON lines; made by `jsonl`.

    >>> jsonl("log.jsonl").path
    'log.jsonl'
    """

    path: str

    @override
    def __repr__(self) -> str:
        return call_in_words("jsonl", self.path)

    def __call__(self, place: Place, /) -> _Lines:
        """Open the file, without what it has from a place on.

        Raises:
            OSError: the file cannot be read or written.
            ValueError: it is no log, so that nothing of it is touched.
        """
        path = prepared(self.path)
        if place.is_start:
            set_aside(path)
        elif path.is_file():
            _cut(path, place)
        return _Lines(LogFile(path), begins=place.is_start)


@final
class _Lines:
    def __init__(self, file: LogFile, *, begins: bool) -> None:
        self._file, self._begins = file, begins

    def parameters(self, parameters: Mapping[str, Scalar], /) -> None:
        """Write them beside the log."""
        write_parameters(self._file.path, parameters, again=self._begins)

    def numbers(self, place: Place, numbers: Mapping[str, float], /) -> None:
        """Write a line."""
        line: dict[str, Scalar] = {
            "epoch": place.epoch,
            "iteration": place.iteration,
            "event": place.event,
            **numbers,
        }
        try:
            text = json.dumps(line, allow_nan=False)
        except ValueError:
            text = json.dumps({name: as_json(value) for name, value in line.items()})
        self._file.append(text.encode() + b"\n")

    def figure(self, place: Place, name: str, figure: Figure, /) -> None:
        """Leave it out."""

    def end(self, status: Status, /) -> None:
        """Close the file."""
        self._file.close()


def _cut(path: Path, place: Place) -> None:
    """Cut a log where a place comes, and where its last line is not whole."""
    kept = 0
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.endswith(b"\n") or _place_of(line, number, path).order >= place.order:
                break
            kept += len(line)
    if kept < path.stat().st_size:
        os.truncate(path, kept)


def _place_of(line: bytes, number: int, path: Path) -> Place:
    try:
        values: Any = json.loads(line)
        epoch, iteration, event = (values[name] for name in NAMES)
        return Place(int(epoch), int(iteration), str(event))
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"line {number} of {path} is none of a log that jsonl has written, so nothing there is "
            "touched; give the log another file"
        ) from error


def jsonl(path: str | os.PathLike[str]) -> JsonLines:
    """Make a log that is a file of JSON lines, with the place and the numbers by their names.

    A number that is not finite is written as "NaN", "Infinity" or "-Infinity", which `float` reads.
    Hyperparameters are written to `path` with `.parameters.json` after it, and figures are left
    out. A run that begins sets a log that is there aside with its hyperparameters, under `path`
    with `.old` after it. A run that goes on drops the lines from where it writes first.

    Args:
        path: the file; its folder is made where there is none.

    Raises:
        TypeError: `path` is no path.

    >>> import tempfile
    >>> from fengine import Loop, outputs
    >>> from fengine.features import log_to
    >>> from fengine.metrics import mean
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "log.jsonl")
    ...     done = (Loop(outputs(float)) | mean("loss") | log_to(jsonl(path))).run([1, 2])
    ...     print(path.read_text(), end="")
    {"epoch": 1, "iteration": 2, "event": "epoch_completed", "loss": 1.5}
    """
    require_path("jsonl", path)
    return JsonLines(os.fspath(path))
