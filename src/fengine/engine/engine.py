"""The Engine: the documented mutable API, on the one loop of the core.

There is no loop here, and hardly any logic: an Engine is the documented names over its parts.

- `state`: the live state, a view over the registers of the run.
- `registrations`: events, who listens, and calling those.
- `wishes`: what is asked of the engine, from wherever it comes.
- `engine_source`: where its batches come from.
- `beginning` and `state_dicts`: what a run begins with, and what is written down of one.
- `running`: one run, as the script asks for it.

Every name that is not in the documented API lies under `_fengine`, so that subclasses are free. The
names with an underscore here are those of the documented package: hooks that subclasses replace,
and attributes that code beside it reads and writes.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import repeat
from typing import Any, ClassVar, TypeVar

from fengine.core.describe import require_callable
from fengine.core.outcome import Status
from fengine.core.semantics import DOCUMENTED, Semantics
from fengine.engine.beginning import begin, forget_run
from fengine.engine.calling import check_signature, require_at_once
from fengine.engine.engine_source import is_between_epochs
from fengine.engine.enums import Events
from fengine.engine.handler_lists import Entry, HandlerLists, original
from fengine.engine.handles import RemovableEventHandle as RemovableEventHandle
from fengine.engine.registrations import AllowedEvents, single_events
from fengine.engine.running import Inside, Running, answer
from fengine.engine.state import State, box_of, not_a_state, replace
from fengine.engine.state_dicts import check_user_keys, read_progress
from fengine.engine.telling import tell
from fengine.engine.versions import version_of
from fengine.engine.wishes import Flag
from fengine.run.failures import keep_state
from fengine.run.place import note_restart
from fengine.run.ranks import EVERY_ITERATION, Ranks, require_ranks

Function = TypeVar("Function", bound=Callable[..., Any])


class EngineRunningError(RuntimeError, ValueError):
    """Tell that an engine was asked to run while it runs.

    >>> engine = Engine(lambda engine, batch: engine.run([1]))
    >>> engine.run([1])
    Traceback (most recent call last):
    fengine.engine.engine.EngineRunningError: this Engine is running already, ...
    """


class Engine:
    """Run a function over each batch of a dataset, and fire events on the way.

    Args:
        process_function: called with the engine and the batch in each iteration; what it returns
            becomes `engine.state.output`.
        semantics: which version to follow where two versions of this API disagree; the class
            attribute `semantics` unless given.
        clock: gives the time in seconds, for `state.times`; `time.monotonic` unless given.
        ranks: the processes that run this engine together; see `fengine.distributed`. What any of
            them asks for, all obey, and no handler of EXCEPTION_RAISED takes an exception.

    Attributes:
        state: the live state; see `State`.
        logger: takes what the engine has to say.
        semantics: as given.
        interrupt_resume_enabled: whether `interrupt` is allowed.

    Raises:
        TypeError: `process_function` or `clock` is not callable, `process_function` is an async or
            generator function, which a call would not run, or `ranks` are none.
        ValueError: `process_function` is None, or does not take the engine and a batch.

    >>> def train_and_store_loss(engine, batch):
    ...     return batch / 2
    >>> engine = Engine(train_and_store_loss)
    >>> engine.run([1.0, 2.0], max_epochs=3).output
    1.0
    """

    semantics: Semantics = DOCUMENTED
    """Which version to follow where two versions of this API disagree."""
    interrupt_resume_enabled: bool = True
    """Whether `interrupt` is allowed."""
    _state_dict_all_req_keys: ClassVar[tuple[str, ...]] = ("epoch_length", "iteration")
    _state_dict_one_of_opt_keys: ClassVar[tuple[tuple[str, ...], ...]] = (
        ("max_epochs", "max_iters"),
    )

    def __init__(
        self,
        process_function: Callable[[Engine, Any], Any],
        *,
        semantics: Semantics | None = None,
        clock: Callable[[], float] | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        if process_function is None:
            raise ValueError("process_function is None; give a function of (engine, batch)")
        check_signature(process_function, "process_function", "engine", "batch")
        require_at_once(process_function, "process_function")
        if semantics is not None:
            self.semantics = semantics
        if clock is not None:
            require_callable(clock, "clock")
        self.logger = logging.getLogger(f"fengine.engine.engine.{type(self).__name__}")
        self._process_function = process_function
        self._state_dict_user_keys: list[str] = []
        self._fengine = Inside(time.monotonic if clock is None else clock)
        if ranks is not None:
            require_ranks(ranks, EVERY_ITERATION)
            self._fengine.ranks = ranks
        self.register_events(*Events)

    @property
    def state(self) -> State:
        """The state of the engine, the same object in and between all its runs."""
        return self._fengine.state

    @state.setter
    def state(self, state: State) -> None:
        inside = self._fengine
        if not issubclass(type(state), State):  # an instance of a mock says that it is one
            raise TypeError(not_a_state(state))
        if state is not inside.state:
            replace(inside.state, state)
            inside.state = state

    # Events and handlers.

    def register_events(
        self, *event_names: Any, event_to_attr: dict[Any, str] | None = None
    ) -> None:
        """Add events that can be fired, and that handlers can be added to.

        Args:
            *event_names: members of an Enum, strings, or anything hashable.
            event_to_attr: which attribute of the state counts an event; the attribute is made, with
                the value 0, and left to you.

        Raises:
            TypeError: something cannot be an event.
            ValueError: `event_to_attr` is not a dict.

        >>> from enum import Enum
        >>> from fengine.engine import Engine
        >>> class Chunks(Enum):
        ...     CHUNK_STARTED = "chunk_started"
        >>> engine = Engine(lambda engine, batch: engine.fire_event(Chunks.CHUNK_STARTED))
        >>> engine.register_events(*Chunks, event_to_attr={Chunks.CHUNK_STARTED: "chunk"})
        >>> engine.state.chunk
        0
        """
        inside, version = self._fengine, version_of(self.semantics)
        inside.registrations.register(
            event_names, event_to_attr, inside.state, any_event=version.any_event
        )

    def has_registered_events(self, event: Any) -> bool:
        """Tell whether an event can be fired.

        >>> from fengine.engine import Engine
        >>> Engine(lambda engine, batch: None).has_registered_events("foo")
        False
        """
        return event in [*self._allowed_events]  # which may have no hash

    def add_event_handler(
        self, event_name: Any, handler: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> RemovableEventHandle:
        """Add a handler, which runs whenever the event fires.

        It is called with the engine, if it takes it, what the event adds (the exception at
        EXCEPTION_RAISED), and the arguments given here. A first parameter named `engine` always is
        the engine.

        Args:
            event_name: an event, filtered or not, or several joined by `|`.
            handler: what to call.
            *args: passed to the handler.
            **kwargs: passed to the handler.

        Returns:
            A handle that takes the handler away again.

        Raises:
            TypeError: `handler` is not callable, or is an async or generator function.
            ValueError: an event is not registered, or the handler does not take these arguments.

        >>> from fengine.engine import Engine
        >>> engine = Engine(lambda engine, batch: batch)
        >>> def print_epoch(engine, prefix):
        ...     print(prefix, engine.state.epoch)
        >>> handle = engine.add_event_handler(Events.EPOCH_COMPLETED, print_epoch, "epoch")
        >>> state = engine.run([1, 2], max_epochs=1)
        epoch 1
        """
        inside = self._fengine
        registrations = inside.registrations
        made = [
            (
                registrations.registered(event, self),
                registrations.entry(event, handler, args, kwargs, inside.state),
            )
            for event in single_events(event_name)
        ]
        if not made:
            raise ValueError("the list of events is empty, so the handler would never run")
        for event, added in made:
            registrations.lists[event].append(added)
            tell(self, "adds", event, level=logging.DEBUG)
        return RemovableEventHandle(event_name, made[0][1][0], self)._with(
            added[0] for _, added in made
        )

    def on(self, event_name: Any, *args: Any, **kwargs: Any) -> Callable[[Function], Function]:
        """Add the decorated function as a handler; see `add_event_handler`.

        >>> from fengine.engine import Engine
        >>> engine = Engine(lambda engine, batch: batch)
        >>> @engine.on(Events.COMPLETED)
        ... def done():
        ...     print("done")
        >>> state = engine.run([1])
        done
        """

        def decorator(function: Function) -> Function:
            self.add_event_handler(event_name, function, *args, **kwargs)
            return function

        return decorator

    def has_event_handler(self, handler: Callable[..., Any], event_name: Any = None) -> bool:
        """Tell whether a handler is registered.

        Args:
            handler: the handler as it was added.
            event_name: where to look; None: at every event.

        >>> from fengine.engine import Engine
        >>> engine = Engine(lambda engine, batch: batch)
        >>> handle = engine.add_event_handler(Events.COMPLETED, print)
        >>> engine.has_event_handler(print), engine.has_event_handler(print, Events.STARTED)
        (True, False)
        """
        return self._fengine.registrations.has(handler, event_name)

    def remove_event_handler(self, handler: Callable[..., Any], event_name: Any) -> None:
        """Take every registration of a handler at an event away.

        Args:
            handler: the handler as it was added.
            event_name: the event.

        Raises:
            ValueError: the handler is not registered there.

        >>> from fengine.engine import Engine
        >>> engine = Engine(lambda engine, batch: batch)
        >>> handle = engine.add_event_handler(Events.COMPLETED, print)
        >>> engine.remove_event_handler(print, Events.COMPLETED)
        """
        registrations = self._fengine.registrations
        entries = registrations.lists.get(event_name, [])
        kept = [added for added in entries if original(added[0]) != handler]
        if len(kept) == len(entries):
            raise ValueError(
                f"handler {getattr(handler, '__qualname__', handler)!r} is not registered for "
                f"{event_name!r} of this {type(self).__name__}, so it cannot be removed"
            )
        registrations.lists[registrations.registered(event_name, self)] = kept

    def fire_event(self, event_name: Any) -> None:
        """Run all handlers of an event, at any time.

        The events of a run are fired by the run; this is for events of your own.

        Args:
            event_name: a registered event.

        Raises:
            ValueError: the event is not registered.

        >>> from fengine.engine import Engine
        >>> engine = Engine(lambda engine, batch: batch)
        >>> engine.register_events("tick")
        >>> handle = engine.add_event_handler("tick", lambda: print("tick"))
        >>> engine.fire_event("tick")
        tick
        """
        self._fire_event(self._fengine.registrations.registered(event_name, self))

    @property
    def last_event_name(self) -> Any:
        """The event that was fired last, or None."""
        return self._fengine.registrations.last_event(self._fengine.state)

    @property
    def _allowed_events(self) -> AllowedEvents:
        return self._fengine.registrations.allowed

    @_allowed_events.setter
    def _allowed_events(self, events: Iterable[Any]) -> None:
        self._fengine.registrations.allowed = AllowedEvents({event: event for event in events})

    @property
    def _event_handlers(self) -> HandlerLists:
        return self._fengine.registrations.lists

    @_event_handlers.setter
    def _event_handlers(self, table: Mapping[Any, list[Entry]]) -> None:
        self._fengine.registrations.lists.become(table)

    def _fire_event(self, event_name: Any, *event_args: Any, **event_kwargs: Any) -> None:
        """Run the handlers of an event; a subclass may replace this and sees every event then.

        Args:
            event_name: the event.
            *event_args: passed to the handlers after the engine.
            **event_kwargs: passed to the handlers.
        """
        inside = self._fengine
        tell(self, "fires", event_name, level=logging.DEBUG)
        inside.registrations.note_firing(event_name, inside.state)
        inside.registrations.fire(event_name, self, event_args, event_kwargs)

    # Requests.

    def terminate(self, skip_completed: bool = False) -> None:
        """End the run: after the current iteration, or at the next event after it.

        Args:
            skip_completed: leave COMPLETED out.

        >>> from fengine.engine import Engine
        >>> engine = Engine(lambda engine, batch: engine.terminate())
        >>> engine.run([1, 2, 3]).iteration
        1
        """
        tell(self, "is_asked", "terminate")
        self.should_terminate = "skip_completed" if _wished(skip_completed) else True

    def terminate_epoch(self, skip_epoch_completed: bool = False) -> None:
        """End the epoch: after the current iteration, or at the next event after it.

        Args:
            skip_epoch_completed: leave EPOCH_COMPLETED out.

        >>> from fengine.engine import Engine
        >>> engine = Engine(lambda engine, batch: engine.terminate_epoch())
        >>> engine.run([1, 2, 3], max_epochs=2).iteration
        2
        """
        tell(self, "is_asked", "terminate_epoch")
        self.should_terminate_single_epoch = (
            "skip_epoch_completed" if _wished(skip_epoch_completed) else True
        )

    def interrupt(self) -> None:
        """Pause the run at the next event; the next `run` goes on from there.

        Raises:
            RuntimeError: `interrupt_resume_enabled` is False.

        >>> from fengine.engine import Engine
        >>> engine = Engine(lambda engine, batch: engine.interrupt())
        >>> [engine.run([1, 2, 3]).iteration for _ in range(3)]
        [1, 2, 3]
        """
        if not self.interrupt_resume_enabled:
            raise RuntimeError(
                f"{type(self).__name__}.interrupt_resume_enabled is False, so interrupt() is "
                "forbidden; set it to True"
            )
        tell(self, "is_asked", "interrupt")
        self.should_interrupt = True

    @property
    def should_terminate(self) -> Flag:
        """Whether the run is to end, or has been ended; "skip_completed" without COMPLETED."""
        return self._fengine.wishes.flag("terminate", box_of(self._fengine.state))

    @should_terminate.setter
    def should_terminate(self, flag: Flag) -> None:
        self._fengine.wishes.terminate(flag)

    @property
    def should_terminate_single_epoch(self) -> Flag:
        """Whether the epoch is to end; "skip_epoch_completed" without EPOCH_COMPLETED."""
        return self._fengine.wishes.flag("terminate_epoch", box_of(self._fengine.state))

    @should_terminate_single_epoch.setter
    def should_terminate_single_epoch(self, flag: Flag) -> None:
        self._fengine.wishes.terminate_epoch(flag)

    @property
    def should_interrupt(self) -> Flag:
        """Whether the run is to pause."""
        return self._fengine.wishes.flag("interrupt", box_of(self._fengine.state))

    @should_interrupt.setter
    def should_interrupt(self, flag: Flag) -> None:
        self._fengine.wishes.interrupt(flag)

    # What is written down of a run.

    @property
    def state_dict_user_keys(self) -> list[str]:
        """The names of further attributes of the state to save and load; append yours.

        >>> from fengine.engine import Engine
        >>> engine = Engine(lambda engine, batch: None)
        >>> engine.state_dict_user_keys.append("alpha")
        >>> engine.state.alpha = 0.1
        >>> dict(engine.state_dict())["alpha"]
        0.1
        """
        return self._state_dict_user_keys

    def state_dict(self) -> OrderedDict[str, Any]:
        """Give the progress and the limits, and what `state_dict_user_keys` names.

        Raises:
            AttributeError: the state has no attribute that a user key names.
            ValueError: a user key names what could not be loaded again.

        >>> from fengine.engine import Engine
        >>> engine = Engine(lambda engine, batch: None)
        >>> state = engine.run([1, 2], max_epochs=3)
        >>> engine.state_dict()
        OrderedDict([('epoch_length', 2), ('iteration', 6), ('max_epochs', 3)])
        """
        limit = "max_epochs" if self.state.max_iters is None else "max_iters"
        names = (*self._state_dict_all_req_keys, limit, *self._state_dict_user_keys)
        check_user_keys(self._state_dict_user_keys, limit)
        return OrderedDict((name, getattr(self.state, name)) for name in names)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take up progress that `state_dict` wrote; the next `run` goes on from there.

        A run that was interrupted is dropped; one that is under way goes on with what is loaded.
        Other attributes of the state stay as they are.

        Args:
            state_dict: has `epoch_length`, one of `iteration` and `epoch` (how many are done), one
                of `max_epochs` and `max_iters`, and the user keys.

        Raises:
            TypeError: it is not a mapping.
            ValueError: a key is missing or too many, or the values contradict each other; nothing
                is changed then.

        >>> from fengine.engine import Engine
        >>> engine = Engine(lambda engine, batch: None)
        >>> engine.load_state_dict({"epoch": 2, "epoch_length": 5, "max_epochs": 4})
        >>> engine.run([0] * 5).iteration
        20
        """
        progress = read_progress(
            state_dict, self._state_dict_one_of_opt_keys, self._state_dict_user_keys
        )
        inside = self._fengine
        box, feed = box_of(inside.state), inside.feed
        if not inside.is_running:
            # The run that was suspended, or that failed, is forgotten with what was asked of it.
            inside.registrations.last = (self.last_event_name, None)
            if box.status is Status.INTERRUPTED:
                feed.drop()
            forget_run(box)
            inside.wishes.posted.clear()
            feed.skipped, feed.has_short_passes, feed.asked_length = None, False, False
        box.iteration, box.epoch = progress.iteration, progress.epoch
        for name in ("max_epochs", "max_iters"):
            box.limit(name, progress.value if name == progress.limit else None)
        box.limit("epoch_length", progress.epoch_length)
        feed.has_learned_length = False
        for key in self._state_dict_user_keys:
            setattr(self.state, key, state_dict[key])

    # Runs.

    @staticmethod
    def _is_done(state: State) -> bool:
        """Tell whether a state has reached its limits."""
        return box_of(state).is_done()

    @property
    def _dataloader_iter(self) -> Iterator[Any] | None:
        return self._fengine.feed.iterator

    @_dataloader_iter.setter
    def _dataloader_iter(self, iterator: Iterator[Any] | None) -> None:
        feed = self._fengine.feed
        feed.iterator = iterator
        if iterator is None:
            feed.drop()

    @property
    def _init_iter(self) -> int | None:
        return self._fengine.feed.skipped

    @_init_iter.setter
    def _init_iter(self, iteration: int | None) -> None:
        self._fengine.feed.skipped = iteration

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
        self.state.dataloader = data
        self._dataloader_iter = iterator
        box = box_of(self.state)
        if box.event is None or is_between_epochs(box):
            note_restart(box)
            self._fengine.feed.begin_pass(data)

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
        with its next epoch. A run that is done, and has no larger limit now, starts again.

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
        inside = self._fengine
        box = box_of(inside.state)
        if inside.is_running:
            raise EngineRunningError(
                f"this {type(self).__name__} is running already, at epoch {box.epoch}, "
                f"iteration {box.iteration}; run another engine inside its handlers"
            )
        begin(
            box,
            inside.feed,
            inside.wishes,
            self.semantics,
            data,
            max_epochs,
            max_iters,
            epoch_length,
        )
        return self._internal_run()

    def _internal_run(self) -> State:
        inside = self._fengine
        box = box_of(inside.state)
        if box.event is None:
            inside.began = inside.clock()
            inside.state.times.update(EPOCH_COMPLETED=0.0, COMPLETED=0.0)
        tell(self, "begins")
        replaced = type(self)._fire_event is not Engine._fire_event or "_fire_event" in vars(self)
        by_hook = replaced or self.logger.isEnabledFor(logging.DEBUG)
        error: BaseException | None = None
        try:
            try:
                inside.is_running = True
                error = Running(self, inside, fires_by_hook=by_hook).run()
                paused = box.status is Status.INTERRUPTED
                if not paused:
                    self._dataloader_iter = None
                if is_between_epochs(box):
                    inside.feed.ended_at = box.iteration
                if error is not None:
                    tell(self, "leaves", error, level=logging.ERROR)
                    raise error
            finally:
                inside.is_running = False
                error = None  # its traceback holds this frame
        except BaseException as failure:
            # A signal may have come before the same lines above.
            inside.is_running = False
            if box.status is not Status.INTERRUPTED:
                self._dataloader_iter = None
            keep_state(failure, box)
            inside.leave(failure)
            raise
        inside.leave(None)
        took = inside.clock() - inside.began
        if not paused:
            inside.state.times["COMPLETED"] = took
        tell(self, "ends", took)
        return inside.state

    def _handle_exception(self, e: Any) -> None:
        """Fire EXCEPTION_RAISED; handlers that raise nothing have taken the exception."""
        answer(self, self._fengine, e)

    def _setup_engine(self) -> None:
        """Begin iteration over the data, after the batches of a resumed epoch."""
        self._setup_dataloader_iter()
        if self._init_iter is None:
            length, iteration = self.state.epoch_length, self.state.iteration
            self._init_iter = iteration % length if length else iteration

    def _setup_dataloader_iter(self) -> None:
        """Begin another pass over the data."""
        data = self.state.dataloader
        if data is not None:
            self._dataloader_iter = iter(data)
            return
        length = self.state.epoch_length
        if length is None:
            raise RuntimeError(
                "engine.state.epoch_length is None and so is engine.state.dataloader, so how many "
                "iterations an epoch has is unknown; set one of them"
            )
        self._dataloader_iter = repeat(None, length)


def _wished(skip: object) -> bool:
    """Tell whether something is to be skipped: as a handler, a method is given the engine here."""
    return bool(skip) and not isinstance(skip, Engine)
