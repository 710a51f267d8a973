"""`Loop.try_out` runs a little of everything, and leaves all as it was."""

from __future__ import annotations

import copy
import io
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from fengine import Events, Loop, Recorder, State, diff, outputs, tap
from fengine.checkpoints import Checkpoints
from fengine.features import (
    early_stopping,
    ema,
    evaluation,
    keep_best,
    log_to,
    lr_schedule,
    progress,
    seeded,
)
from fengine.metrics import accuracy, mean
from fengine.training import (
    RandomState,
    Shuffled,
    TensorBatches,
    evaluation_step,
    to_device,
    training_step,
)
from fengine.writers import jsonl

X = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
Y = (X.sum(dim=1) > 0).long()


class Counted:
    """Held-out batches that count how many were read."""

    def __init__(self) -> None:
        self.read = 0

    def __iter__(self) -> Any:
        for start in range(0, 40, 4):
            self.read += 1
            yield X[start : start + 4], Y[start : start + 4]

    def __len__(self) -> int:
        return 10


class Whole:
    """A training with what is put back by each kind of thing."""

    def __init__(self, folder: Path) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(
            nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 2)
        )
        self.model[2].eval()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.1)
        self.averaged = ema(self.model, 0.5)
        self.held_out, self.seen = Counted(), list[str]()
        schedule = torch.optim.lr_scheduler.StepLR(self.optimizer, 1)
        self.file, self.log = io.StringIO(), folder / "log.jsonl"
        judging = Loop(evaluation_step(self.model)) | accuracy()
        self.loop: Any = (
            Loop(training_step(self.model, self.optimizer, cross_entropy))
            | seeded(3)
            | lr_schedule(schedule)
            | self.averaged
            | mean("loss")
            | evaluation(judging, self.held_out)
            | keep_best("val_accuracy", mode="max", model=self.model)
            | early_stopping("val_accuracy", mode="max", patience=1)
            | log_to(jsonl(self.log))
            | progress("loss", file=self.file)
        )
        self.loop = self.loop.on(Events.COMPLETED, tap(lambda state: self.seen.append("completed")))

    def kept(self) -> dict[str, Any]:
        states = {name: thing.state_dict() for name, thing in self.loop.external.items()}
        return copy.deepcopy(
            {
                **states,
                "modes": [module.training for module in self.model.modules()],
                "gradients": [one.grad for one in self.model.parameters()],
                "python": random.getstate(),
                "chance": RandomState().state_dict(),
            }
        )


NUMBERS: Any = range(20)
DATA = TensorBatches(X, Y, batch_size=4, seed=1)


@pytest.mark.parametrize("trained", [False, True])
def test_all_runs_and_all_is_as_before(tmp_path: Path, trained: bool) -> None:
    whole = Whole(tmp_path)
    if trained:
        whole.loop.run(DATA, max_epochs=1)
        whole.log.unlink()
    whole.file.truncate(0)
    whole.held_out.read, whole.seen[:] = 0, []
    before = whole.kept()
    final = whole.loop.try_out(DATA)
    assert not diff(before, whole.kept())
    assert (final.iteration, final.epoch, whole.held_out.read) == (2, 1, 2)
    assert whole.seen == ["completed"]
    assert {"loss", "val_accuracy"} <= set(final.metrics)
    assert (whole.file.getvalue().strip("\0"), whole.log.exists()) == ("", False)


def test_what_comes_afterwards_is_as_without_it(tmp_path: Path) -> None:
    ends = []
    for tried in (False, True):
        whole = Whole(tmp_path)
        loader = DataLoader(TensorDataset(X, Y), batch_size=8, shuffle=True)
        if tried:
            whole.loop.try_out(loader, 3)
        whole.loop.run(loader, max_epochs=2)
        ends.append(copy.deepcopy(whole.model.state_dict()))
    assert not diff(dict(ends[0]), dict(ends[1]))


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_the_exception_goes_on_and_all_is_as_before(tmp_path: Path, error: Any) -> None:
    whole = Whole(tmp_path)

    def fail(state: State[Any, Any]) -> State[Any, Any]:
        raise error

    loop = whole.loop.on(Events.EPOCH_COMPLETED, fail)
    before = whole.kept()
    with pytest.raises(error):
        loop.try_out(DATA)
    assert not diff(before, whole.kept())


def test_it_is_the_beginning_of_the_run() -> None:
    loader: Any = DataLoader(NUMBERS, batch_size=2, sampler=Shuffled(20, seed=5))
    loop: Any = Loop(outputs(lambda batch: batch.tolist()))
    second = [
        moment.state.output
        for moment in loop.iterate(loader)
        if moment.event is Events.ITERATION_COMPLETED
    ][1]
    assert loop.try_out(loader).output == second


def test_generators_of_data_are_as_before() -> None:
    generator = torch.Generator().manual_seed(1)
    loader: Any = DataLoader(NUMBERS, batch_size=2, shuffle=True, generator=generator)
    before = generator.get_state()
    loop: Any = Loop(outputs(lambda batch: batch.tolist()))
    loop.try_out(loader)
    assert torch.equal(generator.get_state(), before)


def test_data_that_is_moved_ahead_and_short_data() -> None:
    loop: Any = Loop(outputs(lambda batch: batch))
    assert loop.try_out(to_device([torch.ones(1), torch.ones(2)], "cpu"), 5).iteration == 2
    assert loop.try_out([7]).iteration == 1
    assert loop.try_out(iter_of_unknown_length()).iteration == 2
    assert loop.try_out(None, 3).iteration == 3


class Unknown:
    def __iter__(self) -> Any:
        yield from range(5)


def iter_of_unknown_length() -> Any:
    return Unknown()


@pytest.mark.parametrize(
    ("data", "batches", "said"),
    [
        ([], 2, "data is empty"),
        (iter([1]), 2, "data is an iterator"),
        ([1], 0, "batches=0"),
        ([1], 2.5, "not an int"),
        ([1], True, "not an int"),
        (3, 2, "not iterable"),
    ],
)
def test_what_tries_nothing_out_is_refused(data: Any, batches: Any, said: str) -> None:
    loop: Any = Loop(outputs(abs))
    with pytest.raises((TypeError, ValueError), match=said):
        loop.try_out(data, batches)


def test_recorders_and_checkpoints_are_left_out(tmp_path: Path) -> None:
    plain: Any = Loop(outputs(abs))
    recorder = Recorder(plain)
    recorder.loop.try_out([1, 2])
    assert recorder.entries == ()
    Checkpoints(tmp_path / "kept").saving(plain).try_out([1, 2])
    assert not (tmp_path / "kept").exists()


def test_the_record_of_the_user_is_given() -> None:
    loop: Any = Loop(outputs(abs))
    loop = loop.on(Events.ITERATION_COMPLETED, lambda state: state.evolve(user=state.user + 1))
    assert loop.try_out([1, 2, 3], user=5).user == 7


class Told:
    """Data that gives what `set_epoch` has told it."""

    def __init__(self) -> None:
        self.number = -1

    def set_epoch(self, number: int) -> None:
        self.number = number

    def __iter__(self) -> Any:
        yield from [float(self.number)] * 3

    def __len__(self) -> int:
        return 3


def test_an_evaluation_of_a_few_batches_tells_its_data_the_pass() -> None:
    judging: Any = Loop(outputs(lambda batch: batch)) | mean("told")
    loop: Any = Loop(outputs(abs)) | evaluation(judging, Told(), max_batches=2)
    assert loop.run([1]).metrics["val_told"] == 0.0
