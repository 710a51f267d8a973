"""Checkpoints of several ranks, which are threads here: what is kept, and what all raise."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, DistributedSampler

from fengine import Events, Loop, State, outputs
from fengine.checkpoints import Best, CheckpointError, Checkpoints
from fengine.checkpoints import folder as folders
from fengine.checkpoints.__main__ import main
from fengine.distributed import AgreeEvery, Alone, PeerFailed, Ranks, RanksDiverged, even
from fengine.engine import Engine
from fengine.metrics import measure
from fengine.testing import in_threads
from fengine.training import RandomState, Shuffled, TensorBatches

AnyState = State[Any, Any, Any]
ROWS, SIZE = 34, 6


@attrs.frozen
class Sum:
    """Sum up the outputs of a span."""

    empty: int = 0

    def of(self, output: int) -> int:
        return output

    def merge(self, total: int, other: int) -> int:
        return total + other

    def compute(self, total: int) -> float:
        return float(total)


TOTAL = measure("total", Sum())


def summing(ranks: Ranks, **of_loop: Any) -> tuple[Loop[Any, Any], TensorBatches[Any]]:
    """Sum up rows over the ranks; the last batch of a pass is short."""
    data = TensorBatches(torch.arange(ROWS), batch_size=SIZE, seed=0, ranks=ranks)
    step: Any = outputs(lambda batch: int(batch[0].sum()))
    return Loop(step, ranks=ranks, **of_loop) | TOTAL, data


def pausing(at: int) -> Callable[[AnyState], AnyState]:
    return lambda state: state.interrupt() if state.iteration == at else state


def paused(at: int) -> Callable[[Loop[Any, Any], Ranks], Loop[Any, Any]]:
    return lambda loop, ranks: loop.on(Events.ITERATION_COMPLETED, pausing(at))


def run(
    folder: Path,
    size: int,
    change: Callable[[Loop[Any, Any], Ranks], Loop[Any, Any]] = lambda loop, ranks: loop,
    *,
    epochs: int = 3,
    **keywords: Any,
) -> list[Any]:
    """Run on so many ranks, or go on; return the state, or the exception, of each."""
    agree = keywords.pop("agree", None)

    def of_rank(ranks: Ranks) -> AnyState:
        loop, data = summing(ranks, **({} if agree is None else {"agree": agree}))
        checkpoints = Checkpoints(folder, **keywords)
        return checkpoints.run(change(loop, ranks), data, max_epochs=epochs)

    return in_threads(size, of_rank)


def well(ends: list[Any]) -> list[AnyState]:
    assert not any(isinstance(end, BaseException) for end in ends), ends
    return ends


def stood(state: AnyState) -> tuple[Any, ...]:
    return state.epoch, state.iteration, state.status, dict(state.metrics)


UNBROKEN = summing(Alone())[0].run(summing(Alone())[1], max_epochs=3)


@settings(max_examples=25)
@given(
    pauses=st.lists(st.tuples(st.integers(1, 4), st.integers(1, 17)), max_size=3),
    last=st.integers(1, 4),
)
def test_kept_on_some_ranks_and_gone_on_with_others_it_ends_as_one_run(
    pauses: list[tuple[int, int]], last: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("of-ranks")
    for size, at in sorted(pauses, key=lambda one: one[1]):
        ends = well(run(folder, size, paused(at)))
        assert len({str(stood(end)) for end in ends}) == 1
    for final in well(run(folder, last)):
        assert stood(final) == stood(UNBROKEN)


def test_counts_are_kept_merged_and_the_first_rank_goes_on_with_them(tmp_path: Path) -> None:
    well(run(tmp_path, 3, paused(4)))
    loop, _ = summing(Alone())
    checkpoints = Checkpoints(tmp_path)
    (kept,) = checkpoints.kept()
    assert kept.ranks == 3
    alone = loop.run(summing(Alone())[1], max_iters=4)
    assert checkpoints.load(loop, kept).state.part(TOTAL.part) == alone.part(TOTAL.part)

    def parts(ranks: Ranks) -> object:
        loop, _ = summing(ranks)
        return checkpoints.load(loop, kept).state.part(TOTAL.part).total

    assert in_threads(2, parts) == [alone.part(TOTAL.part).total, 0]


def test_only_the_first_rank_writes(tmp_path: Path) -> None:
    ends = well(run(tmp_path, 3, keep=None))
    assert [kept.iteration for kept in Checkpoints(tmp_path).kept()] == [6, 12, 18]
    assert [stood(end) for end in ends] == [stood(UNBROKEN)] * 3


def test_the_best_stay_of_several_ranks_too(tmp_path: Path) -> None:
    well(run(tmp_path, 2, best=Best("total", mode="max"), keep=1, background=True))
    best = Checkpoints(tmp_path, best=Best("total", mode="max")).best_kept()
    assert best is not None
    assert best.metrics["total"] == sum(range(ROWS))


def test_the_command_says_how_many_ranks_have_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    well(run(tmp_path, 3))
    assert main([str(tmp_path), "--verify"]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["step", "epoch", "ranks", "metrics", "size", "age", "state"]
    assert [row.split()[2] for row in rows] == ["3", "3"]


def full_after(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the disk be full for one save after so many."""
    write, calls = folders._write_tensors, []

    def write_or_not(*given: Any) -> Any:
        calls.append(1)
        if len(calls) == number + 1:
            raise OSError(errno.ENOSPC, "full")
        return write(*given)

    monkeypatch.setattr(folders, "_write_tensors", write_or_not)


@pytest.mark.parametrize("background", [False, True])
def test_what_the_first_rank_cannot_write_all_raise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, background: bool
) -> None:
    full_after(1, monkeypatch)
    ends = run(tmp_path, 3, background=background)
    assert [type(end) for end in ends] == [CheckpointError] * 3
    assert len({str(end) for end in ends}) == 1
    assert "step-0000000012: cannot be written: No space left on device" in str(ends[0])
    assert [kept.iteration for kept in Checkpoints(tmp_path).kept()] == [6]
    monkeypatch.undo()
    assert [stood(end) for end in well(run(tmp_path, 2))] == [stood(UNBROKEN)] * 2


def test_all_train_on_where_a_failed_save_is_to_be_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full_after(1, monkeypatch)
    with pytest.warns(UserWarning, match="not saved: .*No space left") as warned:
        well(run(tmp_path, 3, on_error="warn"))
    assert len(warned) == 1
    assert [kept.iteration for kept in Checkpoints(tmp_path).kept()] == [6, 18]


class Odd:
    """Be a thing of whose state one rank cannot write anything."""

    def __init__(self, ranks: Ranks) -> None:
        self.ranks = ranks

    def state_dict(self) -> dict[str, object]:
        if self.ranks.rank == 1:
            raise ValueError("it is not there")
        return {}

    def load_state_dict(self, state_dict: object) -> None:
        """Do nothing."""


def test_what_another_rank_cannot_save_all_raise_and_name_it(tmp_path: Path) -> None:
    ends = run(tmp_path, 3, lambda loop, ranks: loop.with_external(odd=Odd(ranks)))
    assert [type(end) for end in ends] == [CheckpointError] * 3
    assert (
        "rank 1: the state at Events.EPOCH_COMPLETED, epoch 1, iteration 6 cannot be saved: it"
        in str(ends[2])
    )
    assert Checkpoints(tmp_path).kept() == ()


def test_a_folder_in_use_or_of_another_run_is_refused_on_all(tmp_path: Path) -> None:
    def saving(ranks: Ranks) -> AnyState:
        loop, data = summing(ranks)
        return Checkpoints(tmp_path).saving(loop, data).run(data)

    well(in_threads(2, saving))
    ends = in_threads(2, saving)
    assert len({str(end) for end in ends}) == 1
    assert "holds the checkpoints of another run, the newest step-0000000006" in str(ends[1])
    file = tmp_path / "file"
    file.write_text("")
    ends = run(file, 2)
    assert len({str(end) for end in ends}) == 1
    assert "cannot be written to: File exists" in str(ends[1])


def with_folders(folders: list[Path], **limits: Any) -> list[Any]:
    def of_rank(ranks: Ranks) -> AnyState:
        loop, data = summing(ranks)
        return Checkpoints(folders[ranks.rank]).run(loop, data, **limits)

    return in_threads(len(folders), of_rank)


def test_a_folder_that_a_rank_does_not_see_is_named(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    well(with_folders([a, b, a]))
    for ends in (with_folders([a, b, a], max_epochs=2), with_folders([b, a, a], max_epochs=2)):
        assert [type(end) for end in ends] == [CheckpointError] * 3
        assert len({str(end) for end in ends}) == 1
    assert f"{a / 'step-0000000006.1'}: is not seen by rank 1 of 3 in {b}; give all" in str(
        with_folders([a, b, a], max_epochs=2)[0]
    )


def test_what_is_broken_is_left_out_on_all(tmp_path: Path) -> None:
    well(run(tmp_path, 2, epochs=2))
    (tmp_path / "step-0000000012.1" / "tensors.safetensors").write_bytes(b"changed")
    with pytest.warns(UserWarning, match="step-0000000006 is the newest intact") as warned:
        ends = well(run(tmp_path, 2))
    assert len(warned) == 1
    assert [stood(end) for end in ends] == [stood(UNBROKEN)] * 2
    for kept in Checkpoints(tmp_path).kept():
        Path(kept.path, "manifest.json").write_text("changed")
    ends = run(tmp_path, 2)
    assert len({str(end) for end in ends}) == 1
    assert "holds broken checkpoints only" in str(ends[1])


def test_what_does_not_fit_one_rank_is_refused_on_all(tmp_path: Path) -> None:
    models = [torch.nn.Linear(1, 1) for _ in range(2)]
    well(run(tmp_path, 2, lambda loop, ranks: loop.with_external(model=models[ranks.rank])))
    others = [torch.nn.Linear(1, 1), torch.nn.Linear(2, 1)]
    before = others[0].weight.clone()
    ends = run(
        tmp_path, 2, lambda loop, ranks: loop.with_external(model=others[ranks.rank]), epochs=4
    )
    assert [type(end) for end in ends] == [CheckpointError] * 2
    assert "rank 1: the snapshot does not fit" in str(ends[0])
    assert torch.equal(others[0].weight, before)


def test_ranks_agree_before_a_save(tmp_path: Path) -> None:
    def ask(loop: Loop[Any, Any], ranks: Ranks) -> Loop[Any, Any]:
        def stop(state: AnyState) -> AnyState:
            return state.terminate() if ranks.rank == 1 and state.iteration == 3 else state

        return loop.on(Events.ITERATION_COMPLETED, stop)

    every = Events.ITERATION_COMPLETED(every=3)
    ends = well(run(tmp_path, 2, ask, every=every, agree=AgreeEvery(5), keep=None))
    assert [end.iteration for end in ends] == [3, 3]
    first, *_ = Checkpoints(tmp_path).kept()
    loop, _ = summing(Alone())
    kept = Checkpoints(tmp_path).load(loop, first).state
    assert kept.requests.terminate is not None


def test_a_metric_that_differs_at_a_save_is_no_checkpoint(tmp_path: Path) -> None:
    def differ(loop: Loop[Any, Any], ranks: Ranks) -> Loop[Any, Any]:
        return loop.on(
            Events.ITERATION_COMPLETED, lambda state: state.with_metric("score", ranks.rank)
        )

    ends = run(tmp_path, 2, differ, every=Events.ITERATION_COMPLETED)
    assert [type(end) for end in ends] == [RanksDiverged] * 2
    assert "metrics['score'] is 0.0 on rank 0, and 1.0 on rank 1" in str(ends[0])
    assert Checkpoints(tmp_path).kept() == ()


def test_a_failure_of_one_rank_is_saved_on_none(tmp_path: Path) -> None:
    def fail(loop: Loop[Any, Any], ranks: Ranks) -> Loop[Any, Any]:
        def boom(state: AnyState) -> AnyState:
            if ranks.rank == 1 and state.iteration == 12:
                raise ValueError("no such class")
            return state

        return loop.on(Events.EPOCH_COMPLETED, boom)

    first, second = run(tmp_path, 2, fail)
    assert isinstance(first, PeerFailed)
    assert isinstance(second, ValueError)
    assert [kept.iteration for kept in Checkpoints(tmp_path).kept()] == [6]


@pytest.mark.parametrize("asked", [(0,), (1,), (0, 1, 2)])
def test_all_end_with_the_code_of_the_one_that_was_asked(
    tmp_path: Path, asked: tuple[int, ...]
) -> None:
    def of_rank(ranks: Ranks) -> AnyState:
        loop, data = summing(ranks)
        preemption = SimpleNamespace(asked=False, exit_code=143)

        def ask(state: AnyState) -> AnyState:
            preemption.asked = ranks.rank in asked and state.iteration >= 8
            return state

        loop = loop.on(Events.ITERATION_COMPLETED, ask)
        return Checkpoints(tmp_path, preemption=preemption).run(loop, data, max_epochs=3)

    ends = in_threads(3, of_rank)
    assert [(type(end), getattr(end, "code", None)) for end in ends] == [(SystemExit, 143)] * 3
    assert [kept.iteration for kept in Checkpoints(tmp_path).kept()] == [6, 8]
    assert [stood(end) for end in well(run(tmp_path, 1))] == [stood(UNBROKEN)]


def test_checkpoints_of_one_rank_alone_are_refused_at_once(tmp_path: Path) -> None:
    def of_rank(ranks: Ranks) -> AnyState:
        loop, data = summing(ranks)
        return Checkpoints(tmp_path).run(loop, data) if ranks.rank == 0 else loop.run(data)

    ends = in_threads(2, of_rank)
    assert [type(end) for end in ends] == [RanksDiverged] * 2
    assert "the ranks ask each other for" in str(ends[1])


# Data whose batches depend on the number of ranks.


def loading(folder: Path, size: int, kind: str, batch_size: int, pause: int = 0) -> list[Any]:
    def of_rank(ranks: Ranks) -> AnyState:
        rows: Any = list(range(24))
        sampler: Any = Shuffled(len(rows), seed=0, ranks=ranks)
        if kind != "shuffled":
            sampler = DistributedSampler(rows, ranks.size, ranks.rank)
        data: Any = DataLoader(rows, batch_size=batch_size, sampler=sampler)
        if kind == "even":
            data = even(data, ranks)
        if kind == "plain" and ranks.size == 1:
            data = DataLoader(rows, batch_size=batch_size)
        loop: Any = Loop(outputs(lambda batch: int(batch.sum())), ranks=ranks) | TOTAL
        loop = loop.on(Events.ITERATION_COMPLETED, pausing(pause))
        return Checkpoints(folder).run(loop, data, max_epochs=2)

    return in_threads(size, of_rank)


@pytest.mark.parametrize("kind", ["sampler", "even", "plain"])
@pytest.mark.parametrize("size", [1, 4])
def test_another_number_of_ranks_over_a_distributed_sampler_is_refused(
    tmp_path: Path, kind: str, size: int
) -> None:
    well(loading(tmp_path, 2, kind, 4, pause=2))
    again = well(loading(tmp_path, 2, kind, 4, pause=4))
    assert [end.iteration for end in again] == [4, 4]
    ends = loading(tmp_path, size, kind, 8 // size)
    assert [type(end) for end in ends] == [CheckpointError] * size
    assert "the DistributedSampler of 2 ranks gives other rows to" in str(ends[0])


def test_an_epoch_of_another_length_is_refused(tmp_path: Path) -> None:
    well(loading(tmp_path, 2, "shuffled", 4, pause=2))
    (end,) = loading(tmp_path, 1, "shuffled", 4)
    assert "an epoch had 3 batches on 2 ranks, and has 6 on 1 process" in str(end)
    final = well(loading(tmp_path, 4, "shuffled", 2))
    assert final[0].metrics["total"] == sum(range(24))


class Knowing:
    """Give the rows of a rank, and know how many it has given."""

    def __init__(self, ranks: Ranks) -> None:
        self.ranks, self.done = ranks, 0

    def __iter__(self) -> Iterator[int]:
        for number in range(self.done, 4):
            self.done = number + 1
            yield 10 * self.ranks.rank + number
        self.done = 0

    def __len__(self) -> int:
        return 4

    def get_state(self) -> object:
        return {"rank": self.ranks.rank, "done": self.done}

    def set_state(self, state: Any) -> None:
        assert state["rank"] == self.ranks.rank
        self.done = state["done"]


def test_data_that_knows_its_place_is_told_that_of_its_rank(tmp_path: Path) -> None:
    def of_rank(ranks: Ranks, pause: int = 0) -> AnyState:
        loop: Any = Loop(outputs(int), ranks=ranks) | TOTAL
        loop = loop.on(Events.ITERATION_COMPLETED, pausing(pause))
        return Checkpoints(tmp_path).run(loop, Knowing(ranks), max_epochs=2)

    well(in_threads(2, lambda ranks: of_rank(ranks, pause=3)))
    ends = well(in_threads(2, lambda ranks: of_rank(ranks, pause=6)))
    assert [end.metrics["total"] for end in ends] == [0 + 1 + 2 + 3 + 10 + 11 + 12 + 13] * 2
    (end,) = in_threads(1, of_rank)
    assert "its data knew its own place on each of 2 ranks, and there are 1 process" in str(end)


# Engines.


def engines(
    folder: Path, size: int, *, epochs: int, asked: int | None = None, data: Any = None
) -> list[Any]:
    """Have engines go on, or begin; return the iteration that they went on from, and the weight."""

    def of_rank(ranks: Ranks) -> tuple[int, float]:
        model = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.zeros_(model.weight)
        preemption = SimpleNamespace(asked=False, exit_code=143)

        def process(engine: Engine, batch: Any) -> None:
            preemption.asked = ranks.rank == 1 and engine.state.iteration == asked
            model.weight.data += 1.0

        engine = Engine(process, ranks=ranks)
        things: dict[str, Any] = {"model": model, "random": RandomState()}
        checkpoints = Checkpoints(folder, preemption=preemption)
        kept = checkpoints.restore(engine, things)
        checkpoints.attach(engine, things)
        engine.run([1, 2, 3] if data is None else data, max_epochs=epochs)
        return 0 if kept is None else kept.iteration, model.weight.item()

    return in_threads(size, of_rank)


def test_an_engine_on_ranks_is_kept_by_the_first_and_goes_on_on_all(tmp_path: Path) -> None:
    assert engines(tmp_path, 2, epochs=1) == [(0, 3.0)] * 2
    assert engines(tmp_path, 2, epochs=2) == [(3, 6.0)] * 2
    ends = engines(tmp_path, 2, epochs=4, asked=8)
    assert [(type(end), end.code) for end in ends] == [(SystemExit, 143)] * 2
    assert [kept.ranks for kept in Checkpoints(tmp_path).kept()] == [2, 2]
    with pytest.warns(UserWarning, match="was kept by 2 ranks, and goes on with 3 ranks"):
        assert engines(tmp_path, 3, epochs=4) == [(8, 12.0)] * 3


def test_engines_that_hold_another_run_are_refused_on_all(tmp_path: Path) -> None:
    engines(tmp_path, 2, epochs=1)

    def of_rank(ranks: Ranks) -> object:
        engine = Engine(lambda engine, batch: None, ranks=ranks)
        Checkpoints(tmp_path).attach(engine, {})
        return engine.run([1, 2, 3])

    ends = in_threads(2, of_rank)
    assert [type(end) for end in ends] == [CheckpointError] * 2
    assert "holds the checkpoints of another run" in str(ends[1])
