"""Seeded items: what a dataset draws for an item follows from a seed, the pass and the index.

So items with random augmentation are the same for any number of workers, in any order, and where a
run goes on within a pass. The generators of the process are as they were after each item.

The number of the pass is in shared memory, since workers that persist see no other change.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, Protocol, SupportsIndex, TypeVar, final

import torch
from torch.utils.data import Dataset, IterableDataset
from typing_extensions import override

from fengine.core.describe import call_in_words
from fengine.training.random_state import numpy_random, require_seed
from fengine.training.shuffling import integer

Item = TypeVar("Item")
Given = TypeVar("Given", covariant=True)


class Indexed(Protocol[Given]):
    """Be a dataset that gives an item by its index, as a list and most datasets do."""

    def __getitem__(self, index: int, /) -> Given: ...


@final
class Seeded(Dataset[Item], Generic[Item]):
    """Give the items of a dataset, each made with generators that are seeded for it.

    While an item is made, `random`, torch on the CPU and the global generator of numpy draw what
    follows from the seed, the pass and the index. A generator that the dataset has of its own, and
    what a `collate_fn` draws, are not seeded. It costs about 70 microseconds a batch and 10 an
    item.

    Laws: equal seeds, passes and indices give equal items, in any process; the generators of the
    process are as they were after each item.

    Args:
        dataset: gives an item by its index.
        seed: an int from 0 to 4294967295.

    Raises:
        TypeError: `dataset` gives no items by index, such as an IterableDataset, or `seed` is not
            an int.
        ValueError: `seed` is out of the range.

    >>> from torch.utils.data import DataLoader
    >>> class Noise(Dataset):
    ...     def __getitem__(self, index):
    ...         return torch.rand(1)
    ...     def __len__(self):
    ...         return 4
    >>> noise = Seeded(Noise(), seed=0)
    >>> first = [noise[index] for index in range(4)]
    >>> noise.set_epoch(1)
    >>> noise[3] == noise[3], noise[3] == first[3], noise[2] == noise[3]
    (tensor([True]), tensor([False]), tensor([False]))
    """

    def __init__(self, dataset: Indexed[Item], *, seed: SupportsIndex) -> None:
        kind = type(dataset)
        if not hasattr(kind, "__getitem__") or isinstance(dataset, IterableDataset | type):
            what = f"the class {dataset.__name__}" if isinstance(dataset, type) else kind.__name__
            raise TypeError(
                f"Seeded takes a dataset that gives items by their index, and {what} gives none; "
                "what an IterableDataset draws, it has to seed itself, by its worker and its pass"
            )
        self.dataset = dataset
        self.seed = require_seed(seed)
        epoch = torch.zeros((), dtype=torch.int64)
        self._epoch: torch.Tensor = epoch.share_memory_()  # type: ignore[no-untyped-call]

    def __setstate__(self, kept: dict[str, Any]) -> None:
        """Take up what `copy` and `pickle` kept, in memory that its own workers share."""
        self.__dict__.update(kept, _epoch=kept["_epoch"].share_memory_())

    @override
    def __repr__(self) -> str:
        return call_in_words("Seeded", type(self.dataset), seed=self.seed)

    def set_epoch(self, epoch: SupportsIndex) -> None:
        """Make items for this pass over the data, from 0 on; a Loop does so itself.

        Raises:
            TypeError: it is not an int.
        """
        self._epoch.fill_(integer("epoch", epoch))

    def __len__(self) -> int:
        """Count the items."""
        length: int = len(self.dataset)  # type: ignore[arg-type]  # or it says that it has none
        return length

    @override
    def __getitem__(self, index: SupportsIndex) -> Item:
        """Make an item."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Iterable[SupportsIndex]) -> list[Item]:
        """Make the items of a batch: a DataLoader asks for them together."""
        epoch = int(self._epoch)
        with _keeping_generators():
            return [self._made(epoch, integer("index", index)) for index in indices]

    def _made(self, epoch: int, index: int) -> Item:
        text = f"{self.seed}, {epoch}, {index}"
        # Numbers of their own, since equal ones have `random` and numpy draw the same.
        digest = hashlib.blake2b(text.encode(), digest_size=20).digest()
        random.seed(int.from_bytes(digest[:8]))
        torch.default_generator.manual_seed(int.from_bytes(digest[8:16]) >> 1)
        if (numpy := numpy_random()) is not None:
            numpy.seed(int.from_bytes(digest[16:]))
        return self.dataset[index]


@contextmanager
def _keeping_generators() -> Iterator[None]:
    """Have the generators of the process as they were after the block."""
    numpy = numpy_random()
    of_numpy = None if numpy is None else numpy.get_state(legacy=False)
    of_python, of_torch = random.getstate(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(of_python)
        torch.set_rng_state(of_torch)
        if numpy is not None:
            numpy.set_state(of_numpy)
