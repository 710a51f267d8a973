"""Processes for tests: a program on each of some ranks, over loopback, with an end in any case.

The processes are forked from a server that has imported all once, so that each costs little. Those
that do not end in time are killed, each by its own handle, and none is left.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import socket
import time
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection
from typing import Any

import attrs
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from fengine.distributed import Ranks

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.distributed.preloaded"])

# A machine under load is slow; only what hangs takes as long as this.
SECONDS = 120.0


@attrs.frozen
class Ended:
    """Say how a rank has ended.

    Args:
        value: what the program has returned.
        error: the name of the class of what it has raised; "" if nothing.
        words: its text and its notes.
        code: the exit status; minus the signal that has killed it; None if it had to be killed.
        rank: for a PeerFailed, the rank that it names.
    """

    value: Any = None
    error: str = ""
    words: str = ""
    code: int | None = None
    rank: int | None = None


def free_port() -> int:
    """Find a port that nobody uses."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def variables(rank: int, size: int, port: int, agent: bool) -> dict[str, str]:
    """Give what torchrun would set."""
    return {
        "TORCHELASTIC_USE_AGENT_STORE": str(agent),
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "GLOO_SOCKET_IFNAME": "lo",
    }


def on_ranks(
    size: int,
    program: Callable[..., Any],
    *arguments: Any,
    limit: float = SECONDS,
    grace: float = 5.0,
    agent: bool = True,
    plain: bool = False,
    seconds: float = SECONDS,
) -> list[Ended]:
    """Run `program(ranks, *arguments)` on each rank, and say how each has ended.

    Args:
        size: how many ranks.
        program: what each of them runs.
        *arguments: for the program.
        limit: how many seconds a rank waits for others.
        grace: how many seconds it waits for them to say why they do not come.
        agent: this process has the store, as the agent of torchrun has; else the first rank.
        plain: open the process group as torch does, and give the program `Alone()`.
        seconds: how long all of it may take.
    """
    agents = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False) if agent else None
    port = free_port() if agents is None else agents.port
    started = []
    for rank in range(size):
        here, there = _FORKS.Pipe(duplex=False)
        given = (there, variables(rank, size, port, agent), limit, grace, plain, program, arguments)
        process = _FORKS.Process(target=_be_rank, args=given)
        process.start()
        there.close()
        started.append((process, here))
    end = time.monotonic() + seconds
    try:
        return [_ended(process, here, end) for process, here in started]
    finally:
        for process, here in started:
            if process.is_alive():
                process.kill()
            process.join()
            process.close()
            here.close()


def _ended(process: Any, here: Connection, end: float) -> Ended:
    told = Ended()
    try:
        if here.poll(max(0.0, end - time.monotonic())):
            told = pickle.loads(here.recv_bytes())
    except EOFError:
        pass  # it was killed
    process.join(max(0.0, end - time.monotonic()))
    return attrs.evolve(told, code=process.exitcode)


def _be_rank(
    there: Connection,
    environment: dict[str, str],
    limit: float,
    grace: float,
    plain: bool,
    program: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> None:
    import torch

    from fengine.distributed import Alone, ranks_of_torchrun

    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.set_num_threads(1)
    try:
        wait = timedelta(seconds=limit)
        if plain:
            torch.distributed.init_process_group("gloo", timeout=wait)
            value = program(Alone(), *arguments)
        else:
            patience = timedelta(seconds=grace)
            with ranks_of_torchrun(backend="gloo", limit=wait, grace=patience) as ranks:
                value = program(ranks, *arguments)
        there.send_bytes(pickle.dumps(Ended(value)))  # tensors too, as a whole
    except BaseException as error:
        words = "\n".join([str(error), *getattr(error, "__notes__", ())])
        told = Ended(None, type(error).__name__, words, None, getattr(error, "rank", None))
        there.send_bytes(pickle.dumps(told))
        # At once, as a process does that an exception has left: nothing waits for others any more.
        os._exit(1)


def values(ends: list[Ended]) -> list[Any]:
    """Return what all ranks have returned, which none has raised."""
    assert [(end.error, end.words, end.code) for end in ends] == [("", "", 0)] * len(ends)
    return [end.value for end in ends]


def together(program: Callable[[Ranks], Any], size: int = 2) -> list[Any]:
    """Return what a program returns on each rank."""
    return values(on_ranks(size, program))
