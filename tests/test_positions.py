"""How a run that goes on gets to its place in the data, of whatever kind that is."""

from __future__ import annotations

import copy
import importlib
import json
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, SequentialSampler
from typing_extensions import override

from fengine import Enterable, Events, Loop, Moment, Resumable, Snapshot, State, outputs
from fengine.training import Shuffled

torchdata: Any = importlib.import_module("torchdata.stateful_dataloader")  # without types

# torchdata still calls what torch warns of.
pytestmark = pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")


def plain(batch: Any) -> Any:
    return batch.tolist() if isinstance(batch, torch.Tensor) else batch


LOOP: Any = Loop(outputs(plain))


class Items(Dataset[int]):
    """Ten items; each read is noted in a file, so that workers note theirs too."""

    def __init__(self, notes: Path | None = None) -> None:
        self.notes = notes

    def __len__(self) -> int:
        return 10

    @override
    def __getitem__(self, index: int) -> int:
        if self.notes is not None:
            with self.notes.open("a") as file:
                file.write(f"{index}\n")
        return index

    @property
    def read(self) -> list[int]:
        assert self.notes is not None
        lines = self.notes.read_text().split() if self.notes.exists() else []
        return sorted(map(int, lines))


class Counting(IterableDataset[int]):
    """Ten items that can be read from their start alone."""

    @override
    def __iter__(self) -> Iterator[int]:
        return iter(range(10))


class Placed:
    """Batches that know their own place, and no other way to it."""

    def __init__(self) -> None:
        self.at = 0
        self.begins_at = 0

    def __iter__(self) -> Iterator[int]:
        self.at, self.begins_at = self.begins_at, 0
        return self.rest()

    def rest(self) -> Iterator[int]:
        while self.at < 4:
            self.at += 1
            yield self.at

    def state_dict(self) -> dict[str, int]:
        return {"at": self.at}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.begins_at = state_dict["at"]


class SizedPlaced(Placed):
    def __len__(self) -> int:
        return 4


class Understated(Placed):
    """Say that there are fewer batches than it has."""

    def __len__(self) -> int:
        return 2


class Varied(Placed):
    """Have another number of batches in each pass."""

    number = 0

    def set_epoch(self, number: int) -> None:
        self.number = number

    @override
    def rest(self) -> Iterator[int]:
        while self.at < (2, 4, 3)[self.number % 3]:
            self.at += 1
            yield self.at


class Late(Placed):
    """Take up the place when the first batch is asked for."""

    @override
    def __iter__(self) -> Iterator[int]:
        self.at, self.begins_at = self.begins_at, 0
        yield from self.rest()


class SizedLate(Late):
    def __len__(self) -> int:
        return 4


class Buckets:
    """Indices of another number of batches in each pass."""

    number = 0

    def set_epoch(self, number: int) -> None:
        self.number = number

    def __iter__(self) -> Iterator[list[int]]:
        return iter([[2 * i, 2 * i + 1] for i in range((2, 4, 3)[self.number % 3])])


def moments_of(data: Any, loop: Any = LOOP, **limits: int) -> list[Moment[Any, Any, Any]]:
    return list(loop.iterate(data, **(limits or {"max_epochs": 2})))


def snapshots_of(data: Any, **limits: int) -> list[tuple[Moment[Any, Any], Snapshot[Any, Any]]]:
    moments = LOOP.iterate(data, **(limits or {"max_epochs": 2}))
    return [(moment, LOOP.snapshot(moment.state, data)) for moment in moments]


def through_text(state: State[Any, Any]) -> State[Any, Any]:
    read: State[Any, Any] = State.from_dict(json.loads(json.dumps(state.to_dict())))
    return read


# A DataLoader is fast-forwarded in its sampler.

LOADERS: dict[str, Callable[[Dataset[int]], Any]] = {
    "in order": lambda items: DataLoader(items, batch_size=3),
    "workers": lambda items: DataLoader(items, batch_size=3, num_workers=2),
    "persistent": lambda items: DataLoader(
        items, batch_size=3, num_workers=1, persistent_workers=True
    ),
    "shuffled": lambda items: DataLoader(items, batch_size=3, sampler=Shuffled(10, seed=1)),
    "one by one": lambda items: DataLoader(items, batch_size=None, sampler=Shuffled(10, seed=1)),
    "batches": lambda items: DataLoader(
        items, batch_sampler=BatchSampler(Shuffled(10, seed=1), 3, drop_last=True)
    ),
    "listed": lambda items: DataLoader(items, batch_sampler=[[3, 1], [2], [5, 7, 9]]),
}


@pytest.mark.parametrize("make", LOADERS.values(), ids=LOADERS)
def test_a_loader_is_entered_where_the_run_stands(make: Callable[[Any], Any]) -> None:
    loader = make(Items())
    moments = moments_of(loader)
    final = moments[-1].state
    for moment in moments[:: 1 if loader.num_workers == 0 else 7]:
        assert LOOP.resume(moment.state, make(Items())) == final
        assert LOOP.resume(through_text(moment.state), make(Items())).output == final.output
    assert LOOP.resume(moments[9].state, loader) == final


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("with_batch", [True, False])
def test_a_loader_reads_nothing_of_what_is_behind(
    workers: int, with_batch: bool, tmp_path: Path
) -> None:
    def make(items: Items) -> Any:
        return DataLoader(items, batch_size=2, num_workers=workers)

    moments = moments_of(make(Items()), max_epochs=1)
    state = next(m for m in moments if m.event is Events.ITERATION_COMPLETED).state
    state = next(m for m in moments if m.state.iteration == 3 and m.state.has_output).state
    items = Items(tmp_path / "read")
    LOOP.resume(state if with_batch else through_text(state), make(items))
    assert items.read == ([6, 7, 8, 9] if with_batch else [4, 5, 6, 7, 8, 9])


def test_a_loader_is_left_as_it_was(tmp_path: Path) -> None:
    items = Items(tmp_path / "read")
    loader: Any = DataLoader(items, batch_size=5)
    state = moments_of(DataLoader(Items(), batch_size=5))[7].state
    assert (state.batches, state.epoch) == (2, 1)
    LOOP.resume(state, loader)
    assert isinstance(loader.batch_sampler, BatchSampler)
    assert items.read == list(range(10))
    assert len(list(loader)) == 2


SHUFFLED_BY_CHANCE: dict[str, Callable[[], Any]] = {
    "shuffle": lambda: DataLoader(Items(), batch_size=3, shuffle=True),
    "generator": lambda: DataLoader(Items(), shuffle=True, generator=torch.Generator()),
    "own sampler": lambda: DataLoader(Items(), sampler=set(range(10))),
    "own batches": lambda: DataLoader(
        Items(), batch_sampler=OwnBatches(SequentialSampler(range(10)), 1, False)
    ),
}


class OwnBatches(BatchSampler):
    """May do anything."""


@pytest.mark.parametrize("make", SHUFFLED_BY_CHANCE.values(), ids=SHUFFLED_BY_CHANCE)
def test_a_loader_in_an_unknown_order_is_refused(make: Callable[[], Any]) -> None:
    state = moments_of([1, 2, 3])[4].state
    assert state.drawn == 1
    with pytest.raises(ValueError, match=r"1 batch into its data, .*Shuffled\(dataset, seed=0\)"):
        LOOP.resume(state, make())
    with pytest.raises(ValueError, match="replay=True"):
        LOOP.iterate(make(), after=state)
    LOOP.resume(state, make(), replay=True)
    LOOP.resume(LOOP.run([1, 2, 3]), make())  # nothing of it is read
    LOOP.resume(moments_of([1, 2, 3])[1].state, make())  # nothing is left to read


# Other data can only be read again.


class Replayed:
    def __init__(self) -> None:
        self.read: list[int] = []

    def __iter__(self) -> Iterator[int]:
        for batch in range(4):
            self.read.append(batch)
            yield batch


@pytest.mark.parametrize(
    "make",
    [Replayed, lambda: DataLoader(Counting()), lambda: {1, 2, 3, 4}],
    ids=["own", "loader", "set"],
)
def test_data_is_not_read_again_unless_one_says_so(make: Callable[[], Any]) -> None:
    state = moments_of([1, 2, 3, 4])[10].state
    assert state.drawn == 2
    with pytest.raises(ValueError, match=r"2 batches into its data, and .* replay=True"):
        LOOP.resume(state, make())
    assert LOOP.resume(state, make(), replay=True).iteration == 8


def test_a_replay_reads_from_the_start_of_the_pass() -> None:
    moments = moments_of(Replayed())
    sixth = next(m for m in moments if m.state.iteration == 6).state
    data = Replayed()
    assert LOOP.resume(sixth, data, replay=True) == moments[-1].state
    assert data.read == [0, 1, 2, 3]


def test_a_replay_is_said_where_something_is_replayed() -> None:
    with pytest.raises(TypeError, match="replay=True"):
        LOOP.iterate([1], replay=True)


def test_an_iterator_goes_on_where_it_stands() -> None:
    batches = iter(range(6))
    moments = LOOP.iterate(batches, max_epochs=1, epoch_length=6)
    state = next(m for m in moments if m.event is Events.ITERATION_COMPLETED).state
    assert LOOP.resume(state, batches).output == 5
    assert LOOP.resume(state, iter([7] * 5)).iteration == 6


def test_the_batch_of_an_iterator_is_gone() -> None:
    moments = LOOP.iterate(iter(range(4)), max_epochs=1, epoch_length=4)
    states = {m.event: through_text(m.state) for m in moments if m.state.batches < 4}
    for event in (Events.GET_BATCH_COMPLETED, Events.ITERATION_STARTED):
        with pytest.raises(ValueError, match=f"stands at {event}, before the step"):
            LOOP.resume(states[event], iter(range(3, 4)))
    rest = list(LOOP.iterate(iter(range(3, 4)), after=states[Events.ITERATION_COMPLETED]))
    assert rest[-1].state.output == 3
    assert not states[Events.ITERATION_COMPLETED].has_batch


def test_a_batch_that_the_data_no_longer_has_is_named() -> None:
    state = through_text(moments_of([1, 2, 3])[12].state)
    assert state.drawn == 3
    with pytest.raises(ValueError, match="3 batches into its data, but this list has 2 only"):
        LOOP.resume(state, [1, 2])


class Broken:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __iter__(self) -> Iterator[int]:
        raise self.error


@pytest.mark.parametrize("error", [OSError("gone"), StopIteration(), GeneratorExit()], ids=repr)
def test_data_that_breaks_on_the_way_to_its_place(error: BaseException) -> None:
    state = moments_of([1, 2, 3])[12].state
    kind = OSError if isinstance(error, OSError) else RuntimeError
    with pytest.raises(kind) as raised:
        LOOP.resume(state, Broken(error), replay=True)
    assert raised.value is error or raised.value.__cause__ is error


# Data that knows its own place is asked.


def stateful_loader(**options: Any) -> Any:
    return torchdata.StatefulDataLoader(**options)


LIMITS = [
    {"max_epochs": 2},
    {"max_epochs": 4, "epoch_length": 2},
    {"max_epochs": 3, "epoch_length": 3},
    {"max_epochs": 2, "epoch_length": 4},
]
PLACED: dict[str, Callable[[], Any]] = {
    "own": SizedPlaced,
    "own, unsized": Placed,
    "own, understated": Understated,
    "own, varied": Varied,
    "own, late": Late,
    "own, sized, late": SizedLate,
    "varied": lambda: stateful_loader(dataset=Items(), batch_sampler=Buckets()),
    "items": lambda: stateful_loader(dataset=Items(), batch_size=3),
    "shuffled": lambda: stateful_loader(
        dataset=Items(), batch_size=3, sampler=Shuffled(10, seed=2)
    ),
    "iterable": lambda: stateful_loader(dataset=Counting(), batch_size=3),
}


@pytest.mark.filterwarnings("ignore:data of type Understated")
@pytest.mark.parametrize("limits", LIMITS, ids=str)
@pytest.mark.parametrize("make", PLACED.values(), ids=PLACED)
def test_data_with_a_place_of_its_own_is_told_it(
    make: Callable[[], Any], limits: dict[str, int]
) -> None:
    taken = snapshots_of(make(), **limits)
    events = [moment.event for moment, _ in taken]
    for number, (_, snapshot) in enumerate(taken, start=1):
        restored: Snapshot[Any, Any] = Snapshot.from_dict(
            pickle.loads(pickle.dumps(snapshot.to_dict(batch=lambda batch: batch)))
        )
        for again in (snapshot, restored):
            rest = list(LOOP.iterate(make(), after=again))
            assert [moment.event for moment in rest] == events[number:]
            if rest:
                assert rest[-1].state == taken[-1][0].state


def test_the_pass_under_way_is_exact_even_where_chance_shuffles() -> None:
    def make() -> Any:
        generator = torch.Generator().manual_seed(5)
        return stateful_loader(dataset=Items(), batch_size=3, shuffle=True, generator=generator)

    taken = snapshots_of(make(), max_epochs=1)
    for _, snapshot in taken[:-1]:
        assert LOOP.resume(snapshot, make()) == taken[-1][0].state


def test_data_with_workers_and_a_place_of_its_own() -> None:
    def make() -> Any:
        return stateful_loader(dataset=Items(), batch_size=3, num_workers=2)

    taken = snapshots_of(make(), max_epochs=1)
    third = next(s for m, s in taken if m.event is Events.ITERATION_COMPLETED)
    assert LOOP.resume(third, make()) == taken[-1][0].state


def test_a_state_alone_does_not_know_the_place() -> None:
    taken = snapshots_of(Placed())
    with pytest.raises(ValueError, match=r"loop\.snapshot\(state, data\)"):
        LOOP.resume(taken[8][1].state, Placed())


def test_a_place_holds_no_batch_before_the_step() -> None:
    taken = {moment.event: snapshot for moment, snapshot in snapshots_of(Placed())}
    started: Any = Snapshot.from_dict(taken[Events.ITERATION_STARTED].to_dict())
    with pytest.raises(ValueError, match="before the step, and was written without its batch"):
        LOOP.resume(started, Placed())
    completed: Any = Snapshot.from_dict(taken[Events.EPOCH_COMPLETED].to_dict())
    assert LOOP.resume(completed, Placed()).iteration == 8


def test_a_place_is_a_copy() -> None:
    data = Placed()
    moments = LOOP.iterate(data)
    state = next(m for m in moments if m.event is Events.ITERATION_COMPLETED).state
    snapshot = LOOP.snapshot(state, data)
    before = copy.deepcopy(snapshot)
    list(moments)
    assert snapshot == before
    assert snapshot.position == {"at": 1}


# What shuffles is told the number of the pass.


class Told(Sequence[int]):
    def __init__(self) -> None:
        self.told: list[int] = []

    @override
    def __len__(self) -> int:
        return 3

    @override
    def __getitem__(self, index: Any) -> Any:
        return range(3)[index] + 10 * self.told[-1]

    def set_epoch(self, number: int) -> None:
        self.told.append(number)


def test_each_pass_is_numbered_once() -> None:
    data = Told()
    moments = moments_of(data, max_epochs=3)
    assert data.told == [0, 1, 2]
    assert moments[-1].state.passes == 2
    for moment in moments:
        again = Told()
        assert LOOP.resume(moment.state, again) == moments[-1].state
        assert LOOP.resume(through_text(moment.state), again).output == 22


def test_a_pass_is_not_an_epoch() -> None:
    data = Told()
    moments = moments_of(data, max_epochs=3, epoch_length=2)
    outputs_ = [m.state.output for m in moments if m.event is Events.ITERATION_COMPLETED]
    assert outputs_ == [0, 1, 2, 10, 11, 12]


PROGRAM = """
import json, sys
from torch.utils.data import DataLoader
from fengine import Loop, State, outputs
from fengine.training import Shuffled

loader = DataLoader(range(10), batch_size=3, sampler=Shuffled(10, seed=4))
loop = Loop(outputs(lambda batch: batch.tolist()))
for text in json.load(sys.stdin):
    rest = loop.iterate(loader, after=State.from_dict(json.loads(text)))
    print(json.dumps([moment.state.to_dict(batch=lambda b: b.tolist()) for moment in rest]))
"""


def test_a_shuffled_training_goes_on_exactly_in_a_new_process() -> None:
    loader: Any = DataLoader(range(10), batch_size=3, sampler=Shuffled(10, seed=4))  # type: ignore[arg-type]
    moments = moments_of(loader, max_epochs=3)[:-1]
    texts = [json.dumps(moment.state.to_dict()) for moment in moments]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=json.dumps(texts),
        capture_output=True,
        text=True,
        check=True,
    )
    whole = [moment.state.to_dict(batch=plain) for moment in moments_of(loader, max_epochs=3)]
    rests = [json.loads(line) for line in done.stdout.splitlines()]
    assert rests == [whole[number:] for number in range(1, len(texts) + 1)]


class Backwards(list[int]):
    """A list that is iterated from its end."""

    @override
    def __iter__(self) -> Iterator[int]:
        return reversed(self)


def test_a_sequence_with_an_order_of_its_own_is_not_entered_by_index() -> None:
    loop: Loop[Any, Any, None] = Loop(outputs(int))
    data = Backwards([1, 2, 3, 4])
    moments = list(loop.iterate(data))
    third = next(m.state for m in moments if m.state.iteration == 3)
    with pytest.raises(ValueError, match="Backwards can only be read again"):
        loop.resume(third, data)
    assert loop.resume(third, data, replay=True) == moments[-1].state


def test_data_that_is_shorter_than_the_run_is_refused() -> None:
    loop: Loop[Any, Any, None] = Loop(outputs(int))
    third = next(m.state for m in loop.iterate([1, 2, 3, 4]) if m.state.iteration == 3)
    loader: DataLoader[int] = DataLoader([1, 2], batch_size=None)  # type: ignore[arg-type]
    for data in ([1, 2], loader):
        with pytest.raises(ValueError, match=r"3 batches into its data, but this \w+ has 2 only"):
            loop.resume(third, data)


class Twice(DataLoader[int]):
    """A loader that gives each batch twice."""

    @override
    def __iter__(self) -> Any:
        for batch in super().__iter__():
            yield batch
            yield batch

    @override
    def __len__(self) -> int:
        return 2 * super().__len__()


def test_a_loader_that_is_iterated_in_a_way_of_its_own_is_not_entered_in_its_sampler() -> None:
    loop: Loop[Any, Any, None] = Loop(outputs(int))
    loader = Twice([1, 2, 3], batch_size=None)  # type: ignore[arg-type]
    moments = list(loop.iterate(loader))
    third = next(m.state for m in moments if m.state.iteration == 3)
    with pytest.raises(ValueError, match="Twice can only be read again"):
        loop.resume(third, loader)
    assert loop.resume(third, loader, replay=True) == moments[-1].state


class Numbered:
    """Data that knows its own place, by the protocol."""

    def __init__(self) -> None:
        self.done = 0

    def __iter__(self) -> Iterator[int]:
        while self.done < 4:
            self.done += 1
            yield self.done
        self.done = 0

    def get_state(self) -> dict[str, int]:
        return {"done": self.done}

    def set_state(self, state: dict[str, int]) -> None:
        self.done = state.pop("done")  # what it is given is its own


@pytest.mark.parametrize("length", [None, 3, 6])
def test_data_that_knows_its_place_is_asked_and_told(length: int | None) -> None:
    assert isinstance(Numbered(), Resumable)
    loop: Any = Loop(outputs(lambda batch: batch))
    data = Numbered()
    kept = []
    for moment in loop.iterate(data, max_epochs=3, epoch_length=length):
        kept.append((moment, loop.snapshot(moment.state, data)))
    for number, (_, snapshot) in enumerate(kept):
        for _ in range(2):
            rest = list(loop.iterate(Numbered(), after=snapshot))
            assert rest == [moment for moment, _ in kept[number + 1 :]]


def test_data_that_knows_its_place_is_refused_without_it() -> None:
    loop: Any = Loop(outputs(lambda batch: batch))
    moments = loop.iterate(Numbered(), max_epochs=2)
    second = next(moment for moment in moments if moment.state.iteration == 2)
    with pytest.raises(ValueError, match="which asks this data for its place"):
        loop.resume(second.state, Numbered())


def test_data_in_a_known_order_begins_where_the_run_stands() -> None:
    begun: list[int] = []

    class Ordered:
        def __iter__(self) -> Iterator[int]:
            return self.iterate_from(0)

        def iterate_from(self, place: int) -> Iterator[int]:
            begun.append(place)
            return iter(range(place, 4))

    assert isinstance(Ordered(), Enterable)
    loop: Any = Loop(outputs(lambda batch: batch))
    moments = list(loop.iterate(Ordered(), max_epochs=2))
    third = next(moment for moment in moments if moment.state.drawn == 3)
    begun.clear()
    assert loop.resume(third.state, Ordered()) == moments[-1].state
    assert begun[0] == 3
