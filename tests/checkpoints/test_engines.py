"""The checkpoints of an Engine."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fengine import Events as LoopEvents
from fengine import diff
from fengine.checkpoints import Best, CheckpointError, Checkpoints, Preemption
from fengine.engine import Engine, Events
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
    with pytest.raises(ValueError, match=r"attach\(engine, at="):
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
    with pytest.raises(CheckpointError, match="the loop names"):
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
