"""The identity step: what an iteration costs by itself and with handlers, and a short epoch."""

from __future__ import annotations

from typing import Final, TypeAlias

from tests.benchmarks.contenders import Workload, bare, systems
from tests.benchmarks.effort import Effort
from tests.benchmarks.sections import MICRO, Section, Table, Target, spread_cells
from tests.benchmarks.systems import BARE, ENGINE, IGNITE, LOOP
from tests.benchmarks.timing import (
    Spread,
    differences,
    per_epoch,
    per_iteration,
    ratios,
    rounds,
)

NONE: Final = Workload()
ONE: Final = Workload(1)
EVOLVING: Final = Workload(1, evolving=True)
RARE: Final = Workload(10, every=100)
HUNDRED: Final = Workload(100)
WORKLOADS: Final = (NONE, ONE, EVOLVING, Workload(10), RARE, HUNDRED)

Key: TypeAlias = tuple[str, Workload]

TEXT: Final = """\
The step returns its batch and the handlers, all of ITERATION_COMPLETED, do nothing. Only the one
that evolves counts: in a Loop it gives the state another user's record, in an Engine and in
pytorch-ignite it writes an attribute of the state. Microseconds an iteration, with quartiles; then
how often that is the time of the bare loop, which has no handlers, and of pytorch-ignite with the
same handlers. A plain handler more, between the first and the hundredth, costs {each}."""
EPOCHS: Final = """\
The identity step without handlers, over data of one batch, for many epochs. Microseconds an epoch,
with quartiles; then how often that is the time of pytorch-ignite."""


def samples(effort: Effort, have: frozenset[str]) -> dict[Key, list[float]]:
    """Measure seconds an iteration, one number a round."""
    data = range(effort.iterations)
    contenders = {(BARE, NONE): per_iteration(bare, data)}
    for workload in WORKLOADS:
        for name, make in systems(have).items():
            contenders[name, workload] = per_iteration(make(workload), data)
    return rounds(contenders, effort.rounds)


def measure(effort: Effort, have: frozenset[str]) -> Section:
    """Compare the systems with every workload."""
    found = samples(effort, have)
    names = list(systems(have))
    to_bare = {key: Spread.of(ratios(found[key], found[BARE, NONE])) for key in found}
    to_ignite = {
        (name, workload): Spread.of(ratios(found[name, workload], found[IGNITE, workload]))
        for name in names
        for workload in WORKLOADS
        if IGNITE in names
    }
    extra = {
        name: Spread.of(
            difference / (HUNDRED.handlers - ONE.handlers)
            for difference in differences(found[name, HUNDRED], found[name, ONE])
        )
        for name in names
    }
    rows = [
        (
            workload.name,
            name,
            *spread_cells(Spread.of(seconds), MICRO, 3),
            spread_cells(to_bare[name, workload], 1, 1)[0],
            *(
                spread_cells(to_ignite[name, workload], 1, 3)
                if to_ignite and name != BARE
                else "--"
            ),
        )
        for (name, workload), seconds in found.items()
    ]
    heads = (
        "handlers",
        "system",
        "us",
        "quartiles",
        "x bare loop",
        "x pytorch-ignite",
        "quartiles",
    )
    return Section(
        "The identity step",
        TEXT.format(
            each=", ".join(
                f"{spread.median * MICRO:.3f} us in {name}" for name, spread in extra.items()
            )
        ),
        Table(heads, rows, texts=2),
        targets=[
            *(
                Target(
                    f"{name}, handlers: {workload.name}",
                    most,
                    "x pytorch-ignite",
                    to_ignite[name, workload].median if (name, workload) in to_ignite else None,
                )
                for name, workload, most in (
                    (LOOP, NONE, 0.09),
                    (LOOP, ONE, 0.17),
                    (LOOP, RARE, 0.10),
                    (ENGINE, NONE, 0.14),
                    (ENGINE, RARE, 0.09),
                )
            ),
            Target(f"{LOOP}, a plain handler more", 0.06, "us", extra[LOOP].median * MICRO),
        ],
        summary={
            f"identity step, handlers: {workload.name}": {
                name: _summary_cell(Spread.of(seconds), to_ignite.get((name, workload)), name)
                for (name, of), seconds in found.items()
                if of == workload
            }
            for workload in WORKLOADS
        },
    )


def measure_epochs(effort: Effort, have: frozenset[str]) -> Section:
    """Compare the systems over epochs of one iteration."""
    found = rounds(
        {name: per_epoch(make(NONE), effort.short_epochs) for name, make in systems(have).items()},
        effort.rounds,
    )
    costs = {name: Spread.of(seconds) for name, seconds in found.items()}
    to_ignite = {
        name: Spread.of(ratios(seconds, found[IGNITE]))
        for name, seconds in found.items()
        if IGNITE in found
    }
    rows = [
        (
            name,
            *spread_cells(cost, MICRO, 2),
            *(spread_cells(to_ignite[name], 1, 3) if to_ignite else "--"),
        )
        for name, cost in costs.items()
    ]
    heads = ("system", "us an epoch", "quartiles", "x pytorch-ignite", "quartiles")
    return Section(
        "Epochs of one iteration",
        EPOCHS,
        Table(heads, rows),
        targets=[
            Target(
                f"{ENGINE}, an epoch of one iteration",
                1.0,
                "x pytorch-ignite",
                to_ignite[ENGINE].median if to_ignite else None,
            )
        ],
        summary={
            "identity step, epochs of one iteration": {
                name: _summary_cell(cost, to_ignite.get(name), name) for name, cost in costs.items()
            }
        },
    )


def _summary_cell(cost: Spread, to_ignite: Spread | None, name: str) -> str:
    text = f"{cost.median * MICRO:.2f}"
    return text if to_ignite is None or name == IGNITE else f"{text} ({to_ignite.median:.2f} x)"
