"""Sharded checkpoints where something goes wrong: disks, folders, files, kills and attacks."""

from __future__ import annotations

import collections
import hashlib
import json
import os
import pickle
import resource
import shutil
import signal
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributed.checkpoint.metadata import BytesStorageMetadata, Metadata
from typing_extensions import override

from fengine import Events, Loop, Snapshot
from fengine.checkpoints import CheckpointError, Checkpoints, Kept, stores, weights
from fengine.checkpoints.__main__ import main
from fengine.checkpoints.manifest import MANIFEST
from fengine.distributed import Alone, Ranks, TorchRanks
from fengine.metrics import mean
from fengine.training import training_step
from tests.distributed.models import mlp, shared
from tests.distributed.models import weights as whole
from tests.distributed.processes import on_ranks, values
from tests.distributed.test_checkpoints import Training, ended, training

Said = tuple[str, str]


# What one rank cannot do.


def own_ranks() -> TorchRanks:
    """Make ranks for one case: those of a run that has failed are of no more use."""
    return TorchRanks(limit=timedelta(seconds=30), grace=timedelta(seconds=0.5))


def said(do: Callable[[], object]) -> Said:
    try:
        do()
    except Exception as error:
        return type(error).__name__, str(error)
    return "", ""


def with_a_full_disk(ranks: Ranks, folder: str) -> Said:
    made = training(ranks, "fsdp")

    def fill(state: Any) -> Any:
        if state.iteration == 12 and ranks.rank == 1:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
        return state

    loop = made.loop.on(Events.EPOCH_COMPLETED, fill)
    try:
        return said(lambda: Checkpoints(folder).run(loop, made.data, max_epochs=3))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)


def without_a_shared_folder(ranks: Ranks, folder: str) -> Said:
    made = training(ranks, "fsdp")
    is_dir = Path.is_dir
    if ranks.rank == 1:
        Path.is_dir = lambda self: ".tmp-" not in str(self) and is_dir(self)  # type: ignore[method-assign]
    try:
        return said(lambda: Checkpoints(folder).run(made.loop, made.data, max_epochs=3))
    finally:
        Path.is_dir = is_dir  # type: ignore[method-assign]


def in_the_background(ranks: Ranks, folder: str) -> Said:
    made = training(ranks, "fsdp")
    return said(lambda: Checkpoints(folder, background=True).run(made.loop, made.data))


def that_does_not_fit(ranks: Ranks, folder: str) -> Said:
    made = training(ranks, "fsdp")
    Checkpoints(folder).run(made.loop, made.data)
    other = mlp()
    other.insert(2, nn.Dropout(0.0))
    other[3] = nn.Linear(8, 2)
    model = shared(other, ranks, "fsdp")
    before = whole(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    loop: Any = Loop(training_step(model, optimizer, nn.MSELoss()), ranks=ranks) | mean("loss")
    found = said(lambda: Checkpoints(folder).run(loop, made.data, max_epochs=2))
    assert all(map(torch.equal, whole(model), before))
    return found


def without_ranks(ranks: Ranks, folder: str) -> Said:
    made = training(ranks, "fsdp")
    loop: Any = Loop(made.loop.step)  # as if there were one process
    return said(lambda: Checkpoints(f"{folder}-{ranks.rank}").run(loop, made.data))


def as_plain_data(ranks: Ranks, folder: str) -> Said:
    made = training(ranks, "fsdp")
    final = made.loop.run(made.data)
    snapshot = made.loop.snapshot(final)
    assert isinstance(made.loop.resume(snapshot, made.data).iteration, int)
    return said(snapshot.to_dict)


CASES: dict[Callable[[Ranks, str], Said], tuple[str, str]] = {
    with_a_full_disk: (
        "CheckpointError",
        "rank 1: its part cannot be written: File too large",
    ),
    without_a_shared_folder: ("CheckpointError", "is not seen from here, where the first rank"),
    in_the_background: ("CheckpointError", "background=True is not for sharded tensors, such as"),
    that_does_not_fit: ("CheckpointError", "external['model'].3.weight"),
    without_ranks: ("CheckpointError", "say so to the loop: Loop(step, ranks=ranks)"),
    as_plain_data: ("ValueError", " is a sharded tensor, of which this process holds a part only"),
}


def each_case(ranks: Ranks, folder: str) -> dict[str, Said]:
    found = {}
    for case in CASES:
        own = own_ranks()
        found[case.__name__] = case(own, f"{folder}/{case.__name__}")
        own.close()
    return found


def test_what_one_rank_cannot_do_all_raise_and_nothing_is_half_written(tmp_path: Path) -> None:
    first, second = values(on_ranks(2, each_case, str(tmp_path)))
    for case, (error, words) in CASES.items():
        for found in (first, second):
            assert found[case.__name__][0] == error, found[case.__name__]
            assert words in found[case.__name__][1]
    assert first["with_a_full_disk"] == second["with_a_full_disk"]
    folder = tmp_path / "with_a_full_disk"
    assert [kept.iteration for kept in Checkpoints(folder).kept()] == [6]
    assert not list(tmp_path.glob("*/.tmp-*"))


# Kills.


def killed(ranks: Ranks, folder: str, rank: int, point: str) -> None:
    """Be killed at a point of the second save."""
    reached: list[str] = []

    def die(at: str) -> None:
        reached.append(at)
        if ranks.rank == rank and at == point and reached.count(point) == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    vars(stores)["reached"] = die
    made = training(ranks, "fsdp")
    Checkpoints(folder).run(made.loop, made.data, max_epochs=3)


def going_on(ranks: Ranks, *folders: str) -> list[tuple[int, list[torch.Tensor]]]:
    found = []
    for folder in folders:
        made = training(ranks, "fsdp")
        latest = Checkpoints(folder).latest()
        final = Checkpoints(folder).run(made.loop, made.data, max_epochs=3)
        found.append((0 if latest is None else latest.iteration, ended(made, final)[0]))
    return found


def test_kills_within_a_save_lose_nothing_that_was_kept(tmp_path: Path) -> None:
    points = {"after the shards": 1, "after the rename": 0}
    folders = []
    for point, rank in points.items():
        folders.append(str(tmp_path / point))
        ends = on_ranks(2, killed, folders[-1], rank, point, grace=1.0)
        assert ends[rank].code == -signal.SIGKILL
        assert (ends[1 - rank].error, ends[1 - rank].rank) == ("PeerFailed", rank)
    one = training(Alone(), "ddp")
    expected = ended(one, one.loop.run(one.data, max_epochs=3))[0]
    for found in values(on_ranks(2, going_on, *folders)):
        assert [iteration for iteration, _ in found] == [6, 12]
        for _, got in found:
            torch.testing.assert_close(got, expected, rtol=0.0, atol=1e-6)


# What is read.


def keeping(ranks: Ranks, folder: str) -> list[torch.Tensor]:
    made = training(ranks, "fsdp")
    final = Checkpoints(folder).run(made.loop, made.data, max_epochs=2)
    return ended(made, final)[0]


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[torch.Tensor]]:
    """Return a folder of checkpoints that two ranks have written, and the last weights."""
    folder = tmp_path_factory.mktemp("sharded") / "kept"
    return folder, values(on_ranks(2, keeping, str(folder)))[0]


@pytest.fixture
def folder(sharded: tuple[Path, list[torch.Tensor]], tmp_path: Path) -> Path:
    return Path(shutil.copytree(sharded[0], tmp_path / "kept"))


def newest(folder: Path) -> Path:
    latest = Checkpoints(folder).latest()
    assert latest is not None
    return Path(latest.path)


def test_one_process_reads_all_of_the_weights(
    sharded: tuple[Path, list[torch.Tensor]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, expected = sharded
    found = weights(folder, "model")
    assert all(map(torch.equal, found.values(), expected))
    made = training(Alone(), "ddp")
    kept = Checkpoints(folder).kept()[-1]
    with pytest.warns(UserWarning, match="was kept by 2 ranks"):
        snapshot: Snapshot[Any, Any, Any] = Checkpoints(folder).load(made.loop, kept)
    made.loop.restore(snapshot)
    assert all(map(torch.equal, whole(made.model), expected))
    assert main([str(folder), "--verify"]) == 0
    rows = capsys.readouterr().out.splitlines()[1:]
    assert [(row.split()[2], row.split()[-1]) for row in rows] == [("2", "intact")] * 2


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("__1_0.distcp", "the part of rank 1 cannot be read: .* is missing"),
        (".metadata", "cannot be read: .*shards/.metadata is missing"),
    ],
)
def test_a_missing_file_is_named_and_the_one_before_is_taken(
    folder: Path, file: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (newest(folder) / "shards" / file).unlink()
    with pytest.warns(UserWarning, match=f"step-0000000006 is the newest intact.*{words}"):
        latest = Checkpoints(folder).latest()
    assert latest is not None
    assert latest.iteration == 6
    assert main([str(folder), "--remove-broken"]) == 0
    assert "removed step-0000000012" in capsys.readouterr().out
    assert newest(folder).name == "step-0000000006"


@pytest.mark.parametrize("change", [b"", b"changed"])
def test_a_changed_part_is_found(folder: Path, change: bytes) -> None:
    (newest(folder) / "shards" / "__0_0.distcp").write_bytes(change)
    with pytest.warns(UserWarning, match=r"__0_0\.distcp: has"):
        weights(folder, "model")


class Sentinel:
    """Make a file where it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    @override
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


def replaced(step: Path, file: str, content: bytes) -> None:
    """Replace a file of a checkpoint, and have the manifest say that it is right."""
    (step / "shards" / file).write_bytes(content)
    body = (step / MANIFEST).read_bytes().partition(b"\n")[2]
    plain = json.loads(body)
    plain["files"][f"shards/{file}"] = {
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    body = json.dumps(plain).encode()
    (step / MANIFEST).write_bytes(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)


def metadata_of(step: Path) -> Metadata:
    metadata = pickle.loads((step / "shards" / ".metadata").read_bytes())
    assert isinstance(metadata, Metadata)
    return metadata


def with_sentinel(step: Path, sentinel: Path) -> Metadata:
    metadata = metadata_of(step)
    metadata.planner_data = Sentinel(str(sentinel))
    return metadata


def with_other_file(step: Path, sentinel: Path) -> Metadata:
    metadata = metadata_of(step)
    next(iter(metadata.storage_data.values())).relative_path = "../../../secret"
    return metadata


def with_bytes(step: Path, sentinel: Path) -> Metadata:
    metadata = metadata_of(step)
    name = "external.model.0.weight"
    metadata.state_dict_metadata[name] = BytesStorageMetadata()
    return metadata


def with_more(step: Path, sentinel: Path) -> object:
    return collections.ChainMap({})


@pytest.mark.parametrize(
    ("attack", "words"),
    [
        (with_sentinel, r"posix\.mkdir has no place in it"),
        (with_other_file, r"'\.\./\.\./\.\./secret' is no file of it"),
        (with_bytes, "BytesStorageMetadata has no place in it"),
        (with_more, "ChainMap has no place in it"),
        (lambda step, sentinel: torch.Size([1]), "the metadata is a Size"),
    ],
)
def test_the_metadata_is_never_executed(
    folder: Path, attack: Callable[[Path, Path], object], words: str
) -> None:
    step, sentinel = newest(folder), folder / "sentinel"
    replaced(step, ".metadata", pickle.dumps(attack(step, sentinel)))
    with pytest.raises(CheckpointError, match=words):
        weights(folder, "model")
    assert not sentinel.exists()


def test_parts_are_read_as_weights_only(folder: Path) -> None:
    step, sentinel = newest(folder), folder / "sentinel"
    for place in (0, 1):
        replaced(step, f"__{place}_0.distcp", pickle.dumps(Sentinel(str(sentinel))))
    with pytest.raises(CheckpointError, match="cannot be read"):
        weights(folder, "model")
    assert not sentinel.exists()


def test_a_link_is_not_followed(folder: Path) -> None:
    step = newest(folder)
    moved = folder / "moved"
    (step / "shards").rename(moved)
    (step / "shards").symlink_to(moved)
    with pytest.warns(UserWarning, match="is a link"):
        latest: Kept | None = Checkpoints(folder).latest()
    assert latest is not None
    assert latest.iteration == 6


# From one process to several.


def from_one(ranks: Ranks, folder: str) -> list[torch.Tensor]:
    made: Training = training(ranks, "fsdp")
    final = Checkpoints(folder).run(made.loop, made.data, max_epochs=3)
    return ended(made, final)[0]


def test_what_one_process_has_kept_is_sharded_where_ranks_go_on(tmp_path: Path) -> None:
    one = training(Alone(), "ddp")
    expected = ended(one, one.loop.run(one.data, max_epochs=3))[0]
    one = training(Alone(), "ddp")
    Checkpoints(tmp_path).run(one.pausing(8), one.data, max_epochs=3)
    for found in values(on_ranks(2, from_one, str(tmp_path))):
        torch.testing.assert_close(found, expected, rtol=0.0, atol=1e-6)
