"""What lies on disk: whole or refused, whoever has broken it, and however it is named."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from typing_extensions import override

from fengine.checkpoints import Best, CheckpointError, NewerFormat, stores
from fengine.checkpoints import folder as folders
from fengine.checkpoints.folder import Content, Folder, folder_at
from fengine.checkpoints.manifest import MANIFEST, TENSORS, digest_of
from tests.checkpoints.trainings import in_child


def content(iteration: int = 1, run: str = "a", **changes: Any) -> Content:
    made = Content(
        iteration=iteration,
        epoch=1,
        event="epoch_completed",
        status="running",
        metrics={"loss": 1.0 / (iteration + 1)},
        fresh=("loss",),
        run=run,
        classes={},
        tree={"external": {"model": {"weight": torch.arange(2000.0) + iteration}}},
    )
    return attrs.evolve(made, **changes)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    made = folder_at(tmp_path / "kept")
    made.open()
    yield made
    made.close()


def test_what_is_committed_is_listed_and_read(folder: Folder) -> None:
    kept = folder.commit(content(3))
    assert folder.kept() == (kept,)
    assert (kept.path.name, kept.iteration, kept.metrics["loss"]) == ("step-0000000003", 3, 0.25)
    with folder.tensors(kept.path.name) as tensors:
        assert torch.equal(tensors.filled("external", "model", "weight"), torch.arange(2000.0) + 3)
        shapes: Any = tensors.tree(only_shapes_of=("external",))
    assert shapes["external"]["model"]["weight"].device.type == "meta"


def test_the_digest_of_tensors_of_any_kind_is_that_of_the_file(folder: Folder) -> None:
    whole = torch.arange(24.0).reshape(4, 6)
    tree = {
        "empty": torch.empty(0, 3),
        "number": torch.tensor(2.5, dtype=torch.float64),
        "truths": torch.tensor([True, False, True]),
        "half": torch.randn(5).bfloat16(),
        "complex": torch.randn(3, dtype=torch.complex64).conj(),
        "turned": whole.t(),
        "part": whole[1:3, ::2],
        "bytes": torch.arange(7, dtype=torch.uint8),
        "eighth": torch.randn(5).to(torch.float8_e4m3fn),
    }
    kept = folder.commit(content(tree={"external": {"all": tree}}))
    assert folder.verify(kept.path.name) == kept


def test_one_digest_is_computed_where_a_run_goes_on(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for iteration in (1, 2):
        folder.commit(content(iteration))
    read: list[str] = []

    def sha256(path: Path) -> str:
        read.append(path.parent.name)
        return digest_of(path)

    monkeypatch.setattr(folders, "digest_of", sha256)
    with folder.newest() as tensors:
        assert tensors is not None
        assert tensors.kept.iteration == 2
    assert read == ["step-0000000002"]


def test_the_same_content_is_written_once_and_another_one_beside_it(folder: Folder) -> None:
    first = folder.commit(content())
    assert folder.commit(content()) == first
    second = folder.commit(content(event="completed"))
    assert second.path.name == "step-0000000001.1"
    folder.prune(2, None)
    assert [kept.path.name for kept in folder.kept()] == ["step-0000000001.1"]


def test_the_best_stays_beside_a_later_save_of_its_iteration(folder: Folder) -> None:
    folder.commit(content())
    folder.commit(content(event="completed", fresh=()))
    folder.prune(1, Best("loss", mode="min"))
    names = [kept.path.name for kept in folder.kept()]
    assert names == ["step-0000000001", "step-0000000001.1"]


def test_a_step_of_another_run_is_refused(folder: Folder) -> None:
    folder.commit(content())
    with pytest.raises(CheckpointError, match="is of another run"):
        folder.commit(content(run="b"))


def broken(path: Path, how: Callable[[bytes], bytes | None]) -> None:
    changed = how(path.read_bytes())
    if changed is None:
        path.unlink()
    else:
        path.write_bytes(changed)


def flipped(place: float) -> Callable[[bytes], bytes]:
    def flip(old: bytes) -> bytes:
        at = int(place * (len(old) - 1))
        return old[:at] + bytes([old[at] ^ 1]) + old[at + 1 :]

    return flip


DAMAGE: dict[str, Callable[[bytes], bytes | None]] = {
    "missing": lambda old: None,
    "empty": lambda old: b"",
    "one byte": lambda old: old[:1],
    "ten bytes": lambda old: old[:10],
    "half": lambda old: old[: len(old) // 2],
    "all but one byte": lambda old: old[:-1],
    "one more byte": lambda old: old + b" ",
    "a bit at the start": flipped(0.0),
    "a bit in the middle": flipped(0.5),
    "a bit at the end": flipped(1.0),
    "zeros": lambda old: bytes(len(old)),
    "a page of zeros": lambda old: old[:64] + bytes(min(4096, len(old) - 64)) + old[4160:],
    "text": lambda old: b"no checkpoint",
    "a pickle": lambda old: pickle.dumps(Sentinel("made")),
}


class Sentinel:
    """Makes a file where it is unpickled."""

    def __init__(self, name: str) -> None:
        self.name = name

    @override
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.name,)


@pytest.mark.parametrize("file", [MANIFEST, TENSORS])
@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_found_and_the_older_one_is_used(
    folder: Folder, file: str, damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    older, newest = folder.commit(content(1)), folder.commit(content(2))
    broken(Path(newest.path) / file, DAMAGE[damage])
    with pytest.raises(CheckpointError):
        folder.verify(newest.path.name)
    with pytest.warns(UserWarning, match=f"{older.path.name} is the newest intact.*{newest.path}"):
        assert folder.newest_intact() == older
    broken(Path(older.path) / file, DAMAGE[damage])
    with pytest.raises(CheckpointError, match="holds broken checkpoints only"):
        folder.newest_intact()
    assert not (tmp_path / "made").exists()


def rewritten(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a manifest, with a digest that is right."""
    file = path / MANIFEST
    plain = json.loads(file.read_bytes().partition(b"\n")[2])
    change(plain)
    body = json.dumps(plain).encode()
    file.write_bytes(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)


def test_a_newer_format_is_refused_and_never_skipped(folder: Folder) -> None:
    folder.commit(content(1))
    newest = folder.commit(content(2))
    rewritten(Path(newest.path), lambda plain: plain.update(format=999))
    with pytest.raises(NewerFormat, match="format 999 of a newer fengine; this one reads 1"):
        folder.newest_intact()


@pytest.mark.parametrize(
    "change",
    [
        lambda plain: plain["files"].update({"../../secret": plain["files"][TENSORS]}),
        lambda plain: plain.update(files={"/etc/passwd": plain["files"][TENSORS]}),
        lambda plain: plain.update(files={}),
        lambda plain: plain["files"][TENSORS].update(bytes=-1),
        lambda plain: plain.update(iteration="1"),
        lambda plain: plain.update(iteration=77),
        lambda plain: plain.update(more=1),
        lambda plain: plain.pop("run"),
        lambda plain: plain.update(metrics={"loss": "large"}),
        lambda plain: plain.clear(),
    ],
    ids=range(10),
)
def test_a_manifest_that_says_what_none_does_is_refused(folder: Folder, change: Any) -> None:
    kept = folder.commit(content())
    rewritten(Path(kept.path), change)
    with pytest.raises(CheckpointError):
        folder.verify(kept.path.name)


def test_json_that_is_too_deep_is_refused(folder: Folder) -> None:
    kept = folder.commit(content())
    body = b'{"tree": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    digest = hashlib.sha256(body).hexdigest().encode()
    (Path(kept.path) / MANIFEST).write_bytes(digest + b"\n" + body)
    with pytest.raises(CheckpointError, match=MANIFEST):
        folder.verify(kept.path.name)


def test_a_huge_header_of_tensors_is_refused(folder: Folder) -> None:
    kept = folder.commit(content())
    tensors = Path(kept.path) / TENSORS
    tensors.write_bytes((2**62).to_bytes(8, "little") + tensors.read_bytes()[8:])
    size = tensors.stat().st_size
    digest = hashlib.sha256(tensors.read_bytes()).hexdigest()
    rewritten(
        Path(kept.path),
        lambda plain: plain.update(files={TENSORS: {"bytes": size, "sha256": digest}}),
    )
    with pytest.raises(CheckpointError, match="cannot be read"), folder.tensors(kept.path.name):
        pass


@pytest.mark.parametrize("file", [MANIFEST, TENSORS, ""])
def test_links_are_not_followed(folder: Folder, tmp_path: Path, file: str) -> None:
    kept = folder.commit(content())
    path = Path(kept.path) / file if file else Path(kept.path)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    if file:
        with pytest.raises(CheckpointError):
            folder.verify(kept.path.name)
    else:
        assert folder.kept() == ()


def test_what_is_no_step_is_left_alone(folder: Folder) -> None:
    folder.commit(content())
    for name in ("step-1", "step-00000000010.0", "notes", "step-0000000009x"):
        (Path(folder.path) / name).mkdir()
    folder.prune(1, None)
    assert len(folder.kept()) == 1
    assert {"step-1", "notes"} <= {path.name for path in Path(folder.path).iterdir()}


def test_what_was_left_unfinished_goes(tmp_path: Path) -> None:
    path = tmp_path / "kept"
    (path / ".tmp-1-2-3").mkdir(parents=True)
    (path / ".trash-4").mkdir()
    folder = folder_at(path)
    assert folder.kept() == ()
    folder.open()
    folder.close()
    assert {one.name for one in path.iterdir()} <= {".lock", ".owner"}


def test_a_folder_that_cannot_be_written_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for path in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / ("x" * 300)):
        with pytest.raises(CheckpointError, match=r"cannot be written to: [A-Z]"):
            folder_at(path).open()
    with pytest.raises(CheckpointError, match="cannot be written to"):
        folder_at("/proc/none/kept").open()


@pytest.mark.parametrize("name", ["Läufe", "ラン", "with space", "..", "a/b/c"])
def test_names_of_folders(tmp_path: Path, name: str) -> None:
    folder = folder_at(tmp_path / "in" / name)
    folder.open()
    kept = folder.commit(content())
    assert folder.newest_intact() == kept
    folder.close()


def test_another_process_that_writes_is_named(folder: Folder) -> None:
    program = (
        "import sys; from fengine.checkpoints.folder import folder_at\n"
        "folder_at(sys.argv[1]).open()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder.path)],
        capture_output=True,
        check=False,
        text=True,
        timeout=120,
    )
    assert f"is written to by process {os.getpid()} on " in done.stderr
    other = folder_at(str(folder.path))
    with pytest.raises(CheckpointError, match="is written to by"):
        other.open()
    folder.close()
    other.open()
    other.close()


def test_a_file_that_is_too_large_says_so_and_earlier_ones_are_intact(tmp_path: Path) -> None:
    path = tmp_path / "kept"

    def write() -> None:
        folder = folder_at(path)
        folder.open()
        folder.commit(content(1))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        with pytest.raises(CheckpointError, match="File too large; earlier checkpoints are"):
            folder.commit(content(2))

    _, status = os.waitpid(in_child(write), 0)
    assert status == 0
    folder = folder_at(path)
    assert [kept.iteration for kept in folder.kept()] == [1]
    assert folder.newest_intact() is not None
    assert not list(path.glob(".tmp-*"))


def test_a_full_disk_says_so_and_earlier_ones_are_intact(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.commit(content(1))

    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "os error 28")

    monkeypatch.setattr(stores, "flush", full)
    with pytest.raises(CheckpointError, match="No space left on device; earlier checkpoints are"):
        folder.commit(content(2))
    assert [kept.iteration for kept in folder.kept()] == [1]
    assert not list(Path(folder.path).glob(".tmp-*"))


def test_a_small_disk_that_is_full_says_so(tmp_path: Path) -> None:
    mounted = tmp_path / "small"
    mounted.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(mounted)]
    has_mount = shutil.which("mount") is not None
    if not has_mount or subprocess.run(mount, capture_output=True, check=False).returncode:
        test_a_file_that_is_too_large_says_so_and_earlier_ones_are_intact(tmp_path)
        return
    try:
        folder = folder_at(mounted / "kept")
        folder.open()
        folder.commit(content(1))
        large = {"external": {"model": {"weight": torch.zeros(20_000)}}}
        with pytest.raises(CheckpointError, match="No space left on device"):
            folder.commit(content(2, tree=large))
        assert [kept.iteration for kept in folder.kept()] == [1]
        folder.close()
    finally:
        subprocess.run(["umount", str(mounted)], check=True)


def test_a_folder_that_cannot_be_deleted_is_tried_again(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for iteration in (1, 2):
        folder.commit(content(iteration))

    def refuse(path: Any) -> None:
        raise OSError(errno.EPERM, "no")

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", refuse)
        with pytest.warns(UserWarning, match="cannot be deleted: Operation not permitted"):
            folder.prune(1, None)
    assert [kept.iteration for kept in folder.kept()] == [2]
    folder.close()
    folder.open()
    assert not list(Path(folder.path).glob(".trash-*"))


@pytest.mark.parametrize("point", ["before the tensors", "flushed", "before the rename"])
def test_a_keyboard_interrupt_within_a_save_leaves_nothing(
    folder: Folder, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.commit(content(1))

    def interrupt(name: str) -> None:
        if name == point:
            raise KeyboardInterrupt

    monkeypatch.setattr(stores, "reached", interrupt)
    with pytest.raises(KeyboardInterrupt):
        folder.commit(content(2))
    assert [kept.iteration for kept in folder.kept()] == [1]
    assert not list(Path(folder.path).glob(".tmp-*"))


def test_a_remote_store_keeps_the_same_promises(monkeypatch: pytest.MonkeyPatch) -> None:
    address = "memory://tests/of/checkpoints"
    folder = folder_at(address)
    folder.open()
    first = folder.commit(content(1))
    assert folder.commit(content(1)) == first
    times = 0

    def die(name: str) -> None:
        nonlocal times
        times += name == "before the upload"
        if times == 2:  # the tensors are there, and the manifest is not
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(stores, "reached", die)
        patched.setattr("fengine.checkpoints.remote.reached", die)
        with pytest.raises(KeyboardInterrupt):
            folder.commit(content(2))
    assert [kept.iteration for kept in folder.kept()] == [1]
    assert folder.newest_intact() == first
    again = folder_at(address)
    again.open()
    assert again.broken() == {}
    for iteration in (2, 3):
        again.commit(content(iteration))
    again.prune(2, None)
    assert [kept.iteration for kept in again.kept()] == [2, 3]
    with again.tensors("step-0000000003") as tensors:
        assert tensors.filled("external", "model", "weight")[0] == 3
    with pytest.raises(CheckpointError, match="is no address that can be used"):
        folder_at("moon://a")
