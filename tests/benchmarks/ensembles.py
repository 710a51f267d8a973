"""Ensembles: what many trainings at once take, over the same trainings one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, stack_module_state, vmap
from torch.nn.functional import cross_entropy
from torch.optim import SGD, AdamW, Optimizer

from fengine import Loop
from fengine.training import (
    EnsembleState,
    OwnOptimizer,
    adamw,
    ensemble_step,
    sgd,
    training_step,
)
from tests.benchmarks.effort import Effort
from tests.benchmarks.functional import CLASSES, network
from tests.benchmarks.sections import MICRO, Section, Table, Target, spread_cells
from tests.benchmarks.timing import Spread, per_iteration, ratios, rounds

Pair: TypeAlias = tuple[Tensor, Tensor]
Batches: TypeAlias = Iterable[Pair]
Run: TypeAlias = Callable[[Batches], object]

IN_TURN: Final = "training_step, one after the other"
AT_ONCE: Final = "ensemble_step"
RATES: Final = "ensemble_step, a rate each"
BY_HAND: Final = "torch.func by hand"
COMPILED: Final = "ensemble_step, compile=True"

# Of the time of the trainings one after the other.
MOST: Final = {16: 1 / 3.5, 64: 1 / 6}
OPTIMIZERS: Final[dict[str, tuple[OwnOptimizer, Callable[[Any], Optimizer]]]] = {
    "SGD": (sgd(0.01), lambda parameters: SGD(parameters, 0.01)),
    "AdamW": (adamw(0.001), lambda parameters: AdamW(parameters, 0.001)),
}

TEXT: Final = """\
Microseconds that one iteration of all K trainings takes, of an MLP of 2 900 parameters on batches
of 32, with cross entropy: the medians, and of the ratios within a round the median and the
quartiles. One core. By hand is `vmap` over `grad_and_value`, with an optimizer of torch over the
stacked parameters."""


def models_of(number: int) -> list[nn.Module]:
    """Make networks."""
    torch.manual_seed(0)
    return [network(32, 40) for _ in range(number)]


def in_turn(number: int, optimizer: Callable[[Any], Optimizer]) -> list[Run]:
    """Make a run of `training_step` for each training."""
    return [
        Loop(training_step(model, optimizer(model.parameters()), cross_entropy)).run
        for model in models_of(number)
    ]


def at_once(number: int, optimizer: OwnOptimizer, **options: Any) -> Run:
    """Make a run of all trainings, which goes on from where its last one has ended."""
    models = models_of(number)
    step = ensemble_step(models[0], optimizer, cross_entropy, **options)
    loop: Loop[Pair, Tensor, EnsembleState] = Loop(step)
    newest = [step.init(models)]

    def run(batches: Batches) -> None:
        newest.append(loop.run(batches, user=newest.pop()).user)

    return run


def by_hand(number: int, make_optimizer: Callable[[Any], Optimizer]) -> Run:
    """Make a loop as it is written without any engine."""
    models = models_of(number)
    base = models[0]
    parameters, _ = stack_module_state(models)
    optimizer = make_optimizer(parameters.values())

    def loss_of(one: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(functional_call(base, one, (x,)), y)

    many = vmap(grad_and_value(loss_of), in_dims=(0, None, None))

    def run(batches: Batches) -> None:
        for x, y in batches:
            gradients, _ = many(parameters, x, y)
            for name, one in parameters.items():
                one.grad = gradients[name]
            optimizer.step()

    return run


def contenders_of(
    number: int, own: OwnOptimizer, in_torch: Callable[[Any], Optimizer], data: list[Pair]
) -> dict[str, Callable[[], float]]:
    """Make the contenders, each of which gives the seconds of an iteration of all trainings."""
    alone = [per_iteration(run, data) for run in in_turn(number, in_torch)]
    rates = [0.01 * (one + 1) / number for one in range(number)]
    return {
        IN_TURN: lambda: sum(one() for one in alone),
        AT_ONCE: per_iteration(at_once(number, own), data),
        RATES: per_iteration(at_once(number, own, learning_rate=rates), data),
        BY_HAND: per_iteration(by_hand(number, in_torch), data),
    }


def measure_ensembles(effort: Effort, *, compiled: bool) -> Section:
    """Compare ensembles with trainings one after the other.

    Args:
        effort: how much is measured.
        compiled: measure with `compile=True`, too, which takes minutes to compile.
    """
    rows: list[tuple[str, ...]] = []
    targets: list[Target] = []
    text = TEXT
    for name, (own, in_torch) in OPTIMIZERS.items():
        for number, most in MOST.items():
            torch.manual_seed(1)
            data = [
                (torch.randn(32, 32), torch.randint(CLASSES, (32,)))
                for _ in range(max(3, effort.batches // (2 * number)))
            ]
            contenders = contenders_of(number, own, in_torch, data)
            if compiled:
                run = at_once(number, own, compile=True)
                begun = time.perf_counter()
                run(data)
                text += f" To compile {name} for K = {number} took"
                text += f" {time.perf_counter() - begun:.0f} s."
                contenders[COMPILED] = per_iteration(run, data)
            found = rounds(contenders, effort.rounds)
            for kept, times in found.items():
                over = Spread.of(ratios(found[IN_TURN], times))
                micros, _ = spread_cells(Spread.of(times), MICRO, 0)
                rows.append((name, str(number), kept, micros, *spread_cells(over, 1, 1)))
            got = Spread.of(ratios(found[AT_ONCE], found[IN_TURN])).median
            what = f"{number} MLPs at once, {name}"
            targets.append(Target(what, most, "x one after the other", got))
    heads = ("optimizer", "K", "how", "us", "times as fast", "quartiles")
    return Section("Ensembles", text, Table(heads, rows, texts=3), targets)
