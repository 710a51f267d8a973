"""The random state of the process is one thing outside the state, and comes back exactly."""

from __future__ import annotations

import copy
import io
import json
import pickle
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.utils.data import DataLoader

from fengine import Events, Loop, NameTaken, State, Stateful, outputs
from fengine.core.equality import same
from fengine.engine import Engine
from fengine.features import random_state
from fengine.training import RandomState, training_step
from fengine.training.random_state import seed_all


def seed(number: int = 1) -> None:
    random.seed(number)
    torch.manual_seed(number + 1)
    np.random.seed(number + 2)


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    before = random.getstate(), torch.get_rng_state(), np.random.get_state()
    seed()
    yield
    random.setstate(before[0])
    torch.set_rng_state(before[1])
    np.random.set_state(before[2])


def draws() -> list[float]:
    """Draw of each generator, so that those which keep half of a pair keep one."""
    return [
        *(random.random() for _ in range(3)),
        random.gauss(0, 1),
        float(random.getrandbits(64)),
        *torch.rand(3).tolist(),
        *torch.randn(3).tolist(),
        float(torch.randint(1000, ())),
        *np.random.rand(3).tolist(),
        float(np.random.normal()),
        float(np.random.randint(1000)),
    ]


def through_torch(state: Any) -> Any:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def as_it_is(state: Any) -> Any:
    return state


WAYS: dict[str, Callable[[Any], Any]] = {
    "as it is": as_it_is,
    "torch.save": through_torch,
    "pickle": lambda state: pickle.loads(pickle.dumps(state)),
    "deepcopy": copy.deepcopy,
}


@pytest.mark.parametrize("drawn", [0, 1, 2])
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_each_generator_goes_on_exactly_where_it_was(way: Callable[[Any], Any], drawn: int) -> None:
    for _ in range(drawn):
        draws()
    kept = way(RandomState().state_dict())
    expected = [draws() for _ in range(2)]
    assert expected[0] != expected[1]
    for _ in range(2):  # what is kept is not used up
        seed(9)
        RandomState().load_state_dict(kept)
        assert [draws() for _ in range(2)] == expected


def test_whole_states_are_equal_afterwards() -> None:
    draws()
    kept = RandomState().state_dict()
    python, numpy_state, of_torch = random.getstate(), np.random.get_state(), torch.get_rng_state()
    draws()
    RandomState().load_state_dict(kept)
    assert random.getstate() == python
    assert torch.equal(torch.get_rng_state(), of_torch)
    for one, other in zip(np.random.get_state(), numpy_state, strict=True):
        assert np.array_equal(one, other)


PAIRWISE: list[Callable[[], Any]] = [
    lambda: random.gauss(0, 1),
    np.random.normal,
    lambda: torch.randn(()),
]


@pytest.mark.parametrize("draw", PAIRWISE, ids=["random", "numpy", "torch"])
def test_the_half_of_a_pair_that_a_generator_keeps_is_kept(draw: Callable[[], Any]) -> None:
    draw()
    kept = through_torch(RandomState().state_dict())
    expected = [float(draw()) for _ in range(3)]
    RandomState().load_state_dict(kept)
    assert [float(draw()) for _ in range(3)] == expected


def test_to_look_at_it_draws_nothing() -> None:
    expected = draws()
    seed()
    RandomState().state_dict()
    assert draws() == expected


def test_what_it_returns_is_not_changed_by_what_is_drawn_later() -> None:
    kept = RandomState().state_dict()
    before = copy.deepcopy(kept)
    draws()
    assert torch.equal(kept["torch"], before["torch"])
    assert torch.equal(kept["python"]["internal"], before["python"]["internal"])
    assert same(kept["numpy"], before["numpy"])


def test_it_goes_on_in_another_process() -> None:
    file = io.BytesIO()
    torch.save(RandomState().state_dict(), file)
    program = f"""
import io, json, random, sys
import numpy as np
import torch
from fengine.training import RandomState
kept = torch.load(io.BytesIO(bytes.fromhex({file.getvalue().hex()!r})), weights_only=True)
RandomState().load_state_dict(kept)
print(json.dumps([random.random(), torch.rand(()).item(), np.random.rand()]))
"""
    command = [sys.executable, "-"]
    done = subprocess.run(command, input=program, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [random.random(), torch.rand(()).item(), np.random.rand()]


def test_there_is_only_one() -> None:
    one = RandomState()
    assert one is RandomState()
    assert copy.copy(one) is copy.deepcopy(one) is one
    assert pickle.loads(pickle.dumps(one)) is one
    assert copy.deepcopy({"random": one})["random"] is one
    assert repr(one) == "RandomState()"
    assert isinstance(one, Stateful)
    with pytest.raises(AttributeError):
        one.more = 1  # type: ignore[attr-defined]


def test_where_numpy_is_not_imported_it_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.delitem(sys.modules, "numpy.random")
        kept = RandomState().state_dict()
    assert set(kept) == {"python", "torch"}
    expected = random.random(), torch.rand(1)
    numbers = np.random.rand()
    RandomState().load_state_dict(kept)
    assert (random.random(), torch.rand(1)) == expected
    assert np.random.rand() != numbers  # it was not touched


def test_each_cuda_device_that_is_in_use_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    states = {0: torch.tensor([1]), 1: torch.tensor([2])}
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: list(states.values()))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(states))
    monkeypatch.setattr(
        torch.cuda, "set_rng_state", lambda state, device: states.__setitem__(device, state)
    )
    kept = through_torch(RandomState().state_dict())
    states.update({0: torch.tensor([8]), 1: torch.tensor([9])})
    RandomState().load_state_dict(kept)
    assert [state.item() for state in states.values()] == [1, 2]
    del states[1]  # a machine with fewer
    RandomState().load_state_dict(kept)
    assert [state.item() for state in states.values()] == [1]


@pytest.mark.parametrize("state", [{}, {"torch": 1}, {"python": {}}])
def test_another_dict_is_refused_before_anything_is_changed(state: Any) -> None:
    expected = draws()
    seed()
    with pytest.raises(KeyError):
        RandomState().load_state_dict(state)
    assert draws() == expected


# In loops.


def draw(batch: int) -> list[float]:
    return [random.random(), torch.rand(()).item(), float(np.random.rand())]


def test_a_step_of_ones_own_goes_on_exactly_with_the_feature() -> None:
    loop = Loop(outputs(draw)) | random_state()
    snapshots, whole = [], []
    for moment in loop.iterate([1, 2, 3], max_epochs=2):
        snapshots.append(loop.snapshot(moment.state))
        whole.append(moment)
    for place, snapshot in enumerate(snapshots):
        seed(9)
        assert list(loop.iterate([1, 2, 3], after=snapshot)) == whole[place + 1 :]


def test_the_feature_and_a_training_step_name_the_same() -> None:
    model = nn.Linear(1, 1)
    step = training_step(model, torch.optim.SGD(model.parameters()), mse_loss)
    assert (Loop(step) | random_state() | random_state()).external == Loop(step).external
    other: Any = Loop(outputs(draw)).with_external(random=model)
    with pytest.raises(NameTaken, match="'random'"):
        other | random_state()


def test_a_run_without_dropout_or_shuffling_leaves_it_alone() -> None:
    model = nn.Linear(1, 1)
    step = training_step(model, torch.optim.SGD(model.parameters()), mse_loss)
    seed()
    expected = draws()
    seed()
    Loop(step).run([(torch.ones(1, 1), torch.ones(1, 1))], max_epochs=2)
    assert draws() == expected


def test_a_snapshot_of_a_training_with_dropout_restores_it() -> None:
    def remade() -> tuple[nn.Module, Loop[tuple[Tensor, Tensor], Tensor, None]]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.5), nn.Linear(8, 1))
        return model, Loop(training_step(model, torch.optim.SGD(model.parameters()), mse_loss))

    data = [(torch.ones(2, 2), torch.ones(2, 1))] * 3
    model, loop = remade()
    half: Any = loop.on(Events.ITERATION_COMPLETED(once=2), State.interrupt).run(data)
    snapshot = loop.snapshot(half)
    first = loop.resume(snapshot, data).output
    torch.manual_seed(5)
    other, again = remade()
    torch.manual_seed(6)
    assert torch.equal(again.resume(snapshot, data).output, first)
    assert all(map(torch.equal, model.parameters(), other.parameters()))


# numpy has them, and does not type them.
get_bit_generator: Any = getattr(np.random, "get_bit_generator")  # noqa: B009
set_bit_generator: Any = getattr(np.random, "set_bit_generator")  # noqa: B009


@pytest.mark.parametrize("kind", ["MT19937", "PCG64", "Philox", "SFC64"])
def test_any_generator_of_numpy_is_kept(kind: str, tmp_path: Path) -> None:
    before = get_bit_generator()
    try:
        set_bit_generator(getattr(np.random, kind)(7))
        np.random.standard_normal()
        torch.save(RandomState().state_dict(), tmp_path / "random.pt")
        wanted = np.random.standard_normal(3)
        RandomState().load_state_dict(torch.load(tmp_path / "random.pt"))
        assert np.array_equal(np.random.standard_normal(3), wanted)
    finally:
        set_bit_generator(before)


class TestOfAnEngine:
    """An Engine that has the random state attached draws after an epoch what a whole run draws."""

    @staticmethod
    def made() -> tuple[Engine, list[tuple[float, float, float]]]:
        drawn: list[tuple[float, float, float]] = []

        def step(engine: Engine, batch: Tensor) -> None:
            drawn.append((batch.item(), random.random(), torch.rand(()).item()))

        engine = Engine(step)
        RandomState().attach(engine)
        return engine, drawn

    @staticmethod
    def loader() -> DataLoader[float]:
        numbers: Any = [float(number) for number in range(5)]
        return DataLoader(numbers, shuffle=True)

    @pytest.mark.parametrize("epochs", [1, 2])
    def test_a_run_that_goes_on_in_another_process_is_the_whole_run(self, epochs: int) -> None:
        seed_all(3)
        engine, whole = self.made()
        engine.run(self.loader(), max_epochs=3)
        seed_all(3)
        engine, first = self.made()
        file = io.BytesIO()
        engine.run(self.loader(), max_epochs=epochs)
        torch.save(dict(engine.state_dict()), file)
        seed_all(99)
        engine, rest = self.made()
        engine.load_state_dict(torch.load(io.BytesIO(file.getvalue())))
        engine.run(self.loader(), max_epochs=3)
        assert first + rest == whole

    def test_a_run_that_goes_on_in_the_same_engine_is_the_whole_run(self) -> None:
        seed_all(3)
        engine, whole = self.made()
        engine.run(self.loader(), max_epochs=3)
        seed_all(3)
        engine, drawn = self.made()
        engine.run(self.loader(), max_epochs=1)
        torch.rand(7)
        engine.run(self.loader(), max_epochs=3)
        assert drawn == whole

    def test_a_run_that_begins_draws_on(self) -> None:
        engine, drawn = self.made()
        engine.run(self.loader())
        engine.run(self.loader())
        assert drawn[:5] != drawn[5:]
        seed_all(3)
        engine.run(self.loader())
        seed_all(3)
        engine.run(self.loader())
        assert drawn[-5:] == drawn[-10:-5]

    def test_what_is_saved_before_a_run_is_put_back_too(self) -> None:
        seed_all(3)
        engine, drawn = self.made()
        kept = engine.state_dict()
        engine.run(self.loader())
        engine.load_state_dict({**kept, "max_epochs": 1, "epoch_length": 5})
        engine.run(self.loader())
        assert drawn[:5] == drawn[5:]

    def test_names_that_are_taken_are_refused(self) -> None:
        engine, _ = self.made()
        with pytest.raises(ValueError, match="has 'random' already; give attach another name="):
            RandomState().attach(engine)
        with pytest.raises(ValueError, match="has 'metrics' already"):
            RandomState().attach(engine, "metrics")
        with pytest.raises(TypeError, match="attached to an Engine"):
            RandomState().attach(3)  # type: ignore[arg-type]
        RandomState().attach(engine, "other")
        assert engine.state_dict_user_keys == ["random", "other"]

    def test_a_checkpoint_of_pytorch_ignite_has_it(self) -> None:
        from ignite.engine import Engine as Theirs

        def run(engine: Any, epochs: int) -> list[float]:
            drawn: list[float] = []
            engine.add_event_handler("ITERATION_COMPLETED", lambda: drawn.append(random.random()))
            engine.run([1, 2], max_epochs=epochs)
            return drawn

        seed_all(3)
        whole: Any = Theirs(lambda engine, batch: None)
        RandomState().attach(whole)
        expected = run(whole, 2)
        seed_all(3)
        half: Any = Theirs(lambda engine, batch: None)
        RandomState().attach(half)
        first, kept = run(half, 1), half.state_dict()
        rest: Any = Theirs(lambda engine, batch: None)
        RandomState().attach(rest)
        rest.load_state_dict(kept)
        assert first + run(rest, 2) == expected
