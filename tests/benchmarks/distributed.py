"""Two processes: what agreement costs an iteration, and how soon all end where one goes wrong.

Each system trains the same model, which the processes share, over gloo on this machine. Fabric and
accelerate have no loop of their own, so theirs is the one by hand with what they wrap.
"""

from __future__ import annotations

import os
import random
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from typing_extensions import override

from fengine import Events, Loop, State
from fengine.distributed import EVERY_ITERATION, WHEN_ASKED, AgreeEvery, Alone, Ranks
from fengine.run.ranks import Agreeing
from fengine.training import training_step
from tests.benchmarks.effort import Effort
from tests.benchmarks.sections import MICRO, Section, Table, spread_cells
from tests.benchmarks.systems import ACCELERATE, BARE, FABRIC, LOOP
from tests.benchmarks.timing import Spread, differences
from tests.distributed.processes import Ended, on_ranks

Pair: TypeAlias = tuple[Tensor, Tensor]
Looked: TypeAlias = Callable[[int], bool]
Train: TypeAlias = Callable[[Sequence[Pair], Looked], object]

ASKING: Final = f"{ACCELERATE}, check_trigger"
AGREEMENTS: Final[Mapping[str, Agreeing]] = {
    f"{LOOP}, every iteration": EVERY_ITERATION,
    f"{LOOP}, AgreeEvery(10)": AgreeEvery(10),
    f"{LOOP}, WHEN_ASKED": WHEN_ASKED,
}
WITHOUT: Final = f"{LOOP}, without ranks"
FAULTY: Final = 5  # the iteration in which one rank goes wrong

COSTS: Final = """\
Two processes on this machine train an MLP of 64 by 64, by DistributedDataParallel over gloo, with
batches of 16 rows each: {hand} us an iteration by hand. Microseconds over that in a round, on the
first rank, by the clock on the wall, since waiting counts. A Loop without ranks agrees on nothing;
like those with ranks it exchanges one number a step, by which each rank's part of a batch counts.
accelerate agrees where a program asks it to at each iteration, by check_trigger; without that,
neither it nor Fabric agrees on anything."""
FAULTS: Final = """\
Seconds from a fault on the second of two ranks until both processes have ended, and what the first
one says. Connections time out after {limit:g} s here; by default that is half an hour for gloo. By
hand, and with Fabric and accelerate, a rank that stops leaves its loop, and the program ends."""


def measure_distributed(effort: Effort, have: frozenset[str]) -> Iterator[Section]:
    """Compare what agreement costs, and how soon all end."""
    systems = _systems(have)
    iterations, rounds = max(20, effort.batches // 4), max(2, effort.rounds // 4)
    first, _ = on_ranks(2, costs, systems, iterations, rounds, seconds=3600.0)
    if first.error:
        raise RuntimeError(f"the systems could not be measured: {first.error}: {first.words}")
    found = first.value
    hand = Spread.of(found[BARE]).median * MICRO
    over = {
        name: Spread.of(differences(seconds, found[BARE]))
        for name, seconds in found.items()
        if name != BARE
    }
    yield Section(
        "Two processes: an iteration",
        COSTS.format(hand=f"{hand:.0f}"),
        Table(
            ("two processes", "us over the loop by hand", "quartiles"),
            [(name, *spread_cells(spread, MICRO, 0)) for name, spread in over.items()],
        ),
    )
    limit = 5.0 if effort.rounds > 2 else 1.0
    compared = (BARE, f"{LOOP}, every iteration", FABRIC, ACCELERATE)
    there = [name for name in compared if name in systems]
    yield Section(
        "Two processes: from a fault to the end",
        FAULTS.format(limit=limit),
        Table(
            ("the second rank", *there),
            [(case, *(_until_end(name, case, limit) for name in there)) for case in CASES],
            texts=1 + len(there),
        ),
    )


def _systems(have: frozenset[str]) -> list[str]:
    peers = [FABRIC] if "lightning" in have else []
    peers += [ACCELERATE, ASKING] if "accelerate" in have else []
    return [BARE, WITHOUT, *AGREEMENTS, *peers]


def costs(
    ranks: Ranks, systems: Sequence[str], iterations: int, rounds: int
) -> dict[str, list[float]]:
    """Let each system train once a round, in a new order, the same on all ranks."""
    data = _Timed(_pairs(iterations))
    trains = {name: _train(name, ranks) for name in systems}
    order, found = list(systems), dict[str, list[float]]()
    shuffle = random.Random(0).shuffle
    for number in range(rounds + 1):
        for name in order:
            trains[name](data, _go_on)
            if number:  # the first round warms up
                found.setdefault(name, []).append((data.last - data.first) / (iterations - 1))
        shuffle(order)
    return {name: found[name] for name in systems}


class _Timed(list[Pair]):
    """Give batches, and note when the first and the last of them were asked for."""

    first: float
    last: float

    @override
    def __iter__(self) -> Iterator[Pair]:
        for place in range(len(self)):
            if place == 0:
                self.first = time.perf_counter()
            self.last = time.perf_counter()
            yield self[place]


def _pairs(number: int) -> list[Pair]:
    torch.manual_seed(1)
    return [(torch.randn(16, 64), torch.randn(16, 1)) for _ in range(number)]


def _go_on(iteration: int) -> bool:
    return False


def _model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))


def _train(system: str, ranks: Ranks) -> Train:
    """Make what trains over data; it stops where it is told to after an iteration."""
    if system == FABRIC:
        return _with_fabric()
    if system in (ACCELERATE, ASKING):
        return _with_accelerate(asks=system == ASKING)
    model = DistributedDataParallel(_model())
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    if system == BARE:
        return _by_hand(model, optimizer, _backward)
    step = training_step(model, optimizer, nn.MSELoss())
    loop = (
        Loop(step, ranks=Alone())
        if system == WITHOUT
        else Loop(step, ranks=ranks, agree=AGREEMENTS[system])
    )

    def train(data: Sequence[Pair], looked: Looked) -> object:
        def look(state: State[Pair, Tensor]) -> State[Pair, Tensor]:
            return state.terminate() if looked(state.iteration) else state

        heard = loop if looked is _go_on else loop.on(Events.ITERATION_COMPLETED, look)
        return heard.run(data)

    return train


def _backward(loss: Tensor) -> None:
    loss.backward()  # type: ignore[no-untyped-call]


def _by_hand(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    backward: Callable[[Tensor], object],
    is_asked: Callable[[bool], bool] | None = None,
) -> Train:
    def train(data: Sequence[Pair], looked: Looked) -> None:
        model.train()
        for iteration, (x, y) in enumerate(data, start=1):
            optimizer.zero_grad()
            backward(nn.functional.mse_loss(model(x), y))
            optimizer.step()
            stops = looked(iteration)
            if stops if is_asked is None else is_asked(stops):
                return

    return train


def _with_fabric() -> Train:
    from lightning.fabric import Fabric

    size = torch.distributed.get_world_size()
    os.environ.update(GROUP_RANK="0", LOCAL_WORLD_SIZE=str(size))  # as torchrun does
    made: Any = Fabric
    fabric = made(accelerator="cpu", strategy="ddp", devices=size)
    fabric.launch()
    model = _model()
    wrapped, optimizer = fabric.setup(model, torch.optim.SGD(model.parameters(), 0.01))
    return _by_hand(wrapped, optimizer, fabric.backward)


def _with_accelerate(*, asks: bool) -> Train:
    from accelerate import Accelerator

    accelerator: Any = Accelerator(cpu=True)
    model = _model()
    wrapped, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), 0.01))

    def is_asked(stops: bool) -> bool:
        if stops:
            accelerator.set_trigger()
        return bool(accelerator.check_trigger())

    return _by_hand(wrapped, optimizer, accelerator.backward, is_asked if asks else None)


def _raise(iteration: int) -> bool:
    if iteration == FAULTY:
        raise ValueError("no such class")
    return False


def _kill(iteration: int) -> bool:
    if iteration == FAULTY:
        os.kill(os.getpid(), signal.SIGKILL)
    return False


def _stop(iteration: int) -> bool:
    return iteration == FAULTY


CASES: Final[Mapping[str, Looked]] = {
    "raises": _raise,
    "is killed": _kill,
    "asks for the end": _stop,
    "has fewer batches": _go_on,
}


def faulty(ranks: Ranks, system: str, case: str, stamp: str) -> None:
    """Have the second rank go wrong, and note when."""
    train = _train(system, ranks)
    looked = CASES[case]

    def noting(iteration: int) -> bool:
        if iteration == FAULTY:
            Path(stamp).write_text(repr(time.time()))
        return looked(iteration)

    is_second = torch.distributed.get_rank() == 1
    number = FAULTY if is_second and case == "has fewer batches" else 40
    Path(stamp).write_text(repr(time.time()))
    train(_pairs(number), noting if is_second else _never)


def _never(iteration: int) -> bool:
    return False


def _until_end(system: str, case: str, limit: float) -> str:
    with tempfile.TemporaryDirectory() as folder:
        stamp = str(Path(folder) / "stamp")
        name = ASKING if system == ACCELERATE and case == "asks for the end" else system
        plain = name not in AGREEMENTS
        ends = on_ranks(2, faulty, name, case, stamp, limit=limit, grace=1.0, plain=plain)
        seconds = time.time() - float(Path(stamp).read_text())
    return f"{seconds:.1f} s, {_said(ends[0])}"


def _said(end: Ended) -> str:
    if not end.error:
        return "ends well"
    named = " names it" if "rank 1" in end.words else ""
    return f"{end.error}{named}"
