"""Launched: the ranks that `torchrun` has started, or the one process where it has not."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Iterator
from datetime import timedelta
from typing import Final

import torch
import torch.distributed as dist

from fengine.distributed.torch_ranks import GRACE, LIMIT, TorchRanks
from fengine.run.ranks import Alone, Ranks, RanksDiverged

_NEEDED: Final = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@contextlib.contextmanager
def ranks_of_torchrun(
    *, backend: str | None = None, limit: timedelta = LIMIT, grace: timedelta = GRACE
) -> Iterator[Ranks]:
    """Open the process group that the variables of `torchrun` describe, and give its ranks.

    Without them there is one process, and the ranks are `Alone()`. A process group that is open
    already is used, and stays open. Where there are GPUs, the process takes the one that torchrun
    has numbered for it. An exception that leaves the block is told to the other ranks.

    Each attempt of an elastic restart has a store of its own. So none finds the addresses of
    workers that are dead.

    Args:
        backend: as `torch.distributed.init_process_group` takes it; None: NCCL for tensors on GPUs,
            gloo for others.
        limit: how long to wait for another rank, before it counts as hanging; for gradients too.
        grace: as for `TorchRanks`.

    Raises:
        ValueError: some of the variables are missing, or one is no number.

    >>> with ranks_of_torchrun() as ranks:
    ...     print(ranks)
    Alone()
    """
    opened = False
    if not dist.is_initialized():
        if not _is_launched():
            yield Alone()
            return
        _open(backend, limit)
        opened = True
    try:
        yield from _told(TorchRanks(limit=limit, grace=grace))
    finally:
        if opened and dist.is_initialized():
            dist.destroy_process_group()


def _told(ranks: TorchRanks) -> Generator[TorchRanks, None, None]:
    """Give ranks, and tell them what leaves the block."""
    try:
        yield ranks
    except SystemExit:
        raise  # it has ended as it was told to
    except BaseException as error:
        if isinstance(error, RanksDiverged) and error.on_all:
            raise
        failed = ranks.fail(error, f"{type(error).__name__}: {error}")
        if failed is not None:
            raise failed from error
        raise
    finally:
        ranks.close()


def _is_launched() -> bool:
    """Tell whether torchrun, or what sets the same variables, has started this process."""
    given = [name for name in _NEEDED if name in os.environ]
    if not any(name in given for name in ("RANK", "WORLD_SIZE")):
        return False
    missing = [name for name in _NEEDED if name not in given]
    if missing:
        raise ValueError(
            f"the environment has {', '.join(given)}, and lacks {', '.join(missing)}; start the "
            "program with torchrun, which sets all of them, or unset those for a single process"
        )
    for name in ("RANK", "WORLD_SIZE", "MASTER_PORT"):
        if not os.environ[name].isdecimal():
            raise ValueError(f"the variable {name} is {os.environ[name]!r}, which is no number")
    return True


def _open(backend: str | None, limit: timedelta) -> None:
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if torch.cuda.is_available() and local < torch.cuda.device_count():
        torch.cuda.set_device(local)
    is_of_agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    store = dist.TCPStore(  # type: ignore[attr-defined]
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        size,
        is_master=rank == 0 and not is_of_agent,
        timeout=limit,
        multi_tenant=True,
    )
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    own = dist.PrefixStore(f"attempt/{attempt}", store)  # type: ignore[attr-defined]
    dist.init_process_group(backend, store=own, rank=rank, world_size=size, timeout=limit)
