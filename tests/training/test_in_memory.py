"""Batches of tensors in memory are those of a DataLoader, pass after pass, and at any place."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.utils.data import DataLoader, TensorDataset
from typing_extensions import override

from fengine import Events, Loop, State, outputs
from fengine.testing import assert_resume_exact
from fengine.training import TensorBatches, Window, training_step, windows

Pair = tuple[Tensor, Tensor]


def rows(count: int) -> Pair:
    return torch.arange(2 * count, dtype=torch.float32).reshape(count, 2), torch.arange(count)


def listed(batches: Any) -> list[list[list[Any]]]:
    return [[part.tolist() for part in batch] for batch in batches]


def loader(count: int, batch_size: int, seed: int | None, drop_last: bool) -> DataLoader[Any]:
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    return DataLoader(
        TensorDataset(*rows(count)),
        batch_size,
        shuffle=seed is not None,
        generator=generator,
        drop_last=drop_last,
    )


SEEDS = st.none() | st.integers(-(2**63), 2**64 - 1)


@given(st.integers(1, 40), st.integers(1, 12), SEEDS, st.booleans())
def test_its_passes_are_those_of_a_seeded_data_loader(
    count: int, batch_size: int, seed: int | None, drop_last: bool
) -> None:
    expected = loader(count, batch_size, seed, drop_last)
    batches = TensorBatches(*rows(count), batch_size=batch_size, seed=seed, drop_last=drop_last)
    assert len(batches) == len(expected)
    for _ in range(4):
        assert listed(batches) == listed(expected)


@given(st.integers(1, 20), st.integers(1, 6), SEEDS, st.lists(st.integers(0, 5), max_size=5))
def test_a_pass_is_the_same_whichever_passes_were_before(
    count: int, batch_size: int, seed: int | None, order: list[int]
) -> None:
    def make() -> TensorBatches[Tensor, Tensor]:
        return TensorBatches(*rows(count), batch_size=batch_size, seed=seed)

    in_turn = make()
    passes = [listed(in_turn) for _ in range(6)]
    jumping = make()
    for number in order:
        jumping.set_epoch(number)
        assert listed(jumping) == passes[number]
        jumping.set_epoch(number)
        assert listed(jumping.iterate_from(1)) == passes[number][1:]


def test_a_batch_has_the_dtypes_and_shapes_of_a_data_loader() -> None:
    x, y = torch.ones(5, 2, 3, dtype=torch.float64), torch.arange(5, dtype=torch.int16)
    for ours, theirs in zip(
        TensorBatches(x, y, batch_size=2, seed=0),
        DataLoader(TensorDataset(x, y), 2),
        strict=True,
    ):
        assert [(part.dtype, part.shape) for part in ours] == [
            (part.dtype, part.shape) for part in theirs
        ]


def test_weights_are_bitwise_those_of_a_loop_by_hand_over_a_data_loader() -> None:
    def make() -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = nn.Linear(2, 1)
        return model, torch.optim.SGD(model.parameters(), lr=1e-3)

    x, y = torch.randn(11, 2), torch.randn(11, 1)
    by_hand, optimizer = make()
    data = DataLoader(
        TensorDataset(x, y), 4, shuffle=True, generator=torch.Generator().manual_seed(5)
    )
    for _ in range(3):
        for inputs, targets in data:
            optimizer.zero_grad()
            mse_loss(by_hand(inputs), targets).backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    model, optimizer = make()
    batches = TensorBatches(x, y, batch_size=4, seed=5)
    Loop(training_step(model, optimizer, mse_loss)).run(batches, max_epochs=3)
    assert torch.equal(*(next(one.parameters()) for one in (model, by_hand)))


def inputs_of(batch: Pair) -> list[float]:
    return batch[0].flatten().tolist()


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("epoch_length", [None, 2, 5])
def test_a_run_goes_on_from_any_of_its_events(seed: int | None, epoch_length: int | None) -> None:
    def build() -> Any:
        loop: Loop[Pair, list[float]] = Loop(outputs(inputs_of))
        data = TensorBatches(*rows(7), batch_size=2, seed=seed)
        return loop, data, {"max_epochs": 4, "epoch_length": epoch_length}

    assert_resume_exact(build)


def rows_in(batch: tuple[Tensor]) -> int:
    return len(batch[0])


def test_going_on_reads_nothing_that_is_behind() -> None:
    read: list[int] = []

    class Reading(Tensor):
        @override
        def __getitem__(self, rows: Any) -> Any:
            read.append(rows.start)
            return torch.ones(2)

    data = TensorBatches(Reading(torch.ones(8)), batch_size=2)
    loop: Loop[tuple[Tensor], int] = Loop(outputs(rows_in))
    moments = loop.iterate(data)
    third = next(m for m in moments if m.state.iteration == 3).state
    moments.close()
    read.clear()
    assert loop.resume(third, data).iteration == 4
    assert read == [6]


def test_runs_over_the_same_batches_do_not_disturb_each_other() -> None:
    batches = TensorBatches(*rows(9), batch_size=2, seed=1)
    alone = TensorBatches(*rows(9), batch_size=2, seed=1)
    loop: Loop[Pair, list[float]] = Loop(outputs(inputs_of))

    def seen(data: TensorBatches[Tensor, Tensor], disturb: bool) -> list[list[float]]:
        found = []
        for moment in loop.iterate(data, max_epochs=3):
            if moment.event == Events.ITERATION_COMPLETED:
                found.append(moment.state.output)
                if disturb:
                    loop.run(data, max_epochs=2)
        return found

    assert seen(batches, disturb=True) == seen(alone, disturb=False)


def test_windows_of_them_are_shuffled_by_the_pass() -> None:
    model = nn.Linear(2, 1)
    x, y = torch.ones(6, 2), torch.ones(6, 1)
    batches = TensorBatches(x, y, batch_size=2, seed=0)
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    loop = Loop[Window[Pair], Tensor, None](training_step(model, sgd, mse_loss))
    assert loop.run(windows(batches, 2), max_epochs=2).iteration == 4


def test_no_generator_is_touched() -> None:
    before = torch.get_rng_state()
    list(TensorBatches(*rows(5), batch_size=2, seed=0))
    assert torch.equal(before, torch.get_rng_state())


def test_it_pickles_and_copies_where_it_stands() -> None:
    batches = TensorBatches(*rows(9), batch_size=2, seed=3)
    list(batches)
    again = [pickle.loads(pickle.dumps(batches)), copy.deepcopy(batches)]
    second = listed(batches)
    assert [listed(one) for one in again] == [second, second]


def test_it_prints_what_it_is() -> None:
    assert repr(TensorBatches(*rows(3), batch_size=2, seed=0)) == (
        "TensorBatches((3, 2), (3,), batch_size=2, seed=0, drop_last=False)"
    )


@pytest.mark.parametrize(
    ("tensors", "options", "error", "said"),
    [
        ((), {}, ValueError, "there are no tensors"),
        ((torch.ones(3), torch.ones(2)), {}, ValueError, r"the tensors have \[3, 2\] rows"),
        ((torch.ones(()),), {}, ValueError, r"tensors\[0\] is one number"),
        ((torch.ones(3), [1, 2, 3]), {}, TypeError, r"tensors\[1\] is of type list"),
        ((torch.ones(3),), {"batch_size": 0}, ValueError, "batch_size=0 is below 1"),
        ((torch.ones(3),), {"batch_size": 1.5}, TypeError, r"batch_size=1\.5 of type float"),
        ((torch.ones(3),), {"batch_size": True}, TypeError, "batch_size=True of type bool"),
        ((torch.ones(3),), {"seed": "1"}, TypeError, "seed='1' of type str"),
        ((torch.ones(3),), {"seed": 2**64}, ValueError, "is out of range"),
        ((torch.ones(3),), {"drop_last": 1}, TypeError, "drop_last=1 of type int"),
    ],
)
def test_bad_input_is_refused(
    tensors: Any, options: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        TensorBatches(*tensors, **{"batch_size": 1} | options)


def test_passes_are_numbered_from_0() -> None:
    batches = TensorBatches(torch.ones(3), batch_size=1)
    with pytest.raises(ValueError, match="epoch=-1 is negative"):
        batches.set_epoch(-1)
    wrong: Any = 1.5
    with pytest.raises(TypeError, match=r"epoch=1\.5 of type float"):
        batches.set_epoch(wrong)


def test_a_state_further_than_the_data_is_refused() -> None:
    loop: Loop[tuple[Tensor], int] = Loop(outputs(rows_in))
    moments = loop.iterate(TensorBatches(torch.ones(8), batch_size=2))
    state: State[tuple[Tensor], int] = next(m for m in moments if m.state.iteration == 3).state
    with pytest.raises(ValueError, match="this TensorBatches has 2 only"):
        loop.resume(state, TensorBatches(torch.ones(4), batch_size=2))


def test_passes_come_in_any_order() -> None:
    x = torch.arange(10)
    orders = {}
    for number in range(4):
        batches = TensorBatches(x, batch_size=4, seed=3)
        batches.set_epoch(number)
        orders[number] = [batch.tolist() for (batch,) in batches]
    again = TensorBatches(x, batch_size=4, seed=3)
    for number in (2, 0, 3, 0, 1, 1, 3, 2):
        again.set_epoch(number)
        assert [batch.tolist() for (batch,) in again] == orders[number]


def test_integers_of_other_libraries_are_taken() -> None:
    x = torch.arange(10)
    ours = TensorBatches(x, batch_size=np.int64(4), seed=np.uint8(3))
    ours.set_epoch(np.int32(1))
    same = TensorBatches(x, batch_size=4, seed=3)
    same.set_epoch(1)
    assert [batch.tolist() for (batch,) in ours] == [batch.tolist() for (batch,) in same]
