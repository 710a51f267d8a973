"""Shard files: what `torch.distributed.checkpoint` writes, and how it is read without harm.

It writes a file of each rank, and one that says where the parts of each tensor are. That one is a
pickle, which is read by a list of all that may be in it. The others are read as weights only.
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, final

import torch
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta
from torch.distributed.checkpoint.state_dict_loader import load as load_by_torch
from torch.distributed.checkpoint.state_dict_saver import save as save_by_torch
from typing_extensions import override

_OF_TORCH: Final = "torch.distributed.checkpoint"
_KNOWN: Final = {
    (f"{_OF_TORCH}.metadata", "Metadata"),
    (f"{_OF_TORCH}.metadata", "TensorStorageMetadata"),
    (f"{_OF_TORCH}.metadata", "TensorProperties"),
    (f"{_OF_TORCH}.metadata", "ChunkStorageMetadata"),
    (f"{_OF_TORCH}.metadata", "MetadataIndex"),
    (f"{_OF_TORCH}.metadata", "_MEM_FORMAT_ENCODING"),
    (f"{_OF_TORCH}.filesystem", "_StorageInfo"),
    ("torch", "Size"),
    ("torch.serialization", "_get_layout"),
}
UNREADABLE: Final = (
    pickle.UnpicklingError,
    OSError,
    EOFError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)


def save(
    tensors: Mapping[str, torch.Tensor], path: Path, group: Any, *, alone: bool
) -> Mapping[int, BaseException]:
    """Write what each rank of a process group holds of some tensors; collective.

    Args:
        tensors: the tensors, by name.
        path: a folder that is made.
        group: the process group; None is the one that is open.
        alone: there is one rank, and no group.

    Returns:
        Why some ranks could not write, by rank; the same on all ranks.

    Raises:
        BaseException: what has come in between on this rank, such as a KeyboardInterrupt.
    """
    try:
        with _without_warning():
            save_by_torch(
                dict(tensors),
                storage_writer=_Writer(path),
                process_group=group,
                no_dist=alone,
            )
    except CheckpointException as error:  # which is no Exception
        return _failures(error)
    return {}


@final
class Loading:
    """Read files that `save` has written, as often as is asked for.

    Args:
        path: the folder.
        files: the names of its files; no other one is read.

    Raises:
        BaseException: one of `UNREADABLE`, or what has come in between.
    """

    def __init__(self, path: Path, files: Collection[str]) -> None:
        self._path, self._metadata = path, _metadata_of(path, files)

    def fill(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Read what tensors are to hold, by their names: all of it, or the part that is theirs.

        Raises:
            BaseException: as above.
        """
        reader = _Reader(self._path, self._metadata)
        try:
            with _without_warning():
                # Each rank reads what it needs, and asks nobody.
                load_by_torch(dict(tensors), storage_reader=reader, no_dist=True)
        except CheckpointException as error:
            (failure,) = _failures(error).values()
            raise failure from None


def _failures(error: CheckpointException) -> dict[int, BaseException]:
    found = {rank: wrapped[0] for rank, wrapped in error.failures.items()}
    for failure in found.values():
        if not isinstance(failure, Exception):
            raise failure from error
    return found


@final
class _Writer(FileSystemWriter):
    """Write nothing that differs from save to save."""

    @override
    def storage_meta(self) -> StorageMeta | None:
        return None


@final
class _Reader(FileSystemReader):
    """Execute nothing: the metadata is read already."""

    def __init__(self, path: Path, metadata: Metadata) -> None:
        super().__init__(path)
        self._metadata = metadata

    @override
    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        self._metadata.storage_meta = StorageMeta(load_id=self.load_id)
        return self._metadata


def _metadata_of(path: Path, files: Collection[str]) -> Metadata:
    with (path / ".metadata").open("rb") as file:
        metadata: object = _Unpickler(file).load()
    if not isinstance(metadata, Metadata):
        raise pickle.UnpicklingError(f"the metadata is a {type(metadata).__name__}")
    for one in metadata.storage_data.values():
        if one.relative_path not in files:
            raise pickle.UnpicklingError(f"{one.relative_path!r} is no file of it")
    return metadata


@final
class _Unpickler(pickle.Unpickler):
    """Make nothing but what says where tensors lie."""

    @override
    def find_class(self, module: str, name: str, /) -> Any:
        known = (module, name) in _KNOWN
        if known or (module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} has no place in it")


@contextmanager
def _without_warning() -> Iterator[None]:
    """Have nobody warned that a single process writes or reads: it is meant to."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")
        yield
