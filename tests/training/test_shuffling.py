"""The sampler whose order follows from a seed and the pass alone."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from fengine import Events, Loop, outputs
from fengine.training import Shuffled


def order(length: int, seed: int, epoch: int) -> list[int]:
    sampler = Shuffled(length, seed=seed)
    sampler.set_epoch(epoch)
    return list(sampler)


@given(st.integers(0, 50), st.integers(), st.integers(0))
def test_a_pass_gives_each_index_once_and_always_in_the_same_order(
    length: int, seed: int, epoch: int
) -> None:
    indices = order(length, seed, epoch)
    assert sorted(indices) == list(range(length))
    assert indices == order(length, seed, epoch)
    assert len(Shuffled(range(length), seed=seed)) == length


def test_seeds_and_passes_give_different_orders() -> None:
    orders = [tuple(order(100, seed, epoch)) for seed in (-1, 0, 1, 2**70) for epoch in range(3)]
    assert len(set(orders)) == len(orders)


def test_the_order_is_the_same_in_another_process() -> None:
    program = (
        "from fengine.training import Shuffled; s = Shuffled(9, seed=3); s.set_epoch(2); "
        "print(list(s))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(order(9, 3, 2))


def test_no_generator_is_touched() -> None:
    before = torch.get_rng_state()
    order(10, 0, 0)
    assert torch.equal(before, torch.get_rng_state())


def test_it_pickles_and_copies() -> None:
    sampler = Shuffled(9, seed=3)
    sampler.set_epoch(4)
    for again in (pickle.loads(pickle.dumps(sampler)), copy.deepcopy(sampler)):
        assert list(again) == list(sampler)


def test_a_loop_tells_it_the_passes() -> None:
    items: Any = range(4)
    loader: Any = DataLoader(items, batch_size=2, sampler=Shuffled(4, seed=0))
    loop: Loop[Any, Any] = Loop(outputs(torch.Tensor.tolist))
    moments = loop.iterate(loader, max_epochs=3)
    batches = [m.state.output for m in moments if m.event is Events.ITERATION_COMPLETED]
    orders = order(4, 0, 0) + order(4, 0, 1) + order(4, 0, 2)
    assert [index for batch in batches for index in batch] == orders


@pytest.mark.parametrize("seed", [None, 1.0, True, "1"], ids=repr)
def test_a_seed_that_is_none_is_refused(seed: Any) -> None:
    with pytest.raises(TypeError, match=f"seed={seed!r}"):
        Shuffled(3, seed=seed)


def test_integers_of_other_libraries_are_taken() -> None:
    sampler = Shuffled(np.int64(5), seed=np.uint8(3))
    sampler.set_epoch(np.int32(1))
    assert list(sampler) == order(5, 3, 1)


def test_other_mistakes_are_refused() -> None:
    with pytest.raises(ValueError, match="-1 is negative"):
        Shuffled(-1, seed=0)
    with pytest.raises(TypeError, match="dataset=True"):
        Shuffled(True, seed=0)
    wrong: Any = 1.5
    with pytest.raises(TypeError, match=r"epoch=1\.5"):
        Shuffled(3, seed=0).set_epoch(wrong)
