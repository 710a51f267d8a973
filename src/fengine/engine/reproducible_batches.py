"""DataLoaders whose batches can begin at any iteration of a pass.

The indices of a pass are drawn before its first batch is made, so that the batches in front of the
iteration to begin at cost nothing, and that nothing drawn afterwards decides the order.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final, TypeAlias

import torch
from torch.utils.data import BatchSampler, DataLoader, IterableDataset
from typing_extensions import override

from fengine.engine.engine_source import data_length

AnyDataLoader: TypeAlias = DataLoader[Any]

# What a batch sampler stands for.
_SAMPLING: Final = ("batch_size", "shuffle", "sampler", "batch_sampler", "drop_last")


class ReproducibleBatchSampler(BatchSampler):
    """Draw all indices of a pass at its beginning, and begin after the first batches if asked.

    Args:
        batch_sampler: gives the indices of each batch.
        start_iteration: how many batches the next pass leaves out; later ones are whole again.

    Attributes:
        batch_indices: the indices of each batch of the pass that began last.
        batch_sampler: as given.
        start_iteration: as given, and None once it is used; can be set again.
        sampler: that of `batch_sampler`.

    Raises:
        TypeError: `batch_sampler` is not a BatchSampler.

    >>> batches = ReproducibleBatchSampler(BatchSampler(range(6), 2, drop_last=False), 1)
    >>> list(batches), list(batches)
    ([[2, 3], [4, 5]], [[0, 1], [2, 3], [4, 5]])
    """

    def __init__(self, batch_sampler: BatchSampler, start_iteration: int | None = None) -> None:
        if not isinstance(batch_sampler, BatchSampler):
            raise TypeError(
                f"batch_sampler={batch_sampler!r} of type {type(batch_sampler).__name__} is not a "
                "torch.utils.data.BatchSampler; give the batch_sampler of a DataLoader"
            )
        self.batch_indices: list[list[int]] = []
        self.batch_sampler = batch_sampler
        self.start_iteration = start_iteration
        self.sampler = batch_sampler.sampler
        self._is_prefetched = False

    def setup_batch_indices(self) -> None:
        """Draw the indices of a pass, without those of the first `start_iteration` batches."""
        self.batch_indices = list(islice(self.batch_sampler, self.start_iteration, None))
        self.start_iteration = None

    def prefetch(self) -> None:
        """Draw the indices of the next pass now, instead of with its first batch."""
        self.setup_batch_indices()
        self._is_prefetched = True

    @override
    def __iter__(self) -> Iterator[list[int]]:
        if not self._is_prefetched:
            self.setup_batch_indices()
        self._is_prefetched = False
        yield from self.batch_indices

    @override
    def __len__(self) -> int:
        return len(self.batch_sampler)


def update_dataloader(dataloader: AnyDataLoader, new_batch_sampler: BatchSampler) -> AnyDataLoader:
    """Make a DataLoader like another one, with a batch sampler of its own.

    Args:
        dataloader: stays as it is.
        new_batch_sampler: what the new one takes its batches from.

    Returns:
        A DataLoader of the same class.

    Raises:
        TypeError: the class cannot be called with the arguments of a DataLoader.

    >>> loader = DataLoader(range(6), batch_size=2, collate_fn=list)
    >>> list(update_dataloader(loader, ReproducibleBatchSampler(loader.batch_sampler, 2)))
    [[4, 5]]
    """
    kind = type(dataloader)
    parameters = dict(inspect.signature(kind).parameters)
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        parameters |= inspect.signature(DataLoader).parameters
    arguments = {
        name: getattr(dataloader, name)
        for name, parameter in parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        and name not in _SAMPLING
        and hasattr(dataloader, name)
    }
    try:
        return kind(**arguments, batch_sampler=new_batch_sampler)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{kind.__name__} cannot be made again with another batch sampler: {error}. Have its "
            "__init__ take the arguments of DataLoader by their names, and keep each of its own as "
            "an attribute of that name; or give one whose batch_sampler is a "
            "ReproducibleBatchSampler already"
        ) from error


def reproducible(data: Any) -> Any:
    """Give a DataLoader again with a ReproducibleBatchSampler, and other data as it is.

    As it is stays a DataLoader too that has an iterable dataset, no length or no BatchSampler.

    Raises:
        TypeError: a subclass of DataLoader cannot be made again.

    >>> type(reproducible(DataLoader(range(6))).batch_sampler).__name__, reproducible([1, 2])
    ('ReproducibleBatchSampler', [1, 2])
    """
    if (
        not isinstance(data, DataLoader)
        or isinstance(getattr(data, "dataset", None), IterableDataset)
        or not isinstance(data.batch_sampler, BatchSampler)
        or isinstance(data.batch_sampler, ReproducibleBatchSampler)
        or data_length(data) is None
    ):
        return data
    return update_dataloader(data, ReproducibleBatchSampler(data.batch_sampler))


def begin_reproducible_pass(
    dataloader: AnyDataLoader, iteration: int, *, first: bool
) -> Iterator[Any]:
    """Iterate over a reproducible DataLoader from an iteration on, with the indices drawn now.

    What is drawn, and in which order, is what an uninterrupted run draws for that pass.

    Args:
        dataloader: has a ReproducibleBatchSampler.
        iteration: how many batches of the pass to leave out.
        first: whether it is the first pass of a run.

    >>> loader = reproducible(DataLoader(range(6), batch_size=2, collate_fn=list))
    >>> list(begin_reproducible_pass(loader, 2, first=True)), list(loader)
    ([[4, 5]], [[0, 1], [2, 3], [4, 5]])
    """
    sampler = dataloader.batch_sampler
    assert isinstance(sampler, ReproducibleBatchSampler)
    if iteration > 0:
        sampler.start_iteration = iteration
    if getattr(dataloader, "persistent_workers", False) and not first:
        # The first pass draws a seed for the workers before the indices, and later ones none.
        sampler.prefetch()
        with torch.random.fork_rng(devices=()):
            return iter(dataloader)
    before = sampler.batch_indices
    batches = iter(dataloader)
    if sampler.batch_indices is before:  # no worker process has asked for indices yet
        sampler.prefetch()
    return batches
