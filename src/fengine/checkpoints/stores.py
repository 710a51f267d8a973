"""Stores: where the folders of checkpoints lie, and how one gets there whole.

A store stages a folder out of sight, and publishes it in one move: on a disk by a rename, after
all of it is flushed; where there is no rename, by writing its manifest last. What is not published
is no checkpoint, and goes when the store is opened next.

`reached` is called at each point where a process may die. It does nothing; tests have it kill.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Protocol, final

import filelock

from fengine.checkpoints.errors import CheckpointError, reason_of
from fengine.checkpoints.manifest import MANIFEST, MOST_BYTES


class Store(Protocol):
    """Keep folders by their names."""

    @property
    def path(self) -> PurePath:
        """Where it is, in words."""

    def open(self) -> None:
        """Get ready to write, as the only one, and clean up what was left unpublished."""

    def close(self) -> None:
        """Let another one write; does nothing where it is closed."""

    def names(self) -> list[str]:
        """Return the names of the folders that are published."""

    def manifest(self, name: str) -> bytes:
        """Return the manifest of a folder.

        Raises:
            OSError: there is none.
        """

    def staged(self, tag: str) -> contextlib.AbstractContextManager[Path]:
        """Make a local folder to write files into, which goes after the block."""

    def publish(self, staged: Path, name: str) -> None:
        """Make a staged folder, which is flushed, one of that name."""

    def local(self, name: str, file: str) -> contextlib.AbstractContextManager[Path]:
        """Give a local copy of a file of a folder, or the file itself, while the block lasts.

        Raises:
            OSError: there is none.
        """

    def remove(self, name: str) -> None:
        """Delete a folder.

        Raises:
            OSError: that is not possible.
        """


def reached(point: str) -> None:
    """Do nothing at a point where a process may die."""


@final
class LocalStore:
    """Keep folders in a folder of a disk.

    Args:
        path: the folder.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as path:
    ...     LocalStore(Path(path)).names()
    []
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: filelock.BaseFileLock | None = None
        self._process = 0  # the one that has the lock

    def open(self) -> None:
        """Make the folder, and lock it.

        Raises:
            CheckpointError: it cannot be written, or another one writes.
        """
        if self._lock is not None:
            return
        with self._in_words("cannot be written to"):
            self.path.mkdir(parents=True, exist_ok=True)
            probe = self.path / f".tmp-probe-{uuid.uuid4().hex}"
            probe.write_bytes(b"")
            probe.unlink()
        lock = filelock.FileLock(self.path / ".lock", blocking=False, thread_local=False)
        owner = self.path / ".owner"
        try:
            lock.acquire()
        except filelock.Timeout:
            who = owner.read_text() if owner.is_file() else "another process"
            raise CheckpointError(
                self.path, f"is written to by {who}; give each run a folder of its own"
            ) from None
        self._lock, self._process = lock, os.getpid()
        owner.write_text(f"process {os.getpid()} on {socket.gethostname()}")
        for left in [*self.path.glob(".tmp-*"), *self.path.glob(".trash-*")]:
            _delete(left)

    def close(self) -> None:
        """Unlock the folder."""
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()

    def names(self) -> list[str]:
        """Return the names of the folders."""
        with self._in_words("cannot be read"):
            if not self.path.is_dir():
                return []
            with os.scandir(self.path) as entries:
                return [one.name for one in entries if one.is_dir(follow_symlinks=False)]

    def manifest(self, name: str) -> bytes:
        """Return the manifest of a folder."""
        with self.local(name, MANIFEST) as path, path.open("rb") as file:
            return file.read(MOST_BYTES)

    @contextlib.contextmanager
    def staged(self, tag: str) -> Iterator[Path]:
        """Make a temporary folder beside the others."""
        if self._lock is None or self._process != os.getpid():
            raise CheckpointError(
                self.path,
                "is not open for writing in this process; a run opens it, and a process that is "
                "forked within the run cannot save",
            )
        folder = self.path / f".tmp-{tag}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        try:
            reached("before the folder")
            folder.mkdir()
            yield folder
        finally:
            _delete(folder)

    def publish(self, staged: Path, name: str) -> None:
        """Flush a folder, rename it, and flush its parent."""
        flush(staged)
        reached("before the rename")
        staged.rename(self.path / name)
        reached("after the rename")
        flush(self.path)
        reached("acknowledged")

    @contextlib.contextmanager
    def local(self, name: str, file: str) -> Iterator[Path]:
        """Give the file itself."""
        path = self.path / name / file
        if any(one.is_symlink() for one in (path, path.parent, self.path / name)):
            raise FileNotFoundError(f"{path} is a link, which is not followed")
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing")
        yield path

    def remove(self, name: str) -> None:
        """Rename a folder out of sight, and delete it."""
        for left in self.path.glob(".trash-*"):  # which could not be deleted before
            _delete(left)
        trash = self.path / f".trash-{uuid.uuid4().hex[:8]}"
        reached("before the trash")
        (self.path / name).rename(trash)
        reached("in the trash")
        shutil.rmtree(trash)

    @contextlib.contextmanager
    def _in_words(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise CheckpointError(self.path, f"{what}: {reason_of(error)}") from error


def flush(path: Path) -> None:
    """Have the system write a file, or the entries of a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _delete(path: Path) -> None:
    """Delete what was never published; what cannot be deleted is in nobody's way."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()
