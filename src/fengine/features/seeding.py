"""Seeding: the random generators of the process are seeded as a run begins, and not later."""

from __future__ import annotations

import hashlib
from typing import Any, SupportsIndex, TypeVar, final

import attrs
from typing_extensions import override

from fengine import Events, Loop, State
from fengine.core.describe import call_in_words, describe
from fengine.core.steps import lends_of
from fengine.training import RandomState
from fengine.training.random_state import require_seed, seed_all

B = TypeVar("B")
O = TypeVar("O")  # noqa: E741  # the output, beside the batch and the user
U = TypeVar("U")


@final
@attrs.frozen(repr=False)
class SeedRun:
    """Seed a run; made by `seeded`.

    >>> seeded(3).seed
    3
    """

    seed: int

    @override
    def __repr__(self) -> str:
        return call_in_words("seeded", self.seed)

    def __call__(self, loop: Loop[B, O, U], /) -> Loop[B, O, U]:
        """Return the loop with what seeds it, and with the random state named `random`.

        Raises:
            ValueError: the name stands for something else, or the step keeps a random state of its
                own in the state.
        """
        if lends_of(loop.step) is not None:
            raise ValueError(
                f"{self!r}: {describe(loop.step)} draws by the random state that is in the state; "
                f"begin with another one: user=step.init(seed={self.seed}). For the order of the "
                "data see fengine.training.Shuffled"
            )
        return loop.with_external(random=RandomState()).on(
            Events.STARTED, _Seeding(self, seed_of_rank(self.seed, loop.ranks.rank))
        )


@final
@attrs.frozen(repr=False)
class _Seeding:
    feature: SeedRun
    seed: int

    @override
    def __repr__(self) -> str:
        return repr(self.feature)

    def __call__(self, state: State[B, O, U]) -> State[B, O, U]:
        seed_all(self.seed)
        return state


def seed_of_rank(seed: int, rank: int) -> int:
    """Return the seed of one of several ranks; the first one has the seed itself.

    >>> seed_of_rank(3, 0), seed_of_rank(3, 1) == seed_of_rank(4, 0)
    (3, False)
    """
    if not rank:
        return seed
    return int.from_bytes(hashlib.blake2b(f"{seed}, {rank}".encode(), digest_size=4).digest())


def seed_of(loop: Loop[Any, Any, Any]) -> int | None:
    """Return the seed that `seeded` has given a loop; None where it has given none.

    >>> from fengine import outputs
    >>> seed_of(Loop(outputs(abs)) | seeded(3)), seed_of(Loop(outputs(abs)))
    (3, None)
    """
    for one in loop.table.registrations:
        handler: object = one.handler
        if isinstance(handler, _Seeding):
            return handler.feature.seed
    return None


def seeded(seed: SupportsIndex) -> SeedRun:
    """Make a feature that seeds `random`, numpy and torch with its devices, as a run begins.

    A run that goes on is not seeded again: snapshots hold the random state. A model is made before
    its run, so seed what it draws yourself. For what the workers of a DataLoader draw, see
    `fengine.training.Seeded`. Several ranks draw different numbers: each is seeded by the seed and
    its own number.

    Law: what a run draws follows from the seed, whatever was drawn before.

    Args:
        seed: an int from 0 to 4294967295.

    Raises:
        TypeError: `seed` is not an int.
        ValueError: it is out of the range.

    >>> import random
    >>> from fengine import outputs
    >>> loop = Loop(outputs(lambda batch: random.random())) | seeded(3)
    >>> loop.run([1, 2]).output == loop.run([1, 2]).output
    True
    """
    return SeedRun(require_seed(seed))
