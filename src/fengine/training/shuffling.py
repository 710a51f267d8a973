"""Shuffling as a pure function: the order of a pass follows from a seed and the pass alone.

A run counts its passes over the data in its state and tells them to the sampler, so a run that goes
on in another process reads the same items in the same order.
"""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Iterator, Sized
from typing import SupportsIndex, final

import torch
from torch.utils.data import Sampler
from typing_extensions import override

from fengine.core.describe import typed
from fengine.run.ranks import Alone, Ranks, number_of_ranks


@final
class Shuffled(Sampler[int]):
    """Give the indices of a dataset in an order that follows from the seed and the pass.

    Laws: each pass gives each index once; equal seeds and passes give equal orders, in any process;
    no random generator is read or changed.

    Several ranks take turns at the indices of a pass, so that together they give each once. Where
    each has batches of `b`, batch k of all of them has the indices of batch k of one rank with
    batches of `size * b`.

    Args:
        dataset: the dataset, or its length.
        seed: any int.
        ranks: the ranks that share the indices.

    Raises:
        TypeError: the length or the seed is not an int, or `ranks` are none.
        ValueError: the length is negative.

    >>> from torch.utils.data import DataLoader
    >>> sampler = Shuffled(6, seed=0)
    >>> loader = DataLoader(range(6), batch_size=2, sampler=sampler)
    >>> first = list(sampler)
    >>> sampler.set_epoch(1)
    >>> sorted(first) == sorted(sampler), first == list(sampler)
    (True, False)
    """

    # For samplers that were pickled before ranks could share them.
    rank, ranks = 0, 1

    def __init__(
        self,
        dataset: Sized | SupportsIndex,
        *,
        seed: SupportsIndex,
        ranks: Ranks = Alone(),  # noqa: B008  # a frozen record
    ) -> None:
        length = len(dataset) if isinstance(dataset, Sized) else integer("dataset", dataset)
        if length < 0:
            raise ValueError(f"dataset={length} is negative; give a dataset or its length")
        self.length = length
        self.seed = integer("seed", seed)
        self.epoch = 0
        self.rank, self.ranks = number_of_ranks("Shuffled", ranks)

    def set_epoch(self, epoch: SupportsIndex) -> None:
        """Shuffle for this pass over the data, from 0 on; a Loop does so itself.

        Raises:
            TypeError: it is not an int.
        """
        self.epoch = integer("epoch", epoch)

    @override
    def __iter__(self) -> Iterator[int]:
        """Give the indices of this pass."""
        # A digest, since neighbouring seeds would otherwise share the orders of their passes.
        digest = hashlib.blake2b(f"{self.seed}, {self.epoch}".encode(), digest_size=8).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest) >> 1)
        order = torch.randperm(self.length, generator=generator).tolist()
        yield from order[self.rank :: self.ranks]

    def __len__(self) -> int:
        """Give the number of indices that this rank has in a pass."""
        return len(range(self.rank, self.length, self.ranks))


def integer(name: str, value: SupportsIndex) -> int:
    """Give an argument as an int, also one of another library's.

    Raises:
        TypeError: it is none, or a bool.
    """
    if isinstance(value, bool) or not isinstance(value, SupportsIndex):
        raise TypeError(f"{name}={typed(value)} is not an int")
    return operator.index(value)
