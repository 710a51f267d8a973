"""Checkpoints of an Engine: its state dict, and that of each thing that is to be saved with it.

An Engine says of itself how far it is and no more, so only what is named is saved. What attaches
here knows an Engine by its methods alone.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Protocol, final

from immutables import Map

from fengine import Event
from fengine.checkpoints.errors import CheckpointError
from fengine.checkpoints.folder import Content, Folder
from fengine.checkpoints.going_on import restore
from fengine.checkpoints.retention import Kept
from fengine.checkpoints.saving import Policy, Writer, report, warn_without_best
from fengine.core.metrics import metric
from fengine.core.phases import PHASES, has_step_to_come
from fengine.core.stateful import Stateful, named
from fengine.keep.external import require_names
from fengine.keep.fitting import class_names, require_fitting
from fengine.run.ports import Preempting
from fengine.training.attaching import AnyEngine, require_engine

# The events of an Engine at which no batch is due, so that it can pause there.
_PAUSES: Final = ("EPOCH_STARTED", "ITERATION_COMPLETED", "EPOCH_COMPLETED")


class PausingEngine(AnyEngine, Protocol):
    """Be an Engine that can be paused and written down."""

    def interrupt(self) -> None:
        """Ask for a pause."""

    def state_dict(self) -> Any:
        """Return how far it is."""

    def load_state_dict(self, state_dict: Any, /) -> Any:
        """Be as far as `state_dict` says."""


@final
class EngineSaving:
    """Save the runs of an Engine.

    Args:
        policy: what to keep.
        engine: the Engine.
        to_save: the things, by their names.
        folder: where to.
        runs: of which run the engines are that have been restored.
    """

    def __init__(
        self,
        policy: Policy,
        engine: PausingEngine,
        to_save: Mapping[str, Stateful],
        folder: Folder,
        runs: Mapping[object, str],
    ) -> None:
        self.policy, self.engine, self.things = policy, engine, _named(to_save)
        self.writer, self.runs = Writer(folder, policy), runs
        self.run: str | None = None

    def attach(self, at: object, preemption: Preempting | None) -> None:
        """Have the Engine save at an event, and at the end of a run.

        Raises:
            ValueError: the Engine does not know the event, or a batch is due there.
        """
        if at is None and not isinstance(self.policy.every, Event):
            raise ValueError(
                f"every={self.policy.every!r} is an event of a Loop, with a filter or several "
                "joined; name one of the engine: attach(engine, at=...)"
            )
        event = at
        _require_saveable(at)
        if at is None and isinstance(self.policy.every, Event):
            event = self.policy.every.name.upper()
        self.engine.add_event_handler(event, self.save)
        if preemption is not None:
            for name in _PAUSES:
                self.engine.add_event_handler(name, lambda engine: self.look(preemption))
        self.engine.add_event_handler("COMPLETED", lambda engine: self.complete(preemption))
        self.engine.add_event_handler("INTERRUPT", lambda engine: self.pause(preemption))

    def save(self, engine: object = None) -> None:
        """Save the Engine as it is.

        Raises:
            CheckpointError: that is not possible, where it is an error.
        """
        folder = self.writer.folder
        try:
            folder.open()
            kept = folder.kept()
            self.run = self.run or self.runs.get(self.engine)
            if kept and kept[-1].run != self.run:
                raise CheckpointError(
                    folder.path,
                    f"holds the checkpoints of another run, the newest {kept[-1].path.name}; go on "
                    "with that one by Checkpoints.restore, or give this run a folder of its own",
                )
            self.run = self.run or uuid.uuid4().hex
            self.writer.write(self._content(self.run))
        except CheckpointError as error:
            report(error, self.policy)
        finally:
            # Nobody says that a run has failed, so the folder is not held longer than need be.
            if not self.policy.background:
                folder.close()

    def look(self, preemption: Preempting) -> None:
        """Pause where the process is asked to end."""
        if preemption.asked:
            self.engine.interrupt()

    def end(self, engine: object = None) -> None:
        """Save the end of a run, and let go of the folder."""
        try:
            self.save()
            try:
                self.writer.wait()
            except CheckpointError as error:
                report(error, self.policy)
        finally:
            self.writer.close()

    def pause(self, preemption: Preempting | None) -> None:
        """Save where a run pauses, and end the process if it is asked to end.

        Raises:
            SystemExit: it is.
        """
        self.end()
        if preemption is not None and preemption.asked:
            raise SystemExit(exit_code(preemption))

    def complete(self, preemption: Preempting | None) -> None:
        """Save the end of a run, and end the process if it is asked to end.

        Raises:
            SystemExit: it is.
        """
        self.pause(preemption)
        warn_without_best(self.policy.best, self.writer.folder)

    def _content(self, run: str) -> Content:
        state = self.engine.state
        metrics = Map(_numbers(state.metrics))
        best = self.policy.best
        things = {name: thing.state_dict() for name, thing in self.things.items()}
        return Content(
            iteration=state.iteration,
            epoch=state.epoch,
            event=None,
            status="running",
            metrics=metrics,
            fresh=() if best is None or best.metric not in metrics else (best.metric,),
            run=run,
            classes=class_names(self.things),
            tree={"engine": self.engine.state_dict(), "external": things},
        )


def restore_engine(
    engine: PausingEngine, to_load: Mapping[str, Stateful], folder: Folder
) -> Kept | None:
    """Have an Engine and things take up the newest intact checkpoint; None where there is none.

    Raises:
        CheckpointError: it does not fit; then nothing is changed.
    """
    require_engine(engine, "restore()")
    things = _named(to_load)
    with folder.newest() as tensors:
        if tensors is None:
            return None
        kept = tensors.kept
        tree = tensors.tree(only_shapes_of=("external",))
        shapes: Any = tree.get("external")
        if "engine" not in tree or not isinstance(shapes, Mapping):
            raise CheckpointError(kept.path, "is no checkpoint of an Engine")
        try:
            require_names(things, shapes)
            require_fitting(things, shapes, tensors.classes)
        except ValueError as error:
            raise CheckpointError(kept.path, str(error)) from None
        restore(things, tensors)
        engine.load_state_dict(tree["engine"])
    return kept


def _named(things: Mapping[str, Stateful]) -> Map[str, Stateful]:
    given: object = things
    if not isinstance(given, Mapping):
        raise TypeError(f"{given!r} names no things; give a dict, such as {{'model': model}}")
    return named(things)


def exit_code(preemption: Preempting) -> int:
    """Return with what a process ends that was asked to: 128 and the number of the signal."""
    code = getattr(preemption, "exit_code", None)
    return code if isinstance(code, int) else 128 + 15


def _numbers(metrics: Mapping[str, object]) -> Iterator[tuple[str, float]]:
    """Give the metrics that are one number each; those of an Engine may be anything."""
    for name, value in metrics.items():
        with contextlib.suppress(TypeError):
            yield name, metric(name, value)


def _require_saveable(at: Any) -> None:
    """Refuse events of an Engine at which a batch is due.

    Raises:
        ValueError: there is one.
    """
    for event in (at,) if isinstance(at, str) or not isinstance(at, Iterable) else at:
        name = str(getattr(event, "name", event))
        phase = PHASES.get(name.lower())
        if phase is not None and phase.rank is not None and has_step_to_come(phase.rank):
            raise ValueError(
                f"at={name} is an event at which a batch is due, that would be left out where the "
                "run goes on; save at ITERATION_COMPLETED, EPOCH_COMPLETED or the like"
            )
