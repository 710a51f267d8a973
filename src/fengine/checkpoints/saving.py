"""Saving: what a loop with checkpoints does at its events.

The save comes after all handlers of its event, as an Onlooker. So what is written is the state of
that moment: a run that goes on from it has nothing of the event left to do.

On several ranks all of them agree on the state first. Then each adds what is its own: see
`of_ranks`.

A run has one `Saving`, which holds its folder open. How its contents are written is in `writer`.
"""

from __future__ import annotations

import uuid
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final, Generic, TypeVar, final

import attrs
from typing_extensions import override

from fengine import Loop, Outcome, State, Status
from fengine.checkpoints.as_one import on_all, on_first
from fengine.checkpoints.errors import CheckpointError
from fengine.checkpoints.folder import Content, Folder
from fengine.checkpoints.of_ranks import OfRank, merged, of_rank, require_whole_things, tree_of
from fengine.checkpoints.saveable import require_saveable, with_plain_output
from fengine.checkpoints.writer import Policy, Writer
from fengine.core.events import Events
from fengine.core.missing import MISSING
from fengine.core.taking import Onlooker
from fengine.features.reading import where_set
from fengine.keep.fitting import class_names
from fengine.keep.readers import SnapshotError
from fengine.keep.snapshot import Snapshot, plain_of, require_whole
from fengine.run.place import position_of, require_place
from fengine.run.source import length_of
from fengine.run.together import agreed

B = TypeVar("B")
O = TypeVar("O")  # noqa: E741  # the output, beside the batch and the user
U = TypeVar("U")

# The key of a kept tree that tells whether EPOCH_COMPLETED has fired in the last epoch. The state
# of a run that was asked to end does not say so.
EPOCH_IS_OVER: Final = "epoch_is_over"
_SAVE: Final = "save a checkpoint"


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
        self.writer = Writer(folder, policy, of.ranks)
        self.epoch_over = 0  # the last epoch whose EPOCH_COMPLETED has fired
        self._has_told = False

    @property
    def loop(self) -> Loop[B, O, U]:
        """The loop that saves.

        Raises:
            ValueError: nobody says where the metric of `best` is set.
        """
        every, best = self.policy.every, self.policy.best
        loop = self.of.on(Events.STARTED, _Looks("begin checkpoints", self._begun))
        over = _Looks("note that an epoch is over", self._seen_over)
        loop = loop.on(Events.EPOCH_COMPLETED, over)
        if best is not None:
            at = where_set(self.of, best.metric, None, best)
            require_saveable(at)
            loop = loop.on(at, _Looks(_SAVE, partial(self._saved, (best.metric,))))
            every_too = at != every
        else:
            every_too = True
        if every_too:
            loop = loop.on(every, _Looks(_SAVE, partial(self._saved, ())))
        return loop.on(Events.EXITED, _Looks("save the last checkpoint", self._ended))

    def _begun(self, state: State[B, O, U]) -> State[B, O, U]:
        self.begin()
        return state

    def _seen_over(self, state: State[B, O, U]) -> State[B, O, U]:
        self.epoch_over = state.epoch
        return state

    def _saved(
        self, fresh: tuple[str, ...], state: State[B, O, U], *payload: object
    ) -> State[B, O, U]:
        state = agreed(state)
        self.save(state, fresh)
        return state

    def _ended(self, state: State[B, O, U], outcome: Outcome) -> State[B, O, U]:
        self.end(state, outcome)
        return state

    def begin(self) -> None:
        """Open the folder for a new run, and refuse one that holds another run.

        Raises:
            CheckpointError: it does, or it cannot be written.
        """
        self.epoch_over = 0
        if self.run is None:
            self.run = on_first(self.of.ranks, self._id_of_new)

    def _id_of_new(self) -> str:
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
        return uuid.uuid4().hex

    def _id_of_kept(self) -> str:
        folder = self.writer.folder
        folder.open()
        kept = folder.kept()
        return kept[-1].run if kept else uuid.uuid4().hex

    def save(self, state: State[B, O, U], fresh: tuple[str, ...]) -> None:
        """Save a state after all handlers of its event; collective.

        Raises:
            CheckpointError: it cannot be written, where that is an error.
        """
        ranks = self.of.ranks
        if self.run is None:  # the run goes on from a state, and began elsewhere
            self.run = on_first(ranks, self._id_of_kept)
        try:
            self.writer.write(self._content(state, fresh, self.run))
        except CheckpointError as error:
            self.writer.report(error)

    def end(self, state: State[B, O, U], outcome: Outcome) -> None:
        """Save how the run has ended, unless it failed, and let go of the folder."""
        try:
            if outcome.status is not Status.FAILED:
                self.save(agreed(state), ())
                self.writer.settle()
            else:
                self.writer.abandon()
            if outcome.status.has_ended:
                self.writer.warn_without_best()
        finally:
            self.close()

    def close(self) -> None:
        """Let go of the folder; the next run opens it again."""
        self.run = None
        self.writer.close()

    def _content(self, state: State[B, O, U], fresh: tuple[str, ...], run: str) -> Content:
        ranks, place = self.of.ranks, position_of(self.data, state)
        tree: dict[str, object] = {}

        def of_this_rank() -> OfRank | None:
            tree.update(self._tree(state, place))
            return of_rank(self.of, state, place) if ranks.size > 1 else None

        every = [one for one in on_all(ranks, of_this_rank) if one is not None]
        if every:
            whole = merged(self.of, state, every)
            tree["state"] = self._findable(whole, place).to_dict()
            tree["ranks"] = tree_of(every, self.data)
        return Content(
            iteration=state.iteration,
            epoch=state.epoch,
            event=None if state.event is None else state.event.name,
            status=state.status.value,
            metrics=state.metrics,
            fresh=tuple(name for name in fresh if name in state.metrics),
            run=run,
            classes=class_names(self.of.external),
            tree=tree,
            ranks=ranks.size,
        )

    def _tree(self, state: State[B, O, U], place: object) -> dict[str, Any]:
        """Return what this rank has to save, as plain data and tensors.

        Raises:
            CheckpointError: something is no such data.
        """
        external = self.of.external
        try:
            require_whole(external, self.of.parts, state)
            require_whole_things(external)
            states = {name: thing.state_dict() for name, thing in external.items()}
            state = self._findable(state, place)
            snapshot = Snapshot(state, states, place, class_names(external))
            tree = plain_of(snapshot, state.to_dict())
        except (SnapshotError, ValueError) as error:
            where = f"{state.event!r}, epoch {state.epoch}, iteration {state.iteration}"
            raise CheckpointError(
                self.writer.folder.path, f"the state at {where} cannot be saved: {error}"
            ) from error
        if state.status is Status.TERMINATED:
            tree[EPOCH_IS_OVER] = state.epoch == self.epoch_over
        return tree

    def _findable(self, state: State[B, O, U], place: object) -> State[B, O, U]:
        """Return a state as it can be written, without its batch where that is not found again.

        There is a warning, once, where a run would not find its place in the data by itself.
        """
        state = attrs.evolve(with_plain_output(state), handled=None)
        if self.data is None or self._misplaced(state, place, with_batch=True) is None:
            return state
        reason = self._misplaced(state, place, with_batch=False)
        if reason is not None and not self._has_told and self.of.ranks.rank == 0:
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
class _Looks(Onlooker, Generic[B, O, U]):
    """Be what a saving does at an event.

    Args:
        words: what that is.
        deed: takes the state, and the payload where there is one; returns the state.
    """

    words: str
    deed: Callable[..., State[B, O, U]]

    @override
    def __repr__(self) -> str:
        return self.words

    def __call__(self, state: State[B, O, U], *payload: object) -> State[B, O, U]:
        return self.deed(state, *payload)
