"""Checkpoints: what is saved, when, under which name; and a run that goes on from one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from ignite.handlers import Checkpoint, DiskSaver, ModelCheckpoint, global_step_from_engine
from ignite.handlers.checkpoint import CheckpointEvents
from ignite.metrics import MeanSquaredError

from tests.engine.unmodified.setups import setup
from tests.engine.unmodified.setups.common import Training, echo, plain, trace, training


def names(folder: str) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


def to_save(parts: Training) -> dict[str, Any]:
    return {"model": parts.model, "optimizer": parts.optimizer, "trainer": parts.trainer}


@setup("handlers/checkpoint.py")
def checkpoints_of_the_best_models() -> Any:
    parts = training(lr=0.4)
    MeanSquaredError().attach(parts.evaluator, "mse")
    parts.trainer.add_event_handler(
        Events.EPOCH_COMPLETED, lambda: parts.evaluator.run(parts.data[:2])
    )
    best = Checkpoint(
        to_save(parts),
        DiskSaver("best", create_dir=True),
        filename_prefix="best",
        score_function=Checkpoint.get_default_score_fn("mse", -1.0),
        score_name="loss",
        n_saved=2,
        global_step_transform=global_step_from_engine(parts.trainer),
        include_self=True,
    )
    parts.evaluator.add_event_handler(Events.COMPLETED, best)
    saved: list[Any] = []
    parts.evaluator.register_events(*CheckpointEvents)

    def note_saved(engine: Any) -> None:
        saved.append([engine.last_event_name.name, str(best.last_checkpoint), names("best")])

    parts.evaluator.add_event_handler(Checkpoint.SAVED_CHECKPOINT, note_saved)
    parts.trainer.run(parts.data, max_epochs=5)
    contents = {name: torch.load(Path("best", name), weights_only=False) for name in names("best")}
    return [saved, plain(contents), plain(best.state_dict()), parts.result()]


@setup("handlers/checkpoint.py")
def checkpoints_every_few_iterations() -> Any:
    parts = training()
    noted = trace(parts.trainer)
    handler = Checkpoint(
        to_save(parts), "steps", n_saved=None, filename_pattern="{name}-{global_step}.{ext}"
    )
    parts.trainer.add_event_handler(Events.ITERATION_COMPLETED(every=3), handler)
    parts.trainer.add_event_handler(Events.COMPLETED, handler)
    parts.trainer.run(parts.data, max_epochs=2)
    return [noted, names("steps"), str(handler.last_checkpoint), parts.result()]


@setup("handlers/checkpoint.py")
def checkpoint_registers_its_event_in_a_run() -> Any:
    parts = training()
    before = parts.trainer.has_registered_events(CheckpointEvents.SAVED_CHECKPOINT)
    saved: list[Any] = []

    def save(checkpoint: Any, filename: str, metadata: Any) -> None:
        saved.append([filename, sorted(checkpoint), plain(metadata)])

    def listen(engine: Engine) -> None:
        engine.add_event_handler(
            CheckpointEvents.SAVED_CHECKPOINT, lambda: saved.append("heard of it")
        )

    handler = Checkpoint(to_save(parts), save, greater_or_equal=True)
    parts.trainer.add_event_handler(Events.EPOCH_COMPLETED, handler)
    parts.trainer.add_event_handler(Events.EPOCH_COMPLETED(once=1), listen)
    parts.trainer.add_event_handler(Events.STARTED, handler.reset)
    parts.trainer.run(parts.data, max_epochs=2)
    parts.trainer.run(parts.data, max_epochs=2)
    after = parts.trainer.has_registered_events(CheckpointEvents.SAVED_CHECKPOINT)
    return [before, after, saved]


@setup("handlers/checkpoint.py")
def model_checkpoints() -> Any:
    parts = training(lr=0.3)
    handler = ModelCheckpoint(
        "models",
        "net",
        n_saved=2,
        score_function=lambda engine: -engine.state.output,
        score_name="score",
        global_step_transform=global_step_from_engine(parts.trainer),
    )
    parts.trainer.add_event_handler(
        Events.EPOCH_COMPLETED(every=2) | Events.COMPLETED, handler, {"linear": parts.model}
    )
    parts.trainer.run(parts.data, max_epochs=5)
    return [names("models"), plain(torch.load(handler.last_checkpoint or "")), parts.result()]


@setup("handlers/checkpoint.py")
def run_that_goes_on_from_a_checkpoint() -> Any:
    first = training()
    handler = Checkpoint(to_save(first), "saved", filename_prefix="all")
    first.trainer.add_event_handler(Events.EPOCH_COMPLETED(once=2), handler)
    first.trainer.run(first.data, max_epochs=3)
    second = training(lr=0.0)
    Checkpoint.load_objects(
        to_load=to_save(second),
        checkpoint=torch.load(handler.last_checkpoint or "", weights_only=False),
    )
    noted = trace(second.trainer)
    second.trainer.run(second.data, max_epochs=5)
    return [names("saved"), noted, first.result(), second.result()]


@setup("handlers/utils.py")
def steps_of_another_engine() -> Any:
    trainer, evaluator = Engine(echo), Engine(echo)
    trainer.register_events("unknown")
    steps: list[Any] = []
    epoch = global_step_from_engine(trainer)
    iteration = global_step_from_engine(trainer, Events.ITERATION_COMPLETED)
    fallback = global_step_from_engine(trainer, fallback_attr="iteration")

    @evaluator.on(Events.COMPLETED)
    def note_steps(engine: Engine) -> None:
        event = engine.last_event_name
        steps.append([epoch(engine, event), iteration(engine, event), fallback(engine, "unknown")])

    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: evaluator.run([1]))
    trainer.run([1, 2, 3], max_epochs=2)
    return steps
