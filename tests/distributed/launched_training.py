"""A training as users write it, started by torchrun; it fails where it is told to."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fengine import Events, Loop, State
from fengine.distributed import ranks_of_torchrun
from fengine.metrics import mean
from fengine.training import TensorBatches, training_step
from tests.distributed.models import mlp, rows, shared, weights


def main(folder: Path, fault: str) -> None:
    torch.set_num_threads(1)
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    with ranks_of_torchrun() as ranks:
        model = shared(mlp(), ranks)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        data = TensorBatches(*rows(), batch_size=8, seed=0, ranks=ranks)
        loop = Loop(training_step(model, optimizer, nn.MSELoss()), ranks=ranks) | mean("loss")

        def die(state: State[Any, Any, Any]) -> State[Any, Any, Any]:
            if fault == "killed" and attempt == "0" and ranks.rank == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            if fault == "failed" and ranks.rank == 1:
                raise ValueError("no such class")
            return state

        try:
            final = loop.on(Events.ITERATION_COMPLETED(once=4), die).run(data, max_epochs=2)
        except RuntimeError as error:
            (folder / f"error-{attempt}-{ranks.rank}").write_text(str(error))
            raise
        found = final.iteration, final.metrics["loss"], [one.sum().item() for one in weights(model)]
        (folder / f"final-{ranks.rank}").write_text(repr(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
