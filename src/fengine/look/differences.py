"""Differences: what is not the same in two states, snapshots or runs, part by part.

A value is taken apart as equality compares it: records by their fields, maps by their keys,
sequences by their places. A path names a part, such as `user.best` or `metrics.loss`.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any, Final, final

import attrs
from typing_extensions import override

from fengine.core.describe import array_in_words, brief
from fengine.core.equality import is_array, is_table, same, unequal_elements
from fengine.core.events import Event, PayloadEvent
from fengine.core.missing import MISSING

# What is compared part by part, but differs as a whole.
_WHOLE: Final = (type, str, bytes, Enum, range, Event, PayloadEvent)


@final
class Absent(Enum):
    """Stand for a part that one of two values does not have."""

    ABSENT = "nothing"


ABSENT: Final = Absent.ABSENT


@final
@attrs.frozen
class Difference:
    """Hold one part in which two values differ.

    Args:
        path: the name of the part; empty for the whole.
        before: what it is in the first value.
        after: what it is in the second one.

    >>> print(Difference("user.best", 0.5, 0.25))
    user.best: 0.5 -> 0.25
    """

    path: str
    before: object
    after: object

    @override
    def __str__(self) -> str:
        """Say it in a line."""
        before, after = _shown(self.before), _shown(self.after)
        unequal = unequal_elements(self.before, self.after)
        if unequal is not None:
            return f"{self.path}: {before}: {unequal[0]} of {unequal[1]} elements differ"
        if before == after and (is_array(self.before) or is_table(self.before)):
            return f"{self.path}: {before}: some elements differ"
        return f"{self.path}: {before} -> {after}"


@final
@attrs.frozen
class Differences:
    """Hold all parts in which two values differ; made by `diff`, and printed a line each.

    >>> from fengine import State
    >>> len(diff(State(epoch=1), State(epoch=2)))
    1
    """

    parts: tuple[Difference, ...]

    def __iter__(self) -> Iterator[Difference]:
        """Give each part."""
        return iter(self.parts)

    def __len__(self) -> int:
        """Count the parts; no difference is false."""
        return len(self.parts)

    @override
    def __str__(self) -> str:
        """Say each in a line."""
        return "\n".join(map(str, self.parts)) or "no difference"


@final
@attrs.frozen
class Divergence:
    """Hold the first moments in which two runs differ; made by `first_difference`.

    Args:
        number: which moment it is, from 1.
        one: the moment of the first run; None where that has ended.
        other: the moment of the second run; None where that has ended.

    >>> from fengine import Loop, outputs
    >>> doubling, squaring = Loop(outputs(lambda b: 2 * b)), Loop(outputs(lambda b: b * b))
    >>> print(first_difference(doubling.iterate([2, 3]), squaring.iterate([2, 3])))
    moment 10, Events.ITERATION_COMPLETED at epoch 1, iteration 2, is the first that differs
    state.output: 6 -> 9
    """

    number: int
    one: Any
    other: Any

    @property
    def differences(self) -> Differences:
        """What differs in the moments."""
        return diff(self.one, self.other)

    @override
    def __str__(self) -> str:
        """Say where it is, and what differs there."""
        if self.one is None or self.other is None:
            which, ended = (self.other, "first") if self.one is None else (self.one, "second")
            return f"the {ended} run ends before moment {self.number}, {_place(which)}"
        place = _place(self.one)
        return f"moment {self.number}, {place}, is the first that differs\n{self.differences}"


def diff(before: object, after: object) -> Differences:
    """Say what differs between two states, or between any two records, maps and sequences.

    Law: there is no difference where, and only where, the two are equal as states are.

    Args:
        before: one value.
        after: another one.

    >>> from fengine import State
    >>> before = State(iteration=1, user={"best": 0.5}, output=1.0)
    >>> print(diff(before, before.evolve(user={"best": 0.25}).with_metric("loss", 2.0)))
    user.best: 0.5 -> 0.25
    metrics.loss: nothing -> 2.0
    >>> bool(diff(before, before))
    False
    """
    return Differences(tuple(_differences("", before, after)))


def first_difference(one: Iterable[Any], other: Iterable[Any]) -> Divergence | None:
    """Find the first moment in which two runs differ; None if there is none.

    Args:
        one: the moments of a run, or the entries of a recorder; they may still be to come.
        other: those of another run.

    >>> from fengine import Loop, outputs
    >>> loop = Loop(outputs(abs))
    >>> first_difference(loop.iterate([1, 2]), loop.iterate([1, 2])) is None
    True
    """
    for number, (a, b) in enumerate(itertools.zip_longest(one, other), start=1):
        if not same(a, b):
            return Divergence(number, a, b)
    return None


def part_at(value: object, path: str) -> object:
    """Give the part of a value that a path names; ABSENT if there is none."""
    if not path:
        return value
    parts = _parts(value) or {}
    for label in sorted(parts, key=len, reverse=True):
        rest = path.removeprefix(label)
        if rest != path and (not rest or rest[0] in ".["):
            found = part_at(parts[label], rest)
            if found is not ABSENT:
                return found
    return ABSENT


def _differences(path: str, before: object, after: object) -> Iterator[Difference]:
    """Take two values apart, in their order; values that hold themselves are met once."""
    pairs = [] if same(before, after) else [(path, before, after)]
    met: dict[tuple[int, int], tuple[object, object]] = {}
    while pairs:
        path, before, after = pairs.pop()
        if (id(before), id(after)) in met:
            continue
        inner = _unequal_parts(path, before, after)
        if inner:
            met[id(before), id(after)] = before, after  # what is held here keeps its id
            pairs += reversed(inner)
        else:
            yield Difference(path.removeprefix("."), before, after)


def _unequal_parts(path: str, before: object, after: object) -> list[tuple[str, object, object]]:
    ours, theirs = _parts(before), _parts(after)
    if ours is None or theirs is None or not _are_alike(before, after):
        return []
    found = [
        (path + label, ours.get(label, ABSENT), theirs.get(label, ABSENT))
        for label in {**ours, **theirs}
    ]
    return [(label, a, b) for label, a, b in found if not same(a, b)]


def _are_alike(before: object, after: object) -> bool:
    both_maps = isinstance(before, Mapping) and isinstance(after, Mapping)
    return both_maps or type(before) is type(after)


def _parts(value: object) -> Mapping[str, object] | None:
    """Give the parts of a value by the end of their path, as equality takes it apart."""
    kind = type(value)
    if isinstance(value, _WHOLE) or is_array(value) or is_table(value):
        return None
    if attrs.has(kind):
        fields = [field for field in attrs.fields(kind) if field.eq]
        return {f".{field.alias}": getattr(value, field.name) for field in fields}
    if isinstance(value, Mapping):
        return {f".{key}": part for key, part in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {f".{name}": part for name, part in zip(value._fields, value, strict=True)}
    if isinstance(value, Sequence):
        return {f"[{place}]": part for place, part in enumerate(value)}
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value) if field.compare]
        return {f".{name}": getattr(value, name) for name in names}
    return None


def _shown(value: Any) -> str:
    if value is ABSENT or value is MISSING:
        return str(value.value)
    is_frame = is_table(value) and hasattr(value, "shape")
    return array_in_words(value) if is_frame or is_array(value) else brief(value)


def _place(moment: Any) -> str:
    state = moment.state
    return f"{moment.event!r} at epoch {state.epoch}, iteration {state.iteration}"
