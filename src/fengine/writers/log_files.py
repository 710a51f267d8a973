"""Log files: files that grow by whole pieces, and of which nothing is lost.

Each piece is one write to the file, and where it fails, the file is as before. A log that a new run
would replace is set aside first. Files are replaced as a whole.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Final, final
from weakref import WeakValueDictionary

from fengine.core.describe import typed
from fengine.writers.writing import Scalar, closing

_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_APPEND
# The files that are written to, by their path, so that no two runs of a process share one unseen.
_OPEN: Final[WeakValueDictionary[Path, LogFile]] = WeakValueDictionary()


@final
class LogFile:
    """Hold a file open that grows; what was open at its path before is told that it has lost it.

    Raises:
        OSError: the file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lost = False
        self._open()
        other = _OPEN.get(path)
        if other is not None:
            other.lose()
        _OPEN[path] = self

    def _open(self) -> None:
        self._descriptor = os.open(self.path, _FLAGS, 0o666)
        self._close = closing(self, os.close, self._descriptor)

    def append(self, piece: bytes) -> None:
        """Write all of a piece, or nothing.

        Raises:
            OSError: it cannot be written, as on a full disk, or was removed.
            RuntimeError: another log is written there.
        """
        self._require_own()
        length = os.fstat(self._descriptor).st_size
        try:
            written = os.write(self._descriptor, piece)
            while written < len(piece):
                written += os.write(self._descriptor, piece[written:])
        except BaseException:
            with contextlib.suppress(OSError):  # what is no file of a disk cannot be cut
                os.ftruncate(self._descriptor, length)
            raise

    def replace(self, content: bytes) -> None:
        """Write the whole file again, or leave it as it is.

        Raises:
            OSError: it cannot be written, or was removed.
            RuntimeError: another log is written there.
        """
        self._require_own()
        write_whole(self.path, content)
        self._close()
        self._open()

    def lose(self) -> None:
        """Let go of the file to another one, which is at its path now."""
        self._lost = True
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._close()

    def _require_own(self) -> None:
        if self._lost:
            raise RuntimeError(
                f"another log of this process writes to {self.path} by now; give each its own file"
            )
        if not os.fstat(self._descriptor).st_nlink:
            raise FileNotFoundError(f"{self.path} was removed while the run writes it")


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it has all of its content or that of before, whatever happens.

    Raises:
        OSError: it cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_whole(Path(folder, "a"), b"one")
    ...     write_whole(Path(folder, "a"), b"two")
    ...     os.listdir(folder), Path(folder, "a").read_bytes()
    (['a'], b'two')
    """
    path = path.resolve()
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with unfinished.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            shutil.copymode(path, unfinished)
        os.replace(unfinished, path)
    except BaseException:
        with contextlib.suppress(OSError):
            unfinished.unlink()
        raise


def prepared(path: str | os.PathLike[str]) -> Path:
    """Return the path of the file itself, in a folder that is there.

    Raises:
        OSError: the folder cannot be made.
    """
    found = Path(path).resolve()
    found.parent.mkdir(parents=True, exist_ok=True)
    return found


def set_aside(path: Path) -> None:
    """Give a log of an earlier run another name, with its hyperparameters; what has it is replaced.

    So a run that has no hyperparameters never stands beside those of another one.
    """
    old = path.with_name(f"{path.name}.old")
    if path.is_file() and path.stat().st_size:
        os.replace(path, old)
        _parameters_of(old).unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            os.replace(_parameters_of(path), _parameters_of(old))
    _parameters_of(path).unlink(missing_ok=True)


def write_parameters(log: Path, parameters: Mapping[str, Scalar], *, again: bool) -> None:
    """Write hyperparameters beside a log; those that are there stay, unless told otherwise."""
    path = _parameters_of(log)
    if again or not path.exists():
        plain = {name: as_json(value) for name, value in parameters.items()}
        write_whole(path, json.dumps(plain, indent=2, sort_keys=True).encode() + b"\n")


def _parameters_of(log: Path) -> Path:
    return log.with_name(f"{log.name}.parameters.json")


def as_json(value: Scalar) -> Scalar:
    """Return a value that JSON has: what is no finite number becomes a word.

    >>> as_json(0.5), as_json(float("-inf")), as_json(float("nan"))
    (0.5, '-Infinity', 'NaN')
    """
    if isinstance(value, float) and value - value != 0:
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    return value


def require_path(user: str, path: object) -> None:
    """Refuse what is no path.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"{user} takes the path of a file or folder, not {typed(path)}")
