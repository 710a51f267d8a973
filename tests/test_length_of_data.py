"""Where a pass over the data ends, and what a run fetches: never more than it wants."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import pickle
import queue
import warnings
from collections.abc import Callable, Iterator
from typing import Any, SupportsIndex

import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    Sampler,
    Subset,
)
from typing_extensions import override

from fengine import IGNITE_0_5_5, DataExhausted, Events, Loop, State, Status, last_state, outputs
from fengine.engine import Engine
from fengine.engine import Events as EngineEvents
from fengine.training import Shuffled

LOOP: Any = Loop(outputs(lambda batch: batch))


class Sized:
    """Say one length, and give other numbers of batches; note what is asked for."""

    def __init__(self, says: int, gives: int) -> None:
        self.says, self.gives = says, gives
        self.asked: list[int] = []

    def __len__(self) -> int:
        return self.says

    def __iter__(self) -> Iterator[int]:
        for number in itertools.count():
            self.asked.append(number)
            if number == self.gives:
                return
            yield number


def seen_by(run: Callable[[Any], object]) -> list[int]:
    """Return the batches that a run gave to its step."""
    seen: list[int] = []
    run(Loop(outputs(seen.append)))
    return seen


# Nothing is fetched that the run does not want.

ENDS: dict[str, tuple[dict[str, int], list[int]]] = {
    "one epoch": ({}, [0, 1, 2]),
    "two epochs": ({"max_epochs": 2}, [0, 1, 2] * 2),
    "iterations": ({"max_iters": 2}, [0, 1]),
    "iterations of two passes": ({"max_iters": 4}, [0, 1, 2, 0]),
    "short epochs": ({"max_epochs": 2, "epoch_length": 2}, [0, 1, 2, 0]),
    "long epochs": ({"max_epochs": 1, "epoch_length": 5}, [0, 1, 2, 0, 1]),
}


@pytest.mark.parametrize("gives", [3, 9])
@pytest.mark.parametrize(("limits", "wanted"), ENDS.values(), ids=ENDS)
def test_no_batch_is_fetched_that_the_run_does_not_want(
    gives: int, limits: dict[str, int], wanted: list[int]
) -> None:
    data = Sized(3, gives)
    assert seen_by(lambda loop: loop.run(data, **limits)) == wanted
    assert data.asked == wanted
    data = Sized(3, gives)
    assert seen_by(lambda loop: list(loop.iterate(data, **limits))) == wanted
    assert data.asked == wanted


@pytest.mark.parametrize("gives", [3, 9])
@pytest.mark.parametrize(("limits", "wanted"), ENDS.values(), ids=ENDS)
def test_nor_by_a_run_that_goes_on(gives: int, limits: dict[str, int], wanted: list[int]) -> None:
    for moment in list(LOOP.iterate(Sized(3, gives), **limits)):
        state: Any = State.from_dict(
            json.loads(json.dumps(moment.state.to_dict(batch=int))), batch=int
        )
        data = Sized(3, gives)
        final = LOOP.resume(state, data, replay=True)
        assert (final.iteration, final.output) == (len(wanted), wanted[-1])
        assert 3 not in data.asked


def test_a_queue_is_asked_for_what_is_in_it_alone() -> None:
    class Queue:
        def __init__(self) -> None:
            self.queue: queue.Queue[int] = queue.Queue()
            for number in range(3):
                self.queue.put(number)

        def __len__(self) -> int:
            return 3

        def __iter__(self) -> Iterator[int]:
            while True:
                yield self.queue.get_nowait()  # which would wait for ever

    assert LOOP.run(Queue()).iteration == 3


def test_runs_that_share_a_stream_lose_nothing() -> None:
    class Shared:
        stream = itertools.count()

        def __len__(self) -> int:
            return 2

        def __iter__(self) -> Iterator[int]:
            yield from self.stream

    data = Shared()
    assert [LOOP.run(data).output for _ in range(3)] == [1, 3, 5]
    assert LOOP.run(data, max_epochs=2).output == 9


# A length that data says is an upper bound.


@pytest.mark.parametrize("epochs", [1, 3])
def test_a_short_pass_ends_the_epoch_and_is_reported_with_both_numbers(epochs: int) -> None:
    moments = []
    with pytest.warns(UserWarning, match="has 4 batches, but it gave 3") as warned:
        moments = list(LOOP.iterate(Sized(4, 3), max_epochs=epochs))
    assert len(warned) == 1
    ended = [m.state for m in moments if m.event is Events.EPOCH_COMPLETED]
    assert [state.batches for state in ended] == [3] * epochs
    assert moments[-1].state.iteration == 3 * epochs
    assert moments[-1].state.limits.epoch_length == 4
    assert moments[-1].state.status is Status.COMPLETED


@pytest.mark.filterwarnings("ignore:data of type Sized said")
def test_a_run_over_short_passes_goes_on_from_each_moment() -> None:
    moments = list(LOOP.iterate(Sized(4, 3), max_epochs=3))
    for moment in moments:
        plain = json.loads(json.dumps(moment.state.to_dict(batch=int)))
        state: Any
        for state in (
            moment.state,
            State.from_dict(plain, batch=int),
            pickle.loads(pickle.dumps(moment.state)),
        ):
            assert LOOP.resume(state, Sized(4, 3), replay=True) == moments[-1].state


@pytest.mark.filterwarnings("ignore:data of type Sized said")
def test_the_length_of_a_user_is_reached_all_the_same() -> None:
    seen = seen_by(lambda loop: loop.run(Sized(4, 3), epoch_length=4))
    assert seen == [0, 1, 2, 0]
    # Also where it is the one that the data says, and where the run goes on from a dict.
    loop: Any = LOOP.on(Events.ITERATION_COMPLETED(once=2), State.interrupt)
    state: Any = State.from_dict(loop.run(Sized(4, 3), epoch_length=4).to_dict())
    assert loop.resume(state, Sized(4, 3), replay=True).iteration == 4
    state = State.from_dict(loop.run(Sized(4, 3)).to_dict())
    assert loop.resume(state, Sized(4, 3), replay=True).iteration == 3


def test_data_of_unknown_length_ends_each_epoch_too() -> None:
    class Varied:
        passes = -1

        def __iter__(self) -> Iterator[int]:
            self.passes += 1
            return iter(range((4, 2, 3)[self.passes]))

    moments = list(LOOP.iterate(Varied(), max_epochs=3))
    assert [m.state.batches for m in moments if m.event is Events.EPOCH_COMPLETED] == [4, 2, 3]


class Stopping(Dataset[int]):
    """Raise StopIteration where an item is read."""

    def __init__(self) -> None:
        self.read: list[int] = []

    def __len__(self) -> int:
        return 6

    @override
    def __getitem__(self, index: int) -> int:
        self.read.append(index)
        if index == 3:
            raise StopIteration
        return index


def stopping_collate(items: list[int]) -> int:
    if items[0] == 3:
        raise StopIteration
    return items[0]


@pytest.mark.filterwarnings("ignore:data of type DataLoader said")
@pytest.mark.parametrize("where", ["item", "collate"])
def test_a_stop_iteration_within_the_data_ends_the_pass(where: str) -> None:
    data: Any = Stopping()
    loader: Any = DataLoader(data if where == "item" else range(6), batch_size=None)  # type: ignore[arg-type]
    if where == "collate":
        loader = DataLoader(range(6), collate_fn=stopping_collate)  # type: ignore[arg-type]
    with pytest.warns(UserWarning, match="has 6 batches, but it gave 3"):
        seen = seen_by(lambda loop: loop.run(loader, max_epochs=2))
    assert seen == [0, 1, 2, 0, 1, 2]
    if where == "item":
        assert data.read == [0, 1, 2, 3] * 2
    for moment in list(LOOP.iterate(loader, max_epochs=2)):
        assert LOOP.resume(moment.state, loader).iteration == 6


def test_an_epoch_of_an_engine_ends_with_its_data() -> None:
    seen: list[int] = []
    engine = Engine(lambda engine, batch: seen.append(batch))
    with pytest.warns(UserWarning, match="said that it has 4 batches, but it gave 3"):
        state = engine.run(Sized(4, 3), max_epochs=1)
    assert seen == [0, 1, 2]
    assert (state.iteration, state.epoch) == (3, 1)


def test_an_epoch_length_of_the_users_starts_the_data_of_an_engine_again() -> None:
    seen: list[int] = []
    engine = Engine(lambda engine, batch: seen.append(batch))
    engine.run(Sized(4, 3), max_epochs=1, epoch_length=4)
    assert seen == [0, 1, 2, 0]


def seen_in(engine_runs: Callable[[Any], object], **options: Any) -> list[tuple[int, int]]:
    """Return the epoch and the batch of each iteration of an Engine."""
    seen: list[tuple[int, int]] = []
    engine = Engine(lambda engine, batch: seen.append((engine.state.epoch, batch)), **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        engine_runs(engine)
    return seen


def test_a_run_of_an_engine_goes_on_after_short_passes() -> None:
    data = Sized(3, 2)
    seen = seen_in(lambda engine: [engine.run(data, max_epochs=last) for last in (1, 3)])
    assert seen == [(1, 0), (1, 1), (2, 0), (2, 1), (3, 0), (3, 1)]


@pytest.mark.parametrize("gives", [2, 3])
def test_an_engine_that_was_stopped_begins_with_a_whole_pass(gives: int) -> None:
    data = Sized(3 if gives == 2 else 2, gives)

    def run(engine: Any) -> None:
        with engine.add_event_handler(EngineEvents.ITERATION_COMPLETED, engine.terminate):
            engine.run(data, max_epochs=3)
        engine.run(data, max_epochs=3)

    assert seen_in(run) == [(1, 0), (2, 0), (2, 1), (3, 0), (3, 1)]


@pytest.mark.parametrize("event", [EngineEvents.EPOCH_COMPLETED, EngineEvents.EPOCH_STARTED])
def test_other_data_between_epochs_gives_whole_passes(event: Any) -> None:
    def run(engine: Any) -> None:
        engine.add_event_handler(event(once=1), lambda: engine.set_data(Sized(3, 2)))
        engine.run(Sized(3, 3), max_epochs=3)

    late = event is EngineEvents.EPOCH_COMPLETED
    first = [(1, 0), (1, 1)] + [(1, 2)] * late
    assert seen_in(run) == [*first, (2, 0), (2, 1), (3, 0), (3, 1)]


@pytest.mark.parametrize("says", [3, 4])
def test_an_epoch_that_was_cut_is_followed_by_whole_passes(says: int) -> None:
    data = Sized(3, 2) if says == 3 else Sized(2, 3)

    def run(engine: Any) -> None:
        cut = EngineEvents.ITERATION_COMPLETED(once=1)
        engine.add_event_handler(cut, engine.terminate_epoch)
        engine.run(data, max_epochs=3)

    assert seen_in(run) == [(1, 0), (2, 0), (2, 1), (3, 0), (3, 1)]


def test_a_pass_is_judged_by_the_data_that_it_is_over() -> None:
    data = [0, 1]

    def change(engine: Any) -> None:
        engine.set_data([7])
        engine.state.dataloader = data

    def run(engine: Any) -> None:
        engine.add_event_handler(EngineEvents.STARTED, change)
        engine.run(data, max_epochs=2)

    assert seen_in(run) == [(1, 7), (1, 0), (2, 1), (2, 0)]


def test_a_run_that_failed_between_epochs_goes_on_after_short_passes() -> None:
    def fail() -> None:
        raise OSError("once")

    def run(engine: Any) -> None:
        data = Sized(4, 1)
        with (
            engine.add_event_handler(EngineEvents.EPOCH_STARTED(once=3), fail),
            pytest.raises(OSError, match="once"),
        ):
            engine.run(data, max_epochs=5)
        engine.run(data, max_epochs=5)

    assert seen_in(run) == [(1, 0), (2, 0), (4, 0), (5, 0)]


def test_data_of_a_cut_epoch_is_begun_as_often_as_in_version_0_5_5() -> None:
    begun: list[int] = []

    class Counted:
        def __len__(self) -> int:
            return 3

        def __iter__(self) -> Iterator[int]:
            begun.append(len(begun))
            return iter(range(3))

    data = Counted()

    def run(engine: Any) -> None:
        cut = EngineEvents.ITERATION_COMPLETED(once=1)
        engine.add_event_handler(cut, engine.terminate_epoch)
        over = EngineEvents.TERMINATE_SINGLE_EPOCH
        engine.add_event_handler(over, lambda _: engine.set_data(data))
        engine.run(data, max_epochs=2)

    assert seen_in(run) == [(1, 0), (2, 0), (2, 1), (2, 2)]
    assert begun == [0, 1, 2]


def test_an_epoch_length_of_the_users_holds_for_the_next_run_too() -> None:
    data = Sized(3, 2)

    def run(engine: Any) -> None:
        engine.run(data, max_epochs=1, epoch_length=3)
        engine.run(data, max_epochs=2)

    assert seen_in(run) == [(1, 0), (1, 1), (1, 0), (2, 0), (2, 1), (2, 0)]


def test_an_epoch_ends_with_data_that_says_less_than_before() -> None:
    data = Sized(3, 3)

    def shrink() -> None:
        data.says = data.gives = 2

    def run(engine: Any) -> None:
        engine.add_event_handler(EngineEvents.EPOCH_COMPLETED(once=1), shrink)
        engine.run(data, max_epochs=3)

    assert [epoch for epoch, _ in seen_in(run)] == [1, 1, 1, 2, 2, 3, 3]


def test_an_engine_keeps_no_workers_after_its_run() -> None:
    before = set(multiprocessing.active_children())
    engine = Engine(lambda engine, batch: None)
    numbers: Any = [1, 2, 3, 4]
    engine.run(DataLoader(numbers, num_workers=1), max_epochs=2)
    assert set(multiprocessing.active_children()) <= before


def test_max_epochs_follow_as_long_as_a_run_goes_on() -> None:
    class Unsized:
        def __iter__(self) -> Iterator[int]:
            return iter(range(2))

    def pause(engine: Any) -> None:
        engine.interrupt()

    engine = Engine(lambda engine, batch: None, semantics=IGNITE_0_5_5)
    with engine.add_event_handler(EngineEvents.ITERATION_COMPLETED(once=4), pause):
        engine.run(Unsized(), max_iters=5)
    assert engine.state.max_epochs == 3
    assert engine.run(Unsized()).max_epochs == 3
    state = engine.run(Unsized(), max_iters=8)
    assert (state.iteration, state.max_epochs) == (8, None)


def test_an_engine_asks_data_for_no_more_than_it_says() -> None:
    left = list(range(9))

    class Stream:
        def __len__(self) -> int:
            return 2

        def __iter__(self) -> Iterator[int]:
            while left:
                yield left.pop(0)

    seen: list[int] = []
    Engine(lambda engine, batch: seen.append(batch)).run(Stream(), max_epochs=3)
    assert (seen, left) == ([0, 1, 2, 3, 4, 5], [6, 7, 8])


def test_an_engine_fills_an_epoch_as_version_0_5_5_does() -> None:
    seen: list[int] = []
    engine = Engine(lambda engine, batch: seen.append(batch), semantics=IGNITE_0_5_5)
    engine.run(Sized(4, 3), max_epochs=1)
    assert seen == [0, 1, 2, 0]


def test_data_that_resets_its_place_where_it_is_read_to_its_end() -> None:
    """Such data still stands at its end, where nobody has looked whether it has more."""

    class Lines:
        done = 0

        def __len__(self) -> int:
            return 3

        def __iter__(self) -> Iterator[int]:
            while self.done < 3:
                self.done += 1
                yield self.done
            self.done = 0

        def get_state(self) -> int:
            return self.done

        def set_state(self, state: int) -> None:
            self.done = state

    data = Lines()
    kept = []
    for moment in LOOP.iterate(data, max_epochs=3):
        kept.append((moment, LOOP.snapshot(moment.state, data)))
    assert kept[-1][0].state.iteration == 9
    for _, snapshot in kept:
        assert LOOP.resume(snapshot, Lines()) == kept[-1][0].state


# Data that ends for good.


@pytest.mark.parametrize(
    ("limits", "reached"),
    [
        ({"max_iters": 9}, (4, 2)),  # the first epoch has shown its length
        ({"max_iters": 9, "epoch_length": 3}, (4, 2)),
        ({"max_epochs": 3, "epoch_length": 3}, (4, 2)),
        ({"max_epochs": 3, "epoch_length": 4}, (4, 2)),
        ({"max_epochs": 3, "epoch_length": 9}, (4, 1)),
    ],
    ids=str,
)
def test_a_run_can_be_completed_where_the_data_ends(
    limits: dict[str, int], reached: tuple[int, int]
) -> None:
    with pytest.raises(DataExhausted, match="on_exhausted='stop'"):
        LOOP.run(iter(range(4)), **limits)
    final = LOOP.run(iter(range(4)), on_exhausted="stop", **limits)
    assert (final.iteration, final.epoch) == reached
    assert final.status is Status.COMPLETED
    moments = list(LOOP.iterate(iter(range(4)), on_exhausted="stop", **limits))
    assert moments[-1].state == final
    fired = [moment.event for moment in moments]
    assert fired.count(Events.EPOCH_STARTED) == fired.count(Events.EPOCH_COMPLETED)
    assert fired[-2:] == [Events.COMPLETED, Events.EXITED]


def test_it_is_said_by_each_call_and_kept_in_no_state() -> None:
    loop: Any = LOOP.on(Events.ITERATION_COMPLETED(once=2), State.interrupt)
    limits = {"max_epochs": 3, "epoch_length": 4}

    def paused() -> Any:
        return loop.run(iter(range(2)), on_exhausted="stop", **limits)

    assert paused() == loop.run(iter(range(2)), **limits)
    with pytest.raises(DataExhausted):
        loop.resume(paused(), iter(range(3)))
    with pytest.raises(DataExhausted):
        list(loop.iterate(iter(range(3)), after=paused()))
    final = loop.resume(paused(), iter(range(3)), on_exhausted="stop")
    assert (final.iteration, final.epoch, final.status) == (5, 2, Status.COMPLETED)
    moments = list(loop.iterate(iter(range(3)), after=paused(), on_exhausted="stop"))
    assert moments[-1].state == final
    # And such a run has another end like every run that its limits have ended.
    longer = loop.resume(final.with_limits(max_epochs=3), iter(range(4)))
    assert (longer.iteration, longer.epoch) == (9, 3)


def test_no_data_at_all_completes_the_run_too_if_one_says_so() -> None:
    with pytest.raises(DataExhausted, match="no batch at all"):
        LOOP.run(iter(()))
    final = LOOP.run(iter(()), on_exhausted="stop")
    assert (final.iteration, final.status) == (0, Status.COMPLETED)


def test_a_short_pass_is_no_matter_of_it() -> None:
    with pytest.warns(UserWarning, match="has 4 batches, but it gave 3"):
        assert LOOP.run(Sized(4, 3), max_epochs=2, on_exhausted="stop").iteration == 6


@pytest.mark.parametrize("word", ["ignore", None, True])
@pytest.mark.parametrize("data", [[1], None])
def test_another_word_is_refused(word: Any, data: Any) -> None:
    limits = {"epoch_length": 1}
    with pytest.raises(ValueError, match=r"on_exhausted=.*'raise'.*'stop'"):
        LOOP.run(data, on_exhausted=word, **limits)
    with pytest.raises(ValueError, match="on_exhausted"):
        LOOP.iterate(data, on_exhausted=word, **limits)
    with pytest.raises(ValueError, match="on_exhausted"):
        LOOP.resume(LOOP.run(data, **limits), data, on_exhausted=word)


def test_data_without_end_runs_until_it_is_interrupted_and_leaves_a_good_state() -> None:
    def step(batch: int) -> int:
        if batch == 100:
            raise KeyboardInterrupt
        return batch

    numbers = itertools.count()
    with pytest.raises(KeyboardInterrupt) as raised:
        Loop(outputs(step)).run(numbers, max_epochs=1)
    state: Any = last_state(raised.value)
    assert state.iteration == 101
    final = LOOP.resume(state.with_limits(max_iters=105), numbers)
    assert final.output == 104


# Whatever shuffles by epoch is told once a pass.


class Telling:
    told: list[int]

    def set_epoch(self, number: int) -> None:
        self.__dict__.setdefault("told", []).append(number)


class Inner(Telling, Sampler[int]):
    @override
    def __iter__(self) -> Iterator[int]:
        return iter(range(4))

    def __len__(self) -> int:
        return 4


class Wrapping(Sampler[int]):
    def __init__(self, sampler: Any) -> None:
        self.sampler = sampler

    @override
    def __iter__(self) -> Iterator[int]:
        return iter(self.sampler)

    def __len__(self) -> int:
        return len(self.sampler)


class Told(Telling, Dataset[int]):
    def __len__(self) -> int:
        return 4

    @override
    def __getitem__(self, index: SupportsIndex) -> int:
        return index.__index__()


class ToldStream(Telling, IterableDataset[int]):
    @override
    def __iter__(self) -> Iterator[int]:
        return iter(range(4))


def loaders_with(part: Any) -> Any:
    if isinstance(part, Inner):
        yield DataLoader(Told(), sampler=part)
        yield DataLoader(Told(), sampler=Wrapping(Wrapping(part)))
        yield DataLoader(Told(), batch_sampler=BatchSampler(Wrapping(part), 2, drop_last=False))
    elif isinstance(part, Told):
        yield DataLoader(part, batch_size=2)
        yield DataLoader(Subset(Subset(part, range(4)), range(2)))
        yield DataLoader(ConcatDataset([[7], part]))  # type: ignore[list-item]
    else:
        yield DataLoader(part)


@pytest.mark.parametrize("kind", [Inner, Told, ToldStream])
def test_whatever_shuffles_is_told_once_a_pass(kind: Any) -> None:
    for number in range(len(list(loaders_with(kind())))):
        part = kind()
        loader = list(loaders_with(part))[number]
        LOOP.run(loader, max_epochs=3)
        assert part.told == [0, 1, 2]


def test_a_part_that_has_any_attribute_ends_the_search() -> None:
    class Anything:
        def __getattr__(self, name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(name)
            return Anything()

        def __iter__(self) -> Iterator[int]:
            return iter(range(2))

        def __call__(self, *args: object) -> None:
            pass

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert LOOP.run(Anything(), max_epochs=1).iteration == 2


def test_a_shuffled_sampler_within_another_goes_on_exactly() -> None:
    def make() -> Any:
        sampler = BatchSampler(Shuffled(10, seed=1), 3, drop_last=False)
        return DataLoader(range(10), batch_sampler=sampler)  # type: ignore[arg-type]

    loop: Any = Loop(outputs(torch.Tensor.tolist))
    moments = list(loop.iterate(make(), max_epochs=2))
    passes = [m.state.output for m in moments if m.event is Events.ITERATION_COMPLETED]
    assert passes[:4] != passes[4:]
    for moment in moments[::5]:
        assert loop.resume(moment.state, make()) == moments[-1].state
