"""Ranks: the processes that run one loop together, as a port, and the values that belong to it.

A rank is one of them. Here is what a run asks of them, what it says where they differ or one of
them is gone, and how often they agree. How a run uses it is in `together`. What connects processes
is in an outer room, which offers these names to users.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeAlias, TypeVar, final, runtime_checkable

import attrs
from typing_extensions import override

T = TypeVar("T")


class PeerFailed(RuntimeError):
    """Tell that another rank has failed, or does not answer.

    Args:
        rank: which one.
        what: its own words, or what is known of it.

    >>> PeerFailed(3, "ValueError: no such class at epoch 1, iteration 7")
    PeerFailed('rank 3 failed: ValueError: no such class at epoch 1, iteration 7')
    """

    def __init__(self, rank: int, what: str) -> None:
        self.rank, self.what = rank, what
        super().__init__(f"rank {rank} failed: {what}")

    @override
    def __reduce__(self) -> tuple[type[PeerFailed], tuple[int, str]]:
        """Return what `copy` and `pickle` make it of."""
        return PeerFailed, (self.rank, self.what)


class RanksDiverged(RuntimeError):
    """Tell that ranks stand at different places, or hold different values of what all share.

    Args:
        what: the differences, with the value of each rank.
        on_all: whether every rank raises it, so that nobody has to be told.

    >>> raise RanksDiverged("epoch is 1 on rank 0, and 2 on rank 1")
    Traceback (most recent call last):
    fengine.run.ranks.RanksDiverged: epoch is 1 on rank 0, and 2 on rank 1
    """

    def __init__(self, what: str, *, on_all: bool = False) -> None:
        self.on_all = on_all
        super().__init__(what)


@runtime_checkable
class Ranks(Protocol):
    """Be the processes that run one loop together, seen from one of them.

    `largest` and `gathered` are collective: they return once each rank has called the same one, in
    the same order.

    >>> ranks: Ranks = Alone()
    >>> ranks.size, ranks.gathered("word")
    (1, ['word'])
    """

    @property
    def rank(self) -> int:
        """The number of this one, from 0."""

    @property
    def size(self) -> int:
        """How many there are."""

    def largest(self, numbers: tuple[int, ...], /) -> tuple[int, ...]:
        """Return the largest number of all ranks at each place.

        Args:
            numbers: equally many on each rank, of 63 bits and a sign.

        Raises:
            RanksDiverged: the ranks have called different methods, or with another length.
            Exception: a rank is gone, or does not come in time.
        """

    def gathered(self, value: T, /) -> list[T]:
        """Return the value of each rank, in their order; it can be pickled.

        Raises:
            RanksDiverged: the ranks have called different methods.
            Exception: a rank is gone, or does not come in time.
        """

    def fail(self, error: BaseException, what: str, /) -> PeerFailed | None:
        """Tell the others that this rank has failed, and wake those that wait for it.

        Args:
            error: why.
            what: this in words.

        Returns:
            What to raise instead, where `error` only follows from the failure of another rank.
        """

    def first(self, key: str, number: int | None, /) -> int | None:
        """Publish a number under a key, unless one is there or it is None; return that one.

        It is not collective, and costs less. None: nobody has published any.
        """


@final
@attrs.frozen
class Alone:
    """Be the only process.

    Law: a loop with it does what the loop without ranks does.

    >>> Alone().rank, Alone().size, Alone().largest((1, 2))
    (0, 1, (1, 2))
    """

    @property
    def rank(self) -> int:
        """0."""
        return 0

    @property
    def size(self) -> int:
        """1."""
        return 1

    def largest(self, numbers: tuple[int, ...], /) -> tuple[int, ...]:
        """Return the numbers."""
        return numbers

    def gathered(self, value: T, /) -> list[T]:
        """Return the value in a list."""
        return [value]

    def fail(self, error: BaseException, what: str, /) -> PeerFailed | None:
        """Return None: there is nobody to tell."""

    def first(self, key: str, number: int | None, /) -> int | None:
        """Return the number."""
        return number


@final
@attrs.frozen
class AgreeEvery:
    """Agree at the end of every n-th iteration, and at the events that fire once an epoch or less.

    Requests of other iterations wait until then.

    Args:
        iterations: how many iterations, from 1.

    Raises:
        TypeError: it is not an int.
        ValueError: it is below 1.

    >>> AgreeEvery(10)
    AgreeEvery(iterations=10)
    """

    iterations: int = attrs.field()

    @iterations.validator
    def _check(self, field: object, iterations: object) -> None:
        if type(iterations) is not int:
            raise TypeError(f"AgreeEvery({iterations!r}) is not a number of iterations, an int")
        if iterations < 1:
            raise ValueError(f"AgreeEvery({iterations}) is below 1; give 1 for every iteration")


@final
@attrs.frozen(repr=False)
class WhenAsked:
    """Agree at the end of an iteration only after a rank has asked for something.

    It is `WHEN_ASKED`, and for steps in which the ranks wait for each other, such as those that
    train a DistributedDataParallel. What is asked for acts one iteration later.

    >>> WhenAsked()
    WHEN_ASKED
    """

    @override
    def __repr__(self) -> str:
        return "WHEN_ASKED"


Agreeing: TypeAlias = AgreeEvery | WhenAsked
EVERY_ITERATION: Final = AgreeEvery(1)
"""The ranks agree at each iteration, so a request acts where it is made."""
WHEN_ASKED: Final = WhenAsked()
"""The ranks agree only after one of them has asked for something."""


def require_ranks(ranks: object, agree: object) -> None:
    """Refuse what are no ranks, or no way to agree.

    Raises:
        TypeError: it is refused.
    """
    if isinstance(ranks, type) or not isinstance(ranks, Ranks):
        raise TypeError(
            f"ranks={ranks!r} of type {type(ranks).__name__} are no ranks; give those of "
            "`with ranks_of_torchrun() as ranks:`, or Alone()"
        )
    if not isinstance(agree, AgreeEvery | WhenAsked):
        raise TypeError(
            f"agree={agree!r} says not when ranks agree; give EVERY_ITERATION, AgreeEvery(n) or "
            "WHEN_ASKED"
        )


def of_all(ranks: Ranks, value: T) -> list[T]:
    """Return the value of each rank, in their order; on one rank nothing is exchanged.

    >>> of_all(Alone(), 3)
    [3]
    """
    return [value] if ranks.size == 1 else ranks.gathered(value)


def over_ranks(
    ranks: Ranks, numbers: Mapping[str, float], *, largest: Sequence[str] = ()
) -> dict[str, float]:
    """Return numbers of this process as those of all ranks, which are the same on each; collective.

    A feature calls it for what it measures of its own process, such as a throughput, before it sets
    the metrics. A name that only some ranks have counts for those.

    Args:
        ranks: the ranks.
        numbers: those of this process, by name.
        largest: the names of numbers of which the largest is wanted, such as a peak of memory; the
            others are summed up.

    >>> over_ranks(Alone(), {"samples_per_second": 7.0})
    {'samples_per_second': 7.0}
    """
    found: dict[str, float] = {}
    for one in of_all(ranks, dict(numbers)):
        for name, number in one.items():
            join: Callable[..., Any] = max if name in largest else _sum
            found[name] = join(found[name], number) if name in found else number
    return found


def _sum(one: float, other: float) -> float:
    return one + other


def differences(said: Sequence[Mapping[str, object]]) -> str:
    """Say what differs in what the ranks say, each difference with the value of each rank.

    >>> differences([{"epoch": 1, "iteration": 3}, {"epoch": 1, "iteration": 4}])
    'iteration is 3 on rank 0, and 4 on rank 1'
    """
    names = list(dict.fromkeys(name for one in said for name in one))
    found = []
    for name in names:
        by_value: dict[str, list[int]] = {}
        for rank, one in enumerate(said):
            words = repr(one[name]) if name in one else "missing"
            by_value.setdefault(words, []).append(rank)
        if len(by_value) > 1:
            each = [f"{words} on {_ranks_in_words(on)}" for words, on in by_value.items()]
            found.append(f"{name} is {', and '.join(each)}")
    return "; ".join(found)


_MOST_NAMED: Final = 8


def _ranks_in_words(ranks: Sequence[int]) -> str:
    if len(ranks) == 1:
        return f"rank {ranks[0]}"
    named = ", ".join(map(str, ranks[:_MOST_NAMED]))
    more = len(ranks) - _MOST_NAMED
    return f"ranks {named}" + (f" and {more} more" if more > 0 else "")


def number_of_ranks(name: str, ranks: object) -> tuple[int, int]:
    """Return the rank and the size of ranks that data is given.

    Raises:
        TypeError: they are none.
    """
    if isinstance(ranks, type) or not isinstance(ranks, Ranks):
        raise TypeError(
            f"{name} takes ranks={ranks!r} of type {type(ranks).__name__}, which are no ranks; "
            "give those of `with ranks_of_torchrun() as ranks:`"
        )
    return ranks.rank, ranks.size
