"""The Engine: the documented mutable API, on the one loop of the core.

There is no loop here. An engine keeps a state that looks mutable, a live table of handlers and
what has been asked of it, and answers the script of the core: it fires the events that the script
names, through hooks that subclasses may replace.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator
from itertools import repeat
from typing import Any, Final, Literal, TypeAlias, TypeVar

import attrs

from fengine.core.events import AnyEvent
from fengine.core.outcome import Status
from fengine.core.requests import Interrupt, Recovery, Terminate, TerminateEpoch
from fengine.core.script import Box, script
from fengine.core.semantics import DOCUMENTED, Semantics
from fengine.core.state import with_output, with_requests
from fengine.engine.calling import EXCEPTION, ITER_COUNTER, THE_ENGINE, check_signature, entry
from fengine.engine.enums import EVENT_OF, EventEnum, Events, core_name, is_event, is_events_list
from fengine.engine.feed import Feed
from fengine.engine.handles import RemovableEventHandle as RemovableEventHandle
from fengine.engine.start import begin
from fengine.engine.state import AnyRecord, Free, State
from fengine.engine.table import Entry, Filtered, HandlerTable, original
from fengine.runtime.driver import mark, pull

Function = TypeVar("Function", bound=Callable[..., Any])
Flag: TypeAlias = bool | Literal["skip_completed", "skip_epoch_completed"]


class EngineRunningError(RuntimeError, ValueError):
    """Tell that an engine was asked to run while it runs."""


class Engine:
    """Run a function over each batch of a dataset, and fire events on the way.

    Args:
        process_function: called with the engine and the batch in each iteration; what it returns
            becomes `engine.state.output`.
        semantics: which version to follow where two versions of this API disagree; the class
            attribute `semantics` unless given.

    Attributes:
        state: the live state; see `State`.
        logger: takes what the engine has to say.
        semantics: as given.
        interrupt_resume_enabled: whether `interrupt` is allowed.

    Raises:
        TypeError: `process_function` is not callable.
        ValueError: it is None, or does not take the engine and a batch.

    >>> def train_and_store_loss(engine, batch):
    ...     return batch / 2
    >>> engine = Engine(train_and_store_loss)
    >>> engine.run([1.0, 2.0], max_epochs=3).output
    1.0
    """

    semantics: Semantics = DOCUMENTED
    interrupt_resume_enabled: bool = True

    def __init__(
        self,
        process_function: Callable[[Engine, Any], Any],
        *,
        semantics: Semantics | None = None,
    ) -> None:
        if process_function is None:
            raise ValueError("process_function is None; give a function of (engine, batch)")
        check_signature(process_function, "process_function", "engine", "batch")
        if semantics is not None:
            self.semantics = semantics
        self.logger = logging.getLogger(f"{__name__}.{type(self).__name__}")
        self._process_function = process_function
        self._event_handlers = HandlerTable()
        self._allowed_events: list[Any] = []
        self._state = State()
        self._posts: deque[tuple[str, Any]] = deque()
        self._fired: dict[Any, int] = {}
        self._last_fired: tuple[Any, object] = (None, None)
        self._dataloader_iter: Iterator[Any] | None = None
        self._init_iter: int | None = None
        self._epoch_length_learned = False
        self._running = False
        self._began = 0.0
        self._epoch_began = 0.0
        self.register_events(*Events)

    @property
    def state(self) -> State:
        """The state of the engine, the same object in and between all its runs."""
        return self._state

    @state.setter
    def state(self, state: State) -> None:
        if not isinstance(state, State):
            raise TypeError(
                f"engine.state is a State, not {state!r} of type {type(state).__name__}"
            )
        if state is not self._state:
            state._adopt(self._box, self._state._attr_of)
            self._state = state

    @property
    def _box(self) -> Box[Any, Any, Free]:
        return self._state._box

    @property
    def _logger(self) -> logging.Logger:
        return self.logger

    # Events and handlers

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
        >>> class Chunks(Enum):
        ...     CHUNK_STARTED = "chunk_started"
        >>> engine = Engine(lambda engine, batch: engine.fire_event(Chunks.CHUNK_STARTED))
        >>> engine.register_events(*Chunks, event_to_attr={Chunks.CHUNK_STARTED: "chunk"})
        >>> engine.state.chunk
        0
        """
        if event_to_attr is not None and not isinstance(event_to_attr, dict):
            raise ValueError(
                f"event_to_attr={event_to_attr!r} of type {type(event_to_attr).__name__} is not a "
                "dict from events to attribute names"
            )
        for event in event_names:
            self._check_kind(event)
        for event in event_names:
            if event not in self._allowed_events:
                self._allowed_events.append(event)
            if event_to_attr and event in event_to_attr:
                attr = event_to_attr[event]
                self._state._attr_of[event] = attr
                if not hasattr(self._state, attr):
                    setattr(self._state, attr, 0)

    def has_registered_events(self, event: Any) -> bool:
        """Tell whether an event can be fired.

        >>> Engine(lambda engine, batch: None).has_registered_events("foo")
        False
        """
        return event in self._allowed_events

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

        >>> engine = Engine(lambda engine, batch: batch)
        >>> def print_epoch(engine, prefix):
        ...     print(prefix, engine.state.epoch)
        >>> handle = engine.add_event_handler(Events.EPOCH_COMPLETED, print_epoch, "epoch")
        >>> state = engine.run([1, 2], max_epochs=1)
        epoch 1
        """
        made = [
            (self._registered(event), self._entry(event, handler, args, kwargs))
            for event in self._single_events(event_name)
        ]
        if not made:
            raise ValueError("the list of events is empty, so the handler would never run")
        for event, added in made:
            self._event_handlers[event].append(added)
        return RemovableEventHandle(event_name, made[0][1][0], self)

    def on(self, event_name: Any, *args: Any, **kwargs: Any) -> Callable[[Function], Function]:
        """Add the decorated function as a handler; see `add_event_handler`.

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

        >>> engine = Engine(lambda engine, batch: batch)
        >>> handle = engine.add_event_handler(Events.COMPLETED, print)
        >>> engine.has_event_handler(print), engine.has_event_handler(print, Events.STARTED)
        (True, False)
        """
        if event_name is None:
            lists: Iterable[list[Entry]] = self._event_handlers.values()
        else:
            lists = [self._event_handlers.get(event_name, [])]
        return any(original(added[0]) == handler for entries in lists for added in entries)

    def remove_event_handler(self, handler: Callable[..., Any], event_name: Any) -> None:
        """Take every registration of a handler at an event away.

        Args:
            handler: the handler as it was added.
            event_name: the event.

        Raises:
            ValueError: the handler is not registered there.

        >>> engine = Engine(lambda engine, batch: batch)
        >>> handle = engine.add_event_handler(Events.COMPLETED, print)
        >>> engine.remove_event_handler(print, Events.COMPLETED)
        """
        entries = self._event_handlers.get(event_name, [])
        kept = [added for added in entries if original(added[0]) != handler]
        if len(kept) == len(entries):
            raise ValueError(
                f"handler {getattr(handler, '__qualname__', handler)!r} is not registered for "
                f"{event_name!r} of this {type(self).__name__}, so it cannot be removed"
            )
        self._event_handlers[self._registered(event_name)] = kept

    def fire_event(self, event_name: Any) -> None:
        """Run all handlers of an event, at any time.

        The events of a run are fired by the run; this is for events of your own.

        Args:
            event_name: a registered event.

        Raises:
            ValueError: the event is not registered.

        >>> engine = Engine(lambda engine, batch: batch)
        >>> engine.register_events("tick")
        >>> handle = engine.add_event_handler("tick", lambda: print("tick"))
        >>> engine.fire_event("tick")
        tick
        """
        self._fire_event(self._registered(event_name))

    @property
    def last_event_name(self) -> Any:
        """The event that was fired last, or None."""
        event, place = self._last_fired
        record = self._box.state
        if record.event is not None and place != _place(record):
            return EVENT_OF[record.event.name]
        return event

    def _fire_event(self, event_name: Any, *event_args: Any, **event_kwargs: Any) -> None:
        """Run the handlers of an event; a subclass may replace this and sees every event then.

        Args:
            event_name: the event.
            *event_args: passed to the handlers behind the engine.
            **event_kwargs: passed to the handlers.
        """
        self.logger.debug("%s fires %s", type(self).__name__, event_name)
        self._last_fired = (event_name, _place(self._box.state))
        if self._state._attribute_of(event_name) is None:
            self._fired[event_name] = self._fired.get(event_name, 0) + 1
        entries = self._event_handlers.get(event_name)
        if entries is not None:
            self._call(entries, event_args, event_kwargs)

    def _call(
        self, entries: list[Entry], event_args: tuple[Any, ...], event_kwargs: dict[str, Any]
    ) -> None:
        for handler, args, kwargs in entries:
            first, rest = ((self,), args[1:]) if args and args[0] is THE_ENGINE else ((), args)
            handler(*first, *event_args, *rest, **kwargs, **event_kwargs)

    def _count(self, event: Any) -> int:
        attr = self._state._attribute_of(event)
        return self._fired.get(event, 0) if attr is None else getattr(self._state, attr)

    def _check_kind(self, event: Any) -> None:
        if self.semantics.any_event:
            if not isinstance(event, Hashable) or (isinstance(event, type)):
                raise TypeError(f"{event!r} of type {type(event).__name__} cannot be an event")
        elif not isinstance(event, str | EventEnum) and not is_event(event):
            raise TypeError(
                f"{event!r} of type {type(event).__name__} cannot be an event; "
                "events are strings and members of an EventEnum"
            )

    def _registered(self, event: Any) -> Any:
        """Give the event as it was registered; of a filtered one, the plain event."""
        if event in self._allowed_events:
            return self._allowed_events[self._allowed_events.index(event)]
        message = (
            f"{event!r} is not an event of this {type(self).__name__}; "
            f"it knows {', '.join(map(str, self._allowed_events))}. Use register_events first"
        )
        self.logger.error(message)
        raise ValueError(message)

    def _single_events(self, event_name: Any) -> list[Any]:
        return list(event_name) if is_events_list(event_name) else [event_name]

    def _entry(
        self, event: Any, handler: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Entry:
        extra = {"exception_raised": EXCEPTION, "terminate_single_epoch": ITER_COUNTER}.get(
            core_name(event) or ""
        )
        function, bound, keywords = entry(handler, extra, args, kwargs)
        if not is_event(event) or event.filter is None:
            return function, bound, keywords
        takes_engine = bool(bound) and bound[0] is THE_ENGINE
        filtered = Filtered(self._registered(event), event.filter, function, takes_engine)
        return filtered, bound if takes_engine else (THE_ENGINE, *bound), keywords

    # Requests

    def terminate(self, skip_completed: bool = False) -> None:
        """End the run: after the current iteration, or at the next event behind it.

        Args:
            skip_completed: leave COMPLETED out.

        >>> engine = Engine(lambda engine, batch: engine.terminate())
        >>> engine.run([1, 2, 3]).iteration
        1
        """
        self.should_terminate = "skip_completed" if skip_completed else True

    def terminate_epoch(self, skip_epoch_completed: bool = False) -> None:
        """End the epoch: after the current iteration, or at the next event behind it.

        Args:
            skip_epoch_completed: leave EPOCH_COMPLETED out.

        >>> engine = Engine(lambda engine, batch: engine.terminate_epoch())
        >>> engine.run([1, 2, 3], max_epochs=2).iteration
        2
        """
        self.should_terminate_single_epoch = (
            "skip_epoch_completed" if skip_epoch_completed else True
        )

    def interrupt(self) -> None:
        """Pause the run at the next event; the next `run` goes on from there.

        Raises:
            RuntimeError: `interrupt_resume_enabled` is False.

        >>> engine = Engine(lambda engine, batch: engine.interrupt())
        >>> [engine.run([1, 2, 3]).iteration for _ in range(3)]
        [1, 2, 3]
        """
        if not self.interrupt_resume_enabled:
            raise RuntimeError(
                f"{type(self).__name__}.interrupt_resume_enabled is False, so interrupt() is "
                "forbidden; set it to True"
            )
        self.should_interrupt = True

    @property
    def should_terminate(self) -> Flag:
        """Whether the run is to end, or has been ended; "skip_completed" without COMPLETED."""
        return _FLAGS[self._asked("terminate")]

    @should_terminate.setter
    def should_terminate(self, flag: Flag) -> None:
        kind = Terminate.SILENT if flag == "skip_completed" else Terminate.ANNOUNCED
        self._posts.append(("terminate", kind if flag else None))

    @property
    def should_terminate_single_epoch(self) -> Flag:
        """Whether the epoch is to end; "skip_epoch_completed" without EPOCH_COMPLETED."""
        return _FLAGS[self._asked("terminate_epoch")]

    @should_terminate_single_epoch.setter
    def should_terminate_single_epoch(self, flag: Flag) -> None:
        silent = flag == "skip_epoch_completed"
        kind = TerminateEpoch.SILENT if silent else TerminateEpoch.ANNOUNCED
        self._posts.append(("terminate_epoch", kind if flag else None))

    @property
    def should_interrupt(self) -> Flag:
        """Whether the run is to pause."""
        return _FLAGS[self._asked("interrupt")]

    @should_interrupt.setter
    def should_interrupt(self, flag: Flag) -> None:
        self._posts.append(("interrupt", Interrupt.ANNOUNCED if flag else None))

    def _asked(self, name: str) -> Any:
        posted = [value for kind, value in tuple(self._posts) if kind == name]
        return posted[-1] if posted else getattr(self._box.state.requests, name)

    def _take_posts(self) -> None:
        """Write what has been asked into the record.

        Requests come from handlers, signal handlers and other threads alike. A queue takes them at
        any time and loses none, which writing the record from there could.
        """
        box = self._box
        while self._posts:
            name, value = self._posts.popleft()
            box.state = with_requests(box.state, attrs.evolve(box.state.requests, **{name: value}))

    # Runs

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
        if self._box.state.status is not Status.INTERRUPTED:
            self._began = time.monotonic()
            self._state.times.update(EPOCH_COMPLETED=0.0, COMPLETED=0.0)
        unsized = self._box.state.limits.epoch_length is None
        self._running = True
        course = script(self._box, self._step, Feed(self), self._heard(), self.semantics)
        try:
            error = _finish(pull(course, self._answer))
        finally:
            self._running = False
        record = self._box.state
        self._epoch_length_learned = (
            unsized or self._epoch_length_learned
        ) and record.limits.epoch_length is not None
        if record.status is not Status.INTERRUPTED:
            self._dataloader_iter = None
        if error is not None:
            mark(error, record)
            raise error
        if record.status is not Status.INTERRUPTED:
            self._state.times["COMPLETED"] = time.monotonic() - self._began
        return self._state

    def _heard(self) -> Any:
        replaced = type(self)._fire_event is not Engine._fire_event or "_fire_event" in vars(self)
        if replaced or self.logger.isEnabledFor(logging.DEBUG):
            return EVENT_OF
        return self._event_handlers.by_name

    def _step(self, record: AnyRecord) -> AnyRecord:
        output = self._process_function(self, self._state.batch)
        if self._posts:
            self._take_posts()
        return with_output(self._box.state, output)

    def _answer(self, event: AnyEvent) -> None:
        """Fire what the script names, and keep the time."""
        name, times = event.name, self._state.times
        if name == "epoch_started":
            self._epoch_began = time.monotonic()
        elif name == "epoch_completed":
            times["EPOCH_COMPLETED"] = time.monotonic() - self._epoch_began
        elif name == "completed":
            times["COMPLETED"] = time.monotonic() - self._began
        if name == "exception_raised":
            self._handle_exception(self._box.payload)
        elif name == "terminate_single_epoch":
            self._fire_event(EVENT_OF[name], iter_counter=self._box.state.batches)
        else:
            self._fire_event(EVENT_OF[name])
        if name in ("epoch_completed", "terminate_single_epoch"):
            times["EPOCH_COMPLETED"] = time.monotonic() - self._epoch_began
        if self._posts:
            self._take_posts()

    def _handle_exception(self, error: Any) -> None:
        """Fire EXCEPTION_RAISED; handlers that raise nothing have taken the exception."""
        record = self._box.state
        self.logger.error("%s is stopped by %r", type(self).__name__, error)
        if not self._event_handlers.by_name["exception_raised"]:
            return
        self._fire_event(Events.EXCEPTION_RAISED, error)
        within = record.event is not None and record.event.name in _WITHIN_ITERATION
        recovery = (
            Recovery.END_EPOCH if within and isinstance(error, Exception) else Recovery.END_RUN
        )
        self._box.state = self._box.state.recover(recovery)

    def _setup_engine(self) -> None:
        """Begin iteration over the data, behind the batches of a resumed epoch."""
        self._setup_dataloader_iter()
        if self._init_iter is None:
            limits = self._box.state.limits
            iteration = self._box.state.iteration
            self._init_iter = iteration % limits.epoch_length if limits.epoch_length else iteration

    def _setup_dataloader_iter(self) -> None:
        data = self._state.dataloader
        self._dataloader_iter = repeat(None) if data is None else iter(data)


_FLAGS: Final[dict[Any, Flag]] = {
    None: False,
    Terminate.ANNOUNCED: True,
    Terminate.SILENT: "skip_completed",
    TerminateEpoch.ANNOUNCED: True,
    TerminateEpoch.SILENT: "skip_epoch_completed",
    Interrupt.ANNOUNCED: True,
}

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


def _place(record: AnyRecord) -> object:
    return record.event, record.epoch, record.iteration, record.batches


def _finish(pulling: Generator[AnyEvent, None, BaseException | None]) -> BaseException | None:
    while True:
        try:
            next(pulling)
        except StopIteration as end:
            result: BaseException | None = end.value
            return result
