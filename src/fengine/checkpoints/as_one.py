"""As one: several ranks do something with a folder, and all of them succeed or raise the same.

A rank whose part fails tells the others why before anybody goes on. So none waits for it, and none
takes for kept what another could not write. Whatever else is raised leaves its rank, of which the
others learn as of any failure.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TypeVar

from fengine.checkpoints.errors import CheckpointError
from fengine.run.ranks import Ranks

T = TypeVar("T")


def on_first(ranks: Ranks, do: Callable[[], T]) -> T:
    """Do something on the first rank, and return what it has of it on all; collective.

    Args:
        ranks: the ranks.
        do: what is done; it may raise a CheckpointError, and what it returns can be pickled.

    Raises:
        CheckpointError: it failed there.

    >>> from fengine.testing import in_threads
    >>> in_threads(2, lambda ranks: on_first(ranks, lambda: ranks.rank))
    [0, 0]
    """
    if ranks.size == 1:
        return do()
    done: list[T] = []
    error: CheckpointError | None = None
    if ranks.rank == 0:
        try:
            done.append(do())
        except CheckpointError as failed:
            error = failed
    told, failure = ranks.gathered((done, error))[0]
    if failure is not None:
        raise failure if error is None else error
    return told[0]


def on_all(ranks: Ranks, do: Callable[[], T]) -> list[T]:
    """Do something on each rank, and return what each has of it, in their order; collective.

    Args:
        ranks: the ranks.
        do: what is done; it may raise a CheckpointError, and what it returns can be pickled.

    Raises:
        CheckpointError: it failed on a rank, which is named.

    >>> from fengine.testing import in_threads
    >>> in_threads(2, lambda ranks: on_all(ranks, lambda: ranks.rank))
    [[0, 1], [0, 1]]
    """
    if ranks.size == 1:
        return [do()]
    done: list[T] = []
    error: CheckpointError | None = None
    try:
        done.append(do())
    except CheckpointError as failed:
        error = failed
    every = ranks.gathered((done, error))
    failures = {rank: failed for rank, (_, failed) in enumerate(every) if failed is not None}
    if failures:
        raise said_by(failures, ranks.size) from error
    return [told[0] for told, _ in every]


def said_by(failures: dict[int, CheckpointError], size: int) -> CheckpointError:
    """Return the error of some ranks, which names them unless all say the same.

    >>> said_by({1: CheckpointError("runs/a", "cannot be written")}, 2)
    CheckpointError('runs/a: rank 1: cannot be written')
    """
    first = next(iter(failures.values()))
    if len(failures) == size and len({str(one) for one in failures.values()}) == 1:
        return first
    by_reason: dict[str, list[int]] = {}
    for rank, one in failures.items():
        by_reason.setdefault(one.reason, []).append(rank)
    said = [f"{in_words(on)}: {reason}" for reason, on in by_reason.items()]
    return type(first)(first.path, "; ".join(said))


def in_words(ranks: Collection[int]) -> str:
    """Name ranks.

    >>> in_words([1, 3])
    'ranks 1, 3'
    """
    return f"{'rank' if len(ranks) == 1 else 'ranks'} {', '.join(map(str, ranks))}"
