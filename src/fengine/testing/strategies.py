"""Strategies: every value that a run is made of, for property tests with Hypothesis.

A feature of the loop enters here first: the laws are tested on what these generate. The values are
small, since a run of three epochs has a first, a middle and a last one.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Never, TypeVar, cast

import attrs
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from immutables import Map

from fengine.core import phases
from fengine.core.events import (
    AnyEvent,
    Event,
    Events,
    EventSet,
    FilteredPayloadEvent,
    PayloadEvent,
    rank_at,
)
from fengine.core.filters import Filter, Span, after, before, every, once, where
from fengine.core.handlers import Handler, compose, when
from fengine.core.limits import Limits
from fengine.core.missing import MISSING
from fengine.core.outcome import Status
from fengine.core.parts import Part
from fengine.core.phases import PHASES, has_batch_to_come, has_step_to_come
from fengine.core.requests import Interrupt, Requests, Terminate, TerminateEpoch
from fengine.core.state import State
from fengine.testing.program import Ask

Batch = TypeVar("Batch")
Output = TypeVar("Output")
User = TypeVar("User")
Value = TypeVar("Value")

_NAMES = ("loaded", "computed", "updated")
_METRICS = ("loss", "accuracy")


def limits(largest: int = 3) -> SearchStrategy[Limits]:
    """Generate limits of at most this many epochs and batches in an epoch.

    >>> from hypothesis import find
    >>> find(limits(), lambda limits: limits.max_epochs == 2)
    Limits(max_epochs=2)
    """
    number = st.integers(1, largest)
    length = st.none() | number
    in_epochs = st.builds(Limits, max_epochs=number, epoch_length=length)
    in_iterations = st.builds(
        Limits, max_iters=st.integers(1, largest * largest), epoch_length=length
    )
    return in_epochs | in_iterations


def requests() -> SearchStrategy[Requests]:
    """Generate what a handler can ask of the loop at any event, nothing included.

    >>> from hypothesis import find
    >>> find(requests(), lambda asked: asked.interrupt is not None) == State().interrupt().requests
    True
    """
    return st.builds(
        Requests,
        terminate=st.none() | st.sampled_from(Terminate),
        terminate_epoch=st.none() | st.sampled_from(TerminateEpoch),
        interrupt=st.none() | st.sampled_from(Interrupt),
    )


_STANDING = [event for event in Events.all() if PHASES[event.name].rank is not None]
_EVENTS = st.none() | st.sampled_from(_STANDING)
_LIMITS = limits(20)
_REQUESTS = requests()
_STATUSES = st.sampled_from(Status)
_UNFINISHED = _STATUSES.filter(lambda status: status is not Status.COMPLETED)
_MEASURED = st.dictionaries(st.sampled_from(_METRICS), st.floats())
_COUNTED = st.dictionaries(st.sampled_from(_NAMES), st.integers(1, 20))
_ABSENT = st.just(MISSING)


@st.composite
def _states(
    draw: st.DrawFn,
    batches: SearchStrategy[Any],
    outputs: SearchStrategy[Any],
    users: SearchStrategy[Any],
    parts: Mapping[Part[Any], SearchStrategy[Any]],
) -> State[Any, Any, Any]:
    limited = draw(_LIMITS)
    event = draw(_EVENTS)
    rank = rank_at(event)
    counted = event is not None and event.attr == "iteration"
    iteration = draw(st.integers(int(counted), limited.max_iters or 20))
    in_epoch = iteration > 0 or phases.STARTED < rank < phases.STOPPED
    epoch = draw(st.integers(int(in_epoch), limited.max_epochs or 20))
    most = (limited.epoch_length or 20) - has_batch_to_come(rank)
    statuses = _STATUSES if event is Events.COMPLETED else _UNFINISHED
    metrics: Any = draw(_MEASURED)
    counts: Any = Map(draw(_COUNTED))
    state: State[Any, Any, Any] = State(
        iteration=iteration,
        epoch=epoch,
        batches=draw(st.integers(0, min(iteration, most))),
        event=event,
        batch=draw(batches if has_step_to_come(rank) else _ABSENT | batches),
        output=draw(outputs),
        requests=draw(_REQUESTS),
        user=draw(users),
        metrics=metrics,
        limits=limited,
        counts=counts,
        status=draw(statuses),
        attributes=counts,
    )
    for key, values in parts.items():
        state = state.with_part(key, draw(st.just(key.initial) | values))
    return state


def states(
    batches: SearchStrategy[Batch],
    outputs: SearchStrategy[Output],
    users: SearchStrategy[User],
    *,
    parts: Mapping[Part[Any], SearchStrategy[Any]] = Map(),
) -> SearchStrategy[State[Batch, Output, User]]:
    """Generate states, of before, in and after a run, with and without a batch and an output.

    Args:
        batches: what `state.batch` may be.
        outputs: what `state.output` may be.
        users: what `state.user` may be.
        parts: what each part may be, beside what it begins as.

    >>> from hypothesis import given
    >>> @given(states(st.integers(), st.floats(), st.none()))
    ... def stopping_is_asked_for_once(state):
    ...     assert state.terminate().terminate() == state.terminate()
    >>> stopping_is_asked_for_once()
    """
    return _states(batches, _ABSENT | outputs, users, parts)


def handlers() -> SearchStrategy[Handler[Any, Any, Any]]:
    """Generate pure handlers that ask, measure or do nothing, and joins of these.

    >>> from hypothesis import given
    >>> @given(handlers())
    ... def a_handler_gives_a_state(handler):
    ...     assert isinstance(handler(State()), State)
    >>> a_handler_gives_a_state()
    """
    asking = st.builds(Ask, requests())
    measuring = st.builds(_Measure, st.sampled_from(_METRICS), st.integers(0, 9).map(float))
    return st.recursive(
        asking | measuring,
        lambda inner: (
            st.lists(inner, max_size=3).map(lambda several: compose(*several))
            | inner.map(lambda handler: when(_has_batch, handler))
        ),
        max_leaves=4,
    )


@attrs.frozen
class _Measure:
    name: str
    value: float

    def __call__(self, state: State[Any, Any, Any]) -> State[Any, Any, Any]:
        return state.with_metric(self.name, self.value)


def _has_batch(state: State[Any, Any, Any]) -> bool:
    return state.has_batch


def filters(
    *,
    spans: Sequence[Span] = ("run",),
    predicates: Sequence[Callable[[Never], bool]] = (),
    largest: int = 12,
) -> SearchStrategy[Filter]:
    """Generate filters that can hold, joined by `&`, `|` and `~` too.

    Args:
        spans: what their numbers may count in.
        predicates: what the predicates among them may be; none of them has one by default.
        largest: the largest number in one of them.

    >>> from hypothesis import find
    >>> find(filters(), lambda filter: not filter.holds(1))
    every(2)
    """
    span, number = st.sampled_from(spans), st.integers(1, largest)
    leaves = [
        _made(
            lambda n, low, high, of: every(n, after=low, before=high, of=of),
            number,
            st.none() | st.integers(0, largest),
            st.none() | st.integers(2, largest),
            span,
        ),
        st.builds(
            lambda few, of: once(*few, of=of), st.lists(number, min_size=1, max_size=3), span
        ),
        st.builds(lambda high, of: before(high, of=of), st.integers(2, largest + 1), span),
        st.builds(lambda low, of: after(low, of=of), st.integers(0, largest), span),
    ]
    if predicates:
        leaves.append(st.sampled_from([where(predicate) for predicate in predicates]))
    return st.recursive(
        st.one_of(leaves),
        lambda inner: (
            _made(operator.and_, inner, inner)
            | st.builds(operator.or_, inner, inner)
            | _made(operator.invert, inner)
        ),
        max_leaves=4,
    )


def _made(make: Callable[..., Value], *arguments: SearchStrategy[Any]) -> SearchStrategy[Value]:
    """Generate what a function makes of arguments that it does not refuse."""
    made = st.tuples(*arguments).map(lambda given: _accepted(make, *given))
    return cast("SearchStrategy[Value]", made.filter(lambda value: value is not None))


def _accepted(make: Callable[..., Value], *given: object) -> Value | None:
    try:
        return make(*given)
    except ValueError:
        return None


def filtered(
    events: Sequence[AnyEvent], *, predicates: Sequence[Callable[[Never], bool]] = ()
) -> SearchStrategy[EventSet | FilteredPayloadEvent[object]]:
    """Generate filtered events; those that repeat in an epoch may be counted within it.

    Args:
        events: which events, without their filters.
        predicates: as for `filters`.

    >>> from hypothesis import given
    >>> @given(filtered([Events.STARTED]))
    ... def it_names_its_event(event):
    ...     assert str(event).startswith("Events.STARTED(")
    >>> it_names_its_event()
    """
    kinds: list[SearchStrategy[EventSet | FilteredPayloadEvent[object]]] = []
    for event in events:
        again = _accepted(event, once(2)) is not None
        in_epoch = _accepted(event, once(1, of="epoch")) is not None
        kinds.append(_numbered(again, in_epoch, tuple(predicates)).map(event))
    return st.one_of(kinds)


@functools.cache
def _numbered(
    again: bool, in_epoch: bool, predicates: tuple[Callable[[Never], bool], ...]
) -> SearchStrategy[Filter]:
    if not again:
        return st.sampled_from([once(1), before(3), *map(where, predicates)])
    spans: tuple[Span, ...] = ("run", "epoch") if in_epoch else ("run",)
    return filters(spans=spans, predicates=predicates, largest=4)


def own_events() -> SearchStrategy[AnyEvent]:
    """Generate events of one's own, with and without a payload and a counter attribute.

    >>> from hypothesis import find
    >>> find(own_events(), lambda event: event.attr == "epoch")
    Event('loaded', attr='epoch')
    """
    attributes = st.sampled_from((None, "epoch", "iteration", "chunk"))
    return st.builds(
        lambda kind, name, attribute: kind(name, attribute),
        st.sampled_from((Event, PayloadEvent)),
        st.sampled_from(_NAMES),
        attributes,
    )
