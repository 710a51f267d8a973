"""`Loop.try_out` runs a little of everything, and leaves all as it was."""

from __future__ import annotations

import copy
import io
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from immutables import Map
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset
from typing_extensions import override

from fengine import Events, Loop, Recorder, State, diff, last_state, outputs, tap
from fengine.checkpoints import Checkpoints
from fengine.features import (
    early_stopping,
    ema,
    evaluation,
    find_learning_rate,
    keep_best,
    log_to,
    lr_schedule,
    profiled,
    progress,
    seeded,
    throughput,
    time_limit,
)
from fengine.metrics import accuracy, mean
from fengine.testing import FakeClock, Program, programs
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


class Counting(nn.Module):
    """Count in buffers that no state dict has: in place, and by others in their place."""

    changed: Tensor
    replaced: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        for name in ("changed", "replaced"):
            self.register_buffer(name, torch.zeros(()), persistent=False)

    @override
    def forward(self, x: Tensor) -> Any:
        self.changed += 1
        self.replaced = self.replaced + 1
        return self.linear(x)


@pytest.mark.parametrize("look", [Loop.try_out, find_learning_rate])
def test_buffers_that_are_not_saved_are_as_before(look: Callable[..., object]) -> None:
    model = Counting()
    step = training_step(model, torch.optim.SGD(model.parameters(), 0.1), cross_entropy)
    buffers = dict(model.named_buffers())
    look(Loop(step), DATA)
    assert {name: int(one) for name, one in model.named_buffers()} == {"changed": 0, "replaced": 0}
    assert all(one is buffers[name] for name, one in model.named_buffers())


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
        ([1], 2.5, "an int from 1"),
        ([1], True, "an int from 1"),
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


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize(
    "at", [Events.ITERATION_COMPLETED(every=500), Events.EPOCH_COMPLETED(every=5)]
)
def test_an_evaluation_that_comes_late_is_tried_out_too(at: Any, wrapped: bool) -> None:
    held_out = Counted()
    judging: Any = Loop(outputs(lambda batch: float(batch[0].sum()))) | mean("sum")
    loop: Any = Loop(outputs(abs)) | evaluation(judging, held_out, at=at)
    loop = loop | early_stopping("val_sum", mode="min", patience=1)
    if wrapped:
        loop = loop | throughput(samples=int) | profiled(file=io.StringIO())
    final = loop.try_out([1, 2, 3])
    assert "val_sum" in final.metrics
    assert held_out.read == 2 * (2 if at == Events.ITERATION_COMPLETED(every=500) else 1)
    assert loop.run([1, 2, 3]).metrics.get("val_sum") is None


def test_what_only_counts_is_tried_out() -> None:
    loop: Any = Loop(outputs(abs))
    with pytest.raises(TypeError, match="cannot be counted"):
        (loop | throughput()).try_out([1, 2])
    final = (loop | throughput(samples=int) | time_limit(1, clock=FakeClock())).try_out([1, 2])
    assert "samples_per_second" in final.metrics


def test_handlers_keep_their_order_where_those_between_are_left_out() -> None:
    seen: list[int] = []
    first: Any = tap(lambda state: seen.append(1))
    second: Any = tap(lambda state: seen.append(2))
    bar: Any = Loop(outputs(abs)) | progress(file=io.StringIO())
    shown = next(
        one.handler for one in bar.table.registrations if one.event is Events.EPOCH_COMPLETED
    )
    loop: Any = bar.on(Events.EPOCH_COMPLETED, second, runs_after=shown)
    loop.on(Events.EPOCH_COMPLETED, first, runs_before=second).try_out([1])
    assert seen == [1, 2]


def test_a_model_without_shapes_is_refused_before_it_gets_them() -> None:
    model = nn.LazyLinear(2)
    loop: Any = Loop(training_step(model, torch.optim.SGD(model.parameters(), 0.1), cross_entropy))
    with pytest.raises(ValueError, match="call the model once"):
        loop.try_out(DATA)
    assert isinstance(model.weight, nn.UninitializedParameter)


class Stubborn:
    """A thing that cannot be put back once it is broken."""

    broken = False

    def state_dict(self) -> Any:
        return {}

    def load_state_dict(self, state: Any) -> None:
        if self.broken:
            raise OSError("it is broken")


@pytest.mark.parametrize("fails", [False, True])
def test_what_cannot_be_put_back_is_told_and_all_else_is_put_back(
    tmp_path: Path, fails: bool
) -> None:
    whole, stubborn = Whole(tmp_path), Stubborn()

    def break_it(state: State[Any, Any]) -> State[Any, Any]:
        stubborn.broken = True
        if fails:
            raise ZeroDivisionError
        return state

    loop = whole.loop.with_external(zstubborn=stubborn).on(Events.COMPLETED, break_it)
    before = [module.training for module in whole.model.modules()], torch.get_rng_state()
    with pytest.raises(ZeroDivisionError if fails else OSError) as raised:
        loop.try_out(DATA)
    after = [module.training for module in whole.model.modules()], torch.get_rng_state()
    assert not diff(before, after)
    assert all(one.grad is None for one in whole.model.parameters())
    notes = " ".join(raised.value.__notes__)
    assert "it is broken" in notes or "external['zstubborn']" in notes


def test_losses_that_are_no_numbers_and_all_is_as_before(tmp_path: Path) -> None:
    whole = Whole(tmp_path)
    before = whole.kept()
    bad = [(torch.full((4, 3), torch.nan), Y[:4])] * 3
    final = whole.loop.try_out(bad)
    assert final.metrics["loss"] != final.metrics["loss"]
    assert not diff(before, whole.kept())


def test_where_it_happened_is_told_as_in_a_run() -> None:
    def fail(batch: int) -> float:
        return 1 / (batch - 2)

    loop: Any = Loop(outputs(fail))
    with pytest.raises(ZeroDivisionError) as raised:
        loop.try_out([1, 2, 3])
    state = last_state(raised.value)
    assert state is not None
    assert state.iteration == 2


def outcome(run: Callable[[], Any]) -> Any:
    """Return the final state, or what the run raised with the state that it left."""
    try:
        return run()
    except Exception as error:
        return type(error), error.args, last_state(error)


@given(program=programs(), batches=st.integers(1, 4))
def test_it_is_a_run_over_the_first_batches(program: Program, batches: int) -> None:
    loop, some = program.loop(), list(range(5))
    tried = outcome(lambda: loop.try_out(some, batches, user=Map()))
    assert tried == outcome(lambda: loop.run(some[:batches], user=Map()))


def test_an_evaluation_of_a_few_batches_has_the_order_of_the_whole_one() -> None:
    held_out = TensorBatches(torch.arange(20), batch_size=2, seed=5)
    seen: list[list[int]] = []

    def note(batch: Any) -> float:
        seen.append(batch[0].tolist())
        return 0.0

    judging: Any = Loop(outputs(note)) | mean("none")
    for most in (None, 2):
        loop: Any = Loop(outputs(abs)) | evaluation(judging, held_out, max_batches=most)
        loop.run([1], max_epochs=2)
    whole, few = seen[:20], seen[20:]
    assert few == [*whole[:2], *whole[10:12]]
