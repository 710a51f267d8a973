"""Functional: what a training in the state costs, over the same in place."""

from __future__ import annotations

import re
import resource
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD, AdamW, Optimizer
from typing_extensions import override

from fengine import Loop
from fengine.training import TrainState, functional_step, training_step
from tests.benchmarks.effort import Effort
from tests.benchmarks.sections import MICRO, Section, Table, Target, spread_cells
from tests.benchmarks.timing import Spread, per_iteration, ratios, rounds

Pair: TypeAlias = tuple[Tensor, Tensor]
Batches: TypeAlias = Iterable[Pair]

IN_PLACE: Final = "in place"
FUNCTIONAL: Final = "in the state"
DONATING: Final = "in the state, donate=True"
ROWS: Final = (IN_PLACE, FUNCTIONAL, DONATING)

MLP: Final = "MLP of 2 900, SGD"
MLP_ADAMW: Final = "MLP of 2 900, AdamW"
TRANSFORMER: Final = "transformer of 21 000, AdamW"
MILLION: Final = "MLP of 1.1 million, AdamW"
BACKBONE: Final = "frozen backbone of 4.7 million, AdamW"

MOST: Final[dict[tuple[str, str], float]] = {
    (MLP, FUNCTIONAL): 1.25,
    (MLP_ADAMW, FUNCTIONAL): 1.25,
    (TRANSFORMER, FUNCTIONAL): 1.15,
    (MILLION, FUNCTIONAL): 1.35,
    (BACKBONE, FUNCTIONAL): 1.25,
    **{(task, DONATING): 1.05 for task in (MLP, MLP_ADAMW, TRANSFORMER, MILLION, BACKBONE)},
}
MOST_MEMORY: Final = 1.7
CLASSES: Final = 10

TEXT: Final = """\
Microseconds an iteration of `training_step`, and of `functional_step`, which has the parameters,
the buffers, what the optimizer remembers and the random state in the state: the medians, and of the
ratios within a round the median and the quartiles. One core; cross entropy."""
MEMORY: Final = """\
Bytes that a process takes at its peak over what it took before the training was made, in sizes of
the parameters: 20 iterations of a layer of 16.8 million with AdamW, batches of one, each in a
process of its own."""


class Transformer(nn.Module):
    """Be a small transformer with dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(64, 32)
        layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.1, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.last = nn.Linear(32, CLASSES)

    @override
    def forward(self, x: Tensor) -> Tensor:
        """Make scores of the tokens of a batch."""
        found: Tensor = self.last(self.layers(self.embedding(x)).mean(1))
        return found


def network(inputs: int, width: int) -> nn.Module:
    """Make a network of three layers."""
    return nn.Sequential(
        nn.Linear(inputs, width),
        nn.ReLU(),
        nn.Linear(width, width),
        nn.ReLU(),
        nn.Linear(width, CLASSES),
    )


def backbone() -> nn.Module:
    """Make a network of which only the last layer is trained."""
    model = network(256, 2048)
    *first, _ = model.children()
    for layer in first:
        layer.requires_grad_(False)
    return model


def _vectors(rows: int, width: int) -> Callable[[], Tensor]:
    return lambda: torch.randn(rows, width)


def _sgd(model: nn.Module) -> Optimizer:
    return SGD(model.parameters(), 0.01)


def _adamw(model: nn.Module) -> Optimizer:
    return AdamW((one for one in model.parameters() if one.requires_grad), 0.001)


Recipe: TypeAlias = tuple[
    Callable[[], nn.Module], Callable[[nn.Module], Optimizer], Callable[[], Tensor]
]
RECIPES: Final[dict[str, Recipe]] = {
    MLP: (lambda: network(32, 40), _sgd, _vectors(32, 32)),
    MLP_ADAMW: (lambda: network(32, 40), _adamw, _vectors(32, 32)),
    TRANSFORMER: (Transformer, _adamw, lambda: torch.randint(64, (16, 16))),
    MILLION: (lambda: network(64, 1000), _adamw, _vectors(64, 64)),
    BACKBONE: (backbone, _adamw, _vectors(8, 256)),
}


def run_of(kept: str, recipe: Recipe) -> Callable[[Batches], object]:
    """Make a run, which goes on from where its last one has ended."""
    make_model, make_optimizer, _ = recipe
    torch.manual_seed(0)
    model = make_model()
    optimizer = make_optimizer(model)
    if kept == IN_PLACE:
        return Loop(training_step(model, optimizer, cross_entropy)).run
    step = functional_step(model, optimizer, cross_entropy, donate=kept == DONATING)
    loop: Loop[Pair, Tensor, TrainState] = Loop(step)
    newest = [step.init()]

    def run(batches: Batches) -> None:
        newest.append(loop.run(batches, user=newest.pop()).user)

    return run


def measure_functional(effort: Effort) -> Section:
    """Compare trainings in the state with those in place."""
    rows: list[tuple[str, ...]] = []
    targets: list[Target] = []
    for task, recipe in RECIPES.items():
        number = max(3, effort.batches // (1 if task in (MLP, MLP_ADAMW) else 20))
        torch.manual_seed(1)
        inputs = [recipe[2]() for _ in range(number)]
        data = [(x, torch.randint(CLASSES, (len(x),))) for x in inputs]
        runs = {name: per_iteration(run_of(name, recipe), data) for name in ROWS}
        found = rounds(runs, effort.rounds)
        for name in ROWS:
            over = Spread.of(ratios(found[name], found[IN_PLACE]))
            micros, _ = spread_cells(Spread.of(found[name]), MICRO, 0)
            rows.append((task, name, micros, *spread_cells(over, 1, 2)))
            if (task, name) in MOST:
                targets.append(
                    Target(f"{task}, {name}", MOST[task, name], f"x {IN_PLACE}", over.median)
                )
    heads = ("training", "kept", "us", f"x {IN_PLACE}", "quartiles")
    return Section("Trainings in the state", TEXT, Table(heads, rows, texts=2), targets)


def measure_functional_memory(effort: Effort) -> Section:
    """Compare the peaks of memory."""
    peaks = {name: _peak(name, width=1024 if effort.rounds < 5 else 4096) for name in ROWS}
    over = peaks[FUNCTIONAL] / peaks[IN_PLACE]
    return Section(
        "Memory of trainings in the state",
        MEMORY,
        Table(
            ("kept", "sizes of the parameters", f"x {IN_PLACE}"),
            [
                (name, f"{peak:.1f}", f"{peak / peaks[IN_PLACE]:.2f}")
                for name, peak in peaks.items()
            ],
        ),
        [Target(f"peak memory with AdamW, {FUNCTIONAL}", MOST_MEMORY, f"x {IN_PLACE}", over)],
    )


def _peak(name: str, width: int) -> float:
    program = f"from tests.benchmarks.functional import peak; print(peak({name!r}, {width}))"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return float(done.stdout)


def peak(name: str, width: int) -> float:
    """Train once, and return the peak of memory in sizes of the parameters."""
    torch.set_num_threads(1)
    data = [(torch.randn(1, width), torch.randint(width, (1,)))] * 20
    Loop(training_step(*_wide(8), cross_entropy)).run([(torch.randn(1, 8), torch.zeros(1).long())])
    before = _highest()
    run_of(name, (lambda: nn.Linear(width, width), _adamw, lambda: data[0][0]))(data)
    return (_highest() - before) / (4 * width * (width + 1))


def _wide(width: int) -> tuple[nn.Module, Optimizer]:
    model = nn.Linear(width, width)
    return model, _adamw(model)


def _highest() -> int:
    """Return the peak of this process alone: on Linux `getrusage` has that of its parent, too."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (peak,) = re.findall(r"^VmHWM:\s+(\d+) kB$", status.read_text(), re.M)
    return 1024 * int(peak)
