"""What an engine tells of its epochs: to a sampler, and to handlers of TERMINATE_SINGLE_EPOCH."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import ignite.engine
import pytest
from torch.utils.data import DataLoader, DistributedSampler

from fengine import DOCUMENTED, IGNITE_0_5_5, Loop, Semantics, outputs
from fengine.engine import DeterministicEngine, Engine, Events


class Told:
    """Be data of three batches that notes what it is told."""

    def __init__(self) -> None:
        self.told: list[int] = []

    def set_epoch(self, epoch: int) -> None:
        self.told.append(epoch)

    def __len__(self) -> int:
        return 3

    def __iter__(self) -> Iterator[int]:
        return iter(range(3))


def same(batch: int) -> int:
    return batch


def engine(semantics: Semantics = DOCUMENTED) -> Engine:
    return Engine(lambda engine, batch: batch, semantics=semantics)


def test_a_sampler_is_told_its_pass_as_by_a_loop() -> None:
    by_loop, by_engine, as_ignite = Told(), Told(), Told()
    Loop(outputs(same)).run(by_loop, max_epochs=3)
    engine().run(by_engine, max_epochs=3)
    engine(IGNITE_0_5_5).run(as_ignite, max_epochs=3)
    assert by_engine.told == by_loop.told == [0, 1, 2]
    assert as_ignite.told == []


@pytest.mark.parametrize("length", [2, 4])
def test_each_pass_is_told_where_epochs_have_another_length(length: int) -> None:
    by_loop, by_engine = Told(), Told()
    Loop(outputs(same)).run(by_loop, max_epochs=3, epoch_length=length)
    engine().run(by_engine, max_epochs=3, epoch_length=length)
    assert by_engine.told == by_loop.told


def test_a_run_that_goes_on_tells_the_next_pass() -> None:
    data, trainer = Told(), engine()
    trainer.run(data, max_epochs=2)
    trainer.run(data, max_epochs=3)
    assert data.told == [0, 1, 2]
    trainer.run(data, max_epochs=3)
    assert data.told == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize("written", [{"epoch": 2}, {"iteration": 7}])
def test_a_run_that_is_loaded_tells_the_pass_that_it_is_in(written: dict[str, int]) -> None:
    data, trainer = Told(), engine()
    trainer.load_state_dict({**written, "epoch_length": 3, "max_epochs": 4})
    trainer.run(data)
    assert data.told == [2, 3]


def test_a_paused_run_tells_no_pass_twice() -> None:
    data, trainer = Told(), engine()
    trainer.add_event_handler(Events.ITERATION_COMPLETED, trainer.interrupt)
    while trainer.state.iteration < 6:
        trainer.run(data, max_epochs=2)
    assert data.told == [0, 1]


def test_an_epoch_that_is_cut_is_followed_by_another_pass() -> None:
    data, trainer = Told(), engine()
    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=1), trainer.terminate_epoch)
    trainer.run(data, max_epochs=2)
    assert data.told == [0, 1]


@pytest.mark.parametrize("kind", [Engine, DeterministicEngine])
def test_a_distributed_sampler_draws_another_order_in_each_epoch(kind: type[Engine]) -> None:
    sampler: DistributedSampler[Any] = DistributedSampler(range(8), num_replicas=1, rank=0)  # type: ignore[arg-type]
    loader: Any = DataLoader(range(8), batch_size=8, sampler=sampler)  # type: ignore[arg-type]
    seen: list[list[int]] = []
    kind(lambda engine, batch: seen.append(batch.tolist())).run(loader, max_epochs=3)
    assert len({*map(tuple, seen)}) == 3


def noting(told: list[int]) -> Callable[[int], None]:
    """Make a handler that notes its argument, which ignite gives by its name."""

    def note(iter_counter: int) -> None:
        told.append(iter_counter)

    return note


def counters(package: Any, event: str, once: int, **given: Any) -> list[int]:
    """End an epoch at an event, and note what handlers are told."""
    told: list[int] = []
    made = package.Engine(lambda engine, batch: batch, **given)

    def end() -> None:
        ends.append(event)
        if len(ends) == once:
            made.terminate_epoch()

    ends: list[str] = []
    made.add_event_handler(event, end)
    made.add_event_handler("TERMINATE_SINGLE_EPOCH", noting(told))
    made.run([1, 2, 3], max_epochs=3)
    return told


@pytest.mark.parametrize("once", range(1, 6))
@pytest.mark.parametrize(
    "event",
    ["GET_BATCH_STARTED", "GET_BATCH_COMPLETED", "ITERATION_STARTED", "ITERATION_COMPLETED"],
)
def test_the_counter_is_of_batches_that_began_an_iteration(event: str, once: int) -> None:
    import fengine.engine

    ours = counters(fengine.engine, event, once, semantics=IGNITE_0_5_5)
    assert ours == counters(ignite.engine, event, once)


def test_the_counter_where_a_stop_comes_from_the_data() -> None:
    seen = []
    import fengine.engine

    for package, given in ((ignite.engine, {}), (fengine.engine, {"semantics": IGNITE_0_5_5})):
        made: Any = package.Engine(lambda engine, batch: batch, **given)
        told: list[int] = []

        class Ending:
            def __iter__(self, made: Any = made) -> Iterator[int]:
                for batch in range(3):
                    if batch == 2 and made.state.epoch == 1:
                        made.terminate_epoch()
                    yield batch

        made.add_event_handler("TERMINATE_SINGLE_EPOCH", noting(told))
        made.run(Ending(), max_epochs=2, epoch_length=3)
        seen.append(told)
    assert seen == [[2], [2]]
