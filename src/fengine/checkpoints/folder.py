"""Folders: checkpoints written, listed, checked, read and removed, in whatever store.

There is no pointer to the newest one: it is found by listing. What is listed is whole, since a
store shows a folder in one move. It is checked again as it is read, by sizes and digests, before a
tensor is loaded.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import stat
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path, PurePath
from typing import Any, Final, TypeAlias, final

import attrs
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from fengine.checkpoints import stores
from fengine.checkpoints.errors import CheckpointError, NewerFormat, reason_of
from fengine.checkpoints.manifest import (
    MANIFEST,
    TENSORS,
    File,
    Manifest,
    digest_of,
    name_of,
    numbers_of,
    part_in_words,
    read,
    written,
)
from fengine.checkpoints.open_tensors import OpenTensors
from fengine.checkpoints.retention import Best, Kept, retained
from fengine.checkpoints.stores import LocalStore, Store
from fengine.checkpoints.tree import NotPlain, Tensors, split

_OS_ERROR: Final = re.compile(r"\(os error (\d+)\)|code: (\d+)")


@final
@attrs.frozen(eq=False)
class Content:
    """Hold what is to be written; the tensors may be those of the training, and are only read.

    Args:
        iteration: as for `Kept`, and so are the others up to `run`.
        classes: of which class each optimizer and the like is.
        tree: plain values and tensors.
        ranks: how many ranks write it.
    """

    iteration: int
    epoch: int
    event: str | None
    status: str
    metrics: Mapping[str, float]
    fresh: tuple[str, ...]
    run: str
    classes: Mapping[str, str]
    tree: Mapping[str, object]
    ranks: int = 1


WriteShards: TypeAlias = Callable[[Tensors, Path], Mapping[str, File]]


@final
class Folder:
    """Keep the checkpoints of a run.

    Args:
        store: where.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as path:
    ...     folder_at(path).kept()
    ()
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._whole: set[str] = set()  # what we have written, or found whole as we write

    @property
    def path(self) -> PurePath:
        """Where it is."""
        return self._store.path

    def open(self) -> None:
        """Get ready to write, as the only one.

        Raises:
            CheckpointError: it cannot be written to, or another one writes.
        """
        self._store.open()

    def close(self) -> None:
        """Let another one write."""
        self._store.close()

    def names(self) -> list[str]:
        """Return the names of the checkpoints, the oldest first."""
        found = [(numbers, name) for name in self._store.names() if (numbers := numbers_of(name))]
        return [name for _, name in sorted(found)]

    def sees(self, name: str) -> bool:
        """Tell whether a checkpoint of that name is there, whole or not."""
        try:
            self._store.manifest(name)
        except OSError:
            return False
        return True

    def kept(self) -> tuple[Kept, ...]:
        """Return what is kept, the oldest first; what has no whole manifest is not among it."""
        found = []
        for name in self.names():
            with contextlib.suppress(CheckpointError):
                found.append(self._manifest(name).kept(self.path / name))
        return tuple(found)

    def broken(self) -> dict[PurePath, str]:
        """Return what is wrong with those that have no whole manifest, by their paths."""
        found = {}
        for name in self.names():
            try:
                self._manifest(name)
            except CheckpointError as error:
                found[self.path / name] = error.reason
        return found

    def commit(self, content: Content, write_shards: WriteShards | None = None) -> Kept:
        """Write a checkpoint; it is acknowledged where this returns.

        The one that is there already comes back where the newest of its iteration is the same.

        Args:
            content: what is written.
            write_shards: writes the sharded tensors, with the other ranks, into a folder; None:
                such are refused.

        Raises:
            CheckpointError: it cannot be written, or the iteration is one of another run. Earlier
                ones are as they were.
        """
        path = self.path / name_of(content.iteration, 0)
        self._require_newest(content)
        saves = [
            one for one in map(numbers_of, self.names()) if one and one[0] == content.iteration
        ]
        before = self._before(saves[-1]) if saves else None
        save = saves[-1][1] + 1 if saves else 0
        try:
            sharded: Tensors = {}
            tree, tensors = split(content.tree, None if write_shards is None else sharded)
            if sharded and not isinstance(self._store, LocalStore):
                raise NotPlain(f"{next(iter(sharded))} is sharded: its parts are written to a disk")
            with self._store.staged(str(content.iteration)) as staged:
                files = {TENSORS: _write_tensors(tensors, staged)}
                if write_shards is not None and sharded:
                    files.update(write_shards(sharded, staged))
                manifest = _manifest(content, save, tree, files)
                if before is not None and before.is_alike(manifest):
                    return before.kept(self.path / name_of(*saves[-1]))
                file = staged / MANIFEST
                file.write_bytes(written(manifest))
                stores.reached("after the manifest")
                stores.flush(file)
                name = name_of(content.iteration, save)
                self._store.publish(staged, name)
        except NotPlain as error:
            raise CheckpointError(path, f"cannot be written: {error}") from error
        except OSError as error:
            raise CheckpointError(
                path, f"cannot be written: {reason_of(error)}; earlier checkpoints are intact"
            ) from error
        self._whole.add(name)
        return manifest.kept(self.path / name)

    def _require_newest(self, content: Content) -> None:
        """Refuse what would not be the newest, since the next run would not go on from it.

        Raises:
            CheckpointError: a whole one is of another run, or of a later iteration.
        """
        for name in reversed(self.names()):
            try:
                manifest = self._manifest(name)
            except NewerFormat:
                raise
            except CheckpointError:
                continue
            if manifest.run != content.run:
                raise CheckpointError(
                    self.path / name,
                    "is of another run; go on with that one by Checkpoints.run, or give this run a "
                    "folder of its own",
                )
            if manifest.iteration <= content.iteration:
                return
            if self._is_whole(name):
                raise CheckpointError(
                    self.path / name,
                    f"is of a later iteration than {content.iteration}, which is to be saved now; "
                    "give a run that goes on from an older checkpoint a folder of its own",
                )

    def _is_whole(self, name: str) -> bool:
        if name not in self._whole:
            try:
                self.verify(name)
            except CheckpointError:
                return False
            self._whole.add(name)
        return True

    def prune(self, keep: int | None, best: Best | None) -> None:
        """Remove all but what is retained, and broken ones that are older than the newest.

        The newest is the newest intact one: what is broken takes the place of none.
        """
        kept = self.kept()
        while kept and not self._is_whole(kept[-1].path.name):
            kept = kept[:-1]
        stay = {one.path.name for one in retained(kept, keep, best)}
        newest = (kept[-1].iteration, kept[-1].save) if kept else (0, 0)
        for name in self.names():
            numbers = numbers_of(name)
            if name not in stay and numbers is not None and numbers < newest:
                self.remove(name)

    def remove(self, name: str) -> None:
        """Delete a checkpoint; where that is not possible, a warning says so."""
        try:
            self._store.remove(name)
        except OSError as error:
            warnings.warn(
                f"{self.path / name} cannot be deleted: {reason_of(error)}; the next save tries "
                "again",
                stacklevel=2,
            )

    def verify(self, name: str) -> Kept:
        """Compare the files of a checkpoint with what its manifest says.

        Raises:
            CheckpointError: one is missing, or of another size or digest.
        """
        with self._verified(name) as (manifest, _):
            return manifest.kept(self.path / name)

    @contextlib.contextmanager
    def tensors(self, name: str, *, by: tuple[int, int] = (0, 1)) -> Iterator[OpenTensors]:
        """Open the tensors of a checkpoint, after all of it is verified.

        Args:
            name: its name.
            by: which rank of how many does so; sharded tensors are verified by one rank each.

        Raises:
            CheckpointError: it is broken.
        """
        with self._verified(name, by) as (manifest, path):
            try:
                file = safe_open(path, framework="pt", backend="pread")
            except (SafetensorError, OSError) as error:
                raise CheckpointError(path, f"cannot be read: {error}") from error
            with file:
                yield OpenTensors(self.path / name, manifest, file)

    def newest_intact(self) -> Kept | None:
        """Return the newest checkpoint that is intact, as `newest` finds it."""
        with self.newest() as tensors:
            return None if tensors is None else tensors.kept

    @contextlib.contextmanager
    def newest(self) -> Iterator[OpenTensors | None]:
        """Open the tensors of the newest checkpoint that is intact; None where there is none.

        One that is broken is left out, with a warning that names it.

        Raises:
            CheckpointError: all of them are broken, or the newest is of a newer format.
        """
        broken: list[str] = []
        with contextlib.ExitStack() as opened:
            found = None
            for name in reversed(self.names()):
                try:
                    found = opened.enter_context(self.tensors(name))
                    break
                except NewerFormat:
                    raise
                except CheckpointError as error:
                    broken.append(str(error))
            if broken:
                self.tell(broken, found)
            yield found

    def tell(self, broken: list[str], found: OpenTensors | None, *, warns: bool = True) -> None:
        """Warn of those that are broken, newer than the one that was found.

        Args:
            broken: what is wrong, with their paths.
            found: the one that was found; None if there is none.
            warns: whether this rank does.

        Raises:
            CheckpointError: none was found.
        """
        if found is None:
            raise CheckpointError(
                self.path,
                "holds broken checkpoints only, so nothing begins or goes on here: "
                + "; ".join(broken)
                + ". To begin a new run, move them away or give another folder",
            )
        if not warns:
            return
        warnings.warn(
            f"{found.kept.path} is the newest intact checkpoint; left out, since broken: "
            + "; ".join(broken),
            stacklevel=6,  # who called Checkpoints
        )

    def _manifest(self, name: str) -> Manifest:
        path = self.path / name
        try:
            content = self._store.manifest(name)
        except OSError as error:
            raise CheckpointError(path, f"has no {MANIFEST}: {reason_of(error)}") from error
        return read(content, path)

    def _before(self, numbers: tuple[int, int]) -> Manifest | None:
        """Return the newest manifest of an iteration; None where that one is broken."""
        name = name_of(*numbers)
        return self._manifest(name) if self._is_whole(name) else None

    @contextlib.contextmanager
    def _verified(self, name: str, by: tuple[int, int] = (0, 1)) -> Iterator[tuple[Manifest, Path]]:
        manifest, (rank, size) = self._manifest(name), by
        if TENSORS not in manifest.files:
            raise CheckpointError(self.path / name, f"its {MANIFEST} names no {TENSORS}")
        shards = sorted(set(manifest.files) - {TENSORS})
        for file in shards[rank::size]:
            with self._verified_file(name, file, manifest.files[file]):
                pass
        with self._verified_file(name, TENSORS, manifest.files[TENSORS]) as path:
            yield manifest, path

    @contextlib.contextmanager
    def _verified_file(self, name: str, file: str, said: File) -> Iterator[Path]:
        where = self.path / name / file
        with contextlib.ExitStack() as stack:
            try:  # but not what happens while it is open
                path = stack.enter_context(self._store.local(name, file))
                size = path.stat().st_size
                if size != said.bytes:
                    raise CheckpointError(where, f"has {size} bytes, and {said.bytes} were written")
                if digest_of(path) != said.sha256:
                    raise CheckpointError(
                        where, "has been changed since it was written: its SHA-256 is another one"
                    )
            except OSError as error:
                raise CheckpointError(
                    where, f"{part_in_words(file)}cannot be read: {reason_of(error)}"
                ) from error
            yield path


def folder_at(path: str | os.PathLike[str]) -> Folder:
    """Return the folder at a path, or at an address such as `memory://runs/a`."""
    text = os.fspath(path)
    if not text:
        raise ValueError("folder='' is no path")
    if "://" in text:
        from fengine.checkpoints.remote import RemoteStore

        return Folder(RemoteStore(text))
    return Folder(LocalStore(Path(text).absolute()))  # wherever the process goes


def _manifest(content: Content, save: int, tree: Any, files: Mapping[str, File]) -> Manifest:
    names = ("iteration", "epoch", "event", "status", "metrics", "fresh", "run", "ranks", "classes")
    return Manifest(
        **{name: getattr(content, name) for name in names},
        save=save,
        time=time.time(),
        versions={
            "fengine": version("fengine"),
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        files=files,
        tree=tree,
    )


def _write_tensors(tensors: Mapping[str, torch.Tensor], folder: Path) -> File:
    path = folder / TENSORS
    stores.reached("before the tensors")
    path.touch()
    mode = stat.S_IMODE(path.stat().st_mode)  # as of any file that is made here
    try:
        save_file({name: one.cpu() for name, one in tensors.items()}, path)
        path.chmod(mode)
    except SafetensorError as error:
        number = _OS_ERROR.search(str(error))
        if number is None:
            raise NotPlain(str(error)) from error
        raise OSError(int(number[1] or number[2]), str(error)) from error
    stores.reached("after the tensors")
    stores.flush(path)
    stores.reached("flushed")
    return File(path.stat().st_size, digest_of(path))
