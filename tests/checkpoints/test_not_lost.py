"""What is acknowledged stays: over broken ones, other runs, forks and moves of the process."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fengine import Events, Loop, outputs
from fengine.checkpoints import CheckpointError, Checkpoints, NewerFormat, manifest
from fengine.checkpoints.folder import Content, folder_at
from fengine.checkpoints.manifest import MANIFEST, TENSORS
from fengine.checkpoints.tree import NotPlain, join, split


def content(iteration: int, run: str = "a", tree: Any = None) -> Content:
    tree = {"weight": torch.full((9,), float(iteration))} if tree is None else tree
    return Content(
        iteration=iteration,
        epoch=1,
        event=None,
        status="running",
        metrics={},
        fresh=(),
        run=run,
        classes={},
        tree=tree,
    )


def damage(path: Path, name: str) -> None:
    path.joinpath(name, TENSORS).write_bytes(b"")


def steps(path: Path) -> list[str]:
    return sorted(name for name in os.listdir(path) if name.startswith("step-"))


def test_a_save_stays_though_what_is_broken_is_newer(tmp_path: Path) -> None:
    first = folder_at(tmp_path)
    first.open()
    first.commit(content(3))
    first.commit(content(9))
    first.close()
    damage(tmp_path, "step-0000000009")
    folder = folder_at(tmp_path)
    folder.open()
    for iteration in (5, 6):
        kept = folder.commit(content(iteration))
        folder.prune(1, None)
        assert steps(tmp_path) == [kept.path.name, "step-0000000009"]
        with pytest.warns(UserWarning, match="step-0000000009"):
            assert folder_at(tmp_path).newest_intact() == kept
    folder.close()


def test_a_run_that_has_fallen_back_and_is_stopped_goes_on(tmp_path: Path) -> None:
    def same(batch: float) -> float:
        return batch

    loop = Loop(outputs(same))
    data = [1.0, 2.0, 3.0, 4.0]
    Checkpoints(tmp_path, keep=3).run(loop, data, max_epochs=5)
    for name in steps(tmp_path)[-2:]:
        damage(tmp_path, name)

    def stop(state: Any) -> Any:
        if state.iteration == 15:
            raise KeyboardInterrupt
        return state

    each = Checkpoints(tmp_path, keep=1, every=Events.ITERATION_COMPLETED)
    stopped = loop.on(Events.ITERATION_COMPLETED, stop)
    with pytest.warns(UserWarning, match="broken"), pytest.raises(KeyboardInterrupt):
        each.run(stopped, data, max_epochs=8)
    with pytest.warns(UserWarning, match="broken"):
        latest = Checkpoints(tmp_path).latest()
    assert latest is not None
    assert latest.iteration == 14
    with pytest.warns(UserWarning, match="broken"):
        assert Checkpoints(tmp_path, keep=1).run(loop, data, max_epochs=8).iteration == 32


@pytest.mark.parametrize(("iteration", "run"), [(5, "a"), (5, "b"), (9, "b"), (15, "b")])
def test_what_the_next_run_would_not_go_on_from_is_refused(
    tmp_path: Path, iteration: int, run: str
) -> None:
    folder = folder_at(tmp_path)
    folder.open()
    kept = folder.commit(content(9, "a"))
    why = "is of a later iteration than 5" if run == "a" else "is of another run"
    with pytest.raises(CheckpointError, match=why):
        folder.commit(content(iteration, run))
    assert folder.kept() == (kept,)
    folder.close()


def test_a_newer_format_is_neither_hidden_nor_deleted(tmp_path: Path) -> None:
    folder = folder_at(tmp_path)
    folder.open()
    folder.commit(content(9))
    file = tmp_path / "step-0000000009" / MANIFEST
    said = json.loads(file.read_bytes().split(b"\n", 1)[1])
    body = json.dumps(said | {"format": manifest.FORMAT + 1}).encode()
    file.write_bytes(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
    with pytest.raises(NewerFormat):
        folder.commit(content(15))
    assert steps(tmp_path) == ["step-0000000009"]
    folder.close()


def test_a_fork_and_who_has_not_opened_it_do_not_write(tmp_path: Path) -> None:
    folder = folder_at(tmp_path)
    with pytest.raises(CheckpointError, match="is not open"):
        folder.commit(content(1))
    folder.open()
    process = os.fork()
    if process == 0:
        try:
            folder.commit(content(1))
        except CheckpointError:
            os._exit(7)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 7
    assert folder.commit(content(2)).iteration == 2
    folder.close()


def test_the_lock_of_a_killed_process_is_free_though_its_workers_live(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        folder_at(tmp_path).open()
        worker = os.fork()
        if worker == 0:
            signal.pause()
        os.write(writing, b"%d" % worker)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(process, 0)
    worker = int(os.read(reading, 100))
    folder = folder_at(tmp_path)
    try:
        folder.open()
        assert folder.commit(content(1)).iteration == 1
    finally:
        folder.close()
        os.kill(worker, signal.SIGKILL)
        os.close(reading)
        os.close(writing)


def test_a_folder_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = folder_at("runs")
    folder.open()
    monkeypatch.chdir("/")
    folder.commit(content(1))
    folder.close()
    assert steps(tmp_path / "runs") == ["step-0000000001"]


def test_files_may_be_read_by_whoever_may_read_other_files(tmp_path: Path) -> None:
    tmp_path.joinpath("any").touch()
    folder = folder_at(tmp_path)
    folder.open()
    path = Path(folder.commit(content(1)).path)
    folder.close()
    modes = {path.joinpath(name).stat().st_mode for name in os.listdir(path)}
    assert modes == {tmp_path.joinpath("any").stat().st_mode}


def test_what_fails_while_tensors_are_open_comes_out_as_it_is(tmp_path: Path) -> None:
    folder = folder_at(tmp_path)
    folder.open()
    name = folder.commit(content(1)).path.name
    folder.close()
    with pytest.raises(FileNotFoundError, match="mine"), folder.tensors(name):
        raise FileNotFoundError("mine")


def test_what_could_not_be_deleted_goes_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object, **__: object) -> None:
        raise PermissionError(1, "x")

    folder = folder_at(tmp_path)
    folder.open()
    for iteration in (1, 2):
        folder.commit(content(iteration))
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", failing)
        with pytest.warns(UserWarning, match="cannot be deleted"):
            folder.prune(1, None)
    assert any(name.startswith(".trash-") for name in os.listdir(tmp_path))
    folder.commit(content(3))
    folder.prune(1, None)
    folder.close()
    assert not any(name.startswith(".trash-") for name in os.listdir(tmp_path))


def test_a_path_that_cannot_be_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="File name too long"):
        folder_at(tmp_path / ("x" * 300)).kept()
    with pytest.raises(ValueError, match="folder='' is no path"):
        folder_at("")


def test_rare_values_are_read_as_they_were() -> None:
    huge = 10**5000
    pair = "\ud83d\ude00"  # two halves, which JSON would read as one character
    wide = torch.ones(2, dtype=torch.complex128)
    tree: dict[str, Any] = {"huge": huge, "pair": pair, pair: {huge: "\ud800"}, "wide": wide}
    plain, tensors = split({**tree, "\ud801": torch.ones(1)})
    read = join(json.loads(json.dumps(plain, allow_nan=False)), tensors.__getitem__)
    assert all(read[name] == tree[name] for name in ("huge", "pair", pair))
    assert torch.equal(read["wide"], tree["wide"])
    assert torch.equal(read["\ud801"], torch.ones(1))


@pytest.mark.parametrize("kind", ["freed", "lazy", "complex32"])
@pytest.mark.filterwarnings("ignore:ComplexHalf")
def test_tensors_that_cannot_be_written_are_refused_by_their_path(kind: str) -> None:
    tensor: torch.Tensor = torch.ones(3)
    if kind == "freed":
        tensor.untyped_storage().resize_(0)
    elif kind == "lazy":
        tensor = nn.LazyLinear(1).weight
    else:
        tensor = torch.zeros(2, dtype=torch.complex32)
    with pytest.raises(NotPlain, match=r"^model\.weight is a "):
        split({"model": {"weight": tensor}})
