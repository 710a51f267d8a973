"""Events: the points of a run at which handlers are called, as typed constants.

An event is a frozen value, equal by structure; `Events` names those of the loop. Calling an event
with criteria returns a filtered one, `|` joins several into an `EventSet`; neither changes its
operands. A `PayloadEvent[P]` hands its handlers a `P` beside the state.

Does not live here: their order (`phases`), and which events a loop knows (`registry`).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    Generic,
    Never,
    NoReturn,
    SupportsIndex,
    TypeAlias,
    TypeVar,
    final,
)

import attrs
from immutables import Map
from typing_extensions import override

from fengine.core.filters import (
    Filter,
    Span,
    counts_within_epoch,
    every,
    is_impossible_at,
    once,
    where,
)
from fengine.core.outcome import Outcome
from fengine.core.phases import PHASES, Fires, rank_of

P = TypeVar("P")


def _require_own(name: object, attr: object) -> None:
    """Refuse what cannot be the name and the counter of an event of the user's."""
    for field, value in (("name", name), ("attr", attr)):
        if value is None and field == "attr":
            continue
        if not isinstance(value, str):
            raise TypeError(f"{field}={value!r} of type {type(value).__name__} is not a string")
        if not value.isidentifier():
            raise ValueError(f"{field}={value!r} is not a valid name: use letters, digits and '_'")
    if name in PHASES:
        raise ValueError(
            f"the name {name!r} is that of an event of the loop; use Events.{str(name).upper()}, "
            "or give your own event another name"
        )


def _set_place(event: AnyEvent, owner: type, name: str) -> None:
    if event._place is None and name.isupper():
        place = f"{owner.__qualname__.rpartition('<locals>.')[2]}.{name}"
        object.__setattr__(event, "_place", place)


@final
@attrs.frozen(repr=False, init=False)
class Event:
    """Name a point of the run whose handlers take the state and return the state.

    Args:
        name: what tells this event from the others of one loop, in lower case by custom.
        attr: the counter that its filters read. "iteration" and "epoch" are kept by the loop, any
            other one by the user, with `State.with_attribute`. None: the loop counts the firings.

    Raises:
        TypeError: a name is not a string.
        ValueError: a name is not an identifier.

    >>> chunk = Event("chunk_started", attr="chunk")
    >>> chunk == Event("chunk_started", attr="chunk")
    True
    >>> Events.EPOCH_STARTED(every=2) | chunk
    Events.EPOCH_STARTED(every(2)) | Event('chunk_started', attr='chunk')
    """

    name: str
    attr: str | None
    # The class and the constant that it is, by which it prints.
    _place: str | None = attrs.field(default=None, init=False, eq=False)

    def __init__(self, name: str, attr: str | None = None) -> None:
        _require_own(name, attr)
        self.__attrs_init__(name, attr)

    def __set_name__(self, owner: type, name: str) -> None:
        """Print as the constant of a class, where it is one."""
        _set_place(self, owner, name)

    def __call__(
        self,
        filter: Filter | None = None,
        /,
        *,
        every: SupportsIndex | None = None,
        once: SupportsIndex | tuple[SupportsIndex, ...] | list[SupportsIndex] | None = None,
        before: SupportsIndex | None = None,
        after: SupportsIndex | None = None,
        when: Callable[[Never], bool] | None = None,
        of: Span = "run",
    ) -> EventSet:
        """Give this event at those firings only that meet all the criteria.

        Args:
            filter: any filter, such as `every(2) | once(1)`.
            every: at every n-th firing; with `after`, counted from the firing `after + 1`.
            once: at this firing, or at each of these.
            before: at firings numbered below this.
            after: at firings numbered above this.
            when: where this predicate of the state holds.
            of: number the firings in the whole "run", or in each "epoch" from 1 again.

        Raises:
            TypeError: a criterion has the wrong type.
            ValueError: there is no criterion, or they can never be met.

        >>> Events.ITERATION_COMPLETED(every=5, after=8, before=25)
        Events.ITERATION_COMPLETED(every(5, after=8, before=25))
        """
        met = criteria(filter, every, once, before, after, when, of)
        return EventSet((_Member(self, _countable(self, met)),))

    def __or__(self, other: Event | EventSet) -> EventSet:
        """Join with another event; neither operand changes."""
        return EventSet((_Member(self),)) | other

    @override
    def __repr__(self) -> str:
        return _show(self)

    @override
    def __reduce__(self) -> Any:
        """Have copies and pickles of a built-in event be that one object, as `is` asks."""
        return _reduced(self)


@final
@attrs.frozen(repr=False, init=False)
class PayloadEvent(Generic[P]):
    """Name a point of the run whose handlers take the state and a value of type `P`.

    Args:
        name: what tells this event from the others of one loop.
        attr: the counter that its filters read, as for `Event`.

    Raises:
        TypeError: a name is not a string.
        ValueError: a name is not an identifier.

    >>> gradients: PayloadEvent[float] = PayloadEvent("gradients_ready")
    >>> gradients(every=10)
    PayloadEvent('gradients_ready')(every(10))
    """

    name: str
    attr: str | None
    # The class and the constant that it is, by which it prints.
    _place: str | None = attrs.field(default=None, init=False, eq=False)

    def __init__(self, name: str, attr: str | None = None) -> None:
        _require_own(name, attr)
        self.__attrs_init__(name, attr)

    def __set_name__(self, owner: type, name: str) -> None:
        """Print as the constant of a class, where it is one."""
        _set_place(self, owner, name)

    def __call__(
        self,
        filter: Filter | None = None,
        /,
        *,
        every: SupportsIndex | None = None,
        once: SupportsIndex | tuple[SupportsIndex, ...] | list[SupportsIndex] | None = None,
        before: SupportsIndex | None = None,
        after: SupportsIndex | None = None,
        when: Callable[[Never], bool] | None = None,
        of: Span = "run",
    ) -> FilteredPayloadEvent[P]:
        """Give this event at those firings only that meet all the criteria, as `Event` does."""
        met = criteria(filter, every, once, before, after, when, of)
        return FilteredPayloadEvent(self, _countable(self, met))

    def __or__(self, other: Never) -> NoReturn:
        """Refuse to be joined: other events carry no payload, or another one."""
        raise TypeError(_not_joined(self, other))

    def __ror__(self, other: Never) -> NoReturn:
        """Refuse to be joined, likewise."""
        raise TypeError(_not_joined(other, self))

    @override
    def __repr__(self) -> str:
        return _show(self)

    @override
    def __reduce__(self) -> Any:
        """Have copies and pickles of a built-in event be that one object, as `is` asks."""
        return _reduced(self)


# Whatever its payload; a handler that takes another one is refused where it is added.
AnyEvent: TypeAlias = Event | PayloadEvent[Any]


@final
@attrs.frozen(repr=False)
class FilteredPayloadEvent(Generic[P]):
    """Hold a payload event together with the filter on it; made by calling the event."""

    event: PayloadEvent[P]
    filter: Filter

    def __setstate__(self, kept: Any) -> None:
        """Take up what `copy` and `pickle` kept, of version 0.1 too."""
        take_up(self, kept)

    @override
    def __repr__(self) -> str:
        return f"{self.event}({self.filter})"


@final
@attrs.frozen
class _Member:
    event: Event
    filter: Filter | None = None

    def __setstate__(self, kept: Any) -> None:
        """Take up what `copy` and `pickle` kept, of version 0.1 too."""
        take_up(self, kept)


@final
@attrs.frozen(repr=False)
class EventSet:
    """Hold several events, each with its filter or none; made by `|` and by calling an event.

    Laws: `|` is associative and commutative, joins nothing twice, and leaves its operands alone.

    >>> both = Events.STARTED | Events.EPOCH_STARTED(every=2)
    >>> both == Events.EPOCH_STARTED(every=2) | Events.STARTED
    True
    >>> len(both | both)
    2
    """

    members: tuple[_Member, ...] = attrs.field(eq=frozenset)

    def __or__(self, other: Event | EventSet) -> EventSet:
        """Join with an event or a set; neither operand changes."""
        if isinstance(other, Event):
            more: tuple[_Member, ...] = (_Member(other),)
        elif isinstance(other, EventSet):
            more = other.members
        else:
            return NotImplemented
        return EventSet(tuple(dict.fromkeys(self.members + more)))

    def __iter__(self) -> Iterator[tuple[Event, Filter | None]]:
        """Give each event with its filter, in the order of joining."""
        return ((member.event, member.filter) for member in self.members)

    def __len__(self) -> int:
        """Count the members."""
        return len(self.members)

    @override
    def __repr__(self) -> str:
        return " | ".join(f"{e}" if f is None else f"{e}({f})" for e, f in self)


def _built_in(name: str) -> Event:
    event = object.__new__(Event)
    event.__attrs_init__(name, PHASES[name].attr)
    return event


def _built_in_with_payload(name: str) -> PayloadEvent[Any]:
    event: PayloadEvent[Any] = object.__new__(PayloadEvent)
    event.__attrs_init__(name, PHASES[name].attr)
    return event


class _Named(type):
    """Say which event may be meant by a name that is none."""

    if not TYPE_CHECKING:  # a type checker knows the names

        def __getattr__(cls, name: str) -> object:
            known = [one for one in vars(cls) if one.isupper()]
            words = set(name.upper().split("_")) - {"ON"}
            near = difflib.get_close_matches(name.upper(), known, 3, 0.5)
            near += [one for one in known if words & set(one.split("_")) and one not in near]
            if not near or name.startswith("_"):
                raise AttributeError(f"type object {cls.__name__!r} has no attribute {name!r}")
            raise AttributeError(
                f"{cls.__name__} has no event {name!r}; there are {', '.join(near)}. For an event "
                f"of your own write Event('name')"
            )


@final
class Events(metaclass=_Named):
    """Name the events of every run, in the order in which a run can reach them.

    Each is one object for ever, also in what is pickled or copied: `moment.event is Events.STARTED`
    is true in every process. Events of your own are compared by `==`.

    The number that a filter sees is the epoch at the epoch events, the iteration at the iteration
    events, and the iteration that the batch is for at the batch events; STARTED, COMPLETED and
    EXITED are always firing 1 of their run; the others are counted.

    >>> [event.name for event in Events.all()][:3]
    ['started', 'epoch_started', 'get_batch_started']
    >>> Events.ITERATION_STARTED.attr
    'iteration'
    """

    STARTED: Final = _built_in("started")
    EPOCH_STARTED: Final = _built_in("epoch_started")
    GET_BATCH_STARTED: Final = _built_in("get_batch_started")
    DATALOADER_STOP_ITERATION: Final = _built_in("dataloader_stop_iteration")
    GET_BATCH_COMPLETED: Final = _built_in("get_batch_completed")
    ITERATION_STARTED: Final = _built_in("iteration_started")
    ITERATION_COMPLETED: Final = _built_in("iteration_completed")
    TERMINATE_SINGLE_EPOCH: Final = _built_in("terminate_single_epoch")
    EPOCH_COMPLETED: Final = _built_in("epoch_completed")
    INTERRUPT: Final = _built_in("interrupt")
    TERMINATE: Final = _built_in("terminate")
    EXCEPTION_RAISED: Final[PayloadEvent[BaseException]] = _built_in_with_payload(
        "exception_raised"
    )
    COMPLETED: Final = _built_in("completed")
    EXITED: Final[PayloadEvent[Outcome]] = _built_in_with_payload("exited")

    @staticmethod
    def all() -> tuple[AnyEvent, ...]:
        """Give every event of the loop, in the order above."""
        return _ALL


_ALL: Final[tuple[AnyEvent, ...]] = tuple(
    event for event in vars(Events).values() if isinstance(event, Event | PayloadEvent)
)

BUILT_IN: Final[Map[str, AnyEvent]] = Map({event.name: event for event in _ALL})


def the_one(event: AnyEvent) -> AnyEvent:
    """Return the built-in event that an event equals; the event itself if it equals none."""
    built_in = BUILT_IN.get(event.name)
    return built_in if built_in is not None and built_in == event else event


def take_up(record: object, kept: Any) -> None:
    """Set the fields of a record to what `copy` and `pickle` kept of it.

    Version 0.1 kept copies of the built-in events; here they become those events again.
    """
    fields: dict[str, Any] = kept[1] if isinstance(kept, tuple) else kept
    for name, value in fields.items():
        object.__setattr__(record, name, _with_the_one(value))


def _with_the_one(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_with_the_one, value)) if type(value) is tuple else value
    return the_one(value) if isinstance(value, Event | PayloadEvent) else value


def _reduced(event: AnyEvent) -> tuple[Callable[..., AnyEvent], tuple[object, ...]]:
    """Return what `copy` and `pickle` make an event of."""
    if BUILT_IN.get(event.name) == event:
        return _built_in_named, (event.name,)
    return _placed, (type(event), event.name, event.attr, event._place)


def _placed(kind: type[AnyEvent], name: str, attr: str | None, place: str | None) -> AnyEvent:
    event = kind(name, attr)
    object.__setattr__(event, "_place", place)
    return event


def _built_in_named(name: str) -> AnyEvent:
    return BUILT_IN[name]


def rank_at(event: AnyEvent | None) -> int:
    """Return the rank of the event that a run stands at; see `rank_of`.

    >>> rank_at(Events.STARTED) == rank_at(None)
    False
    """
    return rank_of(None if event is None else event.name)


def _not_joined(one: object, other: object) -> str:
    return (
        f"{one!r} | {other!r}: a PayloadEvent gives its handlers a value more than others do, so "
        "it is joined with none; register the handler for each: .on(one, f).on(other, f)"
    )


def criteria(
    filter: Filter | None,
    stride: SupportsIndex | None,
    counts: SupportsIndex | tuple[SupportsIndex, ...] | list[SupportsIndex] | None,
    before: SupportsIndex | None,
    after: SupportsIndex | None,
    predicate: Callable[[Never], bool] | None,
    of: Span,
) -> Filter:
    """Join the criteria of a filtered event into one filter."""
    parts: list[Filter] = []
    if stride is not None or before is not None or after is not None:
        parts.append(every(1 if stride is None else stride, after=after, before=before, of=of))
    if counts is not None:
        parts.append(once(*(counts if isinstance(counts, tuple | list) else (counts,)), of=of))
    if predicate is not None:
        parts.append(where(predicate))
    if filter is not None:
        if not isinstance(filter, Filter):
            raise TypeError(
                f"{filter!r} of type {type(filter).__name__} is not a filter; "
                "for a predicate of the state write when=..., for a stride every=..."
            )
        parts.append(filter)
    if not parts:
        raise ValueError(
            "an event is called with a criterion: every=, once=, before=, after=, when="
        )
    met = parts[0]
    for part in parts[1:]:
        met = met & part
    return met


def _countable(event: AnyEvent, met: Filter) -> Filter:
    phase = PHASES.get(event.name)
    if phase is None:
        has_numbers_in_epoch = event.attr in (None, "iteration")
    else:
        has_numbers_in_epoch = phase.is_numbered_in_epoch
    if not has_numbers_in_epoch and counts_within_epoch(met):
        raise ValueError(
            f"{event} is not numbered within an epoch, so of='epoch' says nothing; leave it out"
        )
    if phase is not None and phase.fires is Fires.IN_EACH_RUN and is_impossible_at(met, 1):
        raise ValueError(f"{event}({met}) can never fire: a run fires {event} once, as number 1")
    return met


def _show(event: AnyEvent) -> str:
    if BUILT_IN.get(event.name) == event:
        return f"Events.{event.name.upper()}"
    if event._place is not None:
        return event._place
    attr = "" if event.attr is None else f", attr={event.attr!r}"
    return f"{type(event).__name__}({event.name!r}{attr})"
