"""Filters: at which firings of an event a handler runs, as values.

A filter is a frozen value, equal by structure, that answers one question: does it hold for the
firing with this number? Filters join with `&`, `|` and `~`. Filters over numbers have one normal
form under `&`, so `every(4) & every(6) == every(12)`, and one that can never hold is refused when
it is made.

Does not live here: how firings are counted (`table.count`).
"""

from __future__ import annotations

import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Literal, Never, SupportsIndex, cast, final

import attrs
from typing_extensions import override

from fengine.core.describe import describe, require_callable

Span = Literal["run", "epoch"]

# A filter over numbers is decided by trying them, when its pattern repeats within this many.
_TRIED = 20_000


class Filter(ABC):
    """Decide whether a handler runs at a firing; made by `every`, `once`, `before` and the like.

    Laws: `(a & b).holds(x) == a.holds(x) and b.holds(x)`, likewise `|` and `~`.

    >>> stride = every(3) & after(5)
    >>> [n for n in range(1, 13) if stride.holds(n)]
    [6, 9, 12]
    >>> print(every(2) | ~once(1, 2, 3))
    every(2) | ~once(1, 2, 3)
    """

    __slots__ = ()

    @abstractmethod
    def holds(self, count: int, in_epoch: int | None = None, state: object = None) -> bool:
        """Tell whether this filter holds.

        Args:
            count: the number of the firing in the run, from 1.
            in_epoch: the number of the firing in the epoch, from 1; None repeats `count`.
            state: the state at the firing, for `where`.
        """

    def __and__(self, other: Filter) -> Filter:
        """Hold where both hold."""
        if not isinstance(other, Filter):
            return NotImplemented
        return _conjunction((self, other))

    def __or__(self, other: Filter) -> Filter:
        """Hold where either holds."""
        if not isinstance(other, Filter):
            return NotImplemented
        parts = _distinct(_flatten(AnyOf, (self, other)))
        return parts[0] if len(parts) == 1 else AnyOf(parts)

    def __invert__(self) -> Filter:
        """Hold where this one does not."""
        if isinstance(self, Not):
            return self.part
        _require_possible(Not(self))
        return Not(self)


@final
@attrs.frozen(repr=False)
class Progression(Filter):
    """Hold at `first`, `first + step`, and so on up to `last`; made by `every`, `before`, `after`.

    >>> every(5, after=8, before=25)
    every(5, after=8, before=25)
    >>> [n for n in range(30) if every(5, after=8, before=25).holds(n)]
    [9, 14, 19, 24]
    """

    first: int
    step: int
    last: int | None = None
    of: Span = "run"

    @override
    def holds(self, count: int, in_epoch: int | None = None, state: object = None) -> bool:
        number = count if self.of == "run" or in_epoch is None else in_epoch
        if number < self.first or (self.last is not None and number > self.last):
            return False
        return (number - self.first) % self.step == 0

    @override
    def __repr__(self) -> str:
        arguments = []
        if self.first != self.step:
            arguments.append(f"after={self.first - 1}")
        if self.last is not None:
            arguments.append(f"before={self.last + 1}")
        of = _of(self.of)
        if self.step != 1 or not arguments:
            return f"every({', '.join([str(self.step), *arguments])}{of})"
        return " & ".join(f"{argument.replace('=', '(')}{of})" for argument in arguments)


@final
@attrs.frozen(repr=False)
class Once(Filter):
    """Hold at each of some numbers; made by `once`."""

    counts: frozenset[int]
    of: Span = "run"

    @override
    def holds(self, count: int, in_epoch: int | None = None, state: object = None) -> bool:
        return (count if self.of == "run" or in_epoch is None else in_epoch) in self.counts

    @override
    def __repr__(self) -> str:
        return f"once({', '.join(map(str, sorted(self.counts)))}{_of(self.of)})"


@final
@attrs.frozen(repr=False)
class Where(Filter):
    """Hold where a predicate of the state does; made by `where`."""

    predicate: Callable[[Never], bool]

    @override
    def holds(self, count: int, in_epoch: int | None = None, state: object = None) -> bool:
        answer: object = self.predicate(cast(Never, state))
        if type(answer) is not bool:
            raise TypeError(
                f"predicate {describe(self.predicate)} returned {answer!r} of type "
                f"{type(answer).__name__}; a predicate returns True or False"
            )
        return answer

    @override
    def __repr__(self) -> str:
        return f"where({describe(self.predicate)})"


@final
@attrs.frozen(repr=False)
class AllOf(Filter):
    """Hold where every part holds; made by `&`."""

    parts: tuple[Filter, ...] = attrs.field(eq=frozenset)

    @override
    def holds(self, count: int, in_epoch: int | None = None, state: object = None) -> bool:
        return all(part.holds(count, in_epoch, state) for part in self.parts)

    @override
    def __repr__(self) -> str:
        return " & ".join(f"({p})" if isinstance(p, AnyOf) else str(p) for p in self.parts)


@final
@attrs.frozen(repr=False)
class AnyOf(Filter):
    """Hold where some part holds; made by `|`."""

    parts: tuple[Filter, ...] = attrs.field(eq=frozenset)

    @override
    def holds(self, count: int, in_epoch: int | None = None, state: object = None) -> bool:
        return any(part.holds(count, in_epoch, state) for part in self.parts)

    @override
    def __repr__(self) -> str:
        return " | ".join(map(str, self.parts))


@final
@attrs.frozen(repr=False)
class Not(Filter):
    """Hold where its part does not; made by `~`."""

    part: Filter

    @override
    def holds(self, count: int, in_epoch: int | None = None, state: object = None) -> bool:
        return not self.part.holds(count, in_epoch, state)

    @override
    def __repr__(self) -> str:
        simple = " & " not in str(self.part) and " | " not in str(self.part)
        return f"~{self.part}" if simple else f"~({self.part})"


def every(
    n: SupportsIndex,
    *,
    after: SupportsIndex | None = None,
    before: SupportsIndex | None = None,
    of: Span = "run",
) -> Filter:
    """Hold at every n-th firing, counted from the first firing after `after`.

    Args:
        n: the stride, at least 1.
        after: begin after this number: the first firing that counts is `after + 1`.
        before: hold only at numbers below this one.
        of: count the firings of the whole "run", or from 1 again in each "epoch".

    Raises:
        TypeError: an argument is not an integer.
        ValueError: an argument is too small, or no number lies between `after` and `before`.

    >>> [k for k in range(1, 10) if every(3).holds(k)]
    [3, 6, 9]
    """
    step = _number("every", n, least=1)
    first = step if after is None else _number("after", after, least=0) + 1
    return _progression(first, step, None if before is None else _below(before), of)


def before(b: SupportsIndex, *, of: Span = "run") -> Filter:
    """Hold at the firings with a number below `b`.

    Raises:
        TypeError: `b` is not an integer.
        ValueError: `b` is below 2, so that no firing qualifies.

    >>> [k for k in range(1, 6) if before(3).holds(k)]
    [1, 2]
    """
    return _progression(1, 1, _below(b), of)


def after(a: SupportsIndex, *, of: Span = "run") -> Filter:
    """Hold at the firings with a number above `a`.

    Raises:
        TypeError: `a` is not an integer.
        ValueError: `a` is negative.

    >>> [k for k in range(1, 6) if after(3).holds(k)]
    [4, 5]
    """
    return _progression(_number("after", a, least=0) + 1, 1, None, of)


def once(*counts: SupportsIndex, of: Span = "run") -> Filter:
    """Hold at each of the given firings.

    Raises:
        TypeError: a number is not an integer.
        ValueError: there is no number, or one is below 1.

    >>> [k for k in range(1, 6) if once(1, 4).holds(k)]
    [1, 4]
    """
    if not counts:
        raise ValueError("once() names no firing, so it would never hold; give it some: once(1)")
    return Once(frozenset(_number("once", count, least=1) for count in counts), _span(of))


def where(predicate: Callable[[Never], bool]) -> Filter:
    """Hold where a predicate of the state holds.

    Args:
        predicate: a pure function of the state that returns a bool.

    Raises:
        TypeError: `predicate` cannot take one state; or, when used, it returns no bool.

    >>> late = where(lambda state: state.iteration > 10)
    """
    require_callable(predicate, "a predicate", "state")
    return Where(predicate)


def is_impossible_at(filter: Filter, count: int) -> bool:
    """Tell whether a filter asks for numbers only, and not for this one."""
    return asks_for_numbers(filter) and not filter.holds(count)


def decided(filter: Filter, count: int | None, in_epoch: int | None) -> bool | None:
    """Tell whether a filter holds for a firing, or None where only a run can tell.

    Args:
        filter: the filter.
        count: the number of the firing in the run; None where that is not known.
        in_epoch: its number in the epoch; None where that is not known.

    >>> decided(every(2), 3, 3), decided(where(lambda state: True) | every(2), 3, 3)
    (False, None)
    """
    if isinstance(filter, Progression | Once):
        number = count if filter.of == "run" else in_epoch
        return None if number is None else filter.holds(number, number)
    if isinstance(filter, Not):
        part = decided(filter.part, count, in_epoch)
        return None if part is None else not part
    if isinstance(filter, AllOf | AnyOf):
        parts = {decided(part, count, in_epoch) for part in filter.parts}
        deciding = isinstance(filter, AnyOf)
        if deciding in parts:
            return deciding
        return None if None in parts else not deciding
    return None


def asks_for_numbers(filter: Filter) -> bool:
    """Tell whether a filter looks at the number of the firing only, and never at the state."""
    return None not in _spans(filter)


def counts_within_epoch(filter: Filter) -> bool:
    """Tell whether some part of a filter numbers the firings from 1 again in each epoch."""
    return "epoch" in _spans(filter)


def _conjunction(filters: Iterable[Filter]) -> Filter:
    """Join filters by `&` in normal form: at most one part over numbers for each span."""
    numbers: dict[Span, Progression | Once] = {}
    others: list[Filter] = []
    for part in _flatten(AllOf, filters):
        if not isinstance(part, Progression | Once):
            others.append(part)
            continue
        met = numbers.get(part.of)
        numbers[part.of] = part if met is None else _meet(met, part)
    parts = _distinct([*numbers.values(), *others])
    for of in ("run", "epoch"):
        _require_possible(AllOf(tuple(part for part in parts if _spans(part) == {of})))
    return parts[0] if len(parts) == 1 else AllOf(parts)


def _meet(a: Progression | Once, b: Progression | Once) -> Progression | Once:
    """Give the numbers at which both hold, as one filter."""
    if isinstance(a, Once) or isinstance(b, Once):
        finite, other = (a, b) if isinstance(a, Once) else (cast(Once, b), a)
        counts = frozenset(count for count in finite.counts if other.holds(count, count))
        if not counts:
            raise ValueError(f"{a} & {b} can never hold: they have no number in common")
        return Once(counts, a.of)
    # The common numbers of two progressions repeat with the least common multiple of their steps.
    step, shared = math.lcm(a.step, b.step), math.gcd(a.step, b.step)
    if (b.first - a.first) % shared:
        raise ValueError(f"{a} & {b} can never hold: their strides never meet")
    period = b.step // shared
    turns = (b.first - a.first) // shared * pow(a.step // shared, -1, period) % period
    first = a.first + a.step * turns
    start = max(a.first, b.first)
    first += -(-max(0, start - first) // step) * step
    lasts = [last for last in (a.last, b.last) if last is not None]
    if lasts and first > min(lasts):
        raise ValueError(f"{a} & {b} can never hold: they have no number in common")
    return _progression(first, step, min(lasts, default=None), a.of)


def _progression(first: int, step: int, last: int | None, of: Span) -> Progression:
    if last is not None:
        if first > last:
            raise ValueError(
                f"this filter can never hold: its first firing would be {first}, "
                f"but it holds only before {last + 1}"
            )
        last -= (last - first) % step
    return Progression(first, step, last, _span(of))


def _require_possible(made: Filter) -> None:
    """Refuse a filter over numbers of one span that never holds, if that is soon tried."""
    leaves = list(_leaves(made))
    numbers = [leaf for leaf in leaves if isinstance(leaf, Progression | Once)]
    if not leaves or len(_spans(made)) != 1 or len(numbers) < len(leaves):
        return
    start = max(
        max(leaf.counts) if isinstance(leaf, Once) else max(leaf.first, leaf.last or 0)
        for leaf in numbers
    )
    tried = start + math.lcm(*(leaf.step for leaf in numbers if isinstance(leaf, Progression)))
    if tried <= _TRIED and not any(made.holds(count, count) for count in range(1, tried + 1)):
        raise ValueError(f"{made} can never hold")


def _spans(filter: Filter) -> set[Span | None]:
    """Give what the parts of a filter number by; None for a part that asks for something else."""
    return {leaf.of if isinstance(leaf, Progression | Once) else None for leaf in _leaves(filter)}


def _leaves(filter: Filter) -> Iterable[Filter]:
    if isinstance(filter, AllOf | AnyOf):
        for part in filter.parts:
            yield from _leaves(part)
    elif isinstance(filter, Not):
        yield from _leaves(filter.part)
    else:
        yield filter


def _flatten(kind: type[AllOf] | type[AnyOf], filters: Iterable[Filter]) -> list[Filter]:
    flat: list[Filter] = []
    for part in filters:
        flat.extend(part.parts if isinstance(part, kind) else [part])
    return flat


def _distinct(filters: Iterable[Filter]) -> tuple[Filter, ...]:
    return tuple(dict.fromkeys(filters))


def _span(of: Span) -> Span:
    if of not in ("run", "epoch"):
        raise ValueError(f"of={of!r}: firings are counted of the 'run' or of the 'epoch'")
    return of


def _of(of: Span) -> str:
    return "" if of == "run" else f", of={of!r}"


def _below(before: SupportsIndex) -> int:
    return _number("before", before, least=2) - 1


def _number(name: str, value: SupportsIndex, *, least: int) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name}={value!r} of type {type(value).__name__} is not an integer")
    number = operator.index(value)
    if number < least:
        raise ValueError(
            f"{name}={number} is too small: firings are numbered from 1, "
            f"so {name} is at least {least}"
        )
    return number
