"""The checkpoints of an Engine."""

from __future__ import annotations

import os
import signal
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fengine import Events as LoopEvents
from fengine import diff
from fengine.checkpoints import Best, CheckpointError, Checkpoints, Preemption
from fengine.engine import DeterministicEngine, Engine, Events
from fengine.training import RandomState


class Job:
    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(2, 4), nn.Dropout(0.5), nn.Linear(4, 1))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.1)
        self.engine = Engine(self.step)
        self.things: dict[str, Any] = {
            "model": self.model,
            "optimizer": self.optimizer,
            "random": RandomState(),
        }

    def step(self, engine: Engine, batch: torch.Tensor) -> float:
        self.optimizer.zero_grad()
        loss = self.model(batch).pow(2).mean()
        loss.backward()
        self.optimizer.step()
        engine.state.metrics["loss"] = loss.item()
        return float(loss.detach())


DATA = [torch.randn(3, 2, generator=torch.Generator().manual_seed(number)) for number in range(4)]


def test_a_run_that_failed_goes_on_from_the_end_of_its_last_epoch(tmp_path: Path) -> None:
    whole = Job()
    whole.engine.run(DATA, max_epochs=5)
    job = Job()
    Checkpoints(tmp_path).attach(job.engine, job.things)

    @job.engine.on(Events.ITERATION_STARTED(once=10))
    def fail(engine: Engine) -> None:
        raise RuntimeError("the machine is gone")

    with pytest.raises(RuntimeError):
        job.engine.run(DATA, max_epochs=5)
    del job, fail
    again = Job()
    checkpoints = Checkpoints(tmp_path)
    kept = checkpoints.restore(again.engine, again.things)
    assert kept is not None
    assert (kept.epoch, again.engine.state.iteration) == (2, 8)
    checkpoints.attach(again.engine, again.things)
    again.engine.run(DATA, max_epochs=5)
    assert not diff(dict(whole.model.state_dict()), dict(again.model.state_dict()))
    assert [one.epoch for one in checkpoints.kept()] == [4, 5]


def test_the_best_stay_by_the_metrics_of_the_engine(tmp_path: Path) -> None:
    job = Job()
    values = [3.0, 1.0, 2.0]
    job.engine.add_event_handler(
        Events.EPOCH_COMPLETED,
        lambda engine: engine.state.metrics.update(loss=values[engine.state.epoch - 1]),
    )
    checkpoints = Checkpoints(tmp_path, keep=1, best=Best("loss", mode="min"))
    checkpoints.attach(job.engine, job.things)
    job.engine.run(DATA, max_epochs=3)
    assert [one.epoch for one in checkpoints.kept()] == [2, 3]


def test_a_filtered_event_of_the_engine_may_be_named(tmp_path: Path) -> None:
    job = Job()
    checkpoints = Checkpoints(tmp_path, keep=None)
    checkpoints.attach(job.engine, job.things, at=Events.ITERATION_COMPLETED(every=3))
    job.engine.run(DATA, max_epochs=2)
    assert [one.iteration for one in checkpoints.kept()] == [3, 6, 8]
    filtered = Checkpoints(tmp_path, every=LoopEvents.ITERATION_COMPLETED(every=3))
    with pytest.raises(ValueError, match=r"attach\(engine, to_save, at="):
        filtered.attach(job.engine, job.things)


def test_a_signal_pauses_the_engine_saves_and_ends_the_process(tmp_path: Path) -> None:
    whole = Job()
    whole.engine.run(DATA, max_epochs=2)
    job = Job()

    @job.engine.on(Events.ITERATION_STARTED(once=4))
    def ask(engine: Engine) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    with Preemption() as preemption:
        Checkpoints(tmp_path, preemption=preemption).attach(job.engine, job.things)
        with pytest.raises(SystemExit) as asked:
            job.engine.run(DATA, max_epochs=2)
    assert asked.value.code == 143
    again = Job()
    kept = Checkpoints(tmp_path).restore(again.engine, again.things)
    assert kept is not None
    assert kept.iteration == 4
    again.engine.run(DATA, max_epochs=2)
    assert not diff(dict(whole.model.state_dict()), dict(again.model.state_dict()))


def test_what_does_not_fit_is_refused_whole(tmp_path: Path) -> None:
    job = Job()
    checkpoints = Checkpoints(tmp_path)
    checkpoints.attach(job.engine, job.things)
    job.engine.run(DATA, max_epochs=1)
    other = Job()
    other.things["optimizer"] = torch.optim.Adam(other.model.parameters())
    before = {name: one.clone() for name, one in other.model.state_dict().items()}
    with pytest.raises(CheckpointError, match="was a AdamW, and is a Adam here"):
        checkpoints.restore(other.engine, other.things)
    del other.things["optimizer"]
    with pytest.raises(CheckpointError, match=r"states of \['model', 'optim.*, and to_load names"):
        checkpoints.restore(other.engine, other.things)
    assert not diff(before, dict(other.model.state_dict()))
    assert other.engine.state.iteration == 0


def test_a_folder_of_another_run_and_an_empty_one(tmp_path: Path) -> None:
    job = Job()
    Checkpoints(tmp_path).attach(job.engine, job.things)
    job.engine.run(DATA, max_epochs=1)
    other = Job()
    Checkpoints(tmp_path).attach(other.engine, other.things)
    with pytest.raises(CheckpointError, match="checkpoints of another run"):
        other.engine.run(DATA, max_epochs=1)
    assert Checkpoints(tmp_path / "none").restore(other.engine, other.things) is None
    with pytest.raises(TypeError, match="is attached to an Engine"):
        Checkpoints(tmp_path).attach(3, {})  # type: ignore[arg-type]


def writing_threads() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name.startswith("checkpoints")]


def never(engine: Engine) -> None:
    raise RuntimeError("the machine is gone")


def take(engine: Engine, error: Exception) -> None:
    assert "gone" in str(error)


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("ending", ["fails", "fails, and a handler takes it", "skips COMPLETED"])
def test_a_run_lets_go_of_its_folder_however_it_ends(
    tmp_path: Path, ending: str, background: bool
) -> None:
    job = Job()
    Checkpoints(tmp_path, background=background).attach(job.engine, job.things)
    at = Events.ITERATION_STARTED(once=10)
    if ending == "skips COMPLETED":
        job.engine.add_event_handler(at, lambda engine: engine.terminate(skip_completed=True))
        job.engine.run(DATA, max_epochs=5)
    elif ending == "fails":
        job.engine.add_event_handler(at, never)
        with pytest.raises(RuntimeError, match="the machine is gone"):
            job.engine.run(DATA, max_epochs=5)
    else:
        job.engine.add_event_handler(at, never)
        job.engine.add_event_handler(Events.EXCEPTION_RAISED, take)
        job.engine.run(DATA, max_epochs=3)
    assert not writing_threads()
    again = Job()
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.restore(again.engine, again.things) is not None
    checkpoints.attach(again.engine, again.things)
    assert again.engine.run(DATA, max_epochs=6).epoch == 6
    assert job.engine.state.epoch < 6


@pytest.mark.parametrize("filtered", ["always", "error"])
def test_the_exception_of_a_run_wins_over_a_save_that_failed_beside_it(
    tmp_path: Path, filtered: Any
) -> None:
    job = Job()
    Checkpoints(tmp_path, background=True).attach(job.engine, job.things)
    (tmp_path / "step-0000000004").write_text("in the way")
    job.engine.add_event_handler(Events.ITERATION_STARTED(once=5), never)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter(filtered)
        with pytest.raises(RuntimeError, match="the machine is gone") as caught:
            job.engine.run(DATA, max_epochs=3)
    assert not writing_threads()
    told = [str(one.message) for one in warned] + getattr(caught.value, "__notes__", [])
    assert any("not saved" in one and "step-0000000004" in one for one in told)


WITHIN_AN_EPOCH: dict[type[Engine], list[str]] = {
    # Three iterations are left of the epoch. The data begins again, and is read on from there.
    Engine: ["a", "b", "c", "d", "a", "b", "c"],
    DeterministicEngine: ["b", "c", "d", "a", "b", "c", "d"],
}


@pytest.mark.parametrize("kind", WITHIN_AN_EPOCH)
@pytest.mark.parametrize("pauses", [False, True])
def test_what_an_engine_runs_again_that_goes_on_within_an_epoch(
    tmp_path: Path, kind: type[Engine], pauses: bool
) -> None:
    def made() -> tuple[Engine, list[str], list[tuple[str, int]]]:
        seen: list[str] = []
        fired: list[tuple[str, int]] = []
        engine = kind(lambda engine, batch: seen.append(batch))
        for event in (Events.STARTED, Events.EPOCH_STARTED, Events.EPOCH_COMPLETED):
            engine.add_event_handler(
                event, lambda engine, name: fired.append((name, engine.state.epoch)), event.name
            )
        return engine, seen, fired

    first, seen, _ = made()
    Checkpoints(tmp_path).attach(first, {}, at=Events.ITERATION_COMPLETED)
    if pauses:
        first.add_event_handler(Events.ITERATION_COMPLETED(once=5), first.interrupt)
        first.run(list("abcd"), max_epochs=3)
    else:
        first.add_event_handler(Events.ITERATION_STARTED(once=6), never)
        with pytest.raises(RuntimeError, match="the machine is gone"):
            first.run(list("abcd"), max_epochs=3)
    assert seen == list("abcda")
    second, seen, fired = made()
    kept = Checkpoints(tmp_path).restore(second, {})
    assert kept is not None
    assert (kept.iteration, second.state.iteration) == (5, 5)
    second.run(list("abcd"), max_epochs=3)
    assert seen == WITHIN_AN_EPOCH[kind]
    assert second.state.iteration == 12
    assert [one for one in fired if one[0] != "STARTED"] == [
        ("EPOCH_STARTED", 2),
        ("EPOCH_COMPLETED", 2),
        ("EPOCH_STARTED", 3),
        ("EPOCH_COMPLETED", 3),
    ]
    assert [name for name, _ in fired].count("STARTED") == 1
