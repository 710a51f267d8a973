"""The batches of deterministic runs: beside pytorch-ignite, and where a run is resumed."""

from __future__ import annotations

import copy
import itertools
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import BatchSampler, DataLoader, RandomSampler
from typing_extensions import override

from fengine.engine import DeterministicEngine, Engine, Events
from tests.engine.reproduced import (
    DATA,
    IGNITE,
    OURS,
    RANDOM_BATCHES,
    WORKERS,
    Augmented,
    Play,
    Seen,
    batches,
    distributed,
    draw,
    endless,
    loader,
    rest,
    shuffled,
)

# Beside pytorch-ignite


@pytest.mark.parametrize("epoch_length", [None, 3, 8])
@pytest.mark.parametrize("kind", [kind for kind in DATA if kind != "unsized stream"])  # it fails
def test_a_run_sees_what_it_sees_in_pytorch_ignite(kind: str, epoch_length: int | None) -> None:
    limits = {"max_epochs": 3, "epoch_length": epoch_length}
    ours, theirs = Play(OURS), Play(IGNITE)
    assert ours.run(DATA[kind](), **limits) == theirs.run(DATA[kind](), **limits)
    assert len(ours.seen) >= 9
    assert ours.engine.state.seed == theirs.engine.state.seed


@pytest.mark.parametrize(
    ("kind", "counter"),
    [
        *itertools.product(
            ("shuffled", "weighted", "list", "tensor"),
            ({"iteration": 8}, {"iteration": 3}, {"epoch": 2}),
        ),
        ("workers", {"iteration": 8}),
    ],
)
def test_a_hand_made_state_dict_resumes_as_in_pytorch_ignite(
    kind: str, counter: dict[str, int]
) -> None:
    whole = Play()
    whole.run(DATA[kind](), max_epochs=3)
    length = whole.engine.state.epoch_length
    state_dict = {**counter, "epoch_length": length, "max_epochs": 3, "rng_states": None}
    done = counter.get("iteration", counter.get("epoch", 0) * length)
    for package in (OURS, IGNITE):
        seen = rest(DATA[kind](), state_dict, package)
        assert batches(seen) == batches(whole.seen[done:])


def test_endless_random_data_resumes_as_in_pytorch_ignite() -> None:
    state_dict = {"iteration": 8, "epoch_length": 5, "max_epochs": 3, "rng_states": None}

    def run(package: Any, state_dict: Any = None) -> list[object]:
        seen: list[object] = []
        engine = package.DeterministicEngine(lambda engine, batch: seen.append(batch.item()))
        if state_dict is not None:
            engine.load_state_dict(state_dict)
        torch.manual_seed(12)
        engine.run(endless(), max_epochs=3, epoch_length=5)
        return seen

    assert run(OURS) == run(IGNITE)
    assert run(OURS, state_dict) == run(IGNITE, state_dict) == run(OURS)[8:]


@pytest.mark.parametrize("kind", ["shuffled", "list"])
def test_a_terminated_run_goes_on_as_in_pytorch_ignite(kind: str) -> None:
    results = []
    for package in (OURS, IGNITE):
        play = Play(package)
        events = package.Events
        with play.engine.add_event_handler(
            events.ITERATION_COMPLETED(once=3), package.DeterministicEngine.terminate
        ):
            play.run(DATA[kind](), max_epochs=3)
        assert len(play.seen) == 3
        play.run(DATA[kind]())
        results.append((play.seen, play.engine.state.epoch, play.engine.state.iteration))
    assert results[0] == results[1]


def test_a_pass_begins_where_the_sampler_of_the_user_says() -> None:
    def run(package: Any) -> list[Seen]:
        module = package.deterministic
        sampler = module.ReproducibleBatchSampler(shuffled().batch_sampler, start_iteration=4)
        return Play(package).run(module.update_dataloader(shuffled(), sampler), max_epochs=2)

    assert run(OURS) == run(IGNITE)
    assert len(run(OURS)) == 12


def test_a_cut_epoch_is_followed_by_the_batches_of_pytorch_ignite() -> None:
    def run(package: Any) -> list[Seen]:
        play = Play(package)
        play.engine.add_event_handler(
            package.Events.ITERATION_COMPLETED(once=[3, 10]),
            package.DeterministicEngine.terminate_epoch,
        )
        return play.run(shuffled(), max_epochs=4)

    assert run(OURS) == run(IGNITE)


@pytest.mark.parametrize("writer", [OURS, IGNITE], ids=["ours", "theirs"])
@pytest.mark.parametrize("reader", [OURS, IGNITE], ids=["by us", "by them"])
def test_the_state_dict_of_either_loads_in_the_other(writer: Any, reader: Any) -> None:
    play = Play(writer)
    whole = play.run(shuffled(num_workers=2), max_epochs=2)
    for iteration, state_dict in ((6, play.saved[6]), (8, play.saved[8])):
        resumed = rest(shuffled(num_workers=2), state_dict, reader)
        assert resumed == whole[iteration:]


# Resuming


@pytest.mark.parametrize("with_rng_states", [True, False], ids=["rng states", "none"])
@pytest.mark.parametrize("kind", DATA)
def test_a_resumed_run_is_the_rest_of_the_uninterrupted_one(
    kind: str, with_rng_states: bool
) -> None:
    limits = {"max_epochs": 3, "epoch_length": 4}
    play = Play()
    whole = play.run(DATA[kind](), **limits)
    for iteration in (4, 7) if kind in WORKERS else range(1, 12):
        state_dict = dict(play.saved[iteration])
        if not with_rng_states:
            state_dict["rng_states"] = None
        resumed = rest(DATA[kind](), state_dict)
        if with_rng_states:
            assert resumed == whole[iteration:]
        elif kind not in RANDOM_BATCHES:
            assert batches(resumed) == batches(whole[iteration:])


def test_with_workers_that_outlive_a_pass() -> None:
    def run(package: Any, state_dict: Any = None) -> Play:
        play = Play(package)
        data = shuffled(num_workers=2, persistent_workers=True)
        play.run(data, state_dict, max_epochs=2, epoch_length=8)
        play.engine.state.dataloader = None  # ends the workers, before others are forked
        return play

    whole = run(OURS)
    assert run(IGNITE).seen == whole.seen
    for iteration in (3, 6, 8, 12):
        assert run(OURS, whole.saved[iteration]).seen == whole.seen[iteration:]


def test_pytorch_ignite_sees_other_batches_where_it_goes_on() -> None:
    play = Play(IGNITE)
    whole = play.run(shuffled(), max_epochs=2)
    assert batches(rest(shuffled(), play.saved[3], IGNITE)) != batches(whole[3:])
    assert rest(shuffled(), play.saved[3], OURS) == whole[3:]


@given(
    size=st.integers(1, 12),
    batch_size=st.integers(1, 5),
    shuffle=st.booleans(),
    augment=st.booleans(),
    epochs=st.integers(1, 3),
    epoch_length=st.none() | st.integers(1, 5),
    data=st.data(),
)
def test_for_any_loader_and_any_iteration(
    size: int,
    batch_size: int,
    shuffle: bool,
    augment: bool,
    epochs: int,
    epoch_length: int | None,
    data: st.DataObject,
) -> None:
    def make() -> DataLoader[Any]:
        options: Any = {"batch_size": batch_size, "shuffle": shuffle}
        return DataLoader(Augmented(size), **options) if augment else loader(size, **options)

    play = Play()
    whole = play.run(make(), max_epochs=epochs, epoch_length=epoch_length)
    iteration = data.draw(st.integers(0, len(whole) - 1))
    play.saved[0] = {**play.saved[1], "iteration": 0}
    assert rest(make(), play.saved[iteration]) == whole[iteration:]
    without = {**play.saved[iteration], "rng_states": None}
    if not augment:
        assert batches(rest(make(), without)) == batches(whole[iteration:])


def test_a_handler_that_draws_does_not_change_the_order_of_the_batches() -> None:
    def run(state_dict: Any = None) -> list[Seen]:
        play = Play()
        for event in (Events.EPOCH_STARTED, Events.GET_BATCH_STARTED, Events.EPOCH_COMPLETED):
            play.engine.add_event_handler(event, draw)
        seen = play.run(shuffled(), state_dict, max_epochs=3)
        checkpoints.update(play.saved)
        return seen

    checkpoints: dict[int, Any] = {}
    whole = run()
    for iteration, state_dict in tuple(checkpoints.items())[:-1]:
        assert batches(run(state_dict)) == batches(whole[iteration:])


def test_a_pause_before_a_pass_does_not_change_the_order_of_the_batches() -> None:
    paused = Play()
    paused.engine.add_event_handler(Events.DATALOADER_STOP_ITERATION, paused.engine.interrupt)
    paused.run(shuffled(), max_epochs=2)
    assert len(paused.seen) == 6
    paused.run(shuffled())
    assert paused.seen == Play().run(shuffled(), max_epochs=2)


def test_a_model_trains_on_to_the_same_weights() -> None:
    def train(checkpoint: Any = None) -> tuple[Any, Any]:
        torch.manual_seed(3)
        model = torch.nn.Sequential(
            torch.nn.Linear(1, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1)
        )
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)
        saved = []

        def step(engine: Engine, batch: torch.Tensor) -> None:
            optimizer.zero_grad()
            model(batch).square().mean().backward()
            optimizer.step()

        trainer = DeterministicEngine(step)

        @trainer.on(Events.ITERATION_COMPLETED(once=8))
        def save() -> None:
            parts = (model.state_dict(), optimizer.state_dict(), trainer.state_dict())
            saved.append(copy.deepcopy(parts))

        if checkpoint is not None:
            model.load_state_dict(checkpoint[0])
            optimizer.load_state_dict(checkpoint[1])
            trainer.load_state_dict(checkpoint[2])
        torch.manual_seed(5)
        trainer.run(DataLoader(Augmented(22), batch_size=4, shuffle=True), max_epochs=3)
        return torch.cat([weights.flatten() for weights in model.parameters()]), saved

    weights, (checkpoint,) = train()
    assert weights.isfinite().all()
    assert torch.equal(train(pickle.loads(pickle.dumps(checkpoint)))[0], weights)


def test_a_distributed_sampler_is_given_its_epoch_by_the_user() -> None:
    def run(state_dict: Any = None) -> Play:
        sampler, data = distributed(1)
        play = Play()
        play.engine.add_event_handler(
            Events.EPOCH_STARTED, lambda engine: sampler.set_epoch(engine.state.epoch)
        )
        play.run(data, state_dict, max_epochs=3)
        return play

    whole = run()
    assert batches(whole.seen[:4]) != batches(whole.seen[4:8])
    for iteration in (4, 6):
        assert run(whole.saved[iteration]).seen == whole.seen[iteration:]


@pytest.mark.parametrize("length", [0, 2])
def test_data_that_is_shorter_than_what_was_seen_ends_with_a_warning(length: int) -> None:
    state_dict = {"iteration": 5, "epoch_length": 6, "max_epochs": 2}
    engine = DeterministicEngine(lambda engine, batch: None)
    engine.load_state_dict(state_dict)
    with pytest.warns(UserWarning, match="gave no batch"):
        engine.run(iter(range(length)))
    assert engine.state.iteration == 5


# Data of other kinds


def test_a_batch_sampler_of_another_kind_is_left_alone() -> None:
    def listed() -> DataLoader[Any]:
        return loader(6, batch_sampler=[[0, 5], [1, 4], [2, 3]])

    play = Play()
    whole = play.run(listed(), max_epochs=2)
    assert batches(whole) == [[0, 5], [1, 4], [2, 3]] * 2
    assert rest(listed(), play.saved[2]) == whole[2:]


def test_an_endless_batch_sampler_is_not_read_ahead() -> None:
    class Endless(BatchSampler):
        def __init__(self) -> None:
            self.sampler = RandomSampler(range(6))
            self.sampler.epoch = 0  # type: ignore[attr-defined]  # as some samplers have

        @override
        def __iter__(self) -> Iterator[list[int]]:
            while True:
                yield list(self.sampler)[:2]

        @override
        def __len__(self) -> int:
            raise TypeError("endless")

    play = Play()
    whole = play.run(loader(6, batch_sampler=Endless()), max_epochs=2, epoch_length=4)
    assert len(whole) == 8
    assert rest(loader(6, batch_sampler=Endless()), play.saved[5])[0].drawn == whole[5].drawn


def test_data_set_during_a_run_goes_on_from_its_own_seeds() -> None:
    play = Play()
    play.engine.add_event_handler(
        Events.ITERATION_COMPLETED(once=6), lambda engine: engine.set_data(shuffled())
    )
    play.run([1, 2, 3, 4, 5, 6], max_epochs=3)
    assert batches(play.seen[12:]) == batches(Play().run(shuffled(), max_epochs=3)[12:])
