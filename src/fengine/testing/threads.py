"""Ranks that are threads of one process: laws of many ranks in milliseconds, without a socket."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast, final

from typing_extensions import override

from fengine.run.ranks import PeerFailed, Ranks, RanksDiverged

T = TypeVar("T")
Result = TypeVar("Result")


@final
class _Meeting:
    """Hold what the threads exchange: of each round what has come, and who has failed first."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.rounds: dict[int, dict[int, tuple[str, Any]]] = {}
        self.failed: tuple[int, str] | None = None
        self.published: dict[str, int] = {}


class Left(ConnectionError):
    """Tell that a rank has left, or does not come in time."""


@final
class ThreadRanks:
    """Be one of several ranks that are threads; `in_threads` makes them. See `Ranks`.

    >>> in_threads(2, lambda ranks: ranks.largest((ranks.rank, -ranks.rank)))
    [(1, 0), (1, 0)]
    """

    def __init__(self, meeting: _Meeting, rank: int, size: int, limit: float) -> None:
        self._meeting, self.rank, self.size, self.limit = meeting, rank, size, limit
        self._round = 0

    @override
    def __repr__(self) -> str:
        return f"ThreadRanks(rank={self.rank}, size={self.size})"

    def largest(self, numbers: tuple[int, ...], /) -> tuple[int, ...]:
        """Return the largest number of all ranks at each place; collective."""
        found = self._exchanged(f"the largest of {len(numbers)} numbers", numbers)
        return tuple(map(max, zip(*found, strict=True)))

    def gathered(self, value: T, /) -> list[T]:
        """Return the value of each rank, in their order; collective."""
        return self._exchanged("the values of all", value)

    def fail(self, error: BaseException, what: str, /) -> PeerFailed | None:
        """Tell the others that this rank has failed, and wake those that wait for it."""
        meeting = self._meeting
        with meeting.changed:
            if meeting.failed is None:
                meeting.failed = self.rank, what
                meeting.changed.notify_all()
            failed = meeting.failed
        return PeerFailed(*failed) if isinstance(error, Left) and failed[0] != self.rank else None

    def first(self, key: str, number: int | None, /) -> int | None:
        """Publish a number under a key, unless one is there or it is None; return that one."""
        published = self._meeting.published
        return published.get(key) if number is None else published.setdefault(key, number)

    def _exchanged(self, kind: str, value: T) -> list[T]:
        meeting, number = self._meeting, self._round
        self._round += 1
        with meeting.changed:
            come = meeting.rounds.setdefault(number, {})
            meeting.rounds.pop(number - 2, None)  # which all have read, since all came to the next
            come[self.rank] = kind, value
            meeting.changed.notify_all()
            meeting.changed.wait_for(
                lambda: len(come) == self.size or meeting.failed is not None, self.limit
            )
            if len(come) < self.size:
                raise Left(f"a rank has left, or did not come within {self.limit} s")
        kinds = [come[rank][0] for rank in range(self.size)]
        if len(set(kinds)) > 1:
            raise RanksDiverged(f"the ranks ask each other for {kinds}", on_all=True)
        return [come[rank][1] for rank in range(self.size)]


@final
class _Thread(threading.Thread, Generic[Result]):
    """Run a function as one rank, and keep what becomes of it."""

    def __init__(self, run: Callable[[Ranks], Result], ranks: ThreadRanks) -> None:
        super().__init__(name=repr(ranks), daemon=True)
        self.function, self.ranks = run, ranks
        self.result: Result | BaseException | None = None

    @override
    def run(self) -> None:
        try:
            self.result = self.function(self.ranks)
        except BaseException as error:
            self.ranks.fail(error, f"{type(error).__name__}: {error}")
            self.result = error


def in_threads(
    size: int, run: Callable[[Ranks], Result], *, limit: float = 60.0
) -> list[Result | BaseException]:
    """Run a function as each of some ranks, and return what each returned or raised, in order.

    What the threads share, such as the random generators of torch, they share here too.

    Args:
        size: how many ranks.
        run: takes the ranks as one of them sees them.
        limit: how many seconds a rank waits for the others.

    Raises:
        ValueError: `size` is below 1.
        TimeoutError: a rank does not end.

    >>> from fengine import Loop, State, outputs
    >>> from fengine import Events
    >>> def train(ranks):
    ...     def stop_on_rank_1(state):
    ...         return state.terminate() if ranks.rank == 1 and state.iteration == 2 else state
    ...     loop = Loop(outputs(abs), ranks=ranks).on(Events.ITERATION_COMPLETED, stop_on_rank_1)
    ...     return loop.run([-1, -2, -3, -4]).iteration
    >>> in_threads(2, train)
    [2, 2]
    """
    if size < 1:
        raise ValueError(f"size={size} is below 1; there is one rank at least")
    meeting = _Meeting()
    threads = [_Thread(run, ThreadRanks(meeting, rank, size, limit)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * limit)
    if any(thread.is_alive() for thread in threads):
        raise TimeoutError(f"a rank of {size} has not ended within {2 * limit} s")
    return [cast("Result | BaseException", thread.result) for thread in threads]
