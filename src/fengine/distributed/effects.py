"""Effects on one rank, and numbers of a user's record over all of them, as handlers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, final

import attrs
from typing_extensions import override

from fengine import State
from fengine.core.describe import call_in_words, describe, require_callable
from fengine.run.ranks import Ranks, number_of_ranks

B = TypeVar("B")
O = TypeVar("O")  # noqa: E741  # the output, beside the batch and the user
U = TypeVar("U")


@final
@attrs.frozen(repr=False)
class OnRank(Generic[B, O, U]):
    """Have an effect on one rank; made by `on_rank`.

    >>> from fengine.distributed import Alone
    >>> on_rank(Alone(), print).rank
    0
    """

    ranks: Ranks = attrs.field(eq=False)
    effect: Callable[[State[B, O, U]], object]
    rank: int

    @override
    def __repr__(self) -> str:
        return f"on_rank({self.rank}, {describe(self.effect)})"

    def __call__(self, state: State[B, O, U]) -> State[B, O, U]:
        """Have the effect if this is the rank, and return the state as it is."""
        if self.ranks.rank == self.rank:
            self.effect(state)
        return state


def on_rank(
    ranks: Ranks, effect: Callable[[State[B, O, U]], object], *, rank: int = 0
) -> OnRank[B, O, U]:
    """Make a handler that has an effect on one rank: printing, writing a file.

    The state stays as it is, so that it is the same on all ranks. The effect must not wait for
    other ranks.

    Args:
        ranks: the ranks.
        effect: takes the state; what it returns is dropped.
        rank: on which rank; 0 is the one that is there on any number of them.

    Raises:
        TypeError: `ranks` are none, or `effect` does not take a state.
        ValueError: there is no such rank.

    >>> from fengine import Events, Loop, outputs
    >>> from fengine.distributed import Alone
    >>> ranks = Alone()
    >>> loop = Loop(outputs(abs), ranks=ranks)
    >>> report = on_rank(ranks, lambda state: print("epoch", state.epoch))
    >>> loop.on(Events.EPOCH_COMPLETED, report).run([-1]).output
    epoch 1
    1
    """
    _, size = number_of_ranks("on_rank", ranks)
    require_callable(effect, "the effect of on_rank", "state")
    if type(rank) is not int or not 0 <= rank < size:
        raise ValueError(f"rank={rank!r} is none of {size}; they are numbered from 0")
    return OnRank(ranks, effect, rank)


@final
@attrs.frozen(repr=False)
class Summed:
    """Sum up numbers of the user's record over all ranks; made by `summed`.

    >>> from fengine.distributed import Alone
    >>> summed(Alone(), "correct", "seen").fields
    ('correct', 'seen')
    """

    ranks: Ranks = attrs.field(eq=False)
    fields: tuple[str, ...]

    @override
    def __repr__(self) -> str:
        return call_in_words("summed", *self.fields)

    def __call__(self, state: State[B, O, U]) -> State[B, O, U]:
        """Return the state with the sums."""
        record: Any = state.user
        own = {name: getattr(record, name) for name in self.fields}
        if self.ranks.size == 1:
            return state
        every = self.ranks.gathered(own)
        totals = dict(every[0])
        for other in every[1:]:
            totals = {name: total + other[name] for name, total in totals.items()}
        return state.evolve(user=attrs.evolve(record, **totals))


def summed(ranks: Ranks, *fields: str) -> Summed:
    """Make a handler that sums up numbers of the user's record over all ranks.

    Afterwards each rank has the sums. So put it before what reads them, and have the record count
    from nothing again after that.

    Args:
        ranks: the ranks.
        *fields: the fields of the record, which is a frozen record of attrs. Anything that has a
            sum will do: numbers, tensors.

    Raises:
        TypeError: `ranks` are none, or a field is not named by a string.
        ValueError: there is no field.
        AttributeError: in the run, the record has no such field.

    >>> import attrs
    >>> from fengine.distributed import Alone
    >>> @attrs.frozen
    ... class Seen:
    ...     rows: int = 0
    >>> summed(Alone(), "rows")(State(user=Seen(3))).user
    Seen(rows=3)
    """
    number_of_ranks("summed", ranks)
    for name in fields:
        if not isinstance(name, str):
            raise TypeError(f"summed takes the names of fields, and got {name!r}")
    if not fields:
        raise ValueError("summed needs the fields to sum up: summed(ranks, 'correct', 'seen')")
    return Summed(ranks, fields)
