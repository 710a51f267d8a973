"""The events of the Engine API: members of an Enum, compared by name, filtered by calling them.

These are other objects than the typed constants of `fengine.Events`: here an event equals any event
and any string of the same name, as code written for the Engine expects. The Engine converts them
where it meets the loop.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from typing import Any, Final, Self, final

from typing_extensions import TypeIs, override

from fengine.core.phases import PHASES
from fengine.engine.calling import check_signature
from fengine.engine.event_filters import Once, Stride, stride


class CallableEventWithFilter:
    """Hold an event and, perhaps, a filter on its firings.

    Args:
        value: the value of the event, a string.
        event_filter: decides by `event_filter(engine, count)` whether handlers run; None: always.
        name: what tells events apart.

    >>> Events.ITERATION_COMPLETED(every=10).filter is None
    False
    >>> Events.STARTED == "STARTED"
    True
    """

    filter: Callable[[Any, int], bool] | None

    def __init__(
        self,
        value: str,
        event_filter: Callable[[Any, int], bool] | None = None,
        name: str | None = None,
    ) -> None:
        self.filter = event_filter
        self._value_ = value
        self._name_ = value if name is None else name

    @property
    def name(self) -> str:
        """What tells this event from others."""
        return self._name_

    @property
    def value(self) -> str:
        """The value of the event."""
        return self._value_

    def __call__(
        self,
        event_filter: Callable[[Any, int], bool] | None = None,
        every: int | None = None,
        once: int | Sequence[int] | None = None,
        before: int | None = None,
        after: int | None = None,
    ) -> CallableEventWithFilter:
        """Give this event with a filter; this one stays as it is.

        Exactly one of `event_filter`, `once` and the group `every`, `before`, `after` is given.

        Args:
            event_filter: called with the engine and the count; tells whether handlers run.
            every: run at every n-th count; with `after`, counted from the first one after it.
            once: run at this count, or at each of these.
            before: run at counts below this.
            after: run at counts above this.

        Raises:
            TypeError: `event_filter` is not callable.
            ValueError: the combination or a value is not allowed.

        >>> Events.ITERATION_STARTED(every=5, before=25, after=8).filter(None, 14)
        True
        """
        strides = [value for value in (every, before, after) if value is not None]
        if (event_filter is not None) + (once is not None) + bool(strides) != 1:
            raise ValueError(
                "an event is called with exactly one of event_filter=, once= and the group "
                f"every=/before=/after=; got event_filter={event_filter!r}, once={once!r}, "
                f"every={every!r}, before={before!r}, after={after!r}"
            )
        if event_filter is not None:
            if not callable(event_filter):
                raise TypeError(
                    f"event_filter={event_filter!r} of type {type(event_filter).__name__} is not "
                    "callable; give a function of (engine, count)"
                )
            check_signature(event_filter, "event_filter", "engine", "event")
        elif once is not None:
            event_filter = self.once_event_filter(once)
        else:
            event_filter = stride(every, before, after)
        return CallableEventWithFilter(self.value, event_filter, self.name)

    @staticmethod
    def every_event_filter(every: int) -> Callable[[Any, int], bool]:
        """Make a filter that holds at every n-th count."""
        return Stride(every)

    @staticmethod
    def once_event_filter(once: int | Sequence[int]) -> Callable[[Any, int], bool]:
        """Make a filter that holds at a count, or at each of several.

        Raises:
            ValueError: a count is not a positive int, or there is none.
        """
        counts: object = [once] if isinstance(once, int) else once
        if not isinstance(counts, Sequence) or not counts:
            raise ValueError(f"once={once!r} is not a positive int or a sequence of such")
        wrong = [count for count in counts if not isinstance(count, int) or count < 1]
        if wrong:
            raise ValueError(f"once={once!r}: {wrong[0]!r} is not a positive int")
        return Once(tuple(counts))

    @staticmethod
    def before_and_after_event_filter(
        before: int | None = None, after: int | None = None
    ) -> Callable[[Any, int], bool]:
        """Make a filter that holds strictly between two counts."""
        return Stride(1, before, after or 0)

    @staticmethod
    def every_before_and_after_event_filter(
        every: int, before: int | None = None, after: int | None = None
    ) -> Callable[[Any, int], bool]:
        """Make a filter that holds at every n-th count after `after`, below `before`."""
        return Stride(every, before, after or 0)

    @staticmethod
    def default_event_filter(engine: Any, event: int) -> bool:
        """Hold always, with a warning that no filter was meant to be used this way."""
        warnings.warn("an event without a filter needs no filter function", stacklevel=2)
        return True

    @override
    def __eq__(self, other: object) -> bool:
        if isinstance(other, str):
            return self.name == other
        return self.name == other.name if is_event(other) else NotImplemented

    @override
    def __hash__(self) -> int:
        return hash(self._name_)

    def __or__(self, other: object) -> EventsList:
        """Join with another event, for one handler at both."""
        return EventsList() | self | other

    @override
    def __repr__(self) -> str:
        shown = f"Events.{self.name}"
        return shown if self.filter is None else f"{shown}(filter={self.filter})"


class EventEnum(CallableEventWithFilter, Enum):
    """Be the base class of one's own events.

    >>> class Backward(EventEnum):
    ...     STARTED_BACKWARD = "started_backward"
    >>> Backward.STARTED_BACKWARD(every=2)
    Events.STARTED_BACKWARD(filter=every 2)
    """

    def __new__(cls, value: str) -> Self:
        """Make a member; its value stays what it is."""
        member = object.__new__(cls)
        member._value_ = value
        return member

    def __init__(self, value: str) -> None:
        self.filter = None

    # Enum defines these itself; as members, events compare and print like any other event.
    __eq__ = CallableEventWithFilter.__eq__
    __hash__ = CallableEventWithFilter.__hash__
    __repr__ = CallableEventWithFilter.__repr__


@final
class Events(EventEnum):
    """Name the events that an Engine fires.

    >>> Events("started") is Events.STARTED
    True
    >>> [event.name for event in Events][:4]
    ['EPOCH_STARTED', 'EPOCH_COMPLETED', 'STARTED', 'COMPLETED']
    """

    EPOCH_STARTED = "epoch_started"
    EPOCH_COMPLETED = "epoch_completed"
    STARTED = "started"
    COMPLETED = "completed"
    ITERATION_STARTED = "iteration_started"
    ITERATION_COMPLETED = "iteration_completed"
    EXCEPTION_RAISED = "exception_raised"
    GET_BATCH_STARTED = "get_batch_started"
    GET_BATCH_COMPLETED = "get_batch_completed"
    DATALOADER_STOP_ITERATION = "dataloader_stop_iteration"
    TERMINATE = "terminate"
    TERMINATE_SINGLE_EPOCH = "terminate_single_epoch"
    INTERRUPT = "interrupt"


class EventsList:
    """Hold several events for one handler; made by `|`, which changes neither operand.

    >>> both = Events.STARTED | Events.COMPLETED
    >>> len(both | Events.EPOCH_STARTED), len(both)
    (3, 2)
    """

    def __init__(self) -> None:
        self._events: tuple[Any, ...] = ()

    def __getitem__(self, item: int) -> Any:
        """Give the event at a place."""
        return self._events[item]

    def __iter__(self) -> Iterator[Any]:
        """Give the events in the order of joining."""
        return iter(self._events)

    def __len__(self) -> int:
        """Count the events."""
        return len(self._events)

    def __or__(self, other: object) -> EventsList:
        """Join with an event or with another list.

        Raises:
            TypeError: the other side is neither.
        """
        if is_event(other):
            more: tuple[Any, ...] = (other,)
        elif is_events_list(other):
            more = tuple(other)
        else:
            raise TypeError(
                f"{other!r} of type {type(other).__name__} cannot be joined with '|'; "
                "join events, such as Events.STARTED | Events.COMPLETED"
            )
        joined = EventsList()
        joined._events = self._events + more
        return joined

    @override
    def __repr__(self) -> str:
        return " | ".join(map(repr, self._events))


def is_event(value: object) -> TypeIs[CallableEventWithFilter]:
    """Tell whether a value is an event with a name and a filter, of this package or alike."""
    return isinstance(value, CallableEventWithFilter) or (
        not isinstance(value, type)
        and isinstance(getattr(value, "name", None), str)
        and hasattr(value, "filter")
        and hasattr(value, "value")
    )


def is_events_list(value: object) -> TypeIs[EventsList]:
    """Tell whether a value is a list of events, of this package or alike."""
    return isinstance(value, EventsList) or type(value).__name__ == "EventsList"


def core_name(event: object) -> str | None:
    """Give the name that the loop knows a built-in event by; None for any other event."""
    name = event if isinstance(event, str) else event.name if is_event(event) else ""
    return name.lower() if name.isupper() and name.lower() in PHASES else None


EVENT_OF: Final = {event.value: event for event in Events}
