"""Manifests: the file of a checkpoint that says what it is, written last.

A folder without a manifest is no checkpoint. The first line is the digest of all that follows, so
a manifest that was cut short or changed is known as such. All of it is checked before a tensor is
read.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any, Final, final

import attrs
from immutables import Map

from fengine.checkpoints.errors import CheckpointError, NewerFormat
from fengine.checkpoints.retention import Kept
from fengine.keep.readers import (
    Reader,
    SnapshotError,
    as_it_is,
    integer,
    list_of,
    map_of,
    number,
    optional,
    read_fields,
    record,
    text,
)

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
TENSORS: Final = "tensors.safetensors"
SHARDS: Final = "shards"  # a folder within
_STEP: Final = re.compile(r"step-([0-9]{10,})(?:\.([1-9][0-9]*))?\Z")
_OF_SHARDS: Final = re.compile(SHARDS + r"/(?:\.metadata|__([0-9]+)_[0-9]+\.distcp)\Z")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}\Z")
_MANY_BYTES: Final = 1 << 20  # read at once
# Far more than any manifest needs; a larger file is not read at all.
MOST_BYTES: Final = 1 << 30


@final
@attrs.frozen
class File:
    """Hold what a manifest says of a file beside it."""

    bytes: int
    sha256: str


@final
@attrs.frozen(eq=False)
class Manifest:
    """Hold what is written of a checkpoint, but for its tensors.

    Args:
        iteration: as for `Kept`, and so are the others up to `time`.
        versions: of which packages it was written by.
        classes: of which class each optimizer and the like was.
        files: the files beside it.
        tree: what `split` returned.
    """

    iteration: int
    epoch: int
    save: int
    event: str | None
    status: str
    metrics: Mapping[str, Any]
    fresh: tuple[str, ...]
    run: str
    ranks: int
    time: float
    versions: Mapping[str, str]
    classes: Mapping[str, str]
    files: Mapping[str, File]
    tree: Any

    def kept(self, path: PurePath) -> Kept:
        """Return what users see of it."""
        return Kept(
            path=path,
            iteration=self.iteration,
            epoch=self.epoch,
            save=self.save,
            event=self.event,
            status=self.status,
            metrics=Map({name: float(value) for name, value in self.metrics.items()}),
            fresh=self.fresh,
            run=self.run,
            ranks=self.ranks,
            size=sum(file.bytes for file in self.files.values()),
            time=self.time,
        )

    def is_alike(self, other: Manifest) -> bool:
        """Tell whether another one is of the same content."""
        return self._content() == other._content()

    def _content(self) -> bytes:
        names = ("iteration", "epoch", "event", "status", "run", "ranks", "tree")
        maps = ("metrics", "classes", "files")
        plain = {name: getattr(self, name) for name in names}
        return _body([plain, *(sorted(map(repr, getattr(self, name).items())) for name in maps)])


def name_of(iteration: int, save: int) -> str:
    """Return the name of the folder of a checkpoint.

    >>> name_of(120, 0), name_of(120, 2)
    ('step-0000000120', 'step-0000000120.2')
    """
    return f"step-{iteration:010d}" + (f".{save}" if save else "")


def numbers_of(name: str) -> tuple[int, int] | None:
    """Return the iteration and the save that a folder is named by; None for another name.

    >>> numbers_of("step-0000000120.2"), numbers_of("step-120"), numbers_of(".tmp-1")
    ((120, 2), None, None)
    """
    found = _STEP.match(name)
    if found is None:
        return None
    numbers = int(found[1]), int(found[2] or 0)
    return numbers if name_of(*numbers) == name else None


def part_in_words(file: str) -> str:
    """Say whose part of the sharded tensors a file has; "" for another file.

    >>> part_in_words("shards/__1_0.distcp")
    'the part of rank 1 '
    """
    found = _OF_SHARDS.match(file)
    return f"the part of rank {found[1]} " if found is not None and found[1] else ""


def written(manifest: Manifest) -> bytes:
    """Return the text of a manifest."""
    fields = {name: getattr(manifest, name) for name in _READERS if name != "format"}
    fields["metrics"] = {
        name: value if abs(value) < float("inf") else str(value)
        for name, value in manifest.metrics.items()
    }
    fields["files"] = {name: attrs.asdict(file) for name, file in manifest.files.items()}
    for name in ("versions", "classes"):
        fields[name] = dict(fields[name])
    body = _body({"format": FORMAT, **fields})
    return hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def read(content: bytes, path: PurePath) -> Manifest:
    """Read the text of a manifest.

    Args:
        content: the text.
        path: the folder of the checkpoint.

    Raises:
        NewerFormat: a newer fengine has written it.
        CheckpointError: it is no whole manifest.
    """
    digest, _, body = content.partition(b"\n")
    if hashlib.sha256(body).hexdigest().encode() != digest:
        raise CheckpointError(path, f"its {MANIFEST} is cut short, or was changed")
    try:
        plain = json.loads(body)
        if (
            isinstance(plain, dict)
            and type(plain.get("format")) is int
            and plain["format"] > FORMAT
        ):
            raise NewerFormat(
                path,
                f"has the format {plain['format']} of a newer fengine; this one reads {FORMAT}, so "
                "update it",
            )
        fields = read_fields(plain, "", _READERS)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(path, f"its {MANIFEST} cannot be read: {error}") from error
    if fields.pop("format") != FORMAT:
        raise CheckpointError(
            path, f"has the format {plain['format']}; this fengine reads {FORMAT}"
        )
    manifest = Manifest(**fields)
    if numbers_of(path.name) != (manifest.iteration, manifest.save):
        named = name_of(manifest.iteration, manifest.save)
        raise CheckpointError(path, f"its {MANIFEST} belongs to {named}")
    return manifest


def digest_of(path: Path) -> str:
    """Return the digest of a file."""
    digest, buffer = hashlib.sha256(), memoryview(bytearray(_MANY_BYTES))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(buffer[:count])
    return digest.hexdigest()


def _body(plain: object) -> bytes:
    return json.dumps(plain, allow_nan=False, separators=(",", ":")).encode()


def _metric(value: object, path: str) -> float:
    return float(value) if value in ("nan", "inf", "-inf") else number(value, path)


def _files(value: object, path: str) -> Any:
    files = map_of(record(File, bytes=integer(0), sha256=text))(value, path)
    for name, file in files.items():
        if name != TENSORS and not _OF_SHARDS.match(name):
            raise SnapshotError(path, f"{name!r} is no file of a checkpoint")
        if not _DIGEST.match(file.sha256):
            raise SnapshotError(path, f"{file.sha256!r} is no digest")
    return files


_READERS: Final[dict[str, Reader]] = {
    "format": integer(1),
    "iteration": integer(0),
    "epoch": integer(0),
    "save": integer(0),
    "event": optional(text),
    "status": text,
    "metrics": map_of(_metric),
    "fresh": list_of(text),
    "run": text,
    "ranks": integer(1),
    "time": number,
    "versions": map_of(text),
    "classes": map_of(text),
    "files": _files,
    "tree": as_it_is,
}
