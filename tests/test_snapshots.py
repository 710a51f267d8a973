"""Snapshots of real trainings: what `external` names is saved, restored and forked exactly."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import attrs
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from typing_extensions import override

from fengine import (
    SKIP_BATCH,
    Events,
    Loop,
    NameTaken,
    Recorder,
    Snapshot,
    State,
    diff,
    last_state,
    outputs,
    stages,
    tap,
)
from fengine.training import Shuffled, training_step

EPOCHS, BATCHES = 3, 3  # of four items


class TorchRandom:
    """Have the random generator of torch saved and restored with a run."""

    def state_dict(self) -> dict[str, Tensor]:
        return {"state": torch.get_rng_state()}

    def load_state_dict(self, state_dict: dict[str, Tensor]) -> None:
        torch.set_rng_state(state_dict["state"])


class Noisy(TensorDataset):
    """Augment by chance."""

    @override
    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        x, y = (tensor[index] for tensor in self.tensors)
        return x + 0.1 * torch.randn_like(x), y


@attrs.define
class Training:
    """A training with everything that makes going on hard."""

    loop: Any
    loader: Any
    model: nn.Module
    optimizer: Any
    steps: int = 0

    def weights(self) -> dict[str, Tensor]:
        return copy.deepcopy(self.model.state_dict())


def training() -> Training:
    torch.manual_seed(3)
    x = torch.randn(4 * BATCHES, 4)
    data = Noisy(x, x.sum(dim=1, keepdim=True))
    loader = DataLoader(data, batch_size=4, sampler=Shuffled(data, seed=1))
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.3), nn.BatchNorm1d(8), nn.Linear(8, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    step = training_step(model, optimizer, nn.functional.mse_loss)
    loop: Any = (
        Loop(step)
        .with_external(scheduler=scheduler)
        .on(Events.EPOCH_COMPLETED, tap(lambda state: scheduler.step()))
    )
    return Training(loop, loader, model, optimizer)


# What torch says where the scheduler is the first to step in a process.
@pytest.mark.filterwarnings("ignore:Detected call of .lr_scheduler.step")
def test_a_training_goes_on_exactly_from_every_event(tmp_path: Path) -> None:
    first = training()
    taken = [
        (moment, first.loop.snapshot(moment.state))
        for moment in first.loop.iterate(first.loader, max_epochs=EPOCHS)
        if moment.event in Events.all()
    ]
    (last, final), weights = taken[-1], first.weights()
    for moment, snapshot in taken:
        # The noise in a batch is drawn by chance, so that it would be another one.
        torch.save(snapshot.to_dict(batch=identity), tmp_path / "run.pt")
        again = training()
        read: Any = Snapshot.from_dict(
            torch.load(tmp_path / "run.pt", weights_only=True), events=again.loop.registry
        )
        end = [moment, *again.loop.iterate(again.loader, after=read)][-1]
        assert not diff(end.state.evolve(batch=None), last.state.evolve(batch=None))
        assert not diff(weights, again.weights())
        assert not diff(final.external["optimizer"], again.optimizer.state_dict())


def identity(batch: Any) -> Any:
    return batch


def test_a_training_step_names_what_it_changes_and_the_loop_the_rest() -> None:
    one = training()
    assert sorted(one.loop.external) == ["model", "optimizer", "random", "scheduler"]
    assert one.loop.external["model"] is one.model
    assert one.loop.external["optimizer"] is one.optimizer


def of_own_step(*, with_random: bool) -> Training:
    """Make the same training with a step that names nothing, so that the loop has to."""
    one = training()

    def train_on(batch: tuple[Tensor, Tensor]) -> Tensor:
        one.optimizer.zero_grad()
        loss = nn.functional.mse_loss(one.model(batch[0]), batch[1])
        loss.backward()  # type: ignore[no-untyped-call]  # torch declares no types
        one.optimizer.step()
        return loss.detach()

    external: dict[str, Any] = {"model": one.model, "optimizer": one.optimizer}
    if with_random:
        external["random"] = TorchRandom()
    return attrs.evolve(one, loop=Loop(outputs(train_on)).with_external(**external))


@pytest.mark.parametrize("with_random", [True, False])
def test_what_is_named_is_restored_and_nothing_else(with_random: bool) -> None:
    first = of_own_step(with_random=with_random)
    moments = first.loop.iterate(first.loader, max_epochs=EPOCHS)
    snapshot = next(first.loop.snapshot(m.state) for m in moments if m.state.epoch == 2)
    list(moments)
    again = of_own_step(with_random=with_random)
    again.loop.resume(snapshot, again.loader)
    assert bool(diff(first.weights(), again.weights())) is not with_random


def test_nothing_is_restored_of_a_state_alone() -> None:
    first = training()
    moments = list(first.loop.iterate(first.loader, max_epochs=EPOCHS))
    fifth = next(m for m in moments if m.state.epoch == 2)
    again = training()
    again.loop.resume(fifth.state, again.loader)
    assert diff(first.weights(), again.weights())


def test_a_snapshot_is_apart_from_the_training() -> None:
    one = training()
    moments = one.loop.iterate(one.loader, max_epochs=EPOCHS)
    state = next(m for m in moments if m.state.epoch == 2).state
    snapshot = one.loop.snapshot(state)
    before = copy.deepcopy(snapshot)
    list(moments)
    assert not diff(before, snapshot)
    first = one.loop.resume(snapshot, one.loader)  # an optimizer keeps what it is given
    weights = one.weights()
    assert not diff(before, snapshot)
    assert one.loop.resume(snapshot, one.loader) == first
    assert not diff(weights, one.weights())


def test_a_fork_trains_on_with_two_learning_rates() -> None:
    def with_rate(one: Training, rate: float) -> Any:
        def set_rate(state: State[Any, Any]) -> None:
            for group in one.optimizer.param_groups:
                group["lr"] = rate

        return one.loop.on(Events.EPOCH_STARTED(once=3), tap(set_rate))

    trained = training()
    calls: list[int] = []
    trained.loop = trained.loop.on(
        Events.ITERATION_STARTED, tap(lambda state: calls.append(state.iteration))
    )
    recorder = Recorder(trained.loop, batches=False, outputs=False)
    recorder.loop.run(trained.loader, max_epochs=2)
    second = next(
        entry
        for entry in recorder.entries
        if entry.event is Events.EPOCH_COMPLETED and entry.state.epoch == 2
    )
    assert calls == list(range(1, 2 * BATCHES + 1))
    for rate in (0.1, 0.001):
        calls.clear()
        extended = attrs.evolve(second.snapshot, state=second.state.with_limits(max_epochs=EPOCHS))
        with_rate(trained, rate).resume(extended, trained.loader)
        assert calls == [7, 8, 9]  # what was trained before is not trained again
        whole = training()
        with_rate(whole, rate).run(whole.loader, max_epochs=EPOCHS)
        assert not diff(whole.weights(), trained.weights())


def test_a_recorder_copies_what_has_changed_alone() -> None:
    one = training()
    recorder = Recorder(one.loop)
    recorder.loop.run(one.loader, max_epochs=1)
    saved = [entry.snapshot.external for entry in recorder.entries if entry.snapshot.external]
    assert len({id(external["model"]) for external in saved}) == 1 + BATCHES
    assert len(saved) > 15


def test_a_recorder_keeps_the_moments_before_an_exception() -> None:
    one = training()

    def fail(state: State[Any, Any]) -> None:
        raise ValueError("broken")

    loop = one.loop.on(Events.ITERATION_COMPLETED(once=5), tap(fail))
    recorder = Recorder(loop, last=6)
    with pytest.raises(ValueError, match="broken"):
        recorder.loop.run(one.loader, max_epochs=EPOCHS)
    started = recorder.entries[-3]
    assert (started.event.name, started.state.iteration) == ("update_completed", 5)
    ahead = recorder.entries[0]
    assert ahead.event is Events.ITERATION_STARTED
    mended = one.loop.resume(ahead.snapshot, one.loader)
    assert mended.iteration == EPOCHS * BATCHES


def test_a_step_that_has_begun_cannot_be_gone_on_from() -> None:
    one = training()
    within = next(
        moment
        for moment in one.loop.iterate(one.loader)
        if moment.event.name == "backprop_completed"
    )
    with pytest.raises(ValueError, match=r"within the step, which has changed external \['model'"):
        one.loop.snapshot(within.state)
    recorder = Recorder(one.loop)
    recorder.loop.run(one.loader)
    entry = next(e for e in recorder.entries if e.event == within.event)
    with pytest.raises(ValueError, match="go on from ITERATION_STARTED"):
        one.loop.resume(entry.snapshot, one.loader)


def test_a_step_that_has_failed_cannot_be_gone_on_from() -> None:
    def fail(batch: object) -> None:
        raise ValueError("broken")

    loop: Any = Loop(outputs(fail)).with_external(model=MODEL)
    with pytest.raises(ValueError, match="broken") as raised:
        loop.run([1])
    with pytest.raises(ValueError, match="within the step"):
        loop.snapshot(last_state(raised.value))
    skipping = loop.on(Events.EXCEPTION_RAISED, lambda state, error: state.recover(SKIP_BATCH))
    recorder = Recorder(skipping)
    final = recorder.loop.run([1])
    answered = next(e for e in recorder.entries if e.event is Events.EXCEPTION_RAISED)
    assert skipping.resume(answered.snapshot, [1]) == final


# What cannot be saved and restored is refused where the loop is made; what does not fit, before
# anything is restored.

MODEL = nn.Linear(1, 1)
LOOP: Any = Loop(outputs(lambda batch: batch)).with_external(model=MODEL)


@pytest.mark.parametrize(
    ("external", "words"),
    [
        ({"model": nn.Linear}, "model=the class Linear has no state_dict"),
        ({"rate": 0.1}, "rate=0.1 has no state_dict"),
    ],
    ids=["class", "number"],
)
def test_external_things_that_are_none(external: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        Loop(outputs(abs)).with_external(**external)
    with pytest.raises(TypeError, match=words):
        stages(lambda state: state.batch).changing(**external)


def test_external_things_are_told_apart_by_identity() -> None:
    function: Any = outputs(abs)
    one, other = nn.Linear(1, 1), nn.Linear(1, 1)
    assert Loop(function).with_external(model=one) == Loop(function).with_external(model=one)
    assert hash(Loop(function).with_external(m=one)) == hash(Loop(function).with_external(m=one))
    assert Loop(function).with_external(model=one) != Loop(function).with_external(model=other)
    assert Loop(function).with_external(model=one) != Loop(function)


class Unhashable(dict[str, Any]):
    def state_dict(self) -> dict[str, Any]:
        return dict(self)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.update(state_dict)


def test_external_things_need_no_hash() -> None:
    loop: Loop[Any, Any] = Loop(outputs(abs)).with_external(notes=Unhashable())
    assert hash(loop) == hash(loop)
    assert pickle.loads(pickle.dumps(loop)).external["notes"] == {}


def test_the_mapping_is_copied() -> None:
    external: dict[str, Any] = {"model": MODEL}
    loop: Loop[Any, Any] = Loop(outputs(abs)).with_external(**external)
    external.clear()
    assert list(loop.external) == ["model"]


def test_joined_loops_name_what_both_name() -> None:
    model, other = nn.Linear(1, 1), nn.Linear(1, 1)
    step: Any = outputs(abs)
    with_model: Any = Loop(step).with_external(model=model)
    both = with_model | Loop().with_external(other=other, model=model)
    assert dict(both.external) == {"model": model, "other": other}
    with pytest.raises(NameTaken, match="two have the thing outside the state 'model'"):
        with_model | Loop().with_external(model=other)
    with pytest.raises(NameTaken, match=r"'model'.*give one of them another name"):
        with_model.with_external(model=other)


def test_a_step_and_its_loop_name_one_thing_by_one_name() -> None:
    model, other = nn.Linear(1, 1), nn.Linear(1, 1)
    step: Any = stages(lambda state: state.batch).changing(model=model)
    assert dict(Loop(step).external) == {"model": model}
    assert dict(Loop(step).with_external(model=model, other=other).external) == {
        "model": model,
        "other": other,
    }
    with pytest.raises(NameTaken, match="two have the thing outside the state 'model'"):
        Loop(step).with_external(model=other)
    with pytest.raises(NameTaken, match="two have the thing outside the state 'model'"):
        Loop(step) | Loop().with_external(model=other)
    with pytest.raises(ValueError, match="the stages change model="):
        step.changing(model=other)


@pytest.mark.parametrize("names", [(), ("model", "optimizer"), ("Model",)], ids=str)
def test_a_snapshot_of_other_things_is_refused(names: tuple[str, ...]) -> None:
    snapshot = LOOP.snapshot(LOOP.run([1, 2]))
    other: Any = Loop(outputs(abs)).with_external(**{name: nn.Linear(1, 1) for name in names})
    before = {name: copy.deepcopy(thing.state_dict()) for name, thing in other.external.items()}
    for go_on in (other.resume, lambda after, data: other.iterate(data, after=after)):
        with pytest.raises(ValueError, match=r"external \['model'\], but the loop names"):
            go_on(snapshot, [1, 2])
    after = {name: thing.state_dict() for name, thing in other.external.items()}
    assert not diff(before, after)


def test_nothing_is_restored_where_one_thing_refuses() -> None:
    class Refusing:
        def state_dict(self) -> dict[str, int]:
            return {}

        def load_state_dict(self, state_dict: dict[str, int]) -> None:
            raise RuntimeError("not me")

    first = nn.Linear(1, 1)
    loop: Any = Loop(outputs(lambda batch: batch)).with_external(first=first, second=Refusing())
    snapshot = loop.snapshot(LOOP.run([1, 2]))
    nn.init.zeros_(first.weight)
    before = copy.deepcopy(first.state_dict())
    with pytest.raises(RuntimeError, match="not me") as raised:
        loop.resume(snapshot, [1, 2])
    assert any("external['second'] is not put back" in n for n in raised.value.__notes__)
    assert not diff(before, first.state_dict())


def test_what_a_module_lacks_and_what_is_too_much_is_listed() -> None:
    def make(*widths: int) -> Any:
        layers = [nn.BatchNorm1d(width, affine=False) for width in widths]
        return Loop(outputs(lambda batch: batch)).with_external(model=nn.Sequential(*layers))

    snapshot = make(2, 1).snapshot(LOOP.run([1, 2]))
    other = make(3, 1, 1)
    with pytest.raises(ValueError, match="does not fit") as raised:
        other.resume(snapshot, [1, 2])
    said = str(raised.value)
    assert ".0.running_mean was float32 of shape (2,), and is float32 of shape (3,)" in said
    assert "external['model'].2.running_mean is not in the snapshot" in said
    with pytest.raises(ValueError, match=r"\.1\.running_mean is in the snapshot alone"):
        make(2).resume(snapshot, [1, 2])


class Walking:
    """Data that knows its place."""

    at = 0

    def __iter__(self) -> Iterator[int]:
        yield from range(self.at, 3)

    def state_dict(self) -> dict[str, int]:
        return {"at": 2}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.at = state_dict["at"]


class Refusing(Walking):
    @override
    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        raise ValueError("not now")


def test_what_could_not_be_put_back_is_named() -> None:
    class Once(Walking):
        @override
        def load_state_dict(self, state_dict: dict[str, int]) -> None:
            super().load_state_dict(state_dict)
            self.load_state_dict = Refusing().load_state_dict  # type: ignore[method-assign]

    loop: Any = Loop(outputs(abs)).with_external(a=Once(), b=Refusing())
    with pytest.raises(ValueError, match="not now") as raised:
        loop.resume(loop.snapshot(loop.run([1, 2])), [1, 2])
    notes = "\n".join(raised.value.__notes__)
    assert "in restoring external['b']" in notes
    assert "external['a'] is not put back, which raised ValueError('not now')" in notes


def test_the_data_stays_where_it_is_if_a_thing_refuses() -> None:
    loop: Any = Loop(outputs(abs)).with_external(thing=Refusing())
    data = Walking()
    snapshot = loop.snapshot(next(m for m in loop.iterate(data) if m.state.iteration).state, data)
    with pytest.raises(ValueError, match="not now"):
        loop.resume(snapshot, data)
    assert data.at == 0


def test_nothing_is_restored_where_the_data_refuses() -> None:
    thing = Walking()
    loop: Any = Loop(outputs(abs)).with_external(thing=thing)
    data = Refusing()
    snapshot = loop.snapshot(next(m for m in loop.iterate(data) if m.state.iteration).state, data)
    thing.at = 1
    thing.state_dict = lambda: {"at": 1}  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="not now"):
        loop.resume(snapshot, data)
    assert thing.at == 1


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (0.0, -0.0),
        (1, True),
        (1, 1.0),
        (torch.zeros(1), -torch.zeros(1)),
        (torch.zeros(2, 3), torch.zeros(3, 2).T),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ([1], [1, 2]),
        ([1], (1,)),
    ],
    ids=str,
)
def test_a_recorder_keeps_the_least_change(before: object, after: object) -> None:
    thing = Walking()
    states = [before, after, copy.deepcopy(after)]
    thing.state_dict = lambda: {"of": cast("int", states[0])}  # type: ignore[method-assign]
    loop: Any = Loop(outputs(lambda batch: states.pop(0))).with_external(thing=thing)
    recorder = Recorder(loop)
    recorder.loop.run([1, 2])
    kept = {
        one.state.iteration: one.snapshot.external["thing"]
        for one in recorder.entries
        if one.event is Events.ITERATION_COMPLETED
    }
    first: Any = recorder.entries[0].snapshot.external["thing"]
    assert first["of"] is not kept[1]
    assert repr(kept[1]) == repr({"of": after})
    assert kept[2] is kept[1]


def test_a_pulled_run_restores_with_its_first_moment() -> None:
    moments = LOOP.iterate([1, 2])
    snapshot = LOOP.snapshot(next(moments).state)
    with torch.no_grad():
        MODEL.weight.add_(1)
    rest = LOOP.iterate([1, 2], after=snapshot)
    assert diff(snapshot.external["model"], MODEL.state_dict())
    next(rest)
    assert not diff(snapshot.external["model"], MODEL.state_dict())


def test_data_is_not_told_its_place_twice() -> None:
    data = Walking()
    loop: Any = Loop(outputs(abs)).with_external(data=data)
    with pytest.raises(ValueError, match=r"the data is external\['data'\] too"):
        loop.resume(loop.snapshot(loop.run(data), data), data)


def test_a_state_alone_restores_nothing() -> None:
    state = next(LOOP.iterate([1, 2])).state
    before = copy.deepcopy(MODEL.state_dict())
    with torch.no_grad():
        MODEL.weight.add_(1)
    LOOP.resume(state, [1, 2])
    assert [part.path for part in diff(before, MODEL.state_dict())] == ["weight"]


@pytest.mark.parametrize("thing", [None, 3, {}, "state"], ids=repr)
def test_what_is_no_state_is_refused(thing: Any) -> None:
    with pytest.raises(TypeError, match="not a State"):
        LOOP.snapshot(thing)
    with pytest.raises(TypeError, match="not a State"):
        LOOP.resume(thing, [1])


def test_snapshots_compare_by_what_they_hold() -> None:
    state = next(LOOP.iterate([1, 2])).state
    one, other = LOOP.snapshot(state), LOOP.snapshot(state)
    assert one == other
    assert one != "snapshot"
    assert one != attrs.evolve(one, position=3)
    with torch.no_grad():
        MODEL.weight.add_(1)
    later = LOOP.snapshot(state)
    assert one != later
    assert "external.model.weight: Tensor float32 of shape (1, 1): 1 of 1 elements differ" in str(
        diff(one, later)
    )
    with pytest.raises(TypeError, match="unhashable"):
        hash(one)


def test_a_recorder_is_for_one_run() -> None:
    recorder = Recorder(LOOP)
    recorder.loop.run([1])
    before = recorder.entries
    with pytest.raises(RuntimeError, match="holds a run already"):
        recorder.loop.run([1])
    assert recorder.entries[: len(before)] == before
