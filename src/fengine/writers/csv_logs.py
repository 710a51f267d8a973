"""CSV logs: a log that is a table, whose columns are the place and the numbers by name.

The names are sorted, so a table does not tell which number came first. A number that is set for the
first time is a new column: the table is then written again, as a whole.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, final

import attrs
from typing_extensions import override

from fengine import Status
from fengine.core.describe import call_in_words
from fengine.writers.log_files import (
    LogFile,
    prepared,
    require_path,
    set_aside,
    write_parameters,
)
from fengine.writers.places import NAMES, Place
from fengine.writers.writing import Scalar

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Row: TypeAlias = dict[str, str]


@final
@attrs.frozen(repr=False)
class CsvFile:
    """Write a table; made by `csv_file`.

    >>> csv_file("log.csv").path
    'log.csv'
    """

    path: str

    @override
    def __repr__(self) -> str:
        return call_in_words("csv_file", self.path)

    def __call__(self, place: Place, /) -> _Table:
        """Open the file, without what it has from a place on.

        Raises:
            OSError: the file cannot be read or written, or is none of a disk.
            ValueError: it is no log, so that nothing of it is touched.
        """
        path = prepared(self.path)
        if path.exists() and not path.is_file():
            raise OSError(f"{path} is no file that can be written again, as a table may have to be")
        if place.is_start:
            set_aside(path)
        names, rows = _read(path)
        kept = [row for row in rows if _place_of(row, path).order < place.order]
        file = LogFile(path)
        if len(kept) < len(rows) or not _is_whole(path):
            names = sorted({name for row in kept for name in row if row[name]}.difference(NAMES))
            file.replace(_written(names, kept) if kept else b"")
        return _Table(file, names if kept else None, begins=place.is_start)


@final
class _Table:
    def __init__(self, file: LogFile, names: list[str] | None, *, begins: bool) -> None:
        self._file, self._names, self._begins = file, names, begins

    def parameters(self, parameters: Mapping[str, Scalar], /) -> None:
        """Write them beside the table."""
        write_parameters(self._file.path, parameters, again=self._begins)

    def numbers(self, place: Place, numbers: Mapping[str, float], /) -> None:
        """Write a row, and the whole table where there are new names."""
        row = {"epoch": str(place.epoch), "iteration": str(place.iteration), "event": place.event}
        row |= {name: repr(number) for name, number in numbers.items()}
        names = self._names
        if names is not None and numbers.keys() <= {*names}:
            cells = [row.get(name, "") for name in (*NAMES, *names)]
            self._file.append((",".join(cells) + "\n").encode())
            return
        _, rows = _read(self._file.path)
        names = sorted({*(names or ()), *numbers})
        self._file.replace(_written(names, [*rows, row]))
        self._names = names

    def figure(self, place: Place, name: str, figure: Figure, /) -> None:
        """Leave it out."""

    def end(self, status: Status, /) -> None:
        """Close the file."""
        self._file.close()


def _read(path: Path) -> tuple[list[str], list[Row]]:
    """Return the names of the numbers, and the rows; the last one only if it is whole."""
    content = path.read_bytes() if path.is_file() else b""
    whole = content[: content.rfind(b"\n") + 1].decode()
    table = list(csv.reader(io.StringIO(whole, newline="")))
    if not table:
        return [], []
    header, *rows = table
    if tuple(header[: len(NAMES)]) != NAMES:
        raise _refusal(path)
    return header[len(NAMES) :], [dict(zip(header, row, strict=False)) for row in rows]


def _is_whole(path: Path) -> bool:
    content = path.read_bytes()
    return not content or content.endswith(b"\n")


def _place_of(row: Row, path: Path) -> Place:
    try:
        return Place(int(row["epoch"]), int(row["iteration"]), row["event"])
    except (KeyError, ValueError) as error:
        raise _refusal(path) from error


def _written(names: Sequence[str], rows: Sequence[Row]) -> bytes:
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, (*NAMES, *names), restval="", lineterminator="\n")
    table.writeheader()
    table.writerows({name: row[name] for name in table.fieldnames if name in row} for row in rows)
    return text.getvalue().encode()


def _refusal(path: Path) -> ValueError:
    return ValueError(
        f"{path} is no table that csv_file has written, so nothing there is touched; give the log "
        "another file"
    )


def csv_file(path: str | os.PathLike[str]) -> CsvFile:
    """Make a log that is a table, with the columns epoch, iteration, event and the numbers.

    A number that is not set is an empty cell. Those that are not finite are written as nan, inf and
    -inf. The rest is as for `jsonl`.

    Args:
        path: the file; its folder is made where there is none.

    Raises:
        TypeError: `path` is no path.

    >>> import tempfile
    >>> from fengine import Loop, outputs
    >>> from fengine.features import log_to
    >>> from fengine.metrics import mean
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "log.csv")
    ...     done = (Loop(outputs(float)) | mean("loss") | log_to(csv_file(path))).run([1, 2])
    ...     print(path.read_text(), end="")
    epoch,iteration,event,loss
    1,2,epoch_completed,1.5
    """
    require_path("csv_file", path)
    return CsvFile(os.fspath(path))
