"""Scaling: what an iteration costs when there is more of something, and an epoch in a long run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final, TypeAlias, final

import attrs

from tests.benchmarks.contenders import Run, Workload, systems
from tests.benchmarks.effort import Effort
from tests.benchmarks.sections import MICRO, Lines, Section, Table
from tests.benchmarks.stamps import Passes, Stamped
from tests.benchmarks.systems import IGNITE
from tests.benchmarks.timing import Spread, frozen, per_iteration, rounds

Costs: TypeAlias = Mapping[str, Mapping[int, Spread]]
TO_HUNDRED: Final = (0, 1, 10, 100)
TO_THOUSAND: Final = (*TO_HUNDRED, 1000)


@final
@attrs.frozen
class Growth:
    """Say what there is more and more of, and whether an iteration should feel it."""

    title: str
    text: str
    sizes: Sequence[int]
    workload: Callable[[int], Workload]
    flat: bool = False


GROWTHS: Final = (
    Growth(
        "Handlers",
        "Plain handlers of ITERATION_COMPLETED. The cost grows in proportion at most.",
        TO_THOUSAND,
        lambda size: Workload(handlers=size),
    ),
    Growth(
        "Filters",
        "Handlers of ITERATION_COMPLETED, each with `every=100`. The cost grows in proportion at "
        "most.",
        TO_THOUSAND,
        lambda size: Workload(handlers=size, every=100),
    ),
    Growth(
        "Custom events, not fired",
        "Own events with a handler each. Flat: an event that is not fired costs nothing.",
        TO_THOUSAND,
        lambda size: Workload(heard=size),
        flat=True,
    ),
    Growth(
        "Custom events, fired",
        "Own events with a handler each, all fired in every iteration. The cost grows in "
        "proportion at most.",
        TO_HUNDRED,
        lambda size: Workload(fired=size),
    ),
)


def measure_scaling(effort: Effort, have: frozenset[str]) -> Iterator[Section]:
    """Let one thing grow after another."""
    data = range(max(effort.iterations // 5, 10))
    for growth in GROWTHS:
        found = rounds(
            {
                (name, size): per_iteration(make(growth.workload(size)), data)
                for size in growth.sizes
                for name, make in systems(have).items()
            },
            effort.scaling_rounds,
        )
        costs = {
            name: {size: Spread.of(found[name, size]) for size in growth.sizes}
            for name in systems(have)
        }
        yield _section(growth.title, growth.text, "us an iteration", costs, growth.flat)
    yield _section(
        "Iterations",
        "One run each, in turn; the median of the iterations since the power of ten before. Flat: "
        "nothing piles up. The garbage collector is on, and looks at what the run has made. What "
        "else the machine does in the meantime shows here.",
        "us an iteration",
        _through(_iterations, effort.longest, have),
        flat=True,
    )
    yield _section(
        "Epochs",
        "One run each over epochs of a single iteration; likewise, microseconds an epoch. Flat.",
        "us an epoch",
        _through(_epochs, effort.epochs, have),
        flat=True,
    )


def _through(
    follow: Callable[[Run, Sequence[int], int], list[float]], longest: int, have: frozenset[str]
) -> Costs:
    costs = {}
    for name, make in systems(have).items():
        # What pytorch-ignite takes for the last power of ten is long, and shows nothing new.
        length = longest // 10 if name == IGNITE and longest > 10**5 else longest
        costs[name] = _by_power(follow, make(Workload(handlers=1)), length)
    return costs


def _by_power(
    follow: Callable[[Run, Sequence[int], int], list[float]], run: Run, length: int
) -> Mapping[int, Spread]:
    """Cut one run at 1, 2, ... 9 times each power of ten; give the cost within each power."""
    powers = [10**exponent for exponent in range(2, round(math.log10(length)))]
    marks = [power * times for power in powers for times in range(1, 10)]
    # The collector stays on: what such a long run leaves would pile up without it.
    with frozen():
        followed = follow(run, (*marks, length - 1), length)
    readings = [*zip((*marks, length - 1), followed, strict=True)]
    pieces = [
        (begin, (then - now) / (end - begin)) for (begin, now), (end, then) in pairwise(readings)
    ]
    return {
        10 * power: Spread.of(cost for begin, cost in pieces if power <= begin < 10 * power)
        for power in powers
    }


def _iterations(run: Run, marks: Sequence[int], length: int) -> list[float]:
    data = Stamped(range(length), marks)
    run(data)
    return data.readings


def _epochs(run: Run, marks: Sequence[int], length: int) -> list[float]:
    data = Passes(marks)
    run(data, length)
    return data.readings


def _section(title: str, text: str, unit: str, costs: Costs, flat: bool) -> Section:
    sizes = list(dict.fromkeys(size for column in costs.values() for size in column))
    rows = [
        (
            f"{size:,}",
            *(_cell(column[size]) if size in column else "-" for column in costs.values()),
        )
        for size in sizes
    ]
    return Section(
        f"Scaling: {title.lower()}",
        text,
        Table((f"{title.lower()}; {unit}", *costs), rows),
        panels=[Lines(title, unit, costs, flat)],
    )


def _cell(spread: Spread) -> str:
    low, median, high = (value * MICRO for value in (spread.low, spread.median, spread.high))
    return f"{median:.2f} ({low:.2f} .. {high:.2f})"
