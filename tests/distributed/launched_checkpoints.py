"""A sharded training that keeps checkpoints, started by torchrun; it is hit where it is told to."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch

from fengine import Events, State
from fengine.checkpoints import Checkpoints, Preemption
from fengine.distributed import Ranks, ranks_of_torchrun
from tests.distributed.models import weights
from tests.distributed.test_checkpoints import training


def train(ranks: Ranks, folder: str, fault: str) -> list[list[float]]:
    """Train, or go on, and return the weights."""
    made = training(ranks, "fsdp", dropout=0.3)
    with Preemption() as preemption:

        def hit(state: State[Any, Any, Any]) -> State[Any, Any, Any]:
            if fault == "killed" and state.iteration == 11 and ranks.rank == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            if fault == "preempted" and state.iteration == 5 and ranks.rank == 0:
                os.kill(os.getppid(), signal.SIGTERM)  # the agent, which tells all ranks
                while not preemption.asked:
                    time.sleep(0.01)
            return state

        every = Events.ITERATION_COMPLETED(every=2)
        checkpoints = Checkpoints(folder, every=every, preemption=preemption)
        loop = made.loop.on(Events.ITERATION_STARTED, hit)
        checkpoints.run(loop, made.data, max_epochs=3)
    return [one.flatten().tolist() for one in weights(made.model)]


def main(folder: Path, fault: str) -> None:
    torch.set_num_threads(1)
    if os.environ["TORCHELASTIC_RESTART_COUNT"] != "0":
        fault = "none"
    with ranks_of_torchrun() as ranks:
        try:
            found = train(ranks, str(folder / "kept"), fault)
        except SystemExit as asked:
            (folder / f"code-{ranks.rank}").write_text(str(asked.code))
            raise
        (folder / f"final-{ranks.rank}").write_text(repr(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
