"""The program of each process: torchrun starts it as often as there are processes.

A restarted process runs the same lines. What it finds in the folder is where it goes on.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.functional import cross_entropy

from fengine import Events, Loop, State
from fengine.checkpoints import Checkpoints
from fengine.distributed import Ranks, on_rank, ranks_of_torchrun
from fengine.examples.distributed.text import Reader, passages
from fengine.features import clip_grad_norm, evaluation, seeded
from fengine.metrics import mean, mean_loss
from fengine.training import TensorBatches, evaluation_step, training_step


def sharded(ranks: Ranks) -> Reader:
    """Make the model, each layer of it in as many parts as there are processes."""
    torch.manual_seed(0)
    model = Reader()
    if ranks.size > 1:
        mesh = init_device_mesh("cpu", (ranks.size,))
        for part in (*model.layers, model):
            fully_shard(part, mesh=mesh)
    return model


def train(ranks: Ranks, folder: Path, epochs: int, killed_in: int) -> None:
    """Train, or go on, and keep a checkpoint after each epoch.

    Args:
        ranks: the processes.
        folder: for the checkpoints.
        epochs: how many.
        killed_in: the epoch in which the last process kills itself, unless it was restarted.
    """
    model = sharded(ranks)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.003)
    x, y = passages(1280)
    data = TensorBatches(x[:1024], y[:1024], batch_size=64, seed=0, ranks=ranks)
    held_out = TensorBatches(x[1024:], y[1024:], batch_size=64, ranks=ranks)
    is_first_attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0"

    def report(state: State[Any, Any, Any]) -> None:
        metrics = state.metrics
        print(
            f"epoch {state.epoch}/{epochs}   loss {metrics['loss']:.4f}   "
            f"held-out loss {metrics['val_loss']:.4f}",
            flush=True,
        )

    def die(state: State[Any, Any, Any]) -> State[Any, Any, Any]:
        if is_first_attempt and state.epoch == killed_in and ranks.rank == ranks.size - 1:
            print(f"rank {ranks.rank} kills itself in epoch {state.epoch}", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        return state

    loop = (
        Loop(training_step(model, optimizer, cross_entropy), ranks=ranks)
        | seeded(0)
        | clip_grad_norm(model, 1.0)
        | mean("loss")
        | evaluation(Loop(evaluation_step(model), ranks=ranks) | mean_loss(cross_entropy), held_out)
    )
    loop = loop.on(Events.EPOCH_COMPLETED, on_rank(ranks, report))
    loop = loop.on(Events.EPOCH_STARTED, die)
    checkpoints = Checkpoints(folder)
    kept = checkpoints.latest()
    if kept is not None and ranks.rank == 0:
        print(f"going on after epoch {kept.epoch}", flush=True)
    checkpoints.run(loop, data, max_epochs=epochs)


def main(folder: str, epochs: str, killed_in: str) -> None:
    """Be one of the processes."""
    torch.set_num_threads(1)
    with ranks_of_torchrun() as ranks:
        train(ranks, Path(folder), int(epochs), int(killed_in))


if __name__ == "__main__":
    main(*sys.argv[1:])
