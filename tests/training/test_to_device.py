"""Batches that are moved ahead are those of the data, in order, and none is lost on the way."""

from __future__ import annotations

import gc
import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.utils.data import DataLoader, TensorDataset
from typing_extensions import override

from fengine import (
    DataExhausted,
    Enterable,
    Events,
    Loop,
    Resumable,
    Snapshot,
    State,
    last_state,
    outputs,
)
from fengine.engine import Engine
from fengine.engine import Events as EngineEvents
from fengine.testing import assert_resume_exact
from fengine.training import Shuffled, TensorBatches, Window, to_device, training_step, windows

Pair = tuple[Tensor, Tensor]

# torchdata still calls what torch warns of.
pytestmark = pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")


class Noting:
    """Give numbers, and note which were read; each iteration begins anew."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.read: list[int] = []

    def __iter__(self) -> Iterator[int]:
        for number in range(self.count):
            self.read.append(number)
            yield number


class Sized(Noting):
    def __len__(self) -> int:
        return self.count


class Counting:
    """Give numbers as a file gives its lines: it knows how far it has been read."""

    def __init__(self, count: int) -> None:
        self.count, self.done = count, 0

    def __iter__(self) -> Iterator[int]:
        while self.done < self.count:
            self.done += 1
            yield self.done
        self.done = 0

    def get_state(self) -> int:
        return self.done

    def set_state(self, state: int) -> None:
        self.done = state


class Living:
    """Know its place and its pass, and tell them by what it goes on to change."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.place = {"done": 0, "epoch": 0}
        self.is_told = False

    def set_epoch(self, epoch: int) -> None:
        self.place["epoch"] = epoch

    def __iter__(self) -> Iterator[int]:
        if not self.is_told:
            self.place["done"] = 0
        self.is_told = False
        return self.rest()

    def rest(self) -> Iterator[int]:
        while self.place["done"] < self.count:
            self.place["done"] += 1
            yield 10 * self.place["epoch"] + self.place["done"]

    def state_dict(self) -> dict[str, int]:
        return self.place

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.place, self.is_told = state, True


class Breaking:
    """Raise at one of its numbers."""

    def __init__(self, at: int, error: BaseException) -> None:
        self.at, self.error = at, error

    def __iter__(self) -> Iterator[int]:
        for number in range(10):
            if number == self.at:
                raise self.error
            yield number


def collect(batches: Iterable[int], seen: list[int]) -> None:
    for batch in batches:
        seen.append(batch)  # extend would keep none before an error


def same(batch: Any) -> Any:
    return batch


def listed(batch: Any) -> Any:
    if isinstance(batch, Tensor):
        return batch.tolist()
    return [listed(part) for part in batch] if isinstance(batch, Iterable) else batch


def rows(count: int) -> TensorDataset:
    return TensorDataset(torch.arange(2.0 * count).reshape(count, 2), torch.arange(count))


@given(st.lists(st.integers(), max_size=8), st.integers(0, 10))
def test_law_the_batches_are_those_of_the_data(data: list[int], ahead: int) -> None:
    ahead_of_list = to_device(data, "cpu", ahead)
    assert list(ahead_of_list) == list(ahead_of_list) == data
    assert list(to_device(iter(data), "cpu", ahead)) == data
    assert len(ahead_of_list) == len(data)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [Noting, Sized])
@pytest.mark.parametrize("ahead", [0, 1, 2, 9])
def test_it_reads_so_many_ahead_and_no_more(kind: type[Noting], ahead: int) -> None:
    data = kind(4)
    read = [(number, len(data.read)) for number in to_device(data, "cpu", ahead)]
    assert read == [(number, min(4, number + 1 + ahead)) for number in range(4)]


def test_nothing_is_read_before_a_batch_is_asked_for() -> None:
    data = Noting(4)
    iter(to_device(data, "cpu"))
    assert data.read == []


def test_of_an_iterator_nothing_is_read_ahead() -> None:
    numbers = iter(range(5))
    moving = iter(to_device(numbers, "cpu", ahead=3))
    assert [next(moving), next(moving)] == [0, 1]
    assert list(numbers) == [2, 3, 4]


def test_nests_and_windows_are_moved() -> None:
    batches = [(torch.ones(2), {"mask": torch.ones(1), "name": "a"})] * 3
    for x, rest in to_device(batches, "meta"):
        mask = rest["mask"]
        assert isinstance(mask, Tensor)
        assert (x.device.type, mask.device.type, rest["name"]) == ("meta", "meta", "a")
    pairs = [(torch.ones(2), torch.ones(2))] * 3
    for data in (to_device(windows(pairs, 2), "meta"), windows(to_device(pairs, "meta"), 2)):
        found = list(data)
        assert [len(window) for window in found] == [2, 1]
        assert all(x.device.type == "meta" for window in found for x, _ in window)
    assert batches[0][0].device.type == "cpu"


def test_an_error_of_the_data_comes_where_its_batch_would_have_come() -> None:
    for ahead in (0, 1, 3, 20):
        error = ValueError("broken")
        seen: list[int] = []
        with pytest.raises(ValueError, match="broken") as raised:
            collect(to_device(Breaking(5, error), "cpu", ahead), seen)
        assert raised.value is error
        assert seen == [0, 1, 2, 3, 4]


def test_what_cannot_be_moved_is_an_error_in_its_place() -> None:
    moving = iter(to_device([torch.ones(1), object()], "cpu"))
    assert next(moving) == torch.ones(1)
    with pytest.raises(TypeError, match="cannot move a object to cpu"):
        next(moving)


@pytest.mark.parametrize("at", [2, 3, 5])
def test_an_interrupt_is_not_held_back_and_loses_nothing(at: int) -> None:
    class Interrupted(Counting):
        broken = False

        @override
        def __iter__(self) -> Iterator[int]:
            for number in super().__iter__():
                if number == at and not self.broken:
                    self.broken = True
                    raise KeyboardInterrupt
                yield number

    moving = to_device(Interrupted(5), "cpu")
    seen: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        collect(moving, seen)
    assert seen == list(range(1, at - 1))
    assert list(moving) == list(range(at - 1, 6))


def test_a_run_that_failed_goes_on_where_it_stood() -> None:
    class Once(Counting):
        broken = False

        @override
        def set_state(self, state: int) -> None:
            super().set_state(state)
            self.broken = True

        @override
        def __iter__(self) -> Iterator[int]:
            for number in super().__iter__():
                if number == 4 and not self.broken:
                    raise OSError("the disk is gone")
                yield number

    loop: Loop[int, int] = Loop(outputs(same))
    data = to_device(Once(6), "cpu", 2)
    with pytest.raises(OSError, match="the disk is gone") as raised:
        loop.run(data)
    state: Any = last_state(raised.value)
    assert state is not None
    assert state.iteration == 3
    final = loop.resume(loop.snapshot(state, data), to_device(Once(6), "cpu", 2))
    assert (final.iteration, final.output) == (6, 6)


def stateful(**options: Any) -> Any:
    stateful_dataloader = pytest.importorskip("torchdata.stateful_dataloader")
    return stateful_dataloader.StatefulDataLoader(rows(7), batch_size=2, **options)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(1)


KINDS: dict[str, Callable[[], Iterable[Any]]] = {
    "list": lambda: list(range(4)),
    "loader": lambda: DataLoader(rows(7), batch_size=2),
    "shuffled": lambda: DataLoader(rows(7), batch_size=2, sampler=Shuffled(rows(7), seed=3)),
    "tensors": lambda: TensorBatches(torch.arange(7), batch_size=2, seed=3),
    "counting": lambda: Counting(4),
    "living": lambda: Living(4),
    "stateful": stateful,
    "stateful, shuffled": lambda: stateful(shuffle=True, generator=seeded()),
    "stateful, Shuffled": lambda: stateful(sampler=Shuffled(rows(7), seed=3)),
}
FORMS: dict[str, Callable[[Iterable[Any]], Iterable[Any]]] = {
    "none ahead": lambda data: to_device(data, "cpu", 0),
    "moved": lambda data: to_device(data, "cpu"),
    "far ahead": lambda data: to_device(data, "cpu", 9),
    "windows of it": lambda data: windows(to_device(data, "cpu"), 3),
    "of windows": lambda data: to_device(windows(data, 3), "cpu"),
    "twice": lambda data: to_device(to_device(data, "cpu", 2), "cpu"),
}


def with_batch(snapshot: Snapshot[Any, Any, Any]) -> bytes:
    return pickle.dumps(snapshot.to_dict(batch=same))


def read_back(kept: bytes, loop: Loop[Any, Any, Any]) -> Snapshot[Any, Any, Any]:
    return loop.read(pickle.loads(kept))


@pytest.mark.parametrize("epoch_length", [None, 3])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_goes_on_from_any_of_its_events(
    kind: str, form: str, epoch_length: int | None
) -> None:
    def build() -> Any:
        loop: Loop[Any, Any] = Loop(outputs(listed))
        return loop, FORMS[form](KINDS[kind]()), {"max_epochs": 3, "epoch_length": epoch_length}

    assert_resume_exact(build, write=with_batch, read=read_back)


def test_a_run_over_a_loader_with_workers_goes_on() -> None:
    def build() -> Any:
        loop: Loop[Any, Any] = Loop(outputs(listed))
        data = stateful(num_workers=1, shuffle=True, generator=seeded())
        return loop, to_device(data, "cpu", 2), {"max_epochs": 2}

    assert_resume_exact(build, [9, 20], write=with_batch, read=read_back)


def end_second_epoch(state: State[Any, Any]) -> State[Any, Any]:
    return state.terminate_epoch() if state.epoch == 2 and state.batches == 2 else state


def seen_in(data: Iterable[Any], **limits: Any) -> list[Any]:
    loop: Loop[Any, Any] = Loop(outputs(listed)).on(Events.ITERATION_COMPLETED, end_second_epoch)
    seen: list[Any] = []
    try:
        for moment in loop.iterate(data, **limits):
            if moment.event == Events.ITERATION_COMPLETED:
                seen.append(moment.state.output)
    except DataExhausted as error:
        seen.append(str(error))
    return seen


@pytest.mark.parametrize("form", ["none ahead", "moved", "far ahead", "twice"])
@pytest.mark.parametrize("kind", KINDS)
def test_runs_that_cut_passes_short_see_what_they_see_of_the_data(kind: str, form: str) -> None:
    bare, moved = KINDS[kind](), FORMS[form](KINDS[kind]())
    for limits in ({"max_epochs": 4}, {"max_iters": 2}, {"max_epochs": 4, "epoch_length": 3}):
        assert seen_in(moved, **limits) == seen_in(bare, **limits)


def test_a_state_is_that_of_the_batch_given_out() -> None:
    data = Counting(6)
    moving: Any = to_device(data, "cpu", 3)
    iterator = iter(moving)
    assert [next(iterator), next(iterator), data.done] == [1, 2, 5]
    place = moving.get_state()
    assert list(iterator) == [3, 4, 5, 6]
    again: Any = to_device(Counting(6), "cpu")
    again.set_state(place)
    assert [list(again), list(again)] == [[3, 4, 5, 6], [1, 2, 3, 4, 5, 6]]


def test_it_has_the_protocol_of_the_data() -> None:
    found = {kind: to_device(make(), "cpu") for kind, make in KINDS.items()}
    enterable = {kind for kind, data in found.items() if isinstance(data, Enterable)}
    knowing = {kind for kind, data in found.items() if isinstance(data, Resumable)}
    assert enterable == {"list", "loader", "shuffled", "tensors"}
    assert enterable | knowing == set(KINDS)
    assert not enterable & knowing


def test_data_in_an_unknown_order_is_refused_as_it_is_alone() -> None:
    loader = DataLoader(rows(6), batch_size=2, shuffle=True)
    loop: Loop[Any, Any] = Loop(outputs(listed))
    second = next(m for m in loop.iterate(to_device(loader, "cpu")) if m.state.iteration == 2)
    with pytest.raises(ValueError, match="known to its RandomSampler alone"):
        loop.resume(second.state, to_device(loader, "cpu"))


def test_the_iterator_of_the_data_is_closed_with_the_run() -> None:
    closed: list[str] = []

    class Closing(Iterator[int]):
        @override
        def __next__(self) -> int:
            return 1

        def close(self) -> None:
            closed.append("closed")

    class Endless:
        def __iter__(self) -> Iterator[int]:
            return Closing()

    Loop(outputs(same)).run(to_device(Endless(), "cpu"), max_iters=3, epoch_length=2)
    assert closed == ["closed"]


def test_no_batch_is_kept_after_it_was_given() -> None:
    class Batch(list[int]):
        alive = 0

        def __init__(self, *parts: Any) -> None:
            super().__init__(*parts)
            Batch.alive += 1

        def __del__(self) -> None:
            Batch.alive -= 1

    class Making:
        def __iter__(self) -> Iterator[Batch]:
            return (Batch([number]) for number in range(6))

    iterator = iter(to_device(Making(), "cpu", 1))
    for _ in range(4):
        batch = next(iterator)
        del batch
        gc.collect()
        assert Batch.alive <= 2  # one is waiting, made of one that the data may still hold


def test_training_is_bitwise_that_over_the_data() -> None:
    x, y = torch.randn(11, 2), torch.randn(11, 1)

    def trained(move: Callable[[Iterable[Pair]], Iterable[Pair]]) -> Tensor:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(2, 4), nn.Dropout(), nn.Linear(4, 1))
        sgd = torch.optim.SGD(model.parameters(), lr=0.1)
        data = TensorBatches(x, y, batch_size=4, seed=5)
        Loop(training_step(model, sgd, mse_loss)).run(move(data), max_epochs=3)
        return nn.utils.parameters_to_vector(model.parameters())

    assert torch.equal(trained(lambda data: to_device(data, "cpu", 2)), trained(lambda data: data))


def test_windows_of_it_train() -> None:
    model = nn.Linear(2, 1)
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    data = TensorBatches(torch.ones(6, 2), torch.ones(6, 1), batch_size=2, seed=0)
    loop = Loop[Window[Pair], Tensor, None](training_step(model, sgd, mse_loss))
    assert loop.run(windows(to_device(data, "cpu"), 2), max_epochs=2).iteration == 4
    assert loop.run(to_device(windows(data, 2), "cpu"), max_epochs=2).iteration == 4


@pytest.mark.parametrize("kind", ["list", "loader", "tensors", "stateful"])
def test_an_engine_runs_over_it(kind: str) -> None:
    def seen(data: Iterable[Any], stop: bool) -> list[Any]:
        found: list[Any] = []
        engine = Engine(lambda engine, batch: found.append(listed(batch)))

        def end_epoch(engine: Engine) -> None:
            if stop and engine.state.iteration == 2:
                engine.terminate_epoch()

        engine.add_event_handler(EngineEvents.ITERATION_COMPLETED, end_epoch)
        state = engine.run(data, max_epochs=3)
        return [*found, state.epoch_length, state.iteration]

    for stop in (False, True):
        assert seen(to_device(KINDS[kind](), "cpu"), stop) == seen(KINDS[kind](), stop)


def test_it_prints_what_it_is() -> None:
    assert repr(to_device([1], "cpu")) == "to_device(list, 'cpu', ahead=1)"


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ((3, "cpu"), TypeError, "data=3 of type int is not an iterable of batches"),
        (([1], None), TypeError, "device=None of type NoneType is no device"),
        (([1], True), TypeError, "device=True of type bool is no device"),
        (([1], "gpu"), RuntimeError, "gpu"),
        (([1], "cpu", 1.5), TypeError, r"ahead=1\.5 of type float is not an int"),
        (([1], "cpu", True), TypeError, "ahead=True of type bool is not an int"),
        (([1], "cpu", -1), ValueError, "ahead=-1 is negative"),
    ],
)
def test_bad_input_is_refused(arguments: Sequence[Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        to_device(*arguments)


def test_data_without_a_length_has_none() -> None:
    moving: Any = to_device(Noting(3), "cpu")
    with pytest.raises(TypeError, match="data of type Noting does not say its length"):
        len(moving)
    final = Loop(outputs(same)).run(moving, max_epochs=2)
    assert (final.iteration, final.limits.epoch_length) == (6, 3)


class Device:
    """Stand for a device of CUDA with two streams, and note what waits for what."""

    device = "cuda"

    def __init__(self) -> None:
        self.done: list[str] = []
        self.copies = 0

    def wait_stream(self, stream: object) -> None:
        self.done.append("copying waits for the steps")

    def record_event(self) -> int:
        self.copies += 1
        self.done.append(f"copy {self.copies}")
        return self.copies

    def wait_event(self, event: int) -> None:
        self.done.append(f"the step waits for copy {event}")


def test_a_step_waits_for_its_own_copy_and_a_copy_for_the_steps_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device = Device()
    monkeypatch.setattr("fengine.training.moving_ahead._stream_to", lambda _: device)
    monkeypatch.setattr("torch.cuda.current_stream", lambda _: device)
    monkeypatch.setattr("torch.cuda.stream", lambda _: nullcontext())
    for number in to_device([1, 2, 3], "cpu"):
        device.done.append(f"step {number}")
    wait = "copying waits for the steps"
    assert device.done == [
        *(wait, "copy 1", wait, "copy 2", "the step waits for copy 1", "step 1"),
        *(wait, "copy 3", "the step waits for copy 2", "step 2"),
        *("the step waits for copy 3", "step 3"),
    ]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_cuda_it_trains_as_the_step_that_moves_them_itself() -> None:
    x, y = torch.randn(64, 32).pin_memory(), torch.randn(64, 1).pin_memory()

    def trained(ahead: int | None) -> Tensor:
        torch.manual_seed(0)
        model = nn.Linear(32, 1).cuda()
        sgd = torch.optim.SGD(model.parameters(), lr=0.1)
        data: Iterable[Pair] = TensorBatches(x, y, batch_size=4)
        if ahead is not None:
            data = to_device(data, "cuda", ahead)
        Loop(training_step(model, sgd, mse_loss, device="cuda")).run(data, max_epochs=20)
        return nn.utils.parameters_to_vector(model.parameters())

    assert all(torch.equal(trained(ahead), trained(None)) for ahead in (0, 1, 5))
