"""Data of several ranks, which are threads here: each row once, in the batches of one rank."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import attrs
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader

from fengine import Events, Loop, State, outputs
from fengine.distributed import (
    REFUSE,
    SHORTEST,
    Alone,
    Ranks,
    RanksDiverged,
    even,
    on_rank,
    ranks_of_torchrun,
    summed,
)
from fengine.engine import Engine
from fengine.features import log_to, plots, progress, seeded, throughput
from fengine.metrics import Mean, mean, measure
from fengine.run.ranks import over_ranks
from fengine.testing import FakeClock, in_threads
from fengine.training import Shuffled, TensorBatches
from fengine.writers import console

T = TypeVar("T")


def of_ranks(size: int, make: Callable[[Ranks], Any]) -> list[Any]:
    """Return what a function returns on each rank, which none has raised."""
    found = in_threads(size, make)
    assert not any(isinstance(one, BaseException) for one in found), found
    return found


def joined(parts: Iterable[list[int]]) -> list[int]:
    return list(chain.from_iterable(parts))


def batches(ranks: Ranks, rows: int, size: int, seed: int | None, place: int) -> list[list[int]]:
    data = TensorBatches(torch.arange(rows), batch_size=size, seed=seed, ranks=ranks)
    data.set_epoch(1)
    return [one.tolist() for (one,) in data.iterate_from(place)]


@settings(max_examples=50)
@given(st.integers(1, 5), st.integers(1, 60), st.integers(1, 20), st.none() | st.just(3), st.data())
def test_ranks_share_the_batches_of_one(
    size: int, rows: int, batch_size: int, seed: int | None, drawn: st.DataObject
) -> None:
    if min(batch_size, rows % batch_size or batch_size) < size:
        return
    place = drawn.draw(st.integers(0, rows // batch_size))
    expected = batches(Alone(), rows, batch_size, seed, place)
    found = of_ranks(size, lambda ranks: batches(ranks, rows, batch_size, seed, place))
    assert [joined(parts) for parts in zip(*found, strict=True)] == expected
    for parts in zip(*found, strict=True):
        sizes = [len(part) for part in parts]
        assert max(sizes) - min(sizes) <= 1
        assert min(sizes) > 0


def test_a_batch_with_fewer_rows_than_ranks_is_refused() -> None:
    def make(ranks: Ranks) -> str:
        with pytest.raises(ValueError, match="make a batch of 1, which is too few for 2 ranks"):
            TensorBatches(torch.arange(9), batch_size=4, ranks=ranks)
        with pytest.raises(ValueError, match="batch_size is the rows of all ranks together"):
            TensorBatches(torch.arange(9), batch_size=1, ranks=ranks)
        return repr(TensorBatches(torch.arange(9), batch_size=4, drop_last=True, ranks=ranks))

    assert "on rank 1 of 2" in of_ranks(2, make)[1]


@given(st.integers(1, 4), st.integers(1, 6), st.integers(1, 5), st.integers(0, 3))
def test_ranks_share_the_indices_of_one(size: int, number: int, part: int, epoch: int) -> None:
    """Batches of `part` on each rank are those of `size * part` on one."""
    rows = number * size * part

    def make(ranks: Ranks, batch_size: int = part) -> list[list[int]]:
        sampler = Shuffled(rows, seed=5, ranks=ranks)
        sampler.set_epoch(epoch)
        dataset: Any = list(range(rows))
        loader: Iterable[Any] = DataLoader(dataset, batch_size=batch_size, sampler=sampler)
        return [one.tolist() for one in loader]

    found = of_ranks(size, make)
    together = [sorted(joined(parts)) for parts in zip(*found, strict=True)]
    assert together == [sorted(one) for one in make(Alone(), size * part)]


def test_shuffled_ranks_have_each_index_once() -> None:
    found = of_ranks(3, lambda ranks: list(Shuffled(10, seed=0, ranks=ranks)))
    assert sorted(joined(found)) == list(range(10))
    assert of_ranks(3, lambda ranks: len(Shuffled(10, seed=0, ranks=ranks))) == [4, 3, 3]


class Unsized:
    """Give numbers, and do not say how many; tell of each pass that begins."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.epochs: list[int] = []

    def set_epoch(self, epoch: int) -> None:
        self.epochs.append(epoch)

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.number))


@given(st.lists(st.integers(1, 6), min_size=2, max_size=3), st.booleans())
def test_even_data_gives_equally_many_batches(lengths: list[int], sized: bool) -> None:
    def make(ranks: Ranks) -> list[int]:
        length = lengths[ranks.rank]
        data: Iterable[int] = list(range(length)) if sized else Unsized(length)
        return list(even(data, ranks, uneven=SHORTEST))

    assert of_ranks(len(lengths), make) == [list(range(min(lengths)))] * len(lengths)


def test_even_data_of_unknown_and_known_length_is_refused() -> None:
    def make(ranks: Ranks) -> str:
        data: Iterable[int] = [1, 2] if ranks.rank else Unsized(2)
        with pytest.raises(RanksDiverged, match="unknown length"):
            even(data, ranks, uneven=SHORTEST)
        with pytest.raises(RanksDiverged, match=r"\[2, 3\] batches"):
            even(range(2 + ranks.rank), ranks)
        with pytest.raises(TypeError, match="neither REFUSE nor SHORTEST"):
            even([1], ranks, uneven="refuse")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="is not an iterable"):
            even(7, ranks)  # type: ignore[arg-type]
        return "refused"

    assert of_ranks(2, make) == ["refused"] * 2


@pytest.mark.parametrize("sized", [True, False])
def test_even_data_alone_is_the_data(sized: bool) -> None:
    given = list(range(5)) if sized else Unsized(5)
    data = even(given, Alone(), uneven=REFUSE)
    final = Loop(outputs(int)).run(data, max_epochs=2)
    assert (final.iteration, final.output) == (10, 4)
    if isinstance(given, Unsized):
        assert given.epochs == [0, 1]


def test_a_run_goes_on_within_even_data() -> None:
    def make(ranks: Ranks) -> tuple[int, list[int]]:
        seen: list[int] = []
        loop = Loop(outputs(seen.append), ranks=ranks)
        data = even([10, 11, 12, 13][: 4 - ranks.rank], ranks, uneven=SHORTEST)
        paused = loop.on(Events.ITERATION_COMPLETED(once=2), State.interrupt).run(data)
        return loop.resume(paused, data).iteration, seen

    assert of_ranks(2, make) == [(3, [10, 11, 12])] * 2


@attrs.frozen
class Largest:
    """Find the largest number; a metric of a user's own."""

    empty: float = float("-inf")

    def of(self, output: int) -> float:
        return float(output)

    def merge(self, total: float, other: float) -> float:
        return max(total, other)

    def compute(self, total: float) -> float:
        return total


@given(st.lists(st.lists(st.integers(-9, 9), min_size=2, max_size=2), min_size=2, max_size=3))
def test_metrics_merge_over_ranks_as_over_batches(numbers: list[list[int]]) -> None:
    def make(ranks: Ranks) -> dict[str, float]:
        loop = Loop(outputs(int), ranks=ranks) | mean("mean") | measure("most", Largest())
        return dict(loop.run(numbers[ranks.rank], max_epochs=2).metrics)

    one = Loop(outputs(int)) | mean("mean") | measure("most", Largest())
    expected = dict(one.run(joined(numbers)).metrics)
    for found in of_ranks(len(numbers), make):
        assert found == pytest.approx(expected)


def test_the_count_of_a_metric_stays_that_of_its_rank() -> None:
    feature = mean("mean")

    def make(ranks: Ranks) -> object:
        return (Loop(outputs(int), ranks=ranks) | feature).run([ranks.rank]).part(feature.part)

    first, second = of_ranks(2, make)
    merge: Any = feature.part.merge
    assert Mean().compute(merge(first, second).total) == 0.5


@attrs.frozen
class Seen:
    """Count rows."""

    rows: int = 0
    name: str = "seen"


def test_numbers_of_a_record_are_summed_up() -> None:
    def count(state: State[int, int, Seen]) -> State[int, int, Seen]:
        return state.evolve(user=attrs.evolve(state.user, rows=state.user.rows + state.output))

    def same(batch: int) -> int:
        return batch

    def make(ranks: Ranks) -> Seen:
        loop: Loop[int, int, Seen] = Loop(outputs(same), ranks=ranks)
        loop = loop.on(Events.ITERATION_COMPLETED, count)
        loop = loop.on(Events.EPOCH_COMPLETED, summed(ranks, "rows"))
        return loop.run([1, 2 + ranks.rank], user=Seen()).user

    assert of_ranks(2, make) == [Seen(7)] * 2
    assert make(Alone()) == Seen(3)
    with pytest.raises(ValueError, match="needs the fields to sum up"):
        summed(Alone())
    with pytest.raises(TypeError, match="names of fields"):
        summed(Alone(), 7)  # type: ignore[arg-type]


def test_an_effect_is_had_on_one_rank() -> None:
    def make(ranks: Ranks) -> list[int]:
        seen: list[int] = []

        def note(state: State[Any, Any]) -> None:
            seen.append(state.iteration)

        effect = on_rank(ranks, note, rank=1)
        Loop(outputs(int), ranks=ranks).on(Events.ITERATION_COMPLETED, effect).run([1, 2])
        return seen

    assert of_ranks(2, make) == [[], [1, 2]]
    with pytest.raises(ValueError, match="rank=1 is none of 1"):
        on_rank(Alone(), print, rank=1)
    with pytest.raises(TypeError, match="are no ranks"):
        on_rank(Alone, print)  # type: ignore[arg-type]


class Screen:
    """Keep what is written."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None:
        pass


def test_the_first_rank_shows_the_progress() -> None:
    def make(ranks: Ranks) -> str:
        screen = Screen()
        (Loop(outputs(int), ranks=ranks) | progress(file=screen)).run([1])
        return screen.text

    assert of_ranks(2, make) == ["epoch 1/1  iteration 1\n", ""]


def test_the_throughput_is_that_of_all_ranks() -> None:
    def make(ranks: Ranks) -> dict[str, float]:
        clock = FakeClock()
        loop = Loop(outputs(clock.advance), ranks=ranks)
        return dict((loop | throughput(samples=int, clock=clock)).run([2 + ranks.rank]).metrics)

    one, other = of_ranks(2, make)
    assert one == other
    assert one["samples_per_second"] == 2.0
    assert one["batches_per_second"] == 0.5


def test_the_throughput_of_an_engine_is_that_of_all_ranks() -> None:
    def make(ranks: Ranks) -> dict[str, float]:
        clock = FakeClock()
        engine = Engine(lambda engine, batch: clock.advance(batch), ranks=ranks)
        throughput(samples=int, clock=clock).attach(engine)
        return dict(engine.run([2 + ranks.rank]).metrics)

    one, other = of_ranks(2, make)
    assert one == other
    assert one["samples_per_second"] == 2.0


@pytest.mark.parametrize("attached", [False, True])
def test_the_first_rank_writes_logs_and_draws(attached: bool, tmp_path: Path) -> None:
    def make(ranks: Ranks) -> str:
        screen = Screen()
        file = tmp_path / f"{attached}-{ranks.rank}.png"
        if attached:
            engine = Engine(lambda engine, batch: batch, ranks=ranks)
            engine.add_event_handler("EPOCH_COMPLETED", set_loss)
            log_to(console(file=screen)).attach(engine)
            plots(file, "loss").attach(engine)
            engine.run([1])
        else:
            loop = Loop(outputs(float), ranks=ranks) | mean("loss") | log_to(console(file=screen))
            (loop | plots(file, "loss")).run([1])
        return screen.text

    assert of_ranks(2, make) == ["epoch 1  iteration 1  loss 1\n", ""]
    assert [path.name for path in tmp_path.iterdir()] == [f"{attached}-0.png"]


def set_loss(engine: Engine) -> None:
    engine.state.metrics["loss"] = 1.0


def test_numbers_of_ranks_are_summed_up_or_the_largest() -> None:
    def make(ranks: Ranks) -> dict[str, float]:
        own = {"rate": 1.0 + ranks.rank, "peak": 5.0 - ranks.rank}
        return over_ranks(ranks, own if ranks.rank else {**own, "more": 7.0}, largest=["peak"])

    assert of_ranks(2, make) == [{"rate": 3.0, "peak": 5.0, "more": 7.0}] * 2


@attrs.frozen
class Numbered:
    """Be one of several ranks, of which the others are not there."""

    rank: int
    size: int = 1

    def largest(self, numbers: tuple[int, ...], /) -> tuple[int, ...]:
        return numbers

    def gathered(self, value: T, /) -> list[T]:
        return [value]

    def fail(self, error: BaseException, what: str, /) -> None:
        return None

    def first(self, key: str, number: int | None, /) -> int | None:
        return number


def test_ranks_are_seeded_differently() -> None:
    def drawn(ranks: Ranks) -> float:
        def draw(batch: int) -> float:
            return torch.rand(()).item()

        return (Loop(outputs(draw), ranks=ranks) | seeded(3)).run([1]).output

    numbers = [drawn(Numbered(rank)) for rank in range(3)]
    assert numbers == [drawn(Numbered(rank)) for rank in range(3)]
    assert len(set(numbers)) == 3
    assert numbers[0] == drawn(Alone())


# What is no ranks.


def test_what_are_no_ranks_is_refused() -> None:
    for wrong in (Alone, None, 2, "gloo"):
        with pytest.raises(TypeError, match="are no ranks"):
            Loop(outputs(abs), ranks=wrong)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="are no ranks"):
            Shuffled(3, seed=0, ranks=wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="says not when ranks agree"):
        Loop(outputs(abs), agree=2)  # type: ignore[arg-type]


def one_more(batch: int) -> int:
    return batch + 1


def test_ranks_go_with_a_step() -> None:
    def make(ranks: Ranks) -> str:
        with pytest.raises(ValueError, match="give them to the loop that has the step"):
            Loop[Any, Any](ranks=ranks)
        with_step = Loop(outputs(one_more), ranks=ranks)
        both = with_step | Loop[int, int]().on(Events.STARTED, State.terminate)
        assert both.ranks is ranks
        return both.run([1]).status.value

    assert of_ranks(2, make) == ["terminated"] * 2


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            {"WORLD_SIZE": "2"},
            "lacks RANK, MASTER_ADDR, MASTER_PORT; start the program with",
        ),
        (
            {"WORLD_SIZE": "2", "RANK": "x", "MASTER_ADDR": "::1", "MASTER_PORT": "1"},
            "the variable RANK is 'x', which is no number",
        ),
    ],
)
def test_variables_that_are_not_whole_are_refused(
    given: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=words), ranks_of_torchrun():
        pass


def test_a_lazy_parameter_has_no_shape_to_compare() -> None:
    def make(ranks: Ranks) -> int:
        loop = Loop(outputs(one_more), ranks=ranks).with_external(model=nn.LazyLinear(2))
        return loop.run([1]).iteration

    assert of_ranks(2, make) == [1, 1]
