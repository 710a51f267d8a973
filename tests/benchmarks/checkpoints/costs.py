"""Costs: what saves and going on take.

All systems save the same things in one process, one after the other in a new random order each
round. Going on is measured in a new process for each.
"""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import final

import attrs

from tests.benchmarks.checkpoints.processes import forked, memory
from tests.benchmarks.checkpoints.systems import Making, size_of
from tests.benchmarks.checkpoints.things import Things, step_of


@final
@attrs.frozen
class Cost:
    """Hold what a system takes; processor time in seconds, the median of rounds.

    Args:
        first: of the training thread, by the first save.
        thread: of the training thread, by a later one.
        process: of the process, by a later one.
        size: bytes of the newest checkpoint.
        resume: of the process, to go on from it.
        memory: bytes of memory in use at most while it goes on, beyond what stays.
    """

    first: float
    thread: float
    process: float
    size: int
    resume: float
    memory: int


def costs_of(
    systems: Mapping[str, Making], folder: Path, parameters: int, rounds: int
) -> dict[str, Cost]:
    """Measure systems side by side."""
    for name, make in systems.items():
        _warm_up(make, folder / f"before {name}")
    saves = forked(lambda: _saves(systems, folder, parameters, rounds))
    found = {}
    for name, make in systems.items():
        resume = partial(_resume, make, folder / name, parameters, rounds + 1)
        resumes = [forked(resume) for _ in range(3)]
        found[name] = Cost(
            **saves[name],
            resume=statistics.median(seconds for seconds, _ in resumes),
            memory=max(peak for _, peak in resumes),
        )
    return found


def _warm_up(make: Making, folder: Path) -> None:
    """Save once, so that what is imported for it is not charged to each new process."""
    keeper = make(folder, Things(1, stepped=True))
    keeper.save()
    keeper.finish()
    del keeper
    gc.collect()


def _saves(
    systems: Mapping[str, Making], folder: Path, parameters: int, rounds: int
) -> dict[str, dict[str, float]]:
    things = Things(parameters, stepped=True)
    keepers = {name: make(folder / name, things) for name, make in systems.items()}
    order, shuffle = list(keepers), random.Random(0).shuffle
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in order}
    gc.disable()
    for done in range(rounds + 1):
        things.put_mark(done + 1)
        shuffle(order)
        for name in order:
            thread, process = time.thread_time(), time.process_time()
            keepers[name].save()
            thread = time.thread_time() - thread
            keepers[name].finish()
            seconds[name].append((thread, time.process_time() - process))
    return {
        name: {
            "first": pairs[0][0],
            "thread": statistics.median(thread for thread, _ in pairs[1:]),
            "process": statistics.median(process for _, process in pairs[1:]),
            "size": size_of(folder / name),
        }
        for name, pairs in seconds.items()
    }


def _resume(make: Making, folder: Path, parameters: int, step: int) -> tuple[float, int]:
    things = Things(parameters, stepped=False)
    keeper = make(folder, things)
    before, began = memory("VmRSS"), time.process_time()
    keeper.resume()
    seconds = time.process_time() - began
    peak = memory("VmHWM") - before - things.bytes_of_optimizer
    assert step_of(things.model.mark) == step
    return seconds, peak
