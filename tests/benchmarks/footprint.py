"""Footprint: what an import takes, and whether a long run keeps anything."""

from __future__ import annotations

import gc
import os
import random
import subprocess
import sys
import tracemalloc
from typing import Final

from tests.benchmarks.contenders import Workload, systems
from tests.benchmarks.effort import Effort
from tests.benchmarks.sections import MILLI, Section, Table, Target, spread_cells
from tests.benchmarks.stamps import Stamped
from tests.benchmarks.timing import Spread

# Each import, and what was imported before it.
OURS: Final = ("fengine", "")
ENGINE_OF_OURS: Final = ("fengine.engine", "torch")
OTHERS: Final = {
    ("ignite.engine", "torch"): "ignite",
    ("lightning.fabric", "torch"): "lightning",
    ("lightning.pytorch", "torch"): "lightning",
    ("accelerate", "torch"): "accelerate",
}

IMPORTS: Final = """\
Milliseconds that an import takes in a new interpreter: a bare one, or one that has imported torch
before. The garbage collector is off: it is chance which import pays for looking through all of
torch's objects, which takes about 80 ms."""
MEMORY: Final = """\
Bytes that tracemalloc counts more at iteration {last:,} than at iteration {first:,}, with a handler
of ITERATION_COMPLETED: a run that keeps nothing stays under a thousand, whatever its length."""
KEPT: Final = 1000


def measure_imports(effort: Effort, have: frozenset[str]) -> Section:
    """Time imports, each in new interpreters."""
    imports = [OURS]
    if "torch" in have:
        imports.append(ENGINE_OF_OURS)
        imports += [pair for pair, module in OTHERS.items() if module in have]
    found: dict[tuple[str, str], list[float]] = {pair: [] for pair in imports}
    for module, after in imports:
        import_seconds(module, after)  # which compiles what was not yet
    order, shuffle = list(imports), random.Random(0).shuffle
    for _ in range(effort.imports):
        shuffle(order)
        for module, after in order:
            found[module, after].append(import_seconds(module, after))
    spreads = {pair: Spread.of(seconds) for pair, seconds in found.items()}
    return Section(
        "Imports",
        IMPORTS,
        Table(
            ("import", "over", "ms", "quartiles"),
            [
                (
                    module,
                    f"import {after}" if after else "bare Python",
                    *spread_cells(s, MILLI, 0),
                )
                for (module, after), s in spreads.items()
            ],
            texts=2,
        ),
        targets=[
            *(
                Target(
                    f"import {pair[0]} over {over}",
                    most,
                    "ms",
                    spreads[pair].median * MILLI if pair in spreads else None,
                )
                for pair, over, most in (
                    (OURS, "bare Python", 60),
                    (ENGINE_OF_OURS, "import torch", 40),
                )
            ),
            Target("modules of torch that import fengine loads", 0, "", torch_modules()),
        ],
    )


def import_seconds(module: str, after: str) -> float:
    """Time the import of a module in a new interpreter that has imported another one before."""
    return float(
        _output(
            f"import gc, time{after and ', ' + after}; gc.collect(); gc.disable(); "
            f"began = time.process_time(); import {module}; print(time.process_time() - began)"
        )
    )


def torch_modules() -> int:
    """Count the modules of torch that importing the functional API loads."""
    return int(
        _output(
            "import sys, fengine; "
            "print(sum(name.partition('.')[0] == 'torch' for name in sys.modules))"
        )
    )


def _output(program: str) -> str:
    command = [sys.executable, "-W", "ignore", "-c", program]
    # Users have their modules compiled once, and kept.
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=kept).stdout


def measure_memory(effort: Effort, have: frozenset[str]) -> Section:
    """Follow what is allocated over a long run."""
    first, last = effort.traced // 10, effort.traced - 1
    grown = {}
    for name, make in systems(have).items():
        run = make(Workload(handlers=1))
        data = Stamped(range(effort.traced), (first, last), _allocated)
        run(range(10))
        tracemalloc.start()
        run(data)
        tracemalloc.stop()
        grown[name] = data.readings[1] - data.readings[0]
    return Section(
        "Memory",
        MEMORY.format(first=first, last=last),
        Table(("system", "bytes"), [(name, f"{grew:.0f}") for name, grew in grown.items()]),
        targets=[
            Target(f"memory of a long run by a {name}", KEPT, "bytes", grew)
            for name, grew in grown.items()
            if name.startswith("fengine")
        ],
    )


def _allocated() -> float:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]
