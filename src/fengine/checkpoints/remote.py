"""Remote stores, by fsspec: checkpoints at an address such as `s3://bucket/runs/a`.

Such stores have no rename. So files are uploaded under their names, and the manifest last: a folder
without one is no checkpoint, and goes when the store is opened next. Nobody locks a remote store;
give each run an address of its own.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, final

from fsspec.core import url_to_fs

from fengine.checkpoints.errors import CheckpointError
from fengine.checkpoints.manifest import MANIFEST, MOST_BYTES, numbers_of
from fengine.checkpoints.stores import reached


@final
class RemoteStore:
    """Keep folders at an address that fsspec knows.

    Args:
        address: such as `memory://runs/a`.

    Raises:
        CheckpointError: fsspec does not know it, or lacks a package for it.

    >>> RemoteStore("memory://runs/of-a-doctest").names()
    []
    """

    def __init__(self, address: str) -> None:
        self.path: PurePath = PurePosixPath(address)
        try:
            files, root = url_to_fs(address)
        except (ValueError, ImportError) as error:
            raise CheckpointError(address, f"is no address that can be used: {error}") from error
        self._files: Any = files
        self._root: str = root.rstrip("/")

    def open(self) -> None:
        """Delete what was uploaded without a manifest."""
        with self._in_words("cannot be written to"):
            self._files.makedirs(self._root, exist_ok=True)
            for name in self._folders():
                if numbers_of(name) and not self._is_published(name):
                    self.remove(name)

    def close(self) -> None:
        """Do nothing: nobody locks it."""

    def names(self) -> list[str]:
        """Return the names of the folders that have a manifest."""
        return [name for name in self._folders() if self._is_published(name)]

    def _folders(self) -> list[str]:
        self._files.invalidate_cache()
        if not self._files.exists(self._root):
            return []
        found = self._files.ls(self._root, detail=True)
        return [PurePosixPath(one["name"]).name for one in found if one["type"] == "directory"]

    def manifest(self, name: str) -> bytes:
        """Return the manifest of a folder."""
        with self._as_os_errors(), self._files.open(self._at(name, MANIFEST), "rb") as file:
            content: bytes = file.read(MOST_BYTES)
            return content

    @contextlib.contextmanager
    def staged(self, tag: str) -> Iterator[Path]:
        """Make a temporary folder of this machine."""
        with tempfile.TemporaryDirectory(prefix=f"checkpoint-{tag}-") as folder:
            yield Path(folder)

    def publish(self, staged: Path, name: str) -> None:
        """Upload the files, and the manifest last."""
        with self._as_os_errors():
            for path in sorted(staged.iterdir(), key=lambda one: one.name == MANIFEST):
                reached("before the upload")
                self._files.put_file(str(path), self._at(name, path.name))
        reached("acknowledged")

    @contextlib.contextmanager
    def local(self, name: str, file: str) -> Iterator[Path]:
        """Download a file, and delete the copy after the block."""
        with tempfile.TemporaryDirectory(prefix="checkpoint-") as folder:
            path = Path(folder) / file
            with self._as_os_errors():
                self._files.get_file(self._at(name, file), str(path))
            yield path

    def remove(self, name: str) -> None:
        """Delete a folder, its manifest first."""
        with self._as_os_errors():
            if self._is_published(name):
                self._files.rm_file(self._at(name, MANIFEST))
            reached("without a manifest")
            self._files.rm(f"{self._root}/{name}", recursive=True)

    def _is_published(self, name: str) -> bool:
        return bool(self._files.exists(self._at(name, MANIFEST)))

    def _at(self, name: str, file: str) -> str:
        return f"{self._root}/{name}/{file}"

    @contextlib.contextmanager
    def _as_os_errors(self) -> Iterator[None]:
        """Have what a store raises be what a disk would raise."""
        try:
            yield
        except OSError:
            raise
        except Exception as error:
            raise OSError(f"{type(error).__name__}: {error}") from error

    @contextlib.contextmanager
    def _in_words(self, what: str) -> Iterator[None]:
        try:
            with self._as_os_errors():
                yield
        except OSError as error:
            raise CheckpointError(self.path, f"{what}: {error}") from error
