"""Writer: contents written into a folder, one after the other, and what is not to be kept let go.

A run has one writer, and at most one save under way. What is written comes from the things
themselves. It is copied only where another thread writes it while the training goes on.

On several ranks the first one writes, and what is sharded all of them. They learn together whether
that was possible, so all have the same error.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Literal, Protocol, final

import attrs

from fengine import When
from fengine.checkpoints.as_one import on_first
from fengine.checkpoints.buffers import Buffers
from fengine.checkpoints.errors import CheckpointError
from fengine.checkpoints.folder import Content, Folder, WriteShards
from fengine.checkpoints.manifest import File
from fengine.checkpoints.retention import Best
from fengine.checkpoints.shards import write as write_shards
from fengine.checkpoints.tree import Tensors, shards_of
from fengine.run.ranks import Ranks


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
    """Write contents into a folder, and let go of what is not to be kept.

    Args:
        folder: where to.
        policy: what is kept, whether another thread writes, and what to do where a save fails.
        ranks: the ranks that write; all of them call each method but `abandon` and `close`.
    """

    def __init__(self, folder: Folder, policy: Policy, ranks: Ranks) -> None:
        self.folder, self.policy, self.ranks = folder, policy, ranks
        self._under_way: Future[None] | None = None
        self._process = os.getpid()  # a fork has no thread that writes
        self._buffers = Buffers()

    @cached_property
    def _thread(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(1, "checkpoints")

    def write(self, content: Content) -> None:
        """Write a content, now or in the background.

        Args:
            content: the content, of which other ranks than the first write what is sharded.

        Raises:
            CheckpointError: this one, or the one before, cannot be written, where that is an error.
        """
        if os.getpid() != self._process:
            raise CheckpointError(
                self.folder.path,
                f"is written to by process {self._process}, of which this one is a fork; save in "
                "that process alone",
            )
        self.settle()
        sharded = shards_of(content.tree)
        if sharded and self.policy.background:
            raise CheckpointError(
                self.folder.path,
                f"background=True is not for sharded tensors, such as {next(iter(sharded))}: all "
                "ranks write them together, while none trains",
            )
        if sharded and self.ranks.rank:
            with contextlib.suppress(CheckpointError):  # the first rank raises it, too
                write_shards(self.ranks, sharded, None)
        on_first(self.ranks, lambda: self._write(content, is_sharded=bool(sharded)))

    def settle(self) -> None:
        """Wait for the save that is under way, and report what has become of it.

        Raises:
            CheckpointError: it failed, where that is an error.
        """
        if self.policy.background:
            try:
                on_first(self.ranks, self._wait)
            except CheckpointError as error:
                self.report(error)

    def abandon(self) -> None:
        """Wait for the save that is under way, where another exception is not to be lost to it."""
        try:
            self._wait()
        except CheckpointError as error:
            _warn(error)

    def report(self, error: CheckpointError) -> None:
        """Raise the error of a save on all ranks, or warn of it on the first one.

        Raises:
            CheckpointError: that is what is asked for.
        """
        if self.policy.on_error == "raise":
            raise error
        if self.ranks.rank == 0:
            _warn(error)

    def warn_without_best(self) -> None:
        """Warn of a run that has ended, and of which no checkpoint is the best."""
        best = self.policy.best
        if best is not None and self.ranks.rank == 0 and best.among(self.folder.kept()) == ():
            warnings.warn(
                f"no checkpoint of this run is the best: the metric {best.metric!r} was never set "
                "to a finite number",
                stacklevel=2,
            )

    def close(self) -> None:
        """Let go of the thread and of the folder."""
        if "_thread" in self.__dict__:
            self._thread.shutdown()
            del self._thread
        self.folder.close()

    def _write(self, content: Content, *, is_sharded: bool) -> None:
        if self.policy.background:
            tree = self._buffers.copy_of(content.tree)
            content = attrs.evolve(content, tree=tree)
            self._under_way = self._thread.submit(self._commit, content)
            return
        met = False

        def with_others(sharded: Tensors, staged: Path) -> dict[str, File]:
            nonlocal met
            met = True
            return write_shards(self.ranks, sharded, staged)

        try:
            self._commit(content, with_others)
        except CheckpointError:
            if is_sharded and not met:
                write_shards(self.ranks, {}, None)  # which the others wait for
            raise

    def _wait(self) -> None:
        under_way, self._under_way = self._under_way, None
        if under_way is not None and os.getpid() == self._process:
            under_way.result()

    def _commit(self, content: Content, write_shards: WriteShards | None = None) -> None:
        self.folder.commit(content, write_shards)
        self.folder.prune(self.policy.keep, self.policy.best)


def _warn(error: CheckpointError) -> None:
    warnings.warn(f"not saved: {error}", stacklevel=2)
