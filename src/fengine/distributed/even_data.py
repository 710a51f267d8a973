"""Even data: data of each rank of which every rank gives equally many batches.

Ranks that train together wait for each other in each step. A rank whose data ends earlier would
leave the others waiting, or have them go on with batches of another epoch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum
from itertools import islice
from typing import Final, Generic, TypeVar, final

import attrs
from typing_extensions import override

from fengine.core.missing import MISSING
from fengine.run.entering import begin_pass, entered
from fengine.run.loaders import is_loader, order_of
from fengine.run.place import Enterable
from fengine.run.ranks import Ranks, RanksDiverged, number_of_ranks
from fengine.run.source import length_of

Item = TypeVar("Item")


@final
class Uneven(Enum):
    """Say what to do where the ranks have different numbers of batches.

    >>> REFUSE, SHORTEST
    (<Uneven.REFUSE: 'refuse'>, <Uneven.SHORTEST: 'shortest'>)
    """

    REFUSE = "refuse"
    SHORTEST = "shortest"


REFUSE: Final = Uneven.REFUSE
"""Ranks with other numbers of batches are an error."""
SHORTEST: Final = Uneven.SHORTEST
"""Each epoch ends with the data of the rank that has least."""


@attrs.define(eq=False)
class _EvenData(Generic[Item]):
    """Give as many batches as every rank has; of data that does not say its length, ask for each.

    Args:
        data: that of this rank.
        ranks: the ranks.
        uneven: what to do.
    """

    data: Iterable[Item]
    ranks: Ranks
    uneven: Uneven

    def __iter__(self) -> Iterator[Item]:
        return self._agreeing(iter(self.data))

    @property
    def wrapped_data(self) -> Iterable[Item]:
        """That of this rank."""
        return self.data

    def set_epoch(self, epoch: int) -> None:
        """Tell whatever shuffles the batches which pass over them begins."""
        begin_pass(self.data, epoch)

    def _agreeing(self, batches: Iterator[Item]) -> Iterator[Item]:
        while True:
            batch = next(batches, MISSING)
            has_one = int(batch is not MISSING)
            most, least = self.ranks.largest((has_one, -has_one))
            if most != -least and self.uneven is REFUSE:
                there = self.ranks.gathered(bool(has_one))
                ended = [rank for rank, has in enumerate(there) if not has]
                raise RanksDiverged(
                    f"the data of ranks {ended} of {self.ranks.size} has ended, and that of the "
                    "others has not; give each rank equally many batches, or uneven=SHORTEST, "
                    "which ends the pass on all",
                    on_all=True,
                )
            if batch is MISSING or not -least:
                return
            yield batch


@final
@attrs.define(eq=False)
class _EvenDataOfLength(_EvenData[Item]):
    """Give as many batches as every rank says that it has."""

    length: int

    def __len__(self) -> int:
        return self.length

    @override
    def __iter__(self) -> Iterator[Item]:
        return islice(iter(self.data), self.length)


@final
@attrs.define(eq=False)
class _EnterableEvenData(_EvenData[Item]):
    """Be the same, over data that can be entered at any batch."""

    length: int

    def __len__(self) -> int:
        return self.length

    @override
    def __iter__(self) -> Iterator[Item]:
        return self.iterate_from(0)

    def iterate_from(self, place: int) -> Iterator[Item]:
        """Begin a pass after so many batches of it."""
        return islice(entered(self.data, place), max(0, self.length - place))


def even(data: Iterable[Item], ranks: Ranks, *, uneven: Uneven = REFUSE) -> Iterable[Item]:
    """Give the data of each rank so that every rank gives equally many batches; collective.

    Data that says its length is compared now. Of other data, all ranks are asked at each batch,
    which costs an exchange each time.

    Laws: on one rank, the batches are those of the data; on several, each rank gives the first
    batches of its data, and all give equally many.

    Args:
        data: that of this rank, such as a DataLoader with a DistributedSampler, or an iterable
            dataset that reads its own files.
        ranks: the ranks.
        uneven: REFUSE data with different numbers of batches, or end each pass where the SHORTEST
            ends; what the others have left is not read in that pass.

    Raises:
        TypeError: an argument is of the wrong kind.
        RanksDiverged: the lengths differ, and that is refused; or, in the run, one has ended.

    >>> from fengine.testing import in_threads
    >>> in_threads(2, lambda ranks: list(even([1, 2, 3][ranks.rank :], ranks, uneven=SHORTEST)))
    [[1, 2], [2, 3]]
    """
    if not isinstance(data, Iterable):
        raise TypeError(
            f"data={data!r} of type {type(data).__name__} is not an iterable of batches"
        )
    if not isinstance(uneven, Uneven):
        raise TypeError(f"uneven={uneven!r} is neither REFUSE nor SHORTEST")
    number_of_ranks("even", ranks)
    known = length_of(data)
    own = -1 if known is None else known
    most, least = ranks.largest((own, -own))
    shortest = -least
    if most != shortest and (uneven is REFUSE or shortest < 0):
        lengths = [one if one >= 0 else "of unknown length" for one in ranks.gathered(own)]
        way = "" if shortest < 0 else ", or uneven=SHORTEST, which ends each pass where one ends"
        raise RanksDiverged(
            f"the data of the ranks has {lengths} batches; give each rank equally many{way}",
            on_all=True,
        )
    if shortest < 0:
        return _EvenData(data, ranks, uneven)
    enterable = isinstance(data, Enterable | list | tuple) or (
        is_loader(data) and order_of(data)[1]
    )
    kind = _EnterableEvenData if enterable else _EvenDataOfLength
    return kind(data, ranks, uneven, shortest)
