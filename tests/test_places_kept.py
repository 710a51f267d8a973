"""What data says of its place, through loaders, generators and windows: exact, or refused."""

from __future__ import annotations

import importlib
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, RandomSampler
from typing_extensions import override

from fengine import Enterable, Events, Loop, Resumable, Snapshot, State, outputs
from fengine.training import Shuffled, TensorBatches, windows

torchdata: Any = importlib.import_module("torchdata.stateful_dataloader")  # without types

# torchdata still calls what torch warns of.
pytestmark = pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")


def plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.tolist()
    return [plain(part) for part in value] if isinstance(value, tuple | list) else value


LOOP: Any = Loop(outputs(plain))


def check_all_places(make: Callable[[], Any], every: int = 1, **limits: int) -> None:
    """Go on from each moment of a run, in new data, and compare each output that follows."""
    data, kept = make(), []
    for moment in LOOP.iterate(data, **limits):
        kept.append((moment, LOOP.snapshot(moment.state, data)))
    done = [m.state.output for m, _ in kept if m.event is Events.ITERATION_COMPLETED]
    again: Any
    for moment, snapshot in kept[::every]:
        written = pickle.loads(pickle.dumps(snapshot.to_dict(batch=lambda batch: batch)))
        for again in (snapshot, Snapshot.from_dict(written)):
            rest = LOOP.iterate(make(), after=again)
            left = [m.state.output for m in rest if m.event is Events.ITERATION_COMPLETED]

            assert left == done[len(done) - len(left) :], moment
            assert len(left) == len(done) - moment.state.iteration + (
                moment.event is Events.ITERATION_STARTED
            ), moment


class OwnPlace(IterableDataset[int]):
    """A stream that knows its place, and starts again by itself."""

    def __init__(self, length: int | None = None) -> None:
        self.at = 0
        self.length = length

    @override
    def __iter__(self) -> Iterator[int]:
        while self.at < 4:
            self.at += 1
            yield self.at
        self.at = 0

    def state_dict(self) -> dict[str, int]:
        return {"at": self.at}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.at = state["at"]


class SizedOwnPlace(OwnPlace):
    def __len__(self) -> int:
        return 4


def shuffled_loader(workers: int = 0, **more: Any) -> Any:
    generator = torch.Generator().manual_seed(5)
    return torchdata.StatefulDataLoader(
        range(10),
        batch_size=3,
        shuffle=True,
        generator=generator,
        num_workers=workers,
        multiprocessing_context="fork" if workers else None,
        **more,
    )


KNOWING: dict[str, Callable[[], Any]] = {
    "own": OwnPlace,
    "own, sized": SizedOwnPlace,
    "loader of own": lambda: torchdata.StatefulDataLoader(OwnPlace(), batch_size=None),
    "loader of own, sized": lambda: torchdata.StatefulDataLoader(SizedOwnPlace(), batch_size=None),
    "in order": lambda: torchdata.StatefulDataLoader(range(10), batch_size=3),
    "shuffled by a generator": shuffled_loader,
    "Shuffled": lambda: torchdata.StatefulDataLoader(
        range(10), batch_size=3, sampler=Shuffled(10, seed=1)
    ),
}
LIMITS = [
    {"max_epochs": 3},
    {"max_epochs": 3, "epoch_length": 3},
    {"max_epochs": 2, "epoch_length": 5},
    {"max_iters": 6},
]


@pytest.mark.parametrize("limits", LIMITS, ids=str)
@pytest.mark.parametrize("make", KNOWING.values(), ids=KNOWING)
def test_data_that_knows_its_place_goes_on_exactly(
    make: Callable[[], Any], limits: dict[str, int]
) -> None:
    check_all_places(make, **limits)


@pytest.mark.parametrize("limits", LIMITS, ids=str)
@pytest.mark.parametrize("make", KNOWING.values(), ids=KNOWING)
def test_so_do_windows_of_it(make: Callable[[], Any], limits: dict[str, int]) -> None:
    assert isinstance(windows(make(), 2), Resumable)
    check_all_places(lambda: windows(make(), 2), **limits)
    check_all_places(lambda: windows(windows(make(), 2), 2), **limits)


def test_a_loader_with_workers_goes_on_exactly() -> None:
    check_all_places(lambda: shuffled_loader(workers=2), every=4, max_epochs=2)


def test_a_loader_shuffles_the_next_pass_as_it_would_have() -> None:
    first, second = shuffled_loader(), shuffled_loader()
    whole = [plain(batch) for _ in range(3) for batch in first]
    seen: list[Any] = []
    loop: Any = Loop(outputs(lambda batch: seen.append(plain(batch))))
    paused = loop.on(Events.ITERATION_COMPLETED(once=2), State.interrupt)
    snapshot = paused.snapshot(paused.run(second, max_epochs=3), second)
    loop.resume(snapshot, shuffled_loader())
    assert seen == whole


ENTERED: dict[str, Callable[[], Any]] = {
    "a loader in order": lambda: DataLoader(range(10), batch_size=3),  # type: ignore[arg-type]
    "a shuffled loader": lambda: DataLoader(
        range(10),  # type: ignore[arg-type]
        sampler=Shuffled(10, seed=1),
    ),
    "tensors": lambda: TensorBatches(torch.arange(9), batch_size=2, seed=3),
    "a list": lambda: [1, 2, 3, 4, 5],
}


@pytest.mark.parametrize("make", ENTERED.values(), ids=ENTERED)
@pytest.mark.parametrize("number", [1, 2])
def test_windows_of_data_in_a_known_order_are_entered(make: Callable[[], Any], number: int) -> None:
    def cut() -> Any:
        data = make()
        for _ in range(number):
            data = windows(data, 2)
        return data

    assert isinstance(cut(), Enterable) or isinstance(make(), list)
    moments = list(LOOP.iterate(cut(), max_epochs=3))
    for moment in moments:
        again: Any = State.from_dict(
            pickle.loads(pickle.dumps(moment.state.to_dict(batch=lambda batch: batch)))
        )
        for state in (moment.state, again):
            assert LOOP.resume(state, cut()).output == moments[-1].state.output


def test_windows_of_other_data_are_refused_by_its_name() -> None:
    class Stream:
        def __iter__(self) -> Iterator[int]:
            return iter(range(5))

    moments = LOOP.iterate(windows(windows(Stream(), 2), 2))
    state = next(moment.state for moment in moments if moment.state.drawn)
    for data in (windows(Stream(), 2), windows(windows(Stream(), 2), 2)):
        with pytest.raises(ValueError, match="data of type Stream can only be read again"):
            LOOP.resume(state, data)
        LOOP.resume(state, data, replay=True)
    loader: Any = DataLoader(range(5), shuffle=True)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="the order of this DataLoader is known to its RandomSam"):
        LOOP.resume(state, windows(loader, 2))


def test_windows_ask_for_no_batch_after_the_last() -> None:
    asked: list[int] = []

    class Sized:
        def __len__(self) -> int:
            return 3

        def __iter__(self) -> Iterator[int]:
            for number in range(9):
                asked.append(number)
                yield number

    assert list(LOOP.run(windows(Sized(), 2)).output) == [2]
    assert asked == [0, 1, 2]


# What is refused says why, and where.


def sampled_loader() -> Any:
    generator = torch.Generator().manual_seed(5)
    sampler = RandomSampler(range(10), generator=generator)
    return torchdata.StatefulDataLoader(range(10), batch_size=3, sampler=sampler)


def test_an_order_that_nobody_can_restore_is_refused() -> None:
    for cut in (False, True):
        data = windows(sampled_loader(), 2) if cut else sampled_loader()
        again = windows(sampled_loader(), 2) if cut else sampled_loader()
        moments = LOOP.iterate(data, max_epochs=2)
        kept = [(m.event, LOOP.snapshot(m.state, data)) for m in moments]
        within = next(s for event, s in kept if event is Events.ITERATION_COMPLETED)
        with pytest.raises(ValueError, match=r"RandomSampler of this .*Shuffled"):
            LOOP.resume(within, again)
        ended = next(s for event, s in kept if event is Events.DATALOADER_STOP_ITERATION)
        assert LOOP.resume(ended, again) == kept[-1][1].state


def test_another_number_of_workers_is_named() -> None:
    data = shuffled_loader()
    moments = LOOP.iterate(data)
    third = next(m.state for m in moments if m.event is Events.ITERATION_COMPLETED)
    snapshot = LOOP.snapshot(third, data)
    with pytest.raises(AssertionError) as raised:
        LOOP.resume(snapshot, shuffled_loader(workers=2))
    said = "\n".join(raised.value.__notes__)
    assert "num_workers=0" in said
    assert "num_workers=2" in said
    assert "epoch 1, iteration 1" in said


def test_a_place_of_a_loader_with_another_sampler_is_refused() -> None:
    data = shuffled_loader()
    moments = LOOP.iterate(data)
    state = next(m.state for m in moments if m.event is Events.ITERATION_COMPLETED)
    snapshot = LOOP.snapshot(state, data)
    in_order = torchdata.StatefulDataLoader(range(10), batch_size=3)
    with pytest.raises(ValueError, match="1 random generators, and the one to go on with has 0"):
        LOOP.resume(snapshot, in_order)


@pytest.mark.parametrize("where", ["iter", "load"])
def test_a_stop_iteration_on_the_way_to_the_place_says_where(where: str) -> None:
    class Stopping(OwnPlace):
        loaded = False

        @override
        def __iter__(self) -> Iterator[int]:
            if self.loaded and where == "iter":
                raise StopIteration
            return super().__iter__()

        @override
        def load_state_dict(self, state: dict[str, int]) -> None:
            self.loaded = True
            if where == "load":
                raise StopIteration

    data = Stopping()
    moments = LOOP.iterate(data)
    state = next(m.state for m in moments if m.event is Events.ITERATION_COMPLETED)
    snapshot = LOOP.snapshot(state, data)
    with pytest.raises(RuntimeError, match="on the way to its place at epoch 1, iteration 1"):
        LOOP.resume(snapshot, Stopping())


class Hanging(torch.utils.data.Dataset[int]):
    def __len__(self) -> int:
        return 8

    @override
    def __getitem__(self, index: int) -> int:
        if index == 2:
            import time

            time.sleep(60)
        return index


def test_a_loader_that_times_out_says_which_batch() -> None:
    loader = DataLoader(Hanging(), num_workers=1, timeout=1, multiprocessing_context="fork")
    with pytest.raises(RuntimeError, match="timed out") as raised:
        LOOP.run(loader)
    assert any("batch 3 of epoch 1" in note for note in raised.value.__notes__)
