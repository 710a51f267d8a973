"""Checkpoints: a run kept in a folder, so that a process that dies loses nothing acknowledged.

Here is what users hold: what is kept, and how a run goes on. How a save is made is in `saving`, how
a kept run is taken up in `going_on`, and what lies on disk in `folder`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, TypeVar, final, overload
from weakref import WeakKeyDictionary

import attrs
from typing_extensions import Unpack

from fengine import Loop, Snapshot, State, When
from fengine.checkpoints.as_one import on_all, on_first
from fengine.checkpoints.folder import folder_at
from fengine.checkpoints.going_on import require_fit, restore, sharded_as, snapshot_of
from fengine.checkpoints.iterators import pass_over, require_standing
from fengine.checkpoints.newest import newest_of_all
from fengine.checkpoints.of_engines import (
    EngineSaving,
    PausingEngine,
    leave_if_asked,
    restore_engine,
)
from fengine.checkpoints.of_ranks import random_of, require_same_batches, require_same_shards
from fengine.checkpoints.retention import Best, Kept, require_keep
from fengine.checkpoints.saveable import require_saveable
from fengine.checkpoints.saving import EPOCH_IS_OVER, Saving
from fengine.checkpoints.under_limits import limited
from fengine.core.events import Events
from fengine.core.limits import LimitArguments, require_limits
from fengine.core.stateful import Stateful
from fengine.run.ports import Preempting, require_preempting
from fengine.run.source import OnExhausted
from fengine.training.attaching import require_engine

B = TypeVar("B")
O = TypeVar("O")  # noqa: E741  # the output, beside the batch and the user
U = TypeVar("U")

_WAYS: Final = ("raise", "warn")


def _folder(path: object) -> str:
    if not isinstance(path, str | os.PathLike):
        raise TypeError(
            f"folder={path!r} of type {type(path).__name__} is no path; give a str or a Path"
        )
    found = os.fspath(path)
    if not isinstance(found, str) or not found:
        raise ValueError(f"folder={found!r} names no folder; give one, such as 'runs/a'")
    return found


@final
@attrs.frozen
class Checkpoints:
    """Keep the checkpoints of a run in a folder, and go on from them.

    `run` begins a run, or goes on from the newest intact checkpoint. A checkpoint is acknowledged
    once it is whole on disk, and only then older ones go. So nothing acknowledged is lost, and
    nothing that is listed is unreadable, whenever the process dies.

    On several ranks, of a loop with `ranks=`, they are those of all: each calls the same methods,
    the first one writes, and all of them what is sharded. Any number of ranks goes on from them.

    Args:
        folder: where to keep them; a folder for each run. With `://` it is a store of fsspec.
        keep: how many of the newest stay; None: all of them.
        best: which others stay: those where a metric is best.
        every: when to save: an event at which no batch is due, filtered or not, or several joined
            by `|`. The end of a run is saved too.
        background: write in a thread, from a copy that is kept in memory, while training goes on;
            not for sharded tensors.
        on_error: what to do where a save fails: "raise" CheckpointError, or "warn" and train on.
        preemption: tells whether the process is asked to end: see `Preemption`.

    Raises:
        TypeError: an argument is of another type.
        ValueError: no checkpoint would stay, or a run that is saved at such an event could not go
            on from there.

    >>> import tempfile
    >>> from fengine import Loop, outputs
    >>> loop = Loop(outputs(lambda batch: 2 * batch))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     checkpoints = Checkpoints(folder)
    ...     first = checkpoints.run(loop, [1, 2, 3], max_epochs=2)
    ...     longer = checkpoints.run(loop, [1, 2, 3], max_epochs=4)
    ...     [one.epoch for one in checkpoints.kept()]
    [3, 4]
    >>> first.iteration, longer.iteration
    (6, 12)
    """

    folder: str = attrs.field(converter=_folder)
    keep: int | None = attrs.field(default=2, kw_only=True)
    best: Best | None = attrs.field(default=None, kw_only=True)
    every: When = attrs.field(default=Events.EPOCH_COMPLETED, kw_only=True)
    background: bool = attrs.field(default=False, kw_only=True)
    on_error: Literal["raise", "warn"] = attrs.field(default="raise", kw_only=True)
    preemption: Preempting | None = attrs.field(default=None, kw_only=True)
    # Of which run the engines are that have been restored.
    _runs: WeakKeyDictionary[object, str] = attrs.field(
        factory=WeakKeyDictionary, init=False, eq=False, repr=False
    )

    def __attrs_post_init__(self) -> None:
        """Refuse what could keep nothing, or could not be gone on from."""
        require_keep(self.keep)
        if self.best is not None and not isinstance(self.best, Best):
            raise TypeError(f"best={self.best!r} is no Best; give Best(metric, mode='max')")
        require_saveable(self.every)
        if not isinstance(self.background, bool):
            raise TypeError(f"background={self.background!r} is neither True nor False")
        if self.on_error not in _WAYS:
            raise ValueError(f"on_error={self.on_error!r} is neither 'raise' nor 'warn'")
        require_preempting(self.preemption)

    @overload
    def run(
        self,
        loop: Loop[B, O, None],
        data: Iterable[B] | None = None,
        *,
        again: bool = False,
        replay: bool = False,
        on_exhausted: OnExhausted = "raise",
        **limits: Unpack[LimitArguments],
    ) -> State[B, O, None]: ...

    @overload
    def run(
        self,
        loop: Loop[B, O, U],
        data: Iterable[B] | None = None,
        *,
        user: U,
        again: bool = False,
        replay: bool = False,
        on_exhausted: OnExhausted = "raise",
        **limits: Unpack[LimitArguments],
    ) -> State[B, O, U]: ...

    def run(
        self,
        loop: Loop[B, O, Any],
        data: Iterable[B] | None = None,
        *,
        user: Any = None,
        again: bool = False,
        replay: bool = False,
        on_exhausted: OnExhausted = "raise",
        **limits: Unpack[LimitArguments],
    ) -> State[B, O, Any]:
        """Begin a run, or go on with the one that is kept, and return its final state.

        A run that is complete within its limits comes back at once.

        Law: a run that was killed and begun again, however often, ends as one that was not, as long
        as the loop names all that it changes.

        Args:
            loop: as for `Loop.run`.
            data: as for `Loop.run`.
            user: the user's record, to begin with; a kept one is read by its type.
            again: have a run that was asked to end train on.
            replay: as for `Loop.resume`, where a kept run stands within an epoch; of an iterator
                that is new, what the run has had is read and dropped too.
            on_exhausted: as for `Loop.run`.
            **limits: as for `Loop.run`; those that are given replace the kept ones.

        Raises:
            ValueError: the place of the run is not found in the data.
            CheckpointError: the folder cannot be used, a save failed, all checkpoints are broken,
                or the newest does not fit the loop; then the loop's things are as before.
            SystemExit: the process was asked to end, by its `preemption`; all is saved.
            BaseException: as `Loop.run` does.
        """
        require_limits(limits)
        folder = folder_at(self.folder)
        saving: Saving[B, O, Any] = Saving(self, _required(loop), data, folder)
        saving_loop = saving.loop
        on_first(loop.ranks, folder.open)
        try:
            after = self._taken_up(
                saving, saving_loop, user, again=again, replay=replay, limits=limits
            )
            if after is None:
                final = saving_loop.run(
                    data,
                    user=user,
                    on_exhausted=on_exhausted,
                    preemption=self.preemption,
                    **limits,
                )
            elif after.state.status.has_ended:
                final = after.state
            else:
                if replay:
                    pass_over(data, after.state)
                final = saving_loop.resume(
                    after,
                    data,
                    replay=replay,
                    restored=True,
                    on_exhausted=on_exhausted,
                    preemption=self.preemption,
                )
        finally:
            saving.close()
        leave_if_asked(loop.ranks, self.preemption)
        return final

    def _taken_up(
        self,
        saving: Saving[B, O, Any],
        saving_loop: Loop[B, O, Any],
        user: Any,
        *,
        again: bool,
        replay: bool,
        limits: LimitArguments,
    ) -> Snapshot[B, O, Any] | None:
        """Have the things of a loop take up the newest intact checkpoint, which comes back."""
        loop, ranks, data = saving.of, saving.of.ranks, saving.data
        with newest_of_all(ranks, saving.writer.folder) as tensors:
            if tensors is None:
                return None
            kept = tensors.kept
            saving.run = kept.run
            found: list[Snapshot[B, O, Any]] = []
            random: dict[str, object] = {}

            def read() -> None:
                tree = tensors.tree(only_shapes_of=("external",))
                after = snapshot_of(loop, kept, tree, user)
                require_fit(loop, kept, after)
                over = tree.get(EPOCH_IS_OVER, after.state.event == Events.EPOCH_COMPLETED) is True
                saving.epoch_over = after.state.epoch if over else 0
                state = limited(after.state, limits, again=again, epoch_is_over=over)
                after = attrs.evolve(after, state=state)
                if not after.state.status.has_ended:
                    require_same_shards(ranks, kept, tree, data)
                    require_same_batches(ranks, kept, after.state, data)
                # These refuse what does not fit.
                saving_loop.iterate(data, after=after, replay=replay, restored=True)
                require_standing(data, after.state, replay=replay)
                random.update(random_of(ranks, loop.external, kept, after.external))
                found.append(after)

            on_all(ranks, read)
            on_all(ranks, lambda: restore(loop.external, tensors, random))
        return found[0]

    def saving(self, loop: Loop[B, O, U], data: Iterable[B] | None = None) -> Loop[B, O, U]:
        """Return the loop with its saves, each after all other handlers of its event.

        `run` goes on from what is kept; a loop of this kind begins a run in a folder that holds
        none, or goes on from a state or snapshot that you give to `resume`.

        Args:
            loop: the loop.
            data: the data of the run, if it knows its own place.

        Raises:
            TypeError: `loop` is no Loop.
            ValueError: nobody says where the metric of `best` is set.

        >>> import tempfile
        >>> from fengine import Loop, outputs
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     checkpoints = Checkpoints(folder)
        ...     final = checkpoints.saving(Loop(outputs(abs))).run([-1, -2])
        ...     [one.iteration for one in checkpoints.kept()]
        [2]
        """
        return Saving(self, _required(loop), data, folder_at(self.folder)).loop

    def kept(self) -> tuple[Kept, ...]:
        """Return what is kept, the oldest first; what is unreadable is not among it."""
        return folder_at(self.folder).kept()

    def latest(self) -> Kept | None:
        """Return the newest intact checkpoint; None where there is none at all.

        Raises:
            CheckpointError: all of them are broken, or the newest is of a newer format.
        """
        return folder_at(self.folder).newest_intact()

    def best_kept(self) -> Kept | None:
        """Return the checkpoint where the metric of `best` is best; None where there is none.

        Raises:
            ValueError: these checkpoints have no `best`.
        """
        if self.best is None:
            raise ValueError(
                "these checkpoints have no best=; give Checkpoints(..., best=Best(...))"
            )
        found = self.best.among(self.kept())
        return found[0] if found else None

    @overload
    def load(self, loop: Loop[B, O, None], kept: Kept) -> Snapshot[B, O, None]: ...

    @overload
    def load(self, loop: Loop[B, O, U], kept: Kept, *, user: U) -> Snapshot[B, O, U]: ...

    def load(self, loop: Loop[B, O, Any], kept: Kept, *, user: Any = None) -> Snapshot[B, O, Any]:
        """Read a checkpoint as a snapshot, for `loop.resume` and `loop.restore`.

        Args:
            loop: one with the events, the parts and the things of the run.
            kept: which one.
            user: a record of the type that the kept one has.

        Raises:
            CheckpointError: it is broken, or of another loop.
        """
        with folder_at(self.folder).tensors(kept.path.name) as tensors:
            tree = tensors.tree(like=sharded_as(loop.external))
            return snapshot_of(loop, kept, tree, user)

    def attach(
        self, engine: PausingEngine, to_save: Mapping[str, Stateful], *, at: object = None
    ) -> None:
        """Save the runs of a `fengine.engine.Engine`, with the same promises.

        Attach it after the handlers whose work is to be saved. A save is made at `every`, and where
        a run ends or pauses. The metric of `best` is read at each save.

        An Engine that goes on within an epoch has the iterations that are left of it, over data
        that begins again; only a `DeterministicEngine` goes on at the next batch.

        Args:
            engine: the Engine.
            to_save: what to save beside its state dict: models, optimizers, `RandomState()`, ...
            at: the event of the engine to save at, filtered or not; None: `every`.

        Raises:
            TypeError: `engine` is none, or something has no state to be saved.
            ValueError: the engine does not know the event, or a batch is due there.

        >>> import tempfile
        >>> from torch import nn
        >>> from fengine.engine import Engine
        >>> engine, model = Engine(lambda engine, batch: None), nn.Linear(1, 1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Checkpoints(folder).attach(engine, {"model": model})
        ...     state = engine.run([1, 2], max_epochs=3)
        ...     again = Engine(lambda engine, batch: None)
        ...     kept = Checkpoints(folder).restore(again, {"model": model})
        >>> again.state.epoch
        3
        """
        require_engine(engine, self)
        saving = EngineSaving(self, engine, to_save, folder_at(self.folder), self._runs)
        saving.attach(at, self.preemption)

    def restore(self, engine: PausingEngine, to_load: Mapping[str, Stateful]) -> Kept | None:
        """Have an Engine and things take up the newest intact checkpoint.

        Saves that these checkpoints attach to the Engine go on with the run that was kept.

        Args:
            engine: the Engine.
            to_load: the things, by the names that they were saved by.

        Returns:
            The checkpoint; None where there is none.

        Raises:
            CheckpointError: it is broken, or does not fit; then nothing is changed.
        """
        kept = restore_engine(engine, to_load, folder_at(self.folder))
        if kept is not None:
            self._runs[engine] = kept.run
        return kept


def _required(loop: Loop[B, O, U]) -> Loop[B, O, U]:
    known: object = loop
    if not isinstance(known, Loop):
        raise TypeError(
            f"loop={known!r} of type {type(known).__name__} is no Loop; the runs of an Engine are "
            "saved by attach(engine, to_save)"
        )
    return loop
