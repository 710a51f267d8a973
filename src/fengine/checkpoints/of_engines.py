"""Checkpoints of an Engine: its state dict, and that of each thing that is to be saved with it.

An Engine says of itself how far it is and no more, so only what is named is saved. What attaches
here knows an Engine by its methods alone. On several ranks it is as with a Loop.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Protocol, final

from immutables import Map

from fengine import Event
from fengine.checkpoints.as_one import on_all, on_first
from fengine.checkpoints.errors import CheckpointError
from fengine.checkpoints.folder import Content, Folder
from fengine.checkpoints.going_on import restore
from fengine.checkpoints.newest import newest_of_all
from fengine.checkpoints.of_ranks import (
    OfRank,
    for_rank,
    random_of,
    random_states,
    require_same_shards,
    tree_of,
)
from fengine.checkpoints.retention import Kept
from fengine.checkpoints.writer import Policy, Writer
from fengine.core.metrics import metric
from fengine.core.phases import PHASES, has_step_to_come
from fengine.core.stateful import Stateful, named
from fengine.keep.fitting import class_names, require_fitting
from fengine.run.ports import Preempting
from fengine.run.ranks import Ranks, of_all
from fengine.training.attaching import (
    AnyEngine,
    call_as_runs_are_left,
    ranks_of,
    require_engine,
)

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
        self.ranks = ranks_of(engine)
        self.writer, self.runs = Writer(folder, policy, self.ranks), runs
        self.run: str | None = None

    def attach(self, at: object, preemption: Preempting | None) -> None:
        """Have the Engine save at an event, and at the end of a run.

        Raises:
            ValueError: the Engine does not know the event, or a batch is due there.
        """
        if at is None and not isinstance(self.policy.every, Event):
            raise ValueError(
                f"every={self.policy.every!r} is filtered, or several events, as a Loop knows "
                "them; name the event of the Engine, such as attach(engine, to_save, "
                "at=fengine.engine.Events.EPOCH_COMPLETED(every=2))"
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
        call_as_runs_are_left(self.engine, self.leave)

    def save(self, engine: object = None) -> None:
        """Save the Engine as it is.

        Raises:
            CheckpointError: that is not possible, where it is an error.
        """
        try:
            self.run = on_first(self.ranks, self._id_of_run)
            self.writer.write(self._content(self.run))
        except CheckpointError as error:
            self.writer.report(error)
        finally:
            if not self.policy.background:
                self.writer.folder.close()

    def _id_of_run(self) -> str:
        folder = self.writer.folder
        folder.open()
        kept = folder.kept()
        run = self.run or self.runs.get(self.engine)
        if kept and kept[-1].run != run:
            raise CheckpointError(
                folder.path,
                f"holds the checkpoints of another run, the newest {kept[-1].path.name}; to go "
                "on with that one, call restore(engine, to_load) of these Checkpoints before "
                "the run, or give this run a folder of its own",
            )
        return run or uuid.uuid4().hex

    def leave(self, failure: BaseException | None) -> None:
        """Let go of the thread and of the folder, however the run has ended.

        Raises:
            CheckpointError: the save that was under way failed, in a run that has not.
        """
        try:
            if failure is None:
                self.writer.settle()
            else:  # the exception of the run is not to be lost to another one
                self.writer.abandon()
        finally:
            self.writer.close()

    def look(self, preemption: Preempting) -> None:
        """Pause where the process is asked to end."""
        if preemption.asked:
            self.engine.interrupt()

    def end(self, engine: object = None) -> None:
        """Save the end of a run, and let go of the folder."""
        try:
            self.save()
        finally:
            self.leave(None)

    def pause(self, preemption: Preempting | None) -> None:
        """Save where a run pauses, and end the process if it is asked to end.

        Raises:
            SystemExit: it is.
        """
        self.end()
        leave_if_asked(self.ranks, preemption)

    def complete(self, preemption: Preempting | None) -> None:
        """Save the end of a run, and end the process if it is asked to end.

        Raises:
            SystemExit: it is.
        """
        self.pause(preemption)
        self.writer.warn_without_best()

    def _content(self, run: str) -> Content:
        state = self.engine.state
        metrics = Map(_numbers(state.metrics))
        best = self.policy.best
        things = {name: thing.state_dict() for name, thing in self.things.items()}
        tree = {"engine": self.engine.state_dict(), "external": things}
        if self.ranks.size > 1:
            random = on_all(self.ranks, lambda: random_states(self.things))
            tree["ranks"] = tree_of([OfRank({}, one, None) for one in random], state.dataloader)
        return Content(
            iteration=state.iteration,
            epoch=state.epoch,
            event=None,
            status="running",
            metrics=metrics,
            fresh=() if best is None or best.metric not in metrics else (best.metric,),
            run=run,
            classes=class_names(self.things),
            tree=tree,
            ranks=self.ranks.size,
        )


def restore_engine(
    engine: PausingEngine, to_load: Mapping[str, Stateful], folder: Folder
) -> Kept | None:
    """Have an Engine and things take up the newest intact checkpoint; None where there is none.

    Raises:
        CheckpointError: it does not fit; then nothing is changed.
    """
    require_engine(engine, "restore()")
    things, ranks = _named(to_load), ranks_of(engine)
    with newest_of_all(ranks, folder) as tensors:
        if tensors is None:
            return None
        kept = tensors.kept
        tree: dict[str, Any] = {}

        def read() -> None:
            found = tensors.tree(only_shapes_of=("external",))
            shapes: Any = found.get("external")
            if "engine" not in found or not isinstance(shapes, Mapping):
                raise CheckpointError(
                    kept.path,
                    "was kept by a Loop, and no Engine goes on from it; use Checkpoints.run",
                )
            _require_names(kept, things, shapes)
            require_same_shards(ranks, kept, found)
            tree.update(for_rank(ranks, things, kept, found, None))
            try:
                require_fitting(things, shapes, tensors.classes)
            except ValueError as error:
                raise CheckpointError(kept.path, str(error)) from None

        on_all(ranks, read)
        random = random_of(ranks, things, kept, tree["external"])
        on_all(ranks, lambda: restore(things, tensors, random))
        engine.load_state_dict(tree["engine"])
    return kept


def _require_names(kept: Kept, things: Iterable[str], saved: Iterable[str]) -> None:
    saved, given = sorted(saved), sorted(things)
    if saved != given:
        raise CheckpointError(
            kept.path, f"holds the states of {saved}, and to_load names {given}; give each of those"
        )


def _named(things: Mapping[str, Stateful]) -> Map[str, Stateful]:
    given: object = things
    if not isinstance(given, Mapping):
        raise TypeError(
            f"{given!r} of type {type(given).__name__} does not name the things to save; give a "
            "dict, such as {'model': model}"
        )
    return named(things)


def leave_if_asked(ranks: Ranks, preemption: Preempting | None) -> None:
    """End the process where that of any rank was asked to end; collective.

    Raises:
        SystemExit: it was; the code is 128 and the number of the signal.
    """
    own = None
    if preemption is not None and preemption.asked:
        code = getattr(preemption, "exit_code", None)
        own = code if isinstance(code, int) else 128 + 15
    for one in of_all(ranks, own):
        if one is not None:
            raise SystemExit(one)


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
                f"at={name} fires before the step is done with its batch, which a run that goes on "
                "would leave out; save at ITERATION_COMPLETED or EPOCH_COMPLETED"
            )
