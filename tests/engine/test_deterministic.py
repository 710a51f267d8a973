"""The rows on the deterministic engine, its samplers and the random states."""

from __future__ import annotations

import copy
import pickle
import random
import sys
import warnings
from typing import Any, Final

import ignite.engine.deterministic
import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, RandomSampler
from typing_extensions import override

import fengine.engine
from fengine import DOCUMENTED, IGNITE_0_5_5, Semantics
from fengine.engine import (
    DeterministicEngine,
    Engine,
    Events,
    deterministic,
    random_states,
)
from fengine.engine.deterministic import (
    ReproducibleBatchSampler,
    keep_random_state,
    update_dataloader,
)
from tests.engine.reproduced import (
    IGNITE,
    OURS,
    Numbers,
    Play,
    batches,
    distributed,
    draw,
    rest,
    shuffled,
)
from tests.engine.rows.table import Check, Rows

rows = Rows()

BOTH: Final = pytest.mark.parametrize(
    "semantics", [DOCUMENTED, IGNITE_0_5_5], ids=["documented", "ignite"]
)

# The rows


@rows("A-004")
def its_names_are_in_its_module_and_so_are_those_that_others_use() -> None:
    assert deterministic.DeterministicEngine is fengine.engine.DeterministicEngine
    assert issubclass(DeterministicEngine, Engine)
    module = ignite.engine.deterministic
    names = [*module.__all__, "_get_rng_states", "_set_rng_states", "_repr_rng_state"]
    assert [name for name in names if not hasattr(deterministic, name)] == []


class Named(DataLoader[Any]):
    def __init__(self, name: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.name = name
        self.kwargs = "not an argument"


@rows("A-110")
def a_loader_is_made_again_with_all_but_its_sampling() -> None:
    generator = torch.Generator()
    options: dict[str, Any] = {
        "num_workers": 2,
        "collate_fn": list,
        "timeout": 9,
        "worker_init_fn": print,
        "multiprocessing_context": "spawn",
        "generator": generator,
        "prefetch_factor": 3,
        "persistent_workers": True,
    }
    given = Named("train", range(8), batch_size=3, drop_last=True, **options)
    assert isinstance(given.batch_sampler, BatchSampler)
    made = update_dataloader(given, ReproducibleBatchSampler(given.batch_sampler))
    assert isinstance(made, Named)
    names = ["name", "dataset", *options]
    assert [getattr(made, name) for name in names] == [getattr(given, name) for name in names]
    assert isinstance(made.batch_sampler, ReproducibleBatchSampler)
    assert not isinstance(given.batch_sampler, ReproducibleBatchSampler)
    assert len(made) == len(given) == 2


@rows("A-111")
def a_function_leaves_the_random_states_alone() -> None:
    @keep_random_state
    def handler(engine: Engine) -> None:
        """Draw."""
        random_states.seed_all(7)
        drawn.append(draw())

    drawn: list[Numbers] = []
    engine = DeterministicEngine(lambda engine, batch: drawn.append(draw()))
    engine.add_event_handler(Events.ITERATION_STARTED, handler)
    torch.manual_seed(12)
    engine.run([1, 2])
    assert drawn[0] == drawn[2]
    assert [drawn[1], drawn[3]] == [one.drawn for one in Play().run([1, 2])]
    assert handler.__doc__ == "Draw."


@rows("A-112")
def a_batch_sampler_skips_batches_once() -> None:
    inner = BatchSampler(range(7), 2, drop_last=False)
    sampler = ReproducibleBatchSampler(inner, start_iteration=2)
    assert (sampler.batch_indices, sampler.batch_sampler, sampler.sampler) == ([], inner, range(7))
    assert len(sampler) == 4
    assert list(sampler) == [[4, 5], [6]] == sampler.batch_indices
    assert sampler.start_iteration is None
    assert list(sampler) == list(inner)
    sampler.start_iteration = 3
    sampler.setup_batch_indices()
    assert sampler.batch_indices == [[6]]
    first, second = iter(sampler), iter(sampler)
    assert [next(first), next(second), next(first)] == [[0, 1], [0, 1], [2, 3]]


@rows("A-113")
def each_pass_is_seeded_and_the_loader_is_replaced() -> None:
    play, seeds = Play(), []
    play.engine.add_event_handler(
        Events.ITERATION_STARTED, lambda: seeds.append(torch.initial_seed())
    )
    data = shuffled()
    play.run(data, max_epochs=3)
    torch.manual_seed(12)
    seed = torch.randint(0, 10**9, (1,)).item()
    assert play.engine.state.seed == seed
    assert seeds == [seed + number // 6 for number in range(18)]
    replaced = play.engine.state.dataloader
    assert isinstance(replaced.batch_sampler, ReproducibleBatchSampler)
    assert replaced is not data
    play.run(replaced)
    assert play.engine.state.dataloader is replaced


@rows("A-114")
def random_states_are_saved_and_used_where_a_pass_is_resumed() -> None:
    play = Play()
    play.run(shuffled(), max_epochs=2)
    state_dict = play.saved[8]
    assert list(state_dict) == ["epoch_length", "iteration", "max_epochs", "rng_states"]
    python, pytorch, numpy = state_dict["rng_states"]
    assert (python[0], pytorch.dtype, numpy[0]) == (3, torch.uint8, "MT19937")

    resumed = Play()
    resumed.engine.load_state_dict(state_dict)
    assert resumed.engine.state.rng_states is state_dict["rng_states"]
    assert resumed.run(shuffled())[0].drawn == play.seen[8].drawn
    assert resumed.engine.state.rng_states is None

    at_epoch = {**play.saved[6], "rng_states": state_dict["rng_states"]}
    assert rest(shuffled(), at_epoch) == play.seen[6:]


@rows("D14")
def checkpoints_of_an_engine_load_and_the_other_way_round() -> None:
    plain = Engine(lambda engine, batch: None)
    saved: list[Any] = []
    plain.add_event_handler(
        Events.ITERATION_COMPLETED(once=8), lambda: saved.append(plain.state_dict())
    )
    plain.run(shuffled(), max_epochs=2)
    whole = Play().run(shuffled(), max_epochs=2)
    assert batches(rest(shuffled(), saved[0])) == batches(whole[8:])

    plain.load_state_dict(Play().engine.state_dict())
    engine = DeterministicEngine(lambda engine, batch: None)
    for wrong in ("states", [1, 2, 3], [random.getstate()]):
        with pytest.raises(ValueError, match="rng_states of type"):
            engine.load_state_dict({**saved[0], "rng_states": wrong})
        assert (engine.state.iteration, engine.state.rng_states) == (0, None)
    with pytest.raises(TypeError, match="not a mapping"):
        engine.load_state_dict([])  # type: ignore[arg-type]  # refused


@rows("E-50")
def a_run_needs_data() -> None:
    engine, seen = DeterministicEngine(lambda engine, batch: None), []
    engine.add_event_handler(Events.STARTED, lambda: seen.append("started"))
    with pytest.raises(ValueError, match="data is None"):
        engine.run(max_epochs=3, epoch_length=10)
    assert (seen, engine.state.max_epochs) == ([], None)
    handle = engine.add_event_handler(Events.ITERATION_STARTED(once=2), engine.interrupt)
    engine.run([1, 2, 3], max_epochs=2)
    handle.remove()
    assert engine.state.iteration == 2
    assert engine.run().iteration == 6


@rows("E-51", "C16")
def an_epoch_that_ends_before_its_first_batch_is_an_epoch() -> None:
    for semantics in (DOCUMENTED, IGNITE_0_5_5):
        play = Play(OURS, {"semantics": semantics})
        engine = play.engine
        engine.add_event_handler(
            Events.GET_BATCH_STARTED,
            lambda engine: engine.terminate_epoch() if engine.state.epoch == 2 else None,
        )
        play.run(shuffled(), max_epochs=3)
        assert engine.state.epoch == 3
        # In the documented engine the iteration that has begun is completed first.
        assert engine.state.iteration == (13 if semantics is DOCUMENTED else 12)
        for counter in (0, -1):
            with pytest.raises(ValueError, match=f"iter_counter={counter}"):
                engine._setup_seed(iter_counter=counter)

    theirs = Play(IGNITE)
    theirs.engine.add_event_handler(
        IGNITE.Events.GET_BATCH_STARTED(once=6), IGNITE.DeterministicEngine.terminate_epoch
    )
    with pytest.raises(ValueError, match="iter_counter"):
        theirs.run(shuffled(), max_epochs=3)


@rows("E-52")
def a_batch_sampler_is_made_of_one() -> None:
    for wrong in ("abc", [[0, 1], [2, 3]], RandomSampler(range(3))):
        with pytest.raises(TypeError, match="batch_sampler="):
            ReproducibleBatchSampler(wrong)  # type: ignore[arg-type]  # refused


@rows("E-53")
def an_iteration_is_in_data() -> None:
    engine = DeterministicEngine(lambda engine, batch: None)
    with pytest.raises(RuntimeError, match=r"state\.dataloader is None"):
        engine._from_iteration(3)
    engine.state.dataloader = [1, 2]
    with pytest.raises(RuntimeError, match=r"state\.seed is None"):
        engine._from_iteration(1)


@rows("W-03")
def a_sampler_with_epochs_of_its_own_and_another_epoch_length_is_warned_of() -> None:
    def run(package: Any, epoch_length: int | None) -> list[str]:
        _, data = distributed(0)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            Play(package).run(data, max_epochs=2, epoch_length=epoch_length)
        return [warning.category.__name__ for warning in caught]

    for package in (OURS, IGNITE):
        assert run(package, 3) == ["UserWarning"]
        assert run(package, 4) == run(package, None) == []


@rows("Q-20")
def a_function_returns_its_value_and_leaves_the_states_when_it_raises() -> None:
    @keep_random_state
    def divide(dividend: float, *, by: float) -> float:
        draw()
        return dividend / by

    states = deterministic._get_rng_states()
    assert divide(6, by=3) == 2
    with pytest.raises(ZeroDivisionError):
        divide(6, by=0)
    first = draw()
    deterministic._set_rng_states(states)
    assert draw() == first


class Fixed(DataLoader[Any]):
    """A loader that chooses its own sampling."""

    def __init__(self, size: int) -> None:
        super().__init__(range(size), batch_size=2)  # type: ignore[arg-type]  # a sequence


class Conflicting(DataLoader[Any]):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs, batch_size=2)


class Around(DataLoader[Any]):
    """A loader that gives what another one does."""

    def __init__(self, loader: DataLoader[Any], **kwargs: Any) -> None:
        self.loader = loader
        self.batch_sampler = loader.batch_sampler

    @override
    def __len__(self) -> int:
        return len(self.loader)

    @override
    def __iter__(self) -> Any:
        return iter(self.loader)


@rows("D12")
def a_loader_that_cannot_be_made_again_is_refused_first() -> None:
    play = Play()
    for data in (Fixed(6), Conflicting(dataset=range(6))):
        with pytest.raises(TypeError, match="cannot be made again with another batch sampler"):
            play.run(data, max_epochs=3)
        assert (play.engine.state.max_epochs, play.seen) == (None, [])
    around = Play()
    whole = around.run(Around(shuffled()), max_epochs=2)
    assert batches(whole) == batches(Play().run(shuffled(), max_epochs=2))
    assert rest(Around(shuffled()), around.saved[8]) == whole[8:]


@pytest.mark.parametrize("check", rows.params())
def test_row(check: Check) -> None:
    check()


def test_random_states_are_written_as_in_pytorch_ignite() -> None:
    states = deterministic._get_rng_states()
    written = deterministic._repr_rng_state(states)
    assert written == ignite.engine.deterministic._repr_rng_state(states)
    first = draw()
    assert deterministic._repr_rng_state(deterministic._get_rng_states()) != written
    deterministic._set_rng_states(states)
    assert draw() == first


@BOTH
def test_a_copy_and_a_pickle_of_it_run_as_it_does(semantics: Semantics) -> None:
    engine = DeterministicEngine(note_batch, semantics=semantics)
    for other in (copy.deepcopy(engine), pickle.loads(pickle.dumps(engine))):
        notes = []
        for runner in (engine, other):
            runner.state.notes = []
            torch.manual_seed(12)
            runner.run(shuffled(), max_epochs=2)
            notes.append(runner.state.notes)
        assert notes[0] == notes[1]
        assert len(notes[0]) == 12


def note_batch(engine: Engine, batch: torch.Tensor) -> None:
    engine.state.notes.append(batch.tolist())


def test_numpy_is_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    with_numpy = Play()
    with_numpy.run(shuffled(), max_epochs=2)

    def run(state_dict: Any = None) -> tuple[list[Any], Any]:
        seen: list[Any] = []
        saved: list[Any] = []
        engine = DeterministicEngine(lambda engine, batch: seen.append(batch.tolist()))
        engine.add_event_handler(
            Events.ITERATION_COMPLETED(once=8), lambda: saved.append(engine.state_dict())
        )
        if state_dict is not None:
            engine.load_state_dict(state_dict)
        torch.manual_seed(12)
        engine.run(shuffled(), max_epochs=2)
        return seen, saved

    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "numpy", None)
        seen, (without_numpy,) = run()
        assert len(without_numpy["rng_states"]) == 2
        assert run(without_numpy)[0] == run(with_numpy.saved[8])[0] == seen[8:]
        assert keep_random_state(random.getstate)() == random.getstate()
    assert seen == batches(with_numpy.seen)
    assert run(without_numpy)[0] == seen[8:]


def test_the_states_of_cuda_are_saved_beside_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    set_up: list[object] = []
    monkeypatch.setattr(deterministic, "get_cuda_rng_states", lambda: ["of cuda"])
    monkeypatch.setattr(deterministic, "set_cuda_rng_states", set_up.append)
    play = Play()
    play.run(shuffled(), max_epochs=2)
    assert play.saved[8]["cuda_rng_states"] == ["of cuda"]
    assert len(play.saved[8]["rng_states"]) == 3
    assert set_up == []
    rest(shuffled(), play.saved[8])
    assert set_up == [["of cuda"]]
    rest(shuffled(), play.saved[6])
    assert set_up == [["of cuda"]]
    assert batches(rest(shuffled(num_workers=2), play.saved[8], IGNITE)) == batches(play.seen[8:])


def test_the_states_of_cuda_are_set_on_the_devices_that_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    states = {0: torch.tensor([1]), 1: torch.tensor([2])}
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: list(states.values()))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(states))
    monkeypatch.setattr(
        torch.cuda, "set_rng_state", lambda state, device: states.__setitem__(device, state)
    )

    @keep_random_state
    def change() -> None:
        states.update({device: torch.tensor([9]) for device in states})

    change()
    assert [state.item() for state in states.values()] == [1, 2]
    del states[1]
    random_states.set_cuda_rng_states([torch.tensor([3]), torch.tensor([4])])
    assert [state.item() for state in states.values()] == [3]
