"""Laws of filters and sets of events: an algebra, with one normal form under `&`."""

from __future__ import annotations

import operator
from typing import TypeVar

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import fengine
from fengine import Event, Events, EventSet, Filter, after, before, every, once
from fengine.core.filters import Span
from fengine.testing import filtered, filters

# The numbers in these filters are at most 6, so that any of their patterns repeats after 60.
FILTERS = filters(largest=6)
BOTH_SPANS = filters(spans=("run", "epoch"), largest=6)
HORIZON = range(1, 150)

PLAIN = [event for event in Events.all() if isinstance(event, Event)]
SETS = st.sampled_from(PLAIN).flatmap(
    lambda event: filtered([event]) | st.just(EventSet(()) | event)
)
Joined = TypeVar("Joined", Filter, EventSet)


def held(filter: Filter) -> set[int]:
    """Give the numbers at which a filter holds, the number in the epoch being the same."""
    return {number for number in HORIZON if filter.holds(number)}


def met(a: Filter | None, b: Filter | None) -> Filter | None:
    """Join by `&`; None stands for what is refused."""
    if a is None or b is None:
        return None
    try:
        return a & b
    except ValueError:
        return None


@given(st.integers(1, 9), st.none() | st.integers(0, 9), st.none() | st.integers(2, 40))
def test_every_counts_from_behind_after(n: int, low: int | None, high: int | None) -> None:
    start = 0 if low is None else low
    first = n if low is None else low + 1
    numbers = {k for k in range(first, 150, n) if k > start and (high is None or k < high)}
    if not numbers:
        with pytest.raises(ValueError, match="can never hold"):
            every(n, after=low, before=high)
    else:
        assert held(every(n, after=low, before=high)) == numbers


@given(st.sets(st.integers(1, 140), min_size=1), st.integers(2, 140), st.integers(0, 140))
def test_once_before_and_after_hold_where_they_say(counts: set[int], high: int, low: int) -> None:
    assert held(once(*counts)) == counts
    assert held(before(high)) == set(range(1, high))
    assert held(after(low)) == set(range(low + 1, 150))


@given(FILTERS, FILTERS)
def test_joins_hold_where_their_parts_say(a: Filter, b: Filter) -> None:
    both, either = held(a) & held(b), held(a) | held(b)
    assert held(a | b) == either
    joined = met(a, b)
    assert (set() if joined is None else held(joined)) == both


@given(BOTH_SPANS, BOTH_SPANS, st.integers(1, 60), st.integers(1, 60))
def test_joins_hold_where_their_parts_say_within_epochs_too(
    a: Filter, b: Filter, count: int, in_epoch: int
) -> None:
    at = (max(count, in_epoch), min(count, in_epoch))
    assert (a | b).holds(*at) == (a.holds(*at) or b.holds(*at))
    joined = met(a, b)
    assert (joined is not None and joined.holds(*at)) == (a.holds(*at) and b.holds(*at))


@given(FILTERS)
def test_a_filter_that_never_holds_cannot_be_made(a: Filter) -> None:
    assert held(a)
    outside = set(HORIZON) - held(a)
    if outside:
        assert held(~a) == outside
    else:
        with pytest.raises(ValueError, match="can never hold"):
            operator.invert(a)


@given(FILTERS, FILTERS)
def test_a_join_is_refused_exactly_when_nothing_is_common(a: Filter, b: Filter) -> None:
    assert (met(a, b) is None) == held(a).isdisjoint(held(b))


@given(BOTH_SPANS, BOTH_SPANS, BOTH_SPANS)
def test_and_has_one_normal_form(a: Filter, b: Filter, c: Filter) -> None:
    assert met(a, b) == met(b, a)
    assert met(met(a, b), c) == met(a, met(b, c))
    assert a & a == a


@given(BOTH_SPANS, BOTH_SPANS, BOTH_SPANS)
def test_or_is_associative_commutative_and_idempotent(a: Filter, b: Filter, c: Filter) -> None:
    assert a | b == b | a
    assert (a | b) | c == a | (b | c)
    assert a | a == a


@given(FILTERS)
def test_not_is_its_own_inverse(a: Filter) -> None:
    assume(set(HORIZON) - held(a))
    assert ~~a == a


@given(BOTH_SPANS, BOTH_SPANS)
def test_equal_filters_hash_alike(a: Filter, b: Filter) -> None:
    assert hash(a | b) == hash(b | a)
    assert hash(met(a, b)) == hash(met(b, a))


@given(BOTH_SPANS)
def test_a_filter_prints_as_the_program_that_makes_it(a: Filter) -> None:
    assert eval(repr(a), vars(fengine)) == a


@given(st.integers(1, 400), st.integers(1, 400), st.sampled_from(["run", "epoch"]))
def test_two_strides_meet_in_one(a: int, b: int, of: Span) -> None:
    joined = every(a, of=of) & every(b, of=of)
    assert joined.holds(a * b)
    assert repr(joined).startswith(f"every({min(k for k in range(a, a * b + 1, a) if k % b == 0)}")


def test_every_4_and_every_6_is_every_12() -> None:
    assert every(4) & every(6) == every(12)


@given(SETS, SETS, SETS)
def test_joining_events_is_associative_and_leaves_its_operands_alone(
    a: EventSet, b: EventSet, c: EventSet
) -> None:
    before = tuple(map(tuple, (a, b, c)))
    assert (a | b) | c == a | (b | c)
    assert a | b == b | a
    assert a | a == a
    assert hash(a | b) == hash(b | a)
    assert list(a | b) == list(dict.fromkeys([*a, *b]))
    assert tuple(map(tuple, (a, b, c))) == before
