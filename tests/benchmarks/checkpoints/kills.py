"""Kills: processes that save on and on are killed, and what they leave is read.

A process says through a pipe which saves are acknowledged. It is killed at a random moment after
the second. A checkpoint is lost where nothing that is left reads as that step or a later one.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterable
from itertools import count
from pathlib import Path
from typing import Final, final

import attrs

from tests.benchmarks.checkpoints.systems import Making, Reading
from tests.benchmarks.checkpoints.things import Things
from tests.checkpoints.trainings import in_child

# About 8 MB, with the state of AdamW.
PARAMETERS: Final = 700_000
LATEST: Final = 0.35

Acknowledge = Callable[[int], None]
Training = Callable[[Path, Things, Acknowledge], None]
Listed = Callable[[Path], Iterable[Reading]]


@final
@attrs.frozen
class Left:
    """Count what kills have left.

    Args:
        lost: kills after which what was acknowledged last could not be read, nor a later one.
        nothing: of these, kills after which nothing at all could be read.
        unreadable: kills after which something that is listed could not be read.
    """

    lost: int
    nothing: int
    unreadable: int


def saving_by(make: Making) -> Training:
    """Return a training that does nothing but save."""

    def train(folder: Path, things: Things, acknowledge: Acknowledge) -> None:
        keeper = make(folder, things)
        for step in count(1):
            things.put_mark(step)
            keeper.save()
            acknowledge(keeper.acknowledged())

    return train


def left_by(
    train: Training, listed: Listed, folder: Path, kills: int, parameters: int = PARAMETERS
) -> Left:
    """Kill a training often, each time in a folder of its own, and count."""
    drawn = random.Random(0)
    Things(1, stepped=True)  # what torch imports then is not to be imported in each process
    lost = nothing = unreadable = 0
    for kill in range(kills):
        place = folder / str(kill)
        acknowledged = _killed(train, place, drawn.uniform(0, LATEST), parameters)
        steps = [_step(read) for read in listed(place)]
        whole = [step for step in steps if step is not None]
        lost += max(whole, default=0) < acknowledged
        nothing += not whole
        unreadable += None in steps
    return Left(lost, nothing, unreadable)


def _killed(train: Training, folder: Path, after: float, parameters: int) -> int:
    """Kill a training some seconds after its second save; return what it had acknowledged."""
    reading, writing = os.pipe()

    def work() -> None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115  # the process is killed
        things = Things(parameters, stepped=True)
        train(folder, things, lambda step: _say(writing, step))

    child = in_child(work)
    os.close(writing)
    with os.fdopen(reading) as lines:
        while int(lines.readline() or _failed(child)) < 2:
            pass
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
        said = lines.read().splitlines()
    os.waitpid(child, 0)
    return int(said[-1]) if said else 2


def _say(pipe: int, step: int) -> None:
    os.write(pipe, b"%d\n" % step)


def _failed(child: int) -> int:
    os.waitpid(child, 0)
    raise RuntimeError(f"the training in process {child} ended before it was killed")


def _step(read: Reading) -> int | None:
    """Return the step of a checkpoint; None where it cannot be read."""
    try:
        return read()
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # the one of torch.distributed.checkpoint is no Exception
        return None
