"""Saving: what a loop with checkpoints does at its events.

The save comes after all handlers of its event, as an Onlooker. So what is written is the state of
that moment: a run that goes on from it has nothing of the event left to do.

A run has one `Saving`, which holds its folder open, and has at most one save under way. What is
written comes from the things themselves. It is copied only where another thread writes it while the
training goes on.
"""

from __future__ import annotations

import os
import uuid
import warnings
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from typing import Final, Generic, Literal, Protocol, TypeVar, final

import attrs
from typing_extensions import override

from fengine import Loop, Outcome, State, Status, When
from fengine.checkpoints.buffers import Buffers
from fengine.checkpoints.errors import CheckpointError
from fengine.checkpoints.folder import Content, Folder
from fengine.checkpoints.retention import Best
from fengine.checkpoints.tree import NotPlain, split
from fengine.core.events import Event, Events, EventSet, FilteredPayloadEvent, PayloadEvent
from fengine.core.missing import MISSING
from fengine.core.phases import PHASES, has_step_to_come, rank_of
from fengine.core.registration import members
from fengine.core.taking import Onlooker
from fengine.features.reading import where_set
from fengine.keep.fitting import class_names
from fengine.keep.readers import SnapshotError
from fengine.keep.snapshot import Snapshot, require_whole
from fengine.run.place import position_of, require_place
from fengine.run.source import length_of

B = TypeVar("B")
O = TypeVar("O")  # noqa: E741  # the output, beside the batch and the user
U = TypeVar("U")

# The key of a kept tree that tells whether EPOCH_COMPLETED has fired in the last epoch. The state
# of a run that was asked to end does not say so.
EPOCH_IS_OVER: Final = "epoch_is_over"


class Policy(Protocol):
    """Say what is kept, and how a save is made; `Checkpoints` does."""

    @property
    def keep(self) -> int | None:
        """How many of the newest stay; None: all."""

    @property
    def best(self) -> Best | None:
        """Which others stay."""

    @property
    def every(self) -> When:
        """When to save."""

    @property
    def background(self) -> bool:
        """Whether another thread writes."""

    @property
    def on_error(self) -> Literal["raise", "warn"]:
        """What to do where a save fails."""


@final
class Writer:
    """Write contents into a folder, one after the other, and let go of what is not to be kept.

    Args:
        folder: where to.
        policy: what is kept, and whether another thread writes.
    """

    def __init__(self, folder: Folder, policy: Policy) -> None:
        self.folder, self.policy = folder, policy
        self._under_way: Future[None] | None = None
        self._process = os.getpid()  # a fork has no thread that writes
        self._buffers = Buffers()

    @cached_property
    def _thread(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(1, "checkpoints")

    def write(self, content: Content) -> None:
        """Write a content, now or in the background.

        Raises:
            CheckpointError: this one, or the one before, cannot be written, where that is an error.
        """
        if os.getpid() != self._process:
            raise CheckpointError(
                self.folder.path,
                f"is written to by process {self._process}, of which this one is a fork; save in "
                "that process alone",
            )
        try:
            self.wait()
        except CheckpointError as error:
            report(error, self.policy)
        if self.policy.background:
            tree = self._buffers.copy_of(content.tree)
            content = attrs.evolve(content, tree=tree)
            self._under_way = self._thread.submit(self._commit, content)
        else:
            self._commit(content)

    def wait(self) -> None:
        """Wait for the save that is under way.

        Raises:
            CheckpointError: it failed.
        """
        under_way, self._under_way = self._under_way, None
        if under_way is not None and os.getpid() == self._process:
            under_way.result()

    def close(self) -> None:
        """Let go of the thread and of the folder."""
        if "_thread" in self.__dict__:
            self._thread.shutdown()
            del self._thread
        self.folder.close()

    def _commit(self, content: Content) -> None:
        self.folder.commit(content)
        self.folder.prune(self.policy.keep, self.policy.best)


@final
class Saving(Generic[B, O, U]):
    """Save the runs of a loop, one at a time.

    Args:
        policy: what to save, and when.
        of: the loop.
        data: the data of the runs.
        folder: where to.
        run: the id of the run whose checkpoints the folder holds; None where nobody has looked.
    """

    def __init__(
        self,
        policy: Policy,
        of: Loop[B, O, U],
        data: Iterable[B] | None,
        folder: Folder,
        run: str | None = None,
    ) -> None:
        self.policy, self.of, self.data, self.run = policy, of, data, run
        self.writer = Writer(folder, policy)
        self.epoch_over = 0  # the last epoch whose EPOCH_COMPLETED has fired
        self._has_told = False

    @property
    def loop(self) -> Loop[B, O, U]:
        """The loop that saves.

        Raises:
            ValueError: nobody says where the metric of `best` is set.
        """
        every, best = self.policy.every, self.policy.best
        loop = self.of.on(Events.STARTED, _Begins(self)).on(
            Events.EPOCH_COMPLETED, _SeesEpochOver(self)
        )
        if best is not None:
            at = where_set(self.of, best.metric, None, best)
            require_saveable(at)
            loop = loop.on(at, _Saves(self, (best.metric,)))
            every_too = at != every
        else:
            every_too = True
        if every_too:
            loop = loop.on(every, _Saves(self, ()))
        return loop.on(Events.EXITED, _Ends(self))

    def begin(self) -> None:
        """Open the folder for a new run, and refuse one that holds another run.

        Raises:
            CheckpointError: it does, or it cannot be written.
        """
        self.epoch_over = 0
        if self.run is not None:
            return
        folder = self.writer.folder
        folder.open()
        kept = folder.kept()
        if kept:
            folder.close()
            raise CheckpointError(
                folder.path,
                f"holds the checkpoints of another run, the newest {kept[-1].path.name}; go on "
                "with that one by Checkpoints.run, or give this run a folder of its own",
            )
        self.run = uuid.uuid4().hex

    def save(self, state: State[B, O, U], fresh: tuple[str, ...]) -> None:
        """Save a state after all handlers of its event.

        Raises:
            CheckpointError: it cannot be written, where that is an error.
        """
        if self.run is None:  # the run goes on from a state, and began elsewhere
            self.writer.folder.open()
            kept = self.writer.folder.kept()
            self.run = kept[-1].run if kept else uuid.uuid4().hex
        try:
            self.writer.write(self._content(state, fresh, self.run))
        except CheckpointError as error:
            report(error, self.policy)

    def end(self, state: State[B, O, U], outcome: Outcome) -> None:
        """Save how the run has ended, unless it failed, and let go of the folder."""
        try:
            if outcome.status is not Status.FAILED:
                self.save(state, ())
            try:
                self.writer.wait()
            except CheckpointError as error:
                if outcome.status is not Status.FAILED:
                    report(error, self.policy)
                else:  # the exception of the run is not to be lost to this one
                    warn_of(error)
            if outcome.status.has_ended:
                warn_without_best(self.policy.best, self.writer.folder)
        finally:
            self.close()

    def close(self) -> None:
        """Let go of the folder; the next run opens it again."""
        self.run = None
        self.writer.close()

    def _content(self, state: State[B, O, U], fresh: tuple[str, ...], run: str) -> Content:
        where = f"the state at {state.event!r}, epoch {state.epoch}, iteration {state.iteration}"
        try:
            require_whole(self.of.external, self.of.parts, state)
            external = {name: thing.state_dict() for name, thing in self.of.external.items()}
            classes = class_names(self.of.external)
            place = position_of(self.data, state)
            state = self._findable(state, place)
            state = attrs.evolve(with_plain_output(state), handled=None)
            tree = Snapshot(state, external, place, classes).to_dict()
            if state.status is Status.TERMINATED:
                tree[EPOCH_IS_OVER] = state.epoch == self.epoch_over
        except (SnapshotError, ValueError) as error:
            raise CheckpointError(
                self.writer.folder.path, f"{where} cannot be saved: {error}"
            ) from error
        return Content(
            iteration=state.iteration,
            epoch=state.epoch,
            event=None if state.event is None else state.event.name,
            status=state.status.value,
            metrics=state.metrics,
            fresh=tuple(name for name in fresh if name in state.metrics),
            run=run,
            classes=classes,
            tree=tree,
        )

    def _findable(self, state: State[B, O, U], place: object) -> State[B, O, U]:
        """Return a state from which a run goes on, without its batch where that is not found again.

        There is a warning, once, where a run would not find its place in the data by itself.
        """
        if self.data is None or self._misplaced(state, place, with_batch=True) is None:
            return state
        reason = self._misplaced(state, place, with_batch=False)
        if reason is not None and not self._has_told:
            self._has_told = True
            warnings.warn(
                f"from a checkpoint within an epoch this run goes on with replay=True only: "
                f"{reason}",
                stacklevel=2,
            )
        return attrs.evolve(state, batch=MISSING)

    def _misplaced(
        self, state: State[B, O, U], place: object, *, with_batch: bool
    ) -> ValueError | None:
        notes = attrs.evolve(state._notes, batch_due=with_batch and state.has_batch)
        # A run that has ended may be given other limits, and train on.
        state = attrs.evolve(state, notes=notes, status=Status.RUNNING)
        length = length_of(self.data)
        try:
            require_place(self.data, state, place, length=length, replay=False)
        except ValueError as error:
            return error
        return None


@final
@attrs.frozen(eq=False, repr=False)
class _Begins(Onlooker, Generic[B, O, U]):
    saving: Saving[B, O, U]

    @override
    def __repr__(self) -> str:
        return "begin checkpoints"

    def __call__(self, state: State[B, O, U], payload: object = None) -> State[B, O, U]:
        self.saving.begin()
        return state


@final
@attrs.frozen(eq=False, repr=False)
class _SeesEpochOver(Onlooker, Generic[B, O, U]):
    saving: Saving[B, O, U]

    @override
    def __repr__(self) -> str:
        return "note that an epoch is over"

    def __call__(self, state: State[B, O, U], payload: object = None) -> State[B, O, U]:
        self.saving.epoch_over = state.epoch
        return state


@final
@attrs.frozen(eq=False, repr=False)
class _Saves(Onlooker, Generic[B, O, U]):
    saving: Saving[B, O, U]
    fresh: tuple[str, ...]

    @override
    def __repr__(self) -> str:
        return "save a checkpoint"

    def __call__(self, state: State[B, O, U], payload: object = None) -> State[B, O, U]:
        self.saving.save(state, self.fresh)
        return state


@final
@attrs.frozen(eq=False, repr=False)
class _Ends(Onlooker, Generic[B, O, U]):
    saving: Saving[B, O, U]

    @override
    def __repr__(self) -> str:
        return "save the last checkpoint"

    def __call__(self, state: State[B, O, U], outcome: Outcome) -> State[B, O, U]:
        self.saving.end(state, outcome)
        return state


def with_plain_output(state: State[B, O, U]) -> State[B, O, U]:
    """Return the state without an output that is no plain data: nobody could read it again."""
    if state.has_output:
        try:
            split({"output": state.output})
        except NotPlain:
            return attrs.evolve(state, output=MISSING)
    return state


def report(error: CheckpointError, policy: Policy) -> None:
    """Raise the error of a save, or warn of it.

    Raises:
        CheckpointError: that is what is asked for.
    """
    if policy.on_error == "raise":
        raise error
    warn_of(error)


def warn_without_best(best: Best | None, folder: Folder) -> None:
    """Warn of a run that has ended, and of which no checkpoint is the best."""
    if best is not None and best.among(folder.kept()) == ():
        warnings.warn(
            f"no checkpoint of this run is the best: the metric {best.metric!r} was never set to a "
            "finite number",
            stacklevel=2,
        )


def warn_of(error: CheckpointError) -> None:
    """Warn of a save that failed."""
    warnings.warn(f"not saved: {error}", stacklevel=2)


def require_saveable(every: When) -> None:
    """Refuse an event at which a run cannot be saved.

    Raises:
        TypeError: it is no event.
        ValueError: the step is under way there, or no state stands there.
    """
    if not isinstance(every, Event | EventSet | PayloadEvent | FilteredPayloadEvent):
        raise TypeError(f"every={every!r} is no event, such as Events.EPOCH_COMPLETED")
    for event, _ in members(every):
        phase = PHASES.get(event.name)
        if phase is not None and phase.rank is None:
            raise ValueError(
                f"every={event!r} fires as a run is left, and no run goes on from there; leave it "
                "out, since the end of a run and a pause are saved anyway"
            )
        if phase is None or has_step_to_come(rank_of(event.name)):
            raise ValueError(
                f"every={event!r} fires before the step is done with its batch, which a run that "
                "goes on would fetch again; save at ITERATION_COMPLETED or EPOCH_COMPLETED"
            )
