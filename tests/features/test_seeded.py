"""What a run draws follows from its seed, and what an item draws from seed, pass and index."""

from __future__ import annotations

import copy
import pickle
import random
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.utils.data import ConcatDataset, DataLoader, Dataset, IterableDataset, Subset
from typing_extensions import override

from fengine import Events, Loop, NameTaken, State, outputs
from fengine.features import clip_grad_norm, evaluation, seeded
from fengine.testing import assert_resume_exact
from fengine.training import RandomState, Seeded, Shuffled, training_step, windows
from tests.features.digests import digest

Pair = tuple[Tensor, Tensor]


def draw(batch: object = None) -> list[float]:
    """Draw of every generator."""
    numbers = torch.rand(1).item(), random.random(), float(np.random.rand()), random.gauss()
    return [*numbers, float(np.random.randn()), torch.randn(1).item()]


# Runs.


def drawing() -> Loop[object, list[float], None]:
    return Loop(outputs(draw))


def test_what_a_run_draws_follows_from_the_seed() -> None:
    loop = drawing() | seeded(3)
    first = loop.run([1, 2]).output
    draw()
    assert loop.run([1, 2]).output == first
    assert (drawing() | seeded(4)).run([1, 2]).output != first
    assert len(set(first)) == len(first)


def test_it_draws_what_it_does_after_each_generator_is_seeded_by_hand() -> None:
    random.seed(3)
    np.random.seed(3)
    torch.manual_seed(3)
    expected = draw()
    assert (drawing() | seeded(3)).run([1]).output == expected


def test_the_seed_is_that_of_pytorch_ignite_and_of_lightning() -> None:
    from ignite.utils import manual_seed

    manual_seed(3)
    expected = draw()
    assert (drawing() | seeded(3)).run([1]).output == expected
    lightning = pytest.importorskip("lightning")
    lightning.seed_everything(3, verbose=False)
    assert draw() == expected


def test_a_run_that_goes_on_is_not_seeded_again() -> None:
    def remake() -> Any:
        random.seed(0)  # as a new process would have another one
        return drawing() | seeded(3), [1, 2, 3], {"max_epochs": 2}

    assert_resume_exact(remake)
    seen = [m.state.output for m in remake()[0].iterate([1, 2, 3]) if m.state.has_output]
    assert len({tuple(one) for one in seen}) == 3


def test_handlers_of_the_start_after_it_draw_by_the_seed_and_a_loader_shuffles_by_it() -> None:
    seen: list[Any] = []

    def note(state: State[Tensor, Any]) -> State[Tensor, Any]:
        seen.append(draw())
        return state

    def keep(batch: Tensor) -> None:
        seen.append(batch.tolist())

    numbers: Any = range(20)
    for _ in range(2):
        loop = Loop(outputs(keep)) | seeded(3)
        loop.on(Events.STARTED, note).run(DataLoader(numbers, batch_size=5, shuffle=True))
    assert seen[:5] == seen[5:]


def test_it_names_the_random_state() -> None:
    assert (drawing() | seeded(3)).external["random"] is RandomState()
    with pytest.raises(NameTaken, match="two have the thing outside the state 'random'"):
        drawing().with_external(random=nn.Linear(1, 1)) | seeded(3)


def test_numpy_is_seeded_where_nobody_has_imported_its_generators_yet() -> None:
    program = (
        "import random, sys, torch, numpy; from fengine import Loop, outputs; "
        "from fengine.features import seeded; "
        "draw = lambda batch: float(numpy.random.rand()); "
        "print((Loop(outputs(draw)) | seeded(3)).run([1]).output)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    np.random.seed(3)
    assert float(done.stdout) == np.random.rand()


def test_a_run_prints_compares_and_pickles() -> None:
    assert repr(seeded(3)) == "seeded(3)"
    assert seeded(3) == seeded(np.int64(3)) != seeded(4)
    assert hash(seeded(3)) == hash(seeded(3))
    loop = drawing() | seeded(3)
    assert loop == drawing() | seeded(3)
    assert pickle.loads(pickle.dumps(loop)) == loop
    assert "1. seeded(3)" in str(loop)


@pytest.mark.parametrize("make", [seeded, lambda seed: Seeded([1], seed=seed)])
def test_what_is_no_seed_is_refused(make: Any) -> None:
    for other in (True, 1.0, "1", None):
        with pytest.raises(TypeError, match=r"seed=.* is not an int"):
            make(other)
    for number in (-1, 2**32):
        with pytest.raises(ValueError, match=rf"seed={number} is not from 0 to 4294967295, which"):
            make(number)
    for number in (0, 2**32 - 1):
        assert make(number).seed == number


# Items.


class Drawn(Dataset[Tensor]):
    """Have items that are drawn, each with its index and the pass that the dataset was told."""

    def __init__(self, length: int = 6) -> None:
        self.length = length

    @override
    def __getitem__(self, index: int) -> Tensor:
        if not 0 <= index < self.length:
            raise IndexError(index)
        return torch.tensor([float(index), *draw()], dtype=torch.float64)

    def __len__(self) -> int:
        return self.length


def items(data: Dataset[Tensor], epoch: int = 0) -> list[list[float]]:
    tell: Any = data
    tell.set_epoch(epoch)
    return [data[index].tolist() for index in range(len(tell))]


def test_an_item_follows_from_seed_pass_and_index() -> None:
    data = Seeded(Drawn(), seed=0)
    first = items(data)
    assert first == items(data)
    again = items(Seeded(Drawn(), seed=0))
    assert again == first
    data.set_epoch(0)
    assert [data[index].tolist() for index in reversed(range(6))] == first[::-1]
    several = [items(Seeded(Drawn(), seed=seed), epoch) for seed in (0, 1) for epoch in (0, 1)]
    numbers = [number for one in several for item in one for number in item[1:]]
    assert len(set(numbers)) == len(numbers)


def test_the_generators_draw_different_numbers() -> None:
    """Both `random` and numpy are of one kind, and draw the same where they are seeded alike."""
    item = Seeded(Drawn(), seed=0)[0].tolist()
    assert len(set(item[1:])) == 6


def test_the_generators_of_the_process_are_left_as_they_were() -> None:
    data = Seeded(Drawn(), seed=0)
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    random.gauss(), np.random.randn(), torch.randn(1)  # each of which keeps a second number
    state = RandomState().state_dict()
    expected = draw()
    for act in (lambda: data[1], lambda: data.__getitems__([1, 2])):
        RandomState().load_state_dict(state)
        act()
        assert draw() == expected
    RandomState().load_state_dict(state)
    with pytest.raises(IndexError):
        data[6]
    assert draw() == expected


def loader(workers: int, data: Any = None, **options: Any) -> DataLoader[Any]:
    made = Seeded(Drawn(), seed=0) if data is None else data
    shuffled = Shuffled(made, seed=0)
    return DataLoader(made, batch_size=2, sampler=shuffled, num_workers=workers, **options)


def seen_by(loop: Any, data: Any, **limits: Any) -> list[Any]:
    found: list[Any] = []

    def keep(state: Any) -> Any:
        found.append(state.batch.tolist())
        return state

    loop.on(Events.ITERATION_COMPLETED, keep).run(data, **limits)
    return found


def nothing(batch: object) -> None:
    """Do nothing."""


WORKERS: list[tuple[int, dict[str, Any]]] = [
    (0, {}),
    (1, {}),
    (2, {}),
    (2, {"persistent_workers": True}),
]


@pytest.mark.parametrize(("workers", "options"), WORKERS)
def test_items_are_the_same_for_any_number_of_workers(
    workers: int, options: dict[str, Any]
) -> None:
    data, expected = Seeded(Drawn(), seed=0), list[Any]()
    for epoch in range(3):
        found = items(data, epoch)
        sampler = Shuffled(6, seed=0)
        sampler.set_epoch(epoch)
        order = list(sampler)
        expected += [[found[order[n]], found[order[n + 1]]] for n in (0, 2, 4)]
    loop = Loop(outputs(nothing))
    assert seen_by(loop, loader(workers, **options), max_epochs=3) == expected


@pytest.mark.parametrize(("workers", "options"), WORKERS)
def test_a_run_that_goes_on_within_a_pass_has_the_same_items(
    workers: int, options: dict[str, Any]
) -> None:
    def remake() -> Any:
        return Loop(outputs(nothing)), loader(workers, **options), {"max_epochs": 2}

    # Workers take their time, so there only after the iterations 2 and 4: a pass has three.
    assert_resume_exact(remake, [10, 20] if workers else "all")


def test_without_it_items_differ_by_the_number_of_workers() -> None:
    found = []
    for workers in (0, 1):
        torch.manual_seed(0)
        random.seed(0)
        np.random.seed(0)
        found.append(seen_by(Loop(outputs(nothing)), loader(workers, Drawn())))
    assert found[0] != found[1]


class Noisy(Dataset[Pair]):
    @override
    def __getitem__(self, index: int) -> Pair:
        return torch.randn(4) + index, torch.tensor([random.random()])

    def __len__(self) -> int:
        return 8


def training() -> tuple[Loop[Pair, Tensor, None], nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    step = training_step(model, optimizer, mse_loss)
    return Loop(step) | seeded(3) | clip_grad_norm(model, 1.0), model, optimizer


def trained(workers: int) -> str:
    loop, model, optimizer = training()
    loop.run(loader(workers, Seeded(Noisy(), seed=3)), max_epochs=2)
    return digest(model, optimizer)


def test_a_training_is_bitwise_the_same_for_any_number_of_workers() -> None:
    assert trained(0) == trained(1) == trained(2)


@pytest.mark.parametrize("options", [{}, {"persistent_workers": True}], ids=repr)
def test_a_training_with_workers_goes_on_exactly_within_a_pass(options: dict[str, Any]) -> None:
    def remake() -> Any:
        generator = torch.Generator() if options else None
        data = Seeded(Noisy(), seed=3)
        return training()[0], loader(1, data, generator=generator, **options), {"max_epochs": 2}

    assert_resume_exact(remake, [10])


def test_a_pass_that_was_cut_short_leaves_nothing_to_the_next_one() -> None:
    def cut(state: State[Any, None]) -> State[Any, None]:
        return state.terminate_epoch()

    found = []
    for workers, options in WORKERS:
        loop: Any = Loop(outputs(nothing)).on(Events.ITERATION_COMPLETED(once=1), cut)
        found.append(seen_by(loop, loader(workers, **options), max_epochs=2))
    assert len(found[0]) == 4
    assert all(one == found[0] for one in found)


def test_windows_and_evaluations_tell_it_the_pass() -> None:
    single = seen_by(Loop(outputs(nothing)), loader(0), max_epochs=2)
    found: list[Any] = []

    def keep(window: Any) -> None:
        found.extend(batch.tolist() for batch in window)

    Loop(outputs(keep)).run(windows(loader(0), 2), max_epochs=2)
    assert found == single
    found.clear()

    def note(batch: Tensor) -> None:
        found.append(batch.tolist())

    inner = Loop(outputs(note))
    (Loop(outputs(nothing)) | evaluation(inner, loader(0))).run([1], max_epochs=2)
    assert found == single[:3] * 2


def test_a_part_of_it_and_several_together_are_seeded_by_their_own_index() -> None:
    data = Seeded(Drawn(), seed=0)
    whole = items(data)
    part = Subset(data, [4, 2])
    assert [one.tolist() for one in part.__getitems__([0, 1])] == [whole[4], whole[2]]
    both: ConcatDataset[Tensor] = ConcatDataset([data, Seeded(Drawn(), seed=1)])
    loop = Loop(outputs(nothing))
    found = seen_by(loop, DataLoader(both, batch_size=12), max_epochs=2)
    for epoch in range(2):
        expected = [one for seed in (0, 1) for one in items(Seeded(Drawn(), seed=seed), epoch)]
        assert found[epoch] == expected


def test_the_dataset_within_it_is_told_the_pass_too() -> None:
    class Telling(Drawn):
        epoch = -1

        def set_epoch(self, epoch: int) -> None:
            self.epoch = epoch

    inner = Telling()
    seen_by(Loop(outputs(nothing)), loader(0, Seeded(inner, seed=0)), max_epochs=2)
    assert inner.epoch == 1


def test_lists_and_integers_of_other_libraries_do() -> None:
    data: Seeded[str] = Seeded(["a", "b"], seed=0)
    assert (len(data), data[0], data[np.int64(1)], data.__getitems__([1, 0])) == (
        2,
        "a",
        "b",
        ["b", "a"],
    )
    drawn = Seeded(Drawn(), seed=np.int64(0))
    drawn.set_epoch(torch.tensor(1))
    assert drawn[np.int64(2)].tolist() == items(Seeded(Drawn(), seed=0), 1)[2]
    assert torch.equal(drawn[torch.tensor(2)], drawn[2])


def test_an_item_is_the_same_in_another_process() -> None:
    program = (
        "import random, torch; from fengine.training import Seeded\n"
        "class Drawn:\n"
        "    def __getitem__(self, index):\n"
        "        import numpy\n"
        "        return [torch.rand(1).item(), random.random(), float(numpy.random.rand())]\n"
        "data = Seeded(Drawn(), seed=0); data.set_epoch(2); print(data[3])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    expected = items(Seeded(Drawn(), seed=0), 2)[3]
    assert done.stdout.strip() == str(expected[1:4])


def test_it_pickles_and_copies_with_the_pass_it_is_in() -> None:
    data = Seeded(Drawn(), seed=3)
    data.set_epoch(2)
    whole = items(data, 2)
    for again in (pickle.loads(pickle.dumps(data)), copy.deepcopy(data), copy.copy(data)):
        assert [again[index].tolist() for index in range(6)] == whole
        assert again._epoch.is_shared()
    other = copy.deepcopy(data)
    other.set_epoch(0)
    assert [data[index].tolist() for index in range(6)] == whole


def test_it_prints_as_it_was_made() -> None:
    assert repr(Seeded(Drawn(), seed=3)) == "Seeded(Drawn, seed=3)"


class Stream(IterableDataset[int]):
    @override
    def __iter__(self) -> Iterator[int]:
        yield 1


def test_what_gives_no_items_by_index_is_refused() -> None:
    for other, name in (
        (Stream(), "Stream"),
        (iter([1]), "list_iterator"),
        ({1}, "set"),
        (3, "int"),
        (Drawn, "the class Drawn"),
        (list, "the class list"),
        (None, "NoneType"),
    ):
        with pytest.raises(TypeError, match=rf"items by their index, and {name} gives none"):
            Seeded(other, seed=0)  # type: ignore[arg-type]


def test_what_is_no_index_and_no_pass_is_refused() -> None:
    data = Seeded(Drawn(), seed=0)
    for index in ("a", slice(2), [1, 2], 1.0, True):
        with pytest.raises(TypeError, match=r"index=.* is not an int"):
            data[index]  # type: ignore[index]
    with pytest.raises(TypeError, match=r"epoch=1\.5 of type float is not an int"):
        data.set_epoch(1.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="has no len"):
        len(Seeded(Endless(), seed=0))


class Endless:
    def __getitem__(self, index: int, /) -> int:
        return index
