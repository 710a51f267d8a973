"""Shards: tensors of which each rank holds a part, written and read by all ranks side by side.

`torch.distributed.checkpoint` does so, in a folder beside the other tensors; see `shard_files`. The
ranks write at the same time. They read by themselves, each what it needs, and a single process all
of it, whatever their number was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Final, final

import torch

from fengine.checkpoints import stores
from fengine.checkpoints.as_one import on_all, said_by
from fengine.checkpoints.errors import CheckpointError, reason_of
from fengine.checkpoints.manifest import SHARDS, File, digest_of
from fengine.checkpoints.tree import Tensors, is_sharded
from fengine.run.ranks import Ranks, RanksDiverged

if TYPE_CHECKING:
    from fengine.checkpoints.shard_files import Loading

METADATA: Final = ".metadata"


def write(ranks: Ranks, tensors: Tensors, staged: Path | None) -> dict[str, File]:
    """Write what each rank holds of some tensors into a folder; collective.

    Args:
        ranks: the ranks.
        tensors: the sharded ones by name, the same names on all ranks.
        staged: the folder of the checkpoint, on the first rank; None there if there is none, and
            nothing is written.

    Returns:
        All files that have been written.

    Raises:
        CheckpointError: a rank cannot write, or does not see the folder; the same on all ranks.
    """
    folder: Path | None = ranks.gathered(staged)[0]
    if folder is None:
        return {}
    path = folder / SHARDS
    said = on_all(ranks, lambda: _said_of(ranks, tensors, folder))
    if len(set(said)) > 1:
        raise RanksDiverged(
            "the ranks would save sharded tensors of different names; make the model and its "
            "optimizer alike on all",
            on_all=True,
        )
    stores.reached("before the shards")
    _save(ranks, tensors, path)
    stores.reached("after the shards")
    files: dict[str, File] = {}
    for found in on_all(ranks, lambda: _own_files(ranks.rank, path)):
        files.update(found)
    return files


def _said_of(ranks: Ranks, tensors: Tensors, folder: Path) -> str:
    """Return what stands for the names of tensors, which can be written into a folder.

    Raises:
        CheckpointError: this rank does not see it, or nobody has named the ranks that share them.
    """
    if not folder.is_dir():
        raise CheckpointError(
            folder.parent,
            f"{folder.name} is not seen from here, where the first rank has made it; give all "
            "ranks one folder, on a file system that they share",
        )
    for name, tensor in tensors.items():
        of: Any = tensor
        if ranks.size == 1 and of.device_mesh.size() > 1:
            raise CheckpointError(
                folder.parent,
                f"{name} is a sharded tensor, of which this process holds one of "
                f"{of.device_mesh.size()} parts; say so to the loop: Loop(step, ranks=ranks)",
            )
    return hashlib.sha256(repr(sorted(tensors)).encode()).hexdigest()


def _save(ranks: Ranks, tensors: Tensors, path: Path) -> None:
    from fengine.checkpoints.shard_files import save

    alone = ranks.size == 1
    group = None if alone else getattr(ranks, "shard_group", None)
    failures = save(tensors, path, group, alone=alone)
    if failures:
        said = {rank: _not_written(path, _in_words(one)) for rank, one in failures.items()}
        raise said_by(said, ranks.size)


def _not_written(path: Path, why: str) -> CheckpointError:
    return CheckpointError(
        path.parent.parent,
        f"its part cannot be written: {why}; earlier checkpoints are intact",
    )


def _own_files(rank: int, path: Path) -> dict[str, File]:
    """Return the files that a rank has written, which are on the disk."""
    try:
        own = [*path.glob(f"__{rank}_*"), *(() if rank else (path / METADATA,))]
        stores.flush(path)
        return {
            f"{SHARDS}/{one.name}": File(one.stat().st_size, digest_of(one)) for one in sorted(own)
        }
    except OSError as error:
        raise _not_written(path, reason_of(error)) from error


@final
class OpenShards:
    """Read the sharded tensors of a checkpoint.

    Args:
        path: the folder of the checkpoint.
        files: the names of its files, as its manifest has them.
    """

    def __init__(self, path: PurePath, files: Collection[str]) -> None:
        self._path, self._files = Path(path) / SHARDS, files
        self._loading: Loading | None = None

    def fill(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Read into tensors what was saved by their names: all of it, or the shard that each is.

        Raises:
            CheckpointError: it cannot be read.
        """
        if not tensors:
            return
        from fengine.checkpoints.shard_files import UNREADABLE, Loading

        try:
            if self._loading is None:
                files = {one.rpartition("/")[2] for one in self._files}
                self._loading = Loading(self._path, files)
            self._loading.fill(tensors)
        except UNREADABLE as error:
            raise CheckpointError(self._path, f"cannot be read: {_in_words(error)}") from error


def _in_words(error: BaseException) -> str:
    return reason_of(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"


def as_shard_of(like: torch.Tensor | None, tensor: torch.Tensor) -> torch.Tensor:
    """Return of a whole tensor what this rank holds, sharded as another one is, if that is."""
    if like is None or not is_sharded(like) or is_sharded(tensor):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    of: Any = like
    whole = tensor.to(like.device)
    return distribute_tensor(whole, of.device_mesh, of.placements, src_data_rank=None)
