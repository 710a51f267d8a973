"""The ranks of `torch.distributed`: how they agree, and how they learn of each other's end.

They agree in a small gloo group of their own, beside the group of the gradients, so that neither
disturbs the other. Sharded checkpoints have one, too. What one rank has to say while others are
busy it writes into the store of the process group: its failure, and that it asks for something.

Each exchange begins with a frame of fixed size that says what is exchanged, so that ranks which ask
each other for different things find that out instead of waiting or reading nonsense.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import pickle
import re
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, Final, TypeVar, cast, final

import torch
import torch.distributed as dist
from torch import Tensor
from typing_extensions import override

from fengine.run.ranks import PeerFailed, RanksDiverged

T = TypeVar("T")

LIMIT: Final = timedelta(minutes=10)
GRACE: Final = timedelta(seconds=2)

_FRAME: Final = 8
_MOST: Final = _FRAME - 2
_GATHERED: Final = 0
_HEAD: Final = 8  # bytes that say how long a value is
_NUMBERS: Final = itertools.count()
_OF_CONNECTIONS: Final = re.compile(
    r"gloo|NCCL|closed by peer|reset by peer|[Tt]imed out waiting|[Bb]roken pipe|Connection refused"
)


class Lost(ConnectionError):
    """Tell that the exchange with the other ranks has broken."""


@final
class TorchRanks:
    """Be the ranks of the process group that is open; see `Ranks`.

    To make one is collective. The process group stays the user's: it is used, and never destroyed.
    Once a rank has failed, its ranks are of no more use.

    Args:
        limit: how long to wait for another rank, before it counts as hanging.
        grace: how long a rank whose connections break waits for others to say why, and how long
            the first rank, which may hold the store, stays for others to read that.

    Raises:
        RuntimeError: there is no process group.

    >>> dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    >>> ranks = TorchRanks()
    >>> ranks.rank, ranks.size, ranks.gathered({"rows": 3})
    (0, 1, [{'rows': 3}])
    >>> ranks.close()
    >>> dist.destroy_process_group()
    """

    def __init__(self, *, limit: timedelta = LIMIT, grace: timedelta = GRACE) -> None:
        if not (dist.is_available() and dist.is_initialized()):
            raise RuntimeError(
                "there is no process group; open one with torch.distributed.init_process_group, or "
                "use `with ranks_of_torchrun() as ranks:`, which does so"
            )
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.limit, self.grace = limit, grace
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        prefix = f"fengine/{attempt}/{next(_NUMBERS)}"
        store = dist.distributed_c10d._get_default_store()
        self._store = dist.PrefixStore(prefix, store)  # type: ignore[attr-defined]
        self._group: dist.ProcessGroup | None = dist.new_group(backend="gloo", timeout=limit)
        self._shard_group: dist.ProcessGroup | None = None
        self._failed = False

    @property
    def shard_group(self) -> dist.ProcessGroup:
        """A gloo group for checkpoints of sharded tensors; the first time it is collective."""
        if self._shard_group is None:
            self._shard_group = dist.new_group(backend="gloo", timeout=self.limit)
        return self._shard_group

    @override
    def __repr__(self) -> str:
        return f"TorchRanks(rank={self.rank}, size={self.size})"

    def largest(self, numbers: tuple[int, ...], /) -> tuple[int, ...]:
        """Return the largest number of all ranks at each place; collective."""
        found: list[int] = []
        for start in range(0, max(len(numbers), 1), _MOST):
            part = numbers[start : start + _MOST]
            found += self._framed(1 + len(numbers), part)[: len(part)]
        return tuple(found)

    def gathered(self, value: T, /) -> list[T]:
        """Return the value of each rank, in their order; collective.

        Tensors on other devices come as tensors of the CPU.
        """
        data = _pickled(value)
        most = self._framed(_GATHERED, (len(data),))[0]
        own = bytearray(_HEAD + most)
        own[:_HEAD] = len(data).to_bytes(_HEAD, "big")
        own[_HEAD : _HEAD + len(data)] = data
        sent = torch.frombuffer(own, dtype=torch.uint8)
        got = [torch.empty_like(sent) for _ in range(self.size)]
        self._exchange(lambda group: dist.all_gather(got, sent, group=group))
        return [cast("T", _read(one)) for one in got]

    def first(self, key: str, number: int | None, /) -> int | None:
        """Publish a number under a key, unless one is there or it is None; return that one."""
        try:
            if number is not None:
                return int(self._store.compare_set(key, "", str(number)))
            return int(self._store.get(key)) if self._store.check([key]) else None
        except (RuntimeError, ValueError) as error:
            raise Lost(f"the store of the ranks does not answer: {error}") from error

    def fail(self, error: BaseException, what: str, /) -> PeerFailed | None:
        """Tell the others that this rank has failed, and wake those that wait for it."""
        if self._failed:
            return None
        self._failed = True
        found: PeerFailed | None = None
        try:
            found = self._reason() if is_of_connections(error) else None
            told = (self.rank, what) if found is None else (found.rank, found.what)
            self._store.compare_set("failed", "", f"{told[0]}\n{told[1]}")
            self._store.set(f"left/{self.rank}", "failed")
            self._store.set(f"knows/{self.rank}", "")
        except Exception:
            if is_of_connections(error) and self.rank != 0:
                found = PeerFailed(0, "it does not answer, and neither does its store")
        self._leave()
        return found

    def close(self) -> None:
        """Let go of the group; after a failure, stay a little, so that others can read of it."""
        with contextlib.suppress(Exception):
            if not self._failed:
                self._store.set(f"left/{self.rank}", "well")
                self._store.set(f"knows/{self.rank}", "")
            elif self.rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
                self._await(lambda: not self._without("knows"))
        self._leave()

    def _leave(self) -> None:
        """Destroy the groups, which closes their connections and wakes whoever waits there."""
        groups = self._group, self._shard_group
        self._group = self._shard_group = None
        for group in groups:
            if group is not None:
                with contextlib.suppress(Exception):
                    dist.destroy_process_group(group)

    def _reason(self) -> PeerFailed | None:
        """Find out which rank has failed, where connections have broken or time is over."""
        self._store.set(f"left/{self.rank}", "lost")
        self._await(lambda: self._store.check(["failed"]) or not self._without("left"))
        if self._store.check(["failed"]):
            rank, what = self._store.get("failed").decode().split("\n", 1)
            if int(rank) != self.rank:
                return PeerFailed(int(rank), what)
            return PeerFailed(next(self._others()), f"it has given up on this one: {what}")
        silent = self._without("left")
        if not silent:
            well = [r for r in self._others() if self._store.get(f"left/{r}") == b"well"]
            return PeerFailed(well[0], "it has ended well, before this one") if well else None
        others = f" Neither do ranks {silent[1:]}." if silent[1:] else ""
        return PeerFailed(
            silent[0], f"it does not answer: it hangs, was killed, or has left early.{others}"
        )

    def _await(self, is_there: Callable[[], bool]) -> None:
        end = time.monotonic() + self.grace.total_seconds()
        while not is_there() and time.monotonic() < end:
            time.sleep(0.01)

    def _others(self) -> Iterator[int]:
        return (rank for rank in range(self.size) if rank != self.rank)

    def _without(self, mark: str) -> list[int]:
        """Name the other ranks that have not left a mark: that they leave, or know who failed."""
        return [rank for rank in self._others() if not self._store.check([f"{mark}/{rank}"])]

    def _framed(self, kind: int, numbers: tuple[int, ...]) -> list[int]:
        """Exchange up to six numbers, and return the largest at each place.

        Args:
            kind: stands for what is exchanged, the same on all ranks.
            numbers: those of this rank.

        Raises:
            RanksDiverged: the ranks exchange different things.
            Lost: the exchange has broken.
        """
        frame = torch.zeros(_FRAME, dtype=torch.int64)
        frame[: 2 + len(numbers)] = torch.tensor([kind, -kind, *numbers])
        self._exchange(lambda group: dist.all_reduce(frame, dist.ReduceOp.MAX, group=group))
        high, low, *found = frame.tolist()
        if high != -low:
            raise RanksDiverged(
                "the ranks ask each other for different things, so they have come to different "
                f"places: this is rank {self.rank}, which asks for {_in_words(kind)}, and others "
                f"ask for {_in_words(-low if high == kind else high)}. A handler that asks all "
                "ranks runs on each of them, at the same firing of the same event",
                on_all=True,
            )
        return found

    def _exchange(self, exchange: Callable[[dist.ProcessGroup], object]) -> None:
        if self._group is None:
            raise Lost(
                "this rank has failed or its ranks are closed, so it agrees with nobody any more; "
                "begin again in new processes"
            )
        try:
            exchange(self._group)
        except RuntimeError as error:
            raise Lost(f"the exchange with the other ranks has broken: {error}") from error


def is_of_connections(error: BaseException) -> bool:
    """Tell whether an exception says that other ranks cannot be reached."""
    if isinstance(error, Lost | dist.DistError):
        return True
    return isinstance(error, RuntimeError) and bool(_OF_CONNECTIONS.search(str(error)))


def _in_words(kind: int) -> str:
    return "the values of all" if kind == _GATHERED else f"the largest of {kind - 1} numbers"


class _Pickler(pickle.Pickler):
    """Pickle tensors of other devices as those of the CPU, since each rank has its own device."""

    @override
    def reducer_override(self, obj: Any, /) -> Any:
        if isinstance(obj, Tensor) and obj.device.type != "cpu":
            # torch declares no types of it.
            return obj.detach().cpu().__reduce_ex__(pickle.HIGHEST_PROTOCOL)  # type: ignore[no-untyped-call]
        return NotImplemented


def _pickled(value: object) -> bytes:
    buffer = io.BytesIO()
    _Pickler(buffer, pickle.HIGHEST_PROTOCOL).dump(value)
    return buffer.getvalue()


def _read(tensor: Tensor) -> object:
    data = tensor.numpy().tobytes()
    length = int.from_bytes(data[:_HEAD], "big")
    value: object = pickle.loads(data[_HEAD : _HEAD + length])
    return value
