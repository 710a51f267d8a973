"""The feed: where the batches of an Engine's run come from, as the loop asks for them.

The iterator and the data belong to the engine, because code beside it replaces them during a run.
"""

from __future__ import annotations

import warnings
from functools import partial
from typing import TYPE_CHECKING, Any, final

import attrs

from fengine.core.events import Events as CoreEvents
from fengine.core.ports import EXHAUSTED, Box, Exhausted, Leaked
from fengine.core.ranks import obey
from fengine.core.records import copier
from fengine.core.state import State as Record
from fengine.core.transitions import is_done, request_batch, restart_data
from fengine.engine.enums import Events
from fengine.engine.state import Free

if TYPE_CHECKING:
    from fengine.engine.engine import Engine

_set_batches = copier(Record, "batches")


@final
@attrs.define(eq=False, repr=False)
class Feed:
    """Give the batches of an engine's data."""

    engine: Engine
    box: Box[Any, Any, Free]

    @property
    def announced(self) -> bool:
        """Whether there is data to announce."""
        return self.box.state.user["dataloader"] is not None

    def open(self, state: Record[Any, Any, Any]) -> Record[Any, Any, Any]:
        """Have an iterator, and begin an epoch behind the batches that a resumed run has seen."""
        engine = self.engine
        if engine._dataloader_iter is None:
            self._guarded(engine._setup_engine)
        state = engine._box.state
        if state.ledger.offset > 0:
            # The epoch begins within a pass over the data, and alone says how long an epoch is.
            state = restart_data(state)
        if engine._init_iter is not None:
            state = _set_batches(state, engine._init_iter)
            engine._init_iter = None
        return state

    def fetch(self) -> Any | Exhausted:
        """Give the next batch, or EXHAUSTED."""
        engine = self.engine
        if engine._dataloader_iter is None:
            raise RuntimeError(
                f"{type(engine).__name__} has no iterator to take a batch from: _dataloader_iter "
                "is None; _setup_engine has to set it"
            )
        batch = next(engine._dataloader_iter, EXHAUSTED)
        if batch is EXHAUSTED and self.box.state.limits.epoch_length is None:
            engine._epoch_length_learned = True
        if engine._posts:
            engine._take_posts()
        return batch

    def end_pass(self, state: Record[Any, Any, Any]) -> None:
        """Do nothing: an epoch of an engine is as long as its data turns out to be."""

    def restart(self, drawn: int) -> None:
        """Start iteration over the engine's data, whatever it is now.

        Where something else was fired behind DATALOADER_STOP_ITERATION, as by a handler of it or by
        a pause there, the fetch is announced once more; programs written for the documented package
        may count on it.
        """
        engine, box = self.engine, self.engine._box
        self._guarded(engine._setup_dataloader_iter)
        stopped = box.state.event is CoreEvents.DATALOADER_STOP_ITERATION and self.announced
        if stopped and engine.last_event_name != Events.DATALOADER_STOP_ITERATION:
            request_batch(box)
            self._guarded(partial(engine._fire_event, Events.GET_BATCH_STARTED))
            engine._take_posts()
            obey(box, engine.semantics)

    def ran_dry(self, state: Record[Any, Any, Any]) -> None:
        """Warn of an epoch without data; end a run that could never end."""
        if state.limits.epoch_length is None:
            # The data is empty, and the run is over; or the length is what this epoch has had.
            if state.batches or not self.engine.semantics.empty_data:
                return
        elif is_done(state):
            return
        warnings.warn(
            f"data gave no batch in epoch {state.epoch}, although the run of "
            f"{_wanted(state)} is at iteration {state.iteration}; give data that can be iterated "
            "again, or set new data at DATALOADER_STOP_ITERATION",
            UserWarning,
            stacklevel=2,
        )
        if state.limits.max_epochs is None:
            self.engine.terminate()
            self.engine._take_posts()

    @staticmethod
    def _guarded(begin: Any) -> None:
        try:
            begin()
        except (StopIteration, GeneratorExit) as error:
            raise Leaked(error) from None


def _wanted(state: Record[Any, Any, Any]) -> str:
    limits = state.limits
    if limits.max_iters is not None:
        return f"max_iters={limits.max_iters}"
    return f"max_epochs={limits.max_epochs} with epoch_length={limits.epoch_length}"
