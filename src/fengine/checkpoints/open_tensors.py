"""Open tensors: those of a checkpoint, read when they are asked for, whole or as shards."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Container, Iterator, Mapping
from pathlib import PurePath
from typing import Any, Final, TypeAlias, final

import attrs
import torch
from safetensors import SafetensorError

from fengine.checkpoints.errors import CheckpointError
from fengine.checkpoints.manifest import Manifest
from fengine.checkpoints.retention import Kept
from fengine.checkpoints.shards import OpenShards, as_shard_of
from fengine.checkpoints.tree import NotPlain, join

Like: TypeAlias = Callable[[str], torch.Tensor | None]


def no_shard(name: str) -> None:
    """Have each tensor be whole."""


@final
@attrs.frozen
class _Shard:
    """Stand for a sharded tensor."""

    name: str
    dtype: torch.dtype
    shape: torch.Size


def _without_data(name: str, dtype: torch.dtype, shape: torch.Size) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


@final
class OpenTensors:
    """Read the tensors of a checkpoint one by one.

    Args:
        path: the folder of the checkpoint.
        manifest: what is written of it.
        file: its open tensors.
    """

    def __init__(self, path: PurePath, manifest: Manifest, file: Any) -> None:
        self._path, self._manifest, self._file = path, manifest, file
        self._shards = OpenShards(path, manifest.files)

    def tree(
        self, *, only_shapes_of: Container[str] = (), like: Like = no_shard
    ) -> dict[str, object]:
        """Return the whole tree.

        Args:
            only_shapes_of: the tensors in what these names stand for have a shape and a dtype, but
                no data.
            like: as for `filled`.

        Raises:
            CheckpointError: it cannot be read.
        """
        with self._in_words():
            return {
                name: join(part, self._shape_of, _without_data)
                if name in only_shapes_of
                else self._joined(part, like)
                for name, part in self._part().items()
            }

    @property
    def kept(self) -> Kept:
        """Which checkpoint it is."""
        return self._manifest.kept(self._path)

    @property
    def classes(self) -> Mapping[str, str]:
        """Of which class each optimizer and the like was."""
        return self._manifest.classes

    def names(self, *path: str) -> tuple[str, ...]:
        """Return the keys of the map at a path of keys.

        Raises:
            CheckpointError: there is none.
        """
        with self._in_words():
            return tuple(self._part(*path))

    def filled(self, *path: str, like: Like = no_shard) -> Any:
        """Return the part of the tree at a path of keys.

        Args:
            *path: the keys.
            like: returns for the name of a tensor the one that it is to be sharded like; None for
                one that is to be whole.

        Raises:
            CheckpointError: there is none, or it cannot be read.
        """
        with self._in_words():
            return self._joined(self._part(*path), like)

    def copy_into(self, own: Mapping[str, torch.Tensor], *path: str) -> None:
        """Copy the tensors of the map at a path of keys into others, one after the other.

        Args:
            own: the others, by the keys; whole ones, or what this rank holds of sharded ones.
            *path: the keys of the map.

        Raises:
            CheckpointError: there is none, or it cannot be read.
        """
        sharded: dict[str, torch.Tensor] = {}
        with self._in_words(), torch.no_grad():
            for key, entry in self._entries(*path):
                saved = join(entry, self._file.get_tensor, _Shard)
                if isinstance(saved, _Shard):
                    sharded[saved.name] = own[key]
                else:
                    own[key].copy_(as_shard_of(own[key], saved))
                del saved  # before the next one is read
            self._shards.fill(sharded)

    def _joined(self, part: Any, like: Like) -> Any:
        sharded: dict[str, torch.Tensor] = {}

        def tensor_of(name: str) -> torch.Tensor:
            tensor: torch.Tensor = self._file.get_tensor(name)
            return as_shard_of(fitting(name, tensor.shape), tensor)

        def shard_of(name: str, dtype: torch.dtype, shape: torch.Size) -> torch.Tensor:
            wanted = fitting(name, shape)
            sharded[name] = (
                torch.empty(shape, dtype=dtype)
                if wanted is None
                else torch.empty_like(wanted, dtype=dtype)
            )
            return sharded[name]

        def fitting(name: str, shape: torch.Size) -> torch.Tensor | None:
            found = like(name)
            return found if found is not None and found.shape == shape else None

        joined = join(part, tensor_of, shard_of)
        self._shards.fill(sharded)
        return joined

    def each(self, *path: str, like: Like = no_shard) -> Iterator[tuple[Any, Any]]:
        """Give the entries of the map at a path of keys, each read when it is asked for.

        Args:
            *path: the keys.
            like: as for `filled`.

        Raises:
            CheckpointError: there is none, or it cannot be read.
        """
        with self._in_words():
            for key, entry in self._entries(*path):
                yield key, self._joined(entry, like)

    def _entries(self, *path: str) -> Iterator[tuple[Any, Any]]:
        part = self._part(*path)
        pairs = part.get("$ordered", part.get("$dict"))
        for key, entry in part.items() if pairs is None else pairs:
            yield join(key, self._file.get_tensor), entry

    def _part(self, *path: str) -> Any:
        part = self._manifest.tree
        for key in path:
            part = part[key]
        return part

    @contextlib.contextmanager
    def _in_words(self) -> Iterator[None]:
        try:
            yield
        except (NotPlain, SafetensorError, KeyError, TypeError, AttributeError, OSError) as error:
            raise CheckpointError(self._path, f"cannot be read: {error!r}") from error

    def _shape_of(self, name: str) -> torch.Tensor:
        part = self._file.get_slice(name)
        dtype = _DTYPES.get(part.get_dtype())
        if dtype is None:
            dtype = self._file.get_tensor(name).dtype
        return torch.empty(part.get_shape(), dtype=dtype, device="meta")


_DTYPES: Final = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
