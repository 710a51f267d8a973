"""The model, the data and the loop that programs of ranks train."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fengine import Loop
from fengine.distributed import Ranks
from fengine.training import TensorBatches, training_step

Kind: TypeAlias = Literal["ddp", "fsdp"]


def mlp(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    """Make the same model each time."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)).to(dtype)


def rows(number: int = 44, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Make the same data each time."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(number, 4, generator=generator, dtype=torch.float64)
    return x.to(dtype), (x.sum(1, keepdim=True).sin()).to(dtype)


def shared(model: nn.Sequential, ranks: Ranks, kind: Kind = "ddp") -> nn.Module:
    """Make one model of those of all ranks; on one rank it stays as it is."""
    if ranks.size == 1:
        return model
    if kind == "ddp":
        return DistributedDataParallel(model)
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (ranks.size,))
    for layer in (model[0], model[2]):
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)  # in place
    return model


def weights(model: nn.Module) -> list[Tensor]:
    """Return copies of all weights, whole ones on each rank."""
    found = []
    for parameter in model.parameters():
        whole: Any = getattr(parameter, "full_tensor", None)
        found.append((parameter if whole is None else whole()).detach().clone())
    return found


def training(ranks: Ranks, **of_loop: Any) -> tuple[Loop[Any, Any], TensorBatches[Any, Any]]:
    """Make a loop that trains a model on all ranks, and data of six batches, the last one short."""
    model = shared(mlp(), ranks)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    data = TensorBatches(*rows(), batch_size=8, seed=0, ranks=ranks)
    return Loop(training_step(model, optimizer, nn.MSELoss()), ranks=ranks, **of_loop), data
