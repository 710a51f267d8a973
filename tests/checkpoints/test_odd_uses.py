"""Uses that are odd and allowed: none of them loses anything without a word."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from typing_extensions import override

from fengine import Events, Loop, State, outputs, tap
from fengine.checkpoints import (
    Best,
    CheckpointError,
    Checkpoints,
    Preemption,
    manifest,
    stores,
    weights,
)
from fengine.checkpoints.__main__ import main
from fengine.engine import Engine
from fengine.engine import Events as EngineEvents
from fengine.training import RandomState, windows

DOUBLING: Loop[Any, Any, None] = Loop(outputs(lambda batch: 2 * batch))


def shuffled() -> Any:
    items: Any = list(range(8))
    return DataLoader(items, batch_size=2, shuffle=True)


class Cloning(nn.Linear):
    """A module whose state is a copy, as of one that moves it elsewhere."""

    @override
    def state_dict(self, *args: Any, **keywords: Any) -> Any:
        return {name: one.clone() for name, one in super().state_dict(*args, **keywords).items()}


class Counting(nn.Linear):
    """A module with a state of its own beside its tensors, which grows."""

    def __init__(self) -> None:
        super().__init__(1, 1)
        self.seen: list[float] = []

    @override
    def get_extra_state(self) -> Tensor:
        return torch.tensor(self.seen)

    @override
    def set_extra_state(self, state: Tensor) -> None:
        self.seen = state.tolist()


class Refusing(nn.Linear):
    @override
    def load_state_dict(self, *args: Any, **keywords: Any) -> Any:
        raise ValueError("not today")


def cloned_by_a_hook() -> nn.Module:
    def clone(module: Any, state: dict[str, Any], prefix: str, metadata: Any) -> None:
        state.update({name: one.clone() for name, one in state.items()})

    model = nn.Linear(2, 2)
    hooked: Any = model
    hooked.register_state_dict_post_hook(clone)
    return model


@pytest.mark.parametrize(
    "make",
    [
        lambda: Cloning(2, 2),
        cloned_by_a_hook,
        lambda: nn.utils.spectral_norm(nn.Linear(2, 2)),
        lambda: nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)),
    ],
    ids=["own method", "hook", "spectral norm", "weight norm"],
)
def test_a_module_takes_up_its_state_however_it_gives_it(
    tmp_path: Path, make: Callable[[], nn.Module]
) -> None:
    first, second = make(), make()
    Checkpoints(tmp_path).run(DOUBLING.with_external(model=first), [1])
    Checkpoints(tmp_path).run(DOUBLING.with_external(model=second), [1])
    assert all(map(torch.equal, first.parameters(), second.parameters()))


def test_a_state_beside_the_tensors_of_a_module_is_taken_up(tmp_path: Path) -> None:
    first, second = Counting(), Counting()
    first.seen = [1.0, 2.0]
    Checkpoints(tmp_path).run(DOUBLING.with_external(model=first), [1])
    Checkpoints(tmp_path).run(DOUBLING.with_external(model=second), [1])
    assert second.seen == [1.0, 2.0]


def test_what_a_module_does_after_loading_is_done(tmp_path: Path) -> None:
    calls: list[object] = []
    model = nn.Linear(1, 1)
    hooked: Any = model
    hooked.register_load_state_dict_post_hook(lambda module, keys: calls.append(module))
    Checkpoints(tmp_path).run(DOUBLING.with_external(model=model), [1])
    Checkpoints(tmp_path).run(DOUBLING.with_external(model=model), [1])
    assert calls == [model]


def test_a_module_that_refuses_its_state_leaves_the_others_as_they_were(tmp_path: Path) -> None:
    things: dict[str, Any] = {"model": nn.Linear(1, 1), "other": Refusing(1, 1)}
    Checkpoints(tmp_path).run(DOUBLING.with_external(**things), [1])
    model = nn.Linear(1, 1)
    before = model.weight.clone()
    with pytest.raises(ValueError, match="not today") as caught:
        Checkpoints(tmp_path).run(
            DOUBLING.with_external(model=model, other=Refusing(1, 1)), [1], max_epochs=2
        )
    assert torch.equal(model.weight, before)
    assert "in restoring external['other']" in caught.value.__notes__


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_shuffled_loader_goes_on_at_the_end_of_an_epoch(tmp_path: Path, wrapped: bool) -> None:
    def run(folder: str, fails_at: int | None = None) -> list[str]:
        seen: list[str] = []

        def fail(state: State[Any, Any]) -> State[Any, Any]:
            if state.iteration == fails_at:
                raise RuntimeError("the machine is gone")
            return state

        loader = shuffled()
        loop: Any = Loop(outputs(lambda batch: seen.append(repr(batch))))
        loop = loop.with_external(random=RandomState()).on(Events.ITERATION_COMPLETED, fail)
        data = windows(loader, 2) if wrapped else loader
        if fails_at is None:
            Checkpoints(tmp_path / folder).run(loop, data, max_epochs=3)
        else:
            with pytest.raises(RuntimeError, match="the machine is gone"):
                Checkpoints(tmp_path / folder).run(loop, data, max_epochs=3)
        return seen

    torch.manual_seed(3)
    whole = run("whole")
    length = len(whole) // 3
    torch.manual_seed(3)
    run("parts", fails_at=length + 1)
    torch.manual_seed(99)
    assert run("parts") == whole[length:]


def test_a_complete_run_over_a_shuffled_loader_gets_longer(tmp_path: Path) -> None:
    loader = shuffled()
    Checkpoints(tmp_path).run(DOUBLING, loader, max_epochs=1)
    assert Checkpoints(tmp_path).run(DOUBLING, loader, max_epochs=3).iteration == 12


def test_a_shuffled_loader_is_replayed_within_an_epoch_where_that_is_asked_for(
    tmp_path: Path,
) -> None:
    loader = shuffled()
    loop = DOUBLING.on(Events.ITERATION_COMPLETED(once=6), State.interrupt)
    checkpoints = Checkpoints(tmp_path)
    with pytest.warns(UserWarning, match="goes on with replay=True only"):
        checkpoints.run(loop, loader, max_epochs=3)
    with pytest.raises(ValueError, match="replay=True"):
        checkpoints.run(loop, loader, max_epochs=3)
    assert checkpoints.run(loop, loader, max_epochs=3, replay=True).iteration == 12


@pytest.mark.parametrize("failing", [1, 2, 3])
def test_a_save_that_fails_in_the_background_takes_no_other_with_it(
    tmp_path: Path, failing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[Path] = []
    flush = stores.flush

    def fail(path: Path) -> None:
        if path.name == manifest.MANIFEST:
            flushed.append(path)
            if len(flushed) == failing:
                raise OSError(28, "full")
        flush(path)

    monkeypatch.setattr(stores, "flush", fail)
    checkpoints = Checkpoints(
        tmp_path,
        background=True,
        on_error="warn",
        every=Events.ITERATION_COMPLETED,
        keep=None,
    )
    with pytest.warns(UserWarning, match="No space left"):
        checkpoints.run(DOUBLING, [1, 2, 3])
    kept = {one.iteration for one in checkpoints.kept()}
    assert kept == {1, 2, 3} - ({failing} - {3})
    assert checkpoints.kept()[-1].status == "completed"


def test_a_fork_that_trains_on_is_refused_and_does_not_wait(tmp_path: Path) -> None:
    parent, codes = os.getpid(), []
    checkpoints = Checkpoints(tmp_path, background=True, every=Events.ITERATION_COMPLETED)

    def fork(state: State[Any, Any]) -> None:
        if state.iteration == 2 and os.getpid() == parent:
            child = os.fork()
            if child:
                codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    try:
        checkpoints.run(DOUBLING.on(Events.ITERATION_COMPLETED, tap(fork)), [1, 2, 3])
    except CheckpointError as error:
        if os.getpid() != parent:
            os._exit(7 if "fork" in str(error) else 1)
        raise
    finally:
        if os.getpid() != parent:
            os._exit(1)
    assert codes == [7]
    assert [one.iteration for one in checkpoints.kept()] == [2, 3]


def test_a_signal_may_be_named_twice() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Preemption(signal.SIGTERM, signal.SIGTERM) as preemption:
        os.kill(os.getpid(), signal.SIGTERM)
    assert preemption.asked
    assert signal.getsignal(signal.SIGTERM) == before


def test_what_a_newer_fengine_wrote_is_never_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as newer:
        newer.setattr(manifest, "FORMAT", manifest.FORMAT + 1)
        Checkpoints(tmp_path).run(DOUBLING, [1])
    before = sorted(tmp_path.glob("step-*"))
    assert main([str(tmp_path), "--remove-broken"]) == 1
    assert sorted(tmp_path.glob("step-*")) == before != []
    assert "newer fengine" in capsys.readouterr().err


def test_background_is_yes_or_no(tmp_path: Path) -> None:
    wrong: Any = "yes"
    with pytest.raises(TypeError, match="background='yes'"):
        Checkpoints(tmp_path, background=wrong)


def engine() -> Engine:
    return Engine(lambda engine, batch: None)


@pytest.mark.parametrize("value", [0.5, np.float32(0.5), torch.tensor(0.5)])
def test_a_metric_of_an_engine_is_any_one_number(tmp_path: Path, value: Any) -> None:
    one, checkpoints = engine(), Checkpoints(tmp_path, best=Best("accuracy", mode="max"))

    @one.on(EngineEvents.EPOCH_COMPLETED)
    def measure() -> None:
        one.state.metrics["accuracy"] = value

    checkpoints.attach(one, {})
    one.run([1], max_epochs=1)
    best = checkpoints.best_kept()
    assert best is not None
    assert best.metrics["accuracy"] == 0.5


def test_an_engine_that_never_sets_the_metric_says_so(tmp_path: Path) -> None:
    one = engine()
    Checkpoints(tmp_path, best=Best("accuracy", mode="max")).attach(one, {})
    with pytest.warns(UserWarning, match="'accuracy' was never set"):
        one.run([1], max_epochs=1)


def test_an_engine_that_has_ended_as_the_signal_came_ends_the_process(tmp_path: Path) -> None:
    one = engine()
    with Preemption() as preemption:
        one.add_event_handler(EngineEvents.COMPLETED, lambda: os.kill(os.getpid(), signal.SIGTERM))
        checkpoints = Checkpoints(tmp_path, preemption=preemption)
        checkpoints.attach(one, {})
        with pytest.raises(SystemExit) as caught:
            one.run([1, 2], max_epochs=1)
    assert caught.value.code == 143
    assert [kept.iteration for kept in checkpoints.kept()] == [2]


@pytest.mark.parametrize(
    "at",
    [
        EngineEvents.ITERATION_STARTED,
        "ITERATION_STARTED",
        EngineEvents.GET_BATCH_COMPLETED(every=2),
        EngineEvents.EPOCH_COMPLETED | EngineEvents.ITERATION_STARTED,
    ],
)
def test_an_engine_is_not_saved_where_a_batch_is_due(tmp_path: Path, at: Any) -> None:
    with pytest.raises(ValueError, match="before the step is done with its batch"):
        Checkpoints(tmp_path).attach(engine(), {}, at=at)


def test_the_things_of_an_engine_have_names(tmp_path: Path) -> None:
    wrong: Any = [nn.Linear(1, 1)]
    with pytest.raises(TypeError, match="does not name the things"):
        Checkpoints(tmp_path).attach(engine(), wrong)


def test_weights_of_an_engine_are_read_by_name(tmp_path: Path) -> None:
    one = engine()
    Checkpoints(tmp_path).attach(one, {"model": nn.Linear(1, 1)})
    one.run([1], max_epochs=1)
    assert list(weights(tmp_path, "model")) == ["weight", "bias"]
    with pytest.raises(CheckpointError, match=r"nothing named 'modle'.*: model"):
        weights(tmp_path, "modle")
