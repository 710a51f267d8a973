"""Supervised training and evaluation: what each framework adds to a loop written by hand.

Models and data are equal: Linear(8, 1), batches of one, on the CPU. Trainers read the loss with
`.item()` in each iteration, but for the Loop, whose output is the loss on its device. Targets are
noise, so that the weights never settle.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import torch
from torch import nn

from tests.benchmarks.by_hand import Pairs, Run
from tests.benchmarks.effort import Effort
from tests.benchmarks.sections import MICRO, Bars, Section, Table, Target, spread_cells
from tests.benchmarks.systems import BARE, ENGINE, LOOP
from tests.benchmarks.timing import Spread, differences, per_iteration, rounds
from tests.benchmarks.trainers import evaluators, trainers

MOST: Final = 5.0

TEXT: Final = """\
{what}. Microseconds an iteration over the loop written by hand, which takes {hand}: median and
quartiles of the differences within a round. How much a second such loop differs shows the noise."""
TRAINING: Final = """\
Linear(8, 1), batches of one, on the CPU: zero_grad, forward, loss, backward, step and the loss's
`.item()`, which the Loop leaves to whoever wants the number; after all rounds every weight is
compared with those of the loop by hand, bit by bit"""
EVALUATION: Final = """\
The same model in evaluation mode, without gradients: forward only. It is in training
mode when a run begins"""


def measure_training(effort: Effort, have: frozenset[str]) -> Section:
    """Compare trainers."""
    models = {name: _model() for name in trainers(have)}
    loss_fn = torch.nn.MSELoss()
    runs = {
        name: make(models[name], torch.optim.SGD(models[name].parameters(), lr=0.01), loss_fn)
        for name, make in trainers(have).items()
    }
    found = _rounds(runs, effort)
    differing = {
        name: str(_differing_weights(models[BARE], model)) for name, model in models.items()
    }
    return _section("Supervised training", TRAINING, found, {"weights that differ": differing})


def measure_evaluation(effort: Effort, have: frozenset[str]) -> Section:
    """Compare evaluators."""
    runs = {name: _from_training_mode(make, _model()) for name, make in evaluators(have).items()}
    return _section("Supervised evaluation", EVALUATION, _rounds(runs, effort), {})


def _from_training_mode(make: Callable[[nn.Module], Run], model: nn.Module) -> Run:
    run = make(model)

    def begin(data: Pairs) -> object:
        model.train()
        return run(data)

    return begin


def _model() -> nn.Module:
    torch.manual_seed(0)
    return torch.nn.Linear(8, 1)


def _rounds(runs: Mapping[str, Run], effort: Effort) -> Mapping[str, list[float]]:
    torch.manual_seed(1)
    data = [(torch.randn(1, 8), torch.randn(1, 1)) for _ in range(effort.batches)]
    contenders = {name: per_iteration(run, data) for name, run in runs.items()}
    return rounds(contenders, effort.supervised_rounds)


def _differing_weights(model: nn.Module, other: nn.Module) -> int:
    pairs = zip(model.parameters(), other.parameters(), strict=True)
    return sum(not torch.equal(by_hand, trained) for by_hand, trained in pairs)


def _section(
    title: str,
    what: str,
    found: Mapping[str, list[float]],
    more: Mapping[str, Mapping[str, str]],
) -> Section:
    hand = Spread.of(found[BARE]).median * MICRO
    over = {
        name: Spread.of(differences(seconds, found[BARE]))
        for name, seconds in found.items()
        if name != BARE
    }
    rows = [
        (name, *spread_cells(spread, MICRO, 2), *(column[name] for column in more.values()))
        for name, spread in over.items()
    ]
    return Section(
        title,
        TEXT.format(what=what, hand=f"{hand:.1f} us"),
        Table(("system", "us over the loop", "quartiles", *more), rows),
        targets=[
            *(
                Target(f"{title} by a {name}", MOST, "us over the loop", over[name].median * MICRO)
                for name in (LOOP, ENGINE)
            ),
            *(
                Target(f"{title} by a {name}: {head}", 0, "", float(column[name]))
                for head, column in more.items()
                for name in (LOOP, ENGINE)
            ),
        ],
        summary={
            f"{title.lower()}, over the loop by hand": {
                BARE: f"{hand:.1f} in all",
                **{name: f"{spread.median * MICRO:+.1f}" for name, spread in over.items()},
            }
        },
        panels=[
            Bars(
                title,
                "us an iteration over the loop by hand",
                {
                    name: Spread(spread.low * MICRO, spread.median * MICRO, spread.high * MICRO)
                    for name, spread in over.items()
                },
            )
        ],
    )
