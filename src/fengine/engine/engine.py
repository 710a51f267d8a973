"""The Engine: the documented mutable API, on the one loop of the core.

There is no loop here. An engine keeps a state that looks mutable, a live table of handlers and
what has been asked of it, and answers the script of the core: it fires the events that the script
names, through hooks that subclasses may replace.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterable
from itertools import repeat
from typing import Any, Final, cast

from fengine.core.describe import require_callable
from fengine.core.events import AnyEvent
from fengine.core.outcome import Status
from fengine.core.requests import Recovery
from fengine.core.script import script
from fengine.core.semantics import Semantics
from fengine.core.steps import Outputs
from fengine.core.transitions import with_status
from fengine.engine.calling import check_signature
from fengine.engine.checkpointing import Checkpointing
from fengine.engine.enums import EVENT_OF, Events
from fengine.engine.feed import Feed
from fengine.engine.handles import RemovableEventHandle as RemovableEventHandle
from fengine.engine.handling import Handling
from fengine.engine.start import begin
from fengine.engine.state import State
from fengine.engine.table import EVERY_ITERATION
from fengine.engine.utils import _to_hours_mins_secs
from fengine.runtime.driver import keep_state, pull, say_where


class EngineRunningError(RuntimeError, ValueError):
    """Tell that an engine was asked to run while it runs.

    >>> engine = Engine(lambda engine, batch: engine.run([1]))
    >>> engine.run([1])
    Traceback (most recent call last):
    fengine.engine.engine.EngineRunningError: this Engine is running already, ...
    """


class Engine(Checkpointing):
    """Run a function over each batch of a dataset, and fire events on the way.

    Args:
        process_function: called with the engine and the batch in each iteration; what it returns
            becomes `engine.state.output`.
        semantics: which version to follow where two versions of this API disagree; the class
            attribute `semantics` unless given.
        clock: gives the time in seconds, for `state.times`; `time.monotonic` unless given.

    Attributes:
        state: the live state; see `State`.
        logger: takes what the engine has to say.
        semantics: as given.
        interrupt_resume_enabled: whether `interrupt` is allowed.

    Raises:
        TypeError: `process_function` or `clock` is not callable.
        ValueError: `process_function` is None, or does not take the engine and a batch.

    >>> def train_and_store_loss(engine, batch):
    ...     return batch / 2
    >>> engine = Engine(train_and_store_loss)
    >>> engine.run([1.0, 2.0], max_epochs=3).output
    1.0
    """

    def __init__(
        self,
        process_function: Callable[[Engine, Any], Any],
        *,
        semantics: Semantics | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        if process_function is None:
            raise ValueError("process_function is None; give a function of (engine, batch)")
        check_signature(process_function, "process_function", "engine", "batch")
        if semantics is not None:
            self.semantics = semantics
        if clock is not None:
            require_callable(clock, "clock")
        super().__init__()
        self._process_function = process_function
        self._clock = time.monotonic if clock is None else clock
        self._heard_by_name = True
        self._began = 0.0
        self._epoch_began = 0.0

    @property
    def _logger(self) -> logging.Logger:
        return self.logger

    def set_data(self, data: Iterable[Any]) -> None:
        """Take batches from other data from now on; the place in the epoch is kept.

        Raises:
            TypeError: `data` is not iterable; nothing is changed then.

        >>> engine = Engine(lambda engine, batch: batch)
        >>> handle = engine.add_event_handler(
        ...     Events.ITERATION_COMPLETED(once=1), lambda: engine.set_data([7, 8, 9])
        ... )
        >>> engine.run([1, 2, 3]).output
        8
        """
        iterator = iter(data)
        self._state.dataloader = data
        self._dataloader_iter = iterator

    def run(
        self,
        data: Iterable[Any] | None = None,
        max_epochs: int | None = None,
        *,
        max_iters: int | None = None,
        epoch_length: int | None = None,
    ) -> State:
        """Run the process function over the data.

        A run that is not done goes on: one that was interrupted from that very point, any other one
        with its next epoch. A run that is done, and has no larger limit now, starts anew.

        Args:
            data: batches that can be iterated again and again, such as a list or a DataLoader;
                None: every batch is None, and `epoch_length` says how many there are.
            max_epochs: number of epochs; by default that of the state, else 1.
            max_iters: number of iterations, instead of `max_epochs`.
            epoch_length: number of batches in an epoch; by default the length of the data.

        Returns:
            The state of the engine.

        Raises:
            TypeError: `data` is not iterable.
            ValueError: the limits contradict each other, the data or the state.
            EngineRunningError: the engine runs already; it is a RuntimeError and a ValueError.
            BaseException: whatever the process function, the data or a handler raised, unless
                handlers of EXCEPTION_RAISED took it.

        >>> engine = Engine(lambda engine, batch: 2 * batch)
        >>> state = engine.run([1, 2, 3], max_epochs=2)
        >>> state.epoch, state.iteration, state.output
        (2, 6, 6)
        """
        if self._running:
            raise EngineRunningError(
                f"this {type(self).__name__} is running already, at epoch {self.state.epoch}, "
                f"iteration {self.state.iteration}; run another engine inside its handlers"
            )
        begin(self, data, max_epochs, max_iters, epoch_length)
        return self._internal_run()

    def _internal_run(self) -> State:
        if self._box.state.event is None:
            self._began = self._clock()
            self._state.times.update(EPOCH_COMPLETED=0.0, COMPLETED=0.0)
        self._say("runs with max_epochs=%s, max_iters=%s, epoch_length=%s", *self._limits())
        self._running = True
        step = Outputs(self._process)
        course = script(self._box, step, Feed(self, self._box), self._heard(), self.semantics)
        try:
            error = _finish(pull(course, self._answer, lazily=False))
        finally:
            self._running = False
        record = self._box.state
        if record.status is not Status.INTERRUPTED:
            self._dataloader_iter = None
        if error is not None:
            keep_state(error, record)
            try:
                raise error
            finally:
                del error  # its traceback holds this frame
        took = self._clock() - self._began
        if record.status is not Status.INTERRUPTED:
            self._state.times["COMPLETED"] = took
        self._say("is %s after %s", record.status.value, _hours(took))
        return self._state

    def _heard(self) -> Any:
        """Give the names of the events to fire; all where a hook or a log wants to see them."""
        replaced = type(self)._fire_event is not Handling._fire_event or "_fire_event" in vars(self)
        self._heard_by_name = not (replaced or self.logger.isEnabledFor(logging.DEBUG))
        return self._event_handlers.by_name if self._heard_by_name else EVENT_OF

    def _process(self, batch: Any) -> Any:
        output = self._process_function(self, batch)
        if self._posts:
            self._take_posts()
        return output

    def _answer(self, event: AnyEvent) -> None:
        """Fire what the script names, and keep the time."""
        name = event.name
        if name in EVERY_ITERATION and self._heard_by_name:
            self._call(self._event_handlers.by_name[name])
            if self._posts:
                self._take_posts()
            return
        times = self._state.times
        if name == "epoch_started":
            self._epoch_began = self._clock()
        elif name == "epoch_completed":
            times["EPOCH_COMPLETED"] = self._clock() - self._epoch_began
        elif name == "completed":
            times["COMPLETED"] = self._clock() - self._began
        if name == "exception_raised":
            self._handle_exception(self._box.payload)
        elif name == "terminate_single_epoch":
            self._fire_event(EVENT_OF[name], iter_counter=self._box.state.batches)
        else:
            self._fire_event(EVENT_OF[name])
        if name in ("epoch_completed", "terminate_single_epoch"):
            took = times["EPOCH_COMPLETED"] = self._clock() - self._epoch_began
            self._say("has ended an epoch after %s", _hours(took))
        if self._posts:
            self._take_posts()

    def _limits(self) -> tuple[int | None, ...]:
        limits = self._box.state.limits
        return limits.max_epochs, limits.max_iters, limits.epoch_length

    def _say(self, message: str, *values: object) -> None:
        """Log what the engine does, and where in the run."""
        if not self.logger.isEnabledFor(logging.INFO):
            return
        record = self._box.state
        where = record.epoch, record.iteration
        name = type(self).__name__
        self.logger.info(f"%s, at epoch %d, iteration %d, {message}", name, *where, *values)

    def _handle_exception(self, error: Any) -> None:
        """Fire EXCEPTION_RAISED; handlers that raise nothing have taken the exception."""
        record = self._box.state
        say_where(error, record)
        self.logger.error("%s is stopped by %r", type(self).__name__, error)
        if not self._event_handlers.by_name["exception_raised"]:
            return
        try:
            self._fire_event(Events.EXCEPTION_RAISED, error)
        finally:
            within = record.event is not None and record.event.name in _WITHIN_ITERATION
            ends_epoch = within and isinstance(error, Exception)
            del error  # the traceback of what a handler raises holds this frame
        record = self._box.state
        if record.status is Status.INTERRUPTED:
            # A handler of INTERRUPT failed: there is no pause, and what asked for it stays.
            record = with_status(record, Status.RUNNING)
        self._box.state = record.recover(Recovery.END_EPOCH if ends_epoch else Recovery.END_RUN)

    def _setup_engine(self) -> None:
        """Begin iteration over the data, behind the batches of a resumed epoch."""
        self._setup_dataloader_iter()
        if self._init_iter is None:
            limits = self._box.state.limits
            iteration = self._box.state.iteration
            self._init_iter = iteration % limits.epoch_length if limits.epoch_length else iteration

    def _setup_dataloader_iter(self) -> None:
        data = self._state.dataloader
        if data is not None:
            self._dataloader_iter = iter(data)
            return
        length = self._box.state.limits.epoch_length
        if length is None:
            raise RuntimeError(
                "engine.state.epoch_length is None and so is engine.state.dataloader, so how many "
                "iterations an epoch has is unknown; set one of them"
            )
        self._dataloader_iter = repeat(None, length)


# Where a taken exception ends the epoch; elsewhere it ends the run.
_WITHIN_ITERATION: Final = frozenset(
    {
        "get_batch_started",
        "get_batch_completed",
        "dataloader_stop_iteration",
        "iteration_started",
        "iteration_completed",
    }
)


def _hours(seconds: float) -> str:
    return "{:02d}:{:02d}:{:06.3f}".format(*_to_hours_mins_secs(seconds))


def _finish(pulling: Generator[AnyEvent, None, BaseException | None]) -> BaseException | None:
    while True:
        try:
            next(pulling)
        except StopIteration as end:
            return cast("BaseException | None", end.value)
