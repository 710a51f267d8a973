"""The source of an Engine: where the batches of its runs come from, as the script asks for them.

The iterator and the data can be replaced by code beside the engine during a run. How an iterator is
made, and what is fired on the way, are hooks of the engine, which subclasses may replace.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Protocol, final

import attrs

from fengine.core.events import Events as CoreEvents
from fengine.core.limits import Limits
from fengine.core.missing import MISSING, Missing
from fengine.core.semantics import Semantics
from fengine.engine.enums import Events
from fengine.engine.versions import Version
from fengine.engine.wishes import Wishes
from fengine.run import obeying
from fengine.run.box import Box, Leaked
from fengine.run.entering import begin_pass
from fengine.run.place import note_end_of_pass, note_restart
from fengine.run.source import other_length

AnyBox = Box[Any, Any, dict[str, Any]]


class Hooks(Protocol):
    """Be what a source asks of its engine."""

    semantics: Semantics

    @property
    def last_event_name(self) -> Any:
        """The event that was fired last."""

    def _setup_engine(self) -> None:
        """Make an iterator for a run that begins or goes on."""

    def _setup_dataloader_iter(self) -> None:
        """Make an iterator for another pass over the data."""

    def _fire_event(self, event_name: Any) -> None:
        """Run the handlers of an event."""


@final
@attrs.define(eq=False)
class Feed:
    """Hold what an engine knows of its data, in and between its runs.

    Attributes:
        iterator: over the data; None where none has been made.
        skipped: how many batches of the epoch a resumed run has seen; None where that is done.
        has_learned_length: the epoch length was found out from data that did not say it.
        whole: the iterator of a pass that begins with an epoch, at the start of the data.
        whole_of: that data.
        said_length: the epoch length that the data said, where no other was asked for.
        said_by: the data that said it.
        asked_length: a user has asked for an epoch length.
        has_short_passes: epochs have ended short, so that their length does not divide iterations.
        ended_at: the iteration at which the last run has ended, if that was between two epochs.
        passes: the number of the pass over the data, from 0 on, as a sampler is told it.
        derived_max_epochs: what `max_epochs` was set to since then, beside `max_iters`.
    """

    iterator: Iterator[Any] | None = None
    skipped: int | None = None
    has_learned_length: bool = False
    whole: Iterator[Any] | None = None
    whole_of: object = None
    said_length: int | None = None
    said_by: object = None
    asked_length: bool = False
    has_short_passes: bool = False
    ended_at: int | None = None
    passes: int = 0
    derived_max_epochs: int | None = None

    def drop(self) -> None:
        """Let go of the data."""
        self.iterator = self.whole = self.whole_of = None

    def begin_pass(self, data: object) -> None:
        """Note that the iterator is one of a pass over data that begins with an epoch."""
        self.whole, self.whole_of = self.iterator, data


@final
@attrs.frozen(eq=False)
class EngineSource:
    """Give the batches of an engine's data to one run."""

    hooks: Hooks
    version: Version
    box: AnyBox
    feed: Feed
    wishes: Wishes

    @property
    def announced(self) -> bool:
        """Whether there is data to announce."""
        return self.box.user["dataloader"] is not None

    def open(self, box: AnyBox) -> None:
        """Have an iterator, and begin an epoch after the batches that a resumed run has seen."""
        feed, begins = self.feed, self.feed.iterator is None
        if begins:
            self._tell_pass(self._passes_begun(box))
            _guarded(self.hooks._setup_engine)
        elif box._offset == feed.said_length and self._passes_end_as_said(box):
            self._let_go()
            note_end_of_pass(box)
        if box._offset > 0 and (begins or box.limits.epoch_length is None):
            # The epoch alone says how many batches were drawn: a pass begins with it, or it says
            # how long an epoch is.
            note_restart(box)
        if begins and not feed.skipped:
            feed.begin_pass(box.user["dataloader"])
        if feed.skipped is not None:
            box.batches, feed.skipped = feed.skipped, None

    def fetch(self) -> Any | Missing:
        """Return the next batch, or MISSING."""
        if self.feed.iterator is None:
            raise RuntimeError(
                f"{type(self.hooks).__name__} has no iterator to take a batch from: "
                "_dataloader_iter is None; _setup_engine has to set it"
            )
        batch = next(self.feed.iterator, MISSING)
        if batch is MISSING and self.box.limits.epoch_length is None:
            self.feed.has_learned_length = True
        if self.wishes.posted:
            self.wishes.take(self.box)
        return batch

    def end_pass(self, box: AnyBox) -> None:
        """End the epoch with a short pass; have the epochs that `max_iters` makes."""
        limits, length = box.limits, box.limits.epoch_length
        ends = self._passes_end_as_said(box) and box.drawn < (length or 0)
        if ends != box._notes.length_of_data:
            box._notes = box.noting(length_of_data=ends)
        if ends:
            self.feed.has_short_passes = True
            self._let_go()
            said = other_length(box.user["dataloader"], length, f"it gave {box.drawn}")
            warnings.warn(said, stacklevel=2)
        if length is None and limits.max_iters is not None and self.version.derives_max_epochs:
            found = max(box.batches, box.drawn)
            self.feed.derived_max_epochs = math.ceil(limits.max_iters / found)
            box.limit("max_epochs", self.feed.derived_max_epochs)

    def restart(self, box: AnyBox) -> None:
        """Start iteration over the engine's data, whatever it is now.

        Where something else was fired after DATALOADER_STOP_ITERATION, as by a handler of it or by
        a pause there, the fetch is announced once more. Programs written for the documented package
        may count on it.
        """
        self._tell_pass(self.feed.passes + 1)
        _guarded(self.hooks._setup_dataloader_iter)
        stopped = box.event is CoreEvents.DATALOADER_STOP_ITERATION and self.announced
        if stopped and self.hooks.last_event_name != Events.DATALOADER_STOP_ITERATION:
            box._batch = MISSING
            box.event, box._handled = CoreEvents.GET_BATCH_STARTED, ()
            _guarded(lambda: self.hooks._fire_event(Events.GET_BATCH_STARTED))
            box._handled = None
            self.wishes.take(box)
            obeying.obey(box, finish_iteration=self.hooks.semantics.finish_iteration)
        fills = box.batches and box.event is not CoreEvents.TERMINATE_SINGLE_EPOCH
        if not fills:
            self.feed.begin_pass(box.user["dataloader"])
        note_restart(box)

    def _passes_end_as_said(self, box: AnyBox) -> bool:
        """Tell whether a pass has as many batches as the data said, or fewer where it ends."""
        feed, length = self.feed, box.limits.epoch_length
        if length is None or length != feed.said_length or feed.iterator is not feed.whole:
            return False
        if feed.iterator is feed.whole_of or self.version.fills_epochs:
            return False  # data that is its iterator has no passes, so its length is not of them
        return feed.whole_of is feed.said_by or data_length(feed.whole_of) == length

    def _let_go(self) -> None:
        """Ask the iterator of a pass that is over for nothing more."""
        self.feed.iterator = self.feed.whole = iter(())

    def _passes_begun(self, box: AnyBox) -> int:
        """Return how many passes over the data were begun before the one to begin."""
        length = data_length(box.user["dataloader"])
        if length and length != box.limits.epoch_length:
            return box.iteration // length
        return max(box.epoch - 1, 0)

    def _tell_pass(self, number: int) -> None:
        """Tell whatever shuffles the data which pass begins, where the version has it so."""
        self.feed.passes = number
        if self.version.tells_epochs:
            begin_pass(self.box.user["dataloader"], number)

    def ran_dry(self, box: AnyBox) -> None:
        """Warn of an epoch without data; end a run that could never end."""
        limits = box.limits
        if limits.epoch_length is None:
            # The data is empty, and the run is over; or the length is what this epoch has had.
            if box.batches or not self.version.empty_data:
                return
        elif box.is_done():
            return
        warnings.warn(
            f"data gave no batch in epoch {box.epoch}, although the run of {_wanted(limits)} is at "
            f"iteration {box.iteration}; give data that can be iterated again, or set new data at "
            "DATALOADER_STOP_ITERATION",
            UserWarning,
            stacklevel=2,
        )
        if limits.max_epochs is None:
            self.wishes.terminate(True)
            self.wishes.take(box)


def is_between_epochs(box: AnyBox) -> bool:
    """Tell whether a run stands where an epoch is over, and no batch of another one was fetched."""
    if box.event is CoreEvents.COMPLETED:
        return box.requests.terminate is None
    return box.event in (CoreEvents.EPOCH_STARTED, CoreEvents.EPOCH_COMPLETED)


def data_length(data: Any) -> int | None:
    """Return the length of the data, or None where it has none."""
    try:
        return len(data) if hasattr(data, "__len__") else None
    except TypeError:
        return None


def _guarded(begin: Callable[[], None]) -> None:
    try:
        begin()
    except (StopIteration, GeneratorExit) as error:
        raise Leaked(error) from None


def _wanted(limits: Limits) -> str:
    if limits.max_iters is not None:
        return f"max_iters={limits.max_iters}"
    return f"max_epochs={limits.max_epochs} with epoch_length={limits.epoch_length}"
