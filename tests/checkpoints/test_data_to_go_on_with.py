"""With which data a run goes on that was kept within an epoch, as in a new process.

Each kind of data is made twice: for the run that pauses, and for the one that goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader, IterableDataset
from typing_extensions import override

from fengine import Events, Loop, State, outputs
from fengine.checkpoints import Checkpoints
from fengine.training import Shuffled, windows

Make = Callable[[], Any]
ITEMS: Any = list(range(8))


class Stream(IterableDataset[int]):
    @override
    def __iter__(self) -> Iterator[int]:
        return iter(range(8))


class OnlyFromItsStart:
    def __iter__(self) -> Iterator[int]:
        return iter(range(4))


def generator() -> Iterator[int]:
    yield from range(40)


def plain(batch: Any) -> object:
    return batch.tolist() if hasattr(batch, "tolist") else repr(batch)


def seen_in(folder: Path, data: Any, *, pause: int | None = None, **keywords: Any) -> list[object]:
    """Return the batches of a run of three epochs of four batches, which may pause."""
    seen: list[object] = []
    loop: Any = Loop(outputs(lambda batch: seen.append(plain(batch))))
    if pause is not None:
        loop = loop.on(Events.ITERATION_COMPLETED(once=pause), State.interrupt)
    Checkpoints(folder).run(loop, data, max_epochs=3, epoch_length=4, **keywords)
    return seen


MADE_AGAIN: dict[str, Make] = {
    "a list": lambda: [1, 2, 3, 4],
    "a DataLoader": lambda: DataLoader(ITEMS, batch_size=2),
    "a DataLoader that is Shuffled": lambda: DataLoader(
        ITEMS, batch_size=2, sampler=Shuffled(8, seed=0)
    ),
}
REPLAYED: dict[str, Make] = {
    "a DataLoader of a stream": lambda: DataLoader(Stream(), batch_size=2),
    "data that is only read from its start": OnlyFromItsStart,
}
NEW_GENERATORS: dict[str, Make] = {
    "a generator": generator,
    "windows of a generator": lambda: windows(generator(), 2),
}
OTHER_ITERATORS: dict[str, Make] = {
    "iter of a range": lambda: iter(range(40)),
    "a map": lambda: map(abs, range(40)),
    "iter of a DataLoader": lambda: iter(DataLoader(ITEMS * 10, batch_size=2)),
}
ITERATORS = NEW_GENERATORS | OTHER_ITERATORS


@pytest.mark.parametrize("name", MADE_AGAIN)
def test_data_in_a_known_order_goes_on_where_it_was(tmp_path: Path, name: str) -> None:
    whole = seen_in(tmp_path / "whole", MADE_AGAIN[name]())
    first = seen_in(tmp_path / "parts", MADE_AGAIN[name](), pause=6)
    assert first + seen_in(tmp_path / "parts", MADE_AGAIN[name]()) == whole


@pytest.mark.filterwarnings("ignore:from a checkpoint within an epoch")
@pytest.mark.parametrize("name", REPLAYED)
def test_data_that_is_only_read_from_its_start_is_refused_until_replay(
    tmp_path: Path, name: str
) -> None:
    whole = seen_in(tmp_path / "whole", REPLAYED[name]())
    first = seen_in(tmp_path / "parts", REPLAYED[name](), pause=6)
    with pytest.raises(ValueError, match=r"can only be read again from its start.*replay=True"):
        seen_in(tmp_path / "parts", REPLAYED[name]())
    assert first + seen_in(tmp_path / "parts", REPLAYED[name](), replay=True) == whole


def test_a_loader_with_shuffle_is_refused_until_replay(tmp_path: Path) -> None:
    def loader() -> Any:
        return DataLoader(ITEMS, batch_size=2, shuffle=True)

    with pytest.warns(UserWarning, match="goes on with replay=True only"):
        seen_in(tmp_path, loader(), pause=6)
    with pytest.raises(ValueError, match=r"its RandomSampler alone.*Shuffled"):
        seen_in(tmp_path, loader())
    assert len(seen_in(tmp_path, loader(), replay=True)) == 6


@pytest.mark.parametrize("pause", [4, 6])
@pytest.mark.parametrize("name", NEW_GENERATORS)
def test_a_new_generator_is_refused_and_nothing_is_read(
    tmp_path: Path, name: str, pause: int
) -> None:
    seen_in(tmp_path, NEW_GENERATORS[name](), pause=pause)
    data = NEW_GENERATORS[name]()
    said = rf"has had {pause} batches .*this generator is new.*TensorBatches.*get_state"
    with pytest.raises(ValueError, match=said):
        seen_in(tmp_path, data)
    assert plain(next(data)) == plain(next(NEW_GENERATORS[name]()))


@pytest.mark.parametrize("name", OTHER_ITERATORS)
def test_another_iterator_goes_on_where_it_stands_with_a_warning(tmp_path: Path, name: str) -> None:
    seen_in(tmp_path, OTHER_ITERATORS[name](), pause=6)
    data = OTHER_ITERATORS[name]()
    said = f"goes on with whatever this {type(data).__name__} gives next.*TensorBatches.*replay"
    with pytest.warns(UserWarning, match=said) as warned:
        seen_in(tmp_path, data)
    assert warned[0].filename == __file__


@pytest.mark.parametrize("name", ITERATORS)
def test_a_new_iterator_is_read_past_what_the_run_had_where_that_is_said(
    tmp_path: Path, name: str
) -> None:
    whole = seen_in(tmp_path / "whole", ITERATORS[name]())
    first = seen_in(tmp_path / "parts", ITERATORS[name](), pause=6)
    assert first + seen_in(tmp_path / "parts", ITERATORS[name](), replay=True) == whole


@pytest.mark.parametrize("replay", [False, True])
@pytest.mark.parametrize("name", NEW_GENERATORS)
def test_the_generator_of_the_run_goes_on_where_it_stands(
    tmp_path: Path, name: str, replay: bool
) -> None:
    whole = seen_in(tmp_path / "whole", NEW_GENERATORS[name]())
    data = NEW_GENERATORS[name]()
    first = seen_in(tmp_path / "parts", data, pause=6)
    assert first + seen_in(tmp_path / "parts", data, replay=replay) == whole


def test_a_generator_for_each_epoch_is_one_of_the_next_pass(tmp_path: Path) -> None:
    loop: Any = Loop(outputs(abs))
    for epoch in (1, 2):
        final = Checkpoints(tmp_path).run(loop, (one for one in range(3)), max_epochs=epoch)
        assert final.iteration == 3 * epoch


def test_a_complete_run_asks_nothing_of_its_data(tmp_path: Path) -> None:
    seen_in(tmp_path, generator())
    assert seen_in(tmp_path, generator()) == seen_in(tmp_path, iter([1])) == []
