"""Data and runs for tests of the deterministic engine.

A run is played under a fixed seed. It notes each batch, and random numbers that the process
function draws as a model would, so that a resumed run can be compared with the uninterrupted one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, TypeAlias

import attrs
import ignite.engine.deterministic
import numpy as np
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    WeightedRandomSampler,
    get_worker_info,
)
from typing_extensions import override

import fengine.engine

IGNITE: Final = ignite.engine
OURS: Final = fengine.engine
Numbers: TypeAlias = tuple[float, float, float]


def draw() -> Numbers:
    return random.random(), torch.rand(1).item(), np.random.random()


# Data


@attrs.frozen(eq=False)
class Augmented(Dataset[torch.Tensor]):
    """Numbers with noise that is drawn when one is read."""

    size: int

    @override
    def __getitem__(self, index: int) -> torch.Tensor:
        return index + torch.rand(1)

    def __len__(self) -> int:
        return self.size


class Stream(IterableDataset[torch.Tensor]):
    """Random numbers, in no order that an index could name; workers share them out."""

    @override
    def __iter__(self) -> Iterator[torch.Tensor]:
        worker = get_worker_info()
        first, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        return (number + torch.rand(1) for number in range(first, 8, step))


class SizedStream(Stream):
    def __len__(self) -> int:
        return 8


@attrs.frozen
class Drawn:
    """An iterable of random batches, whose length is known or not."""

    size: int = 5

    def __iter__(self) -> Iterator[torch.Tensor]:
        return (number + torch.rand(1) for number in range(self.size))


class Ordered:
    """An iterable of unknown length that draws the order of its batches."""

    def __iter__(self) -> Iterator[int]:
        return iter(torch.randperm(5).tolist())


class SizedDrawn(Drawn):
    def __len__(self) -> int:
        return self.size


def endless() -> Iterator[torch.Tensor]:
    while True:
        yield torch.rand(1)


def loader(size: int, **options: Any) -> DataLoader[Any]:
    data: Any = torch.arange(size)
    return DataLoader(data, **options)


def shuffled(**options: Any) -> DataLoader[Any]:
    return loader(22, batch_size=4, shuffle=True, **options)


def weighted() -> DataLoader[Any]:
    sampler = WeightedRandomSampler(list(range(1, 20)), 19)
    return loader(19, batch_size=4, sampler=sampler, drop_last=True)


def unbatched() -> DataLoader[Any]:
    sampler = BatchSampler(RandomSampler(range(22)), 4, drop_last=False)
    return loader(22, batch_size=None, sampler=sampler)


def distributed(rank: int) -> tuple[Any, DataLoader[Any]]:
    sampler: DistributedSampler[Any] = DistributedSampler(Augmented(22), num_replicas=2, rank=rank)
    return sampler, loader(22, batch_size=3, sampler=sampler)


DATA: Final[dict[str, Callable[[], Iterable[Any]]]] = {
    "shuffled": shuffled,
    "workers": lambda: shuffled(num_workers=2),
    "ordered": lambda: loader(22, batch_size=4),
    "augmented": lambda: DataLoader(Augmented(22), batch_size=4, shuffle=True),
    "weighted": weighted,
    "unbatched": unbatched,
    "stream": lambda: DataLoader(SizedStream(), batch_size=2),
    "stream in workers": lambda: DataLoader(SizedStream(), batch_size=2, num_workers=2),
    "unsized stream": lambda: DataLoader(Stream(), batch_size=2),
    "list": lambda: [10, 11, 12, 13, 14],
    "tensor": lambda: torch.arange(5),
    "drawn": SizedDrawn,
    "unsized": Drawn,
    "unsized order": Ordered,
}
WORKERS: Final = {"workers", "stream in workers"}
# Each batch is drawn in the process that draws the numbers of the model.
RANDOM_BATCHES: Final = {"augmented", "stream", "unsized stream", "drawn", "unsized"}

# Runs


@attrs.frozen
class Seen:
    batch: object
    drawn: Numbers


@attrs.define
class Play:
    """Runs of one engine under one seed, with what they saw."""

    package: Any = OURS
    options: Mapping[str, Any] = {}
    seen: list[Seen] = attrs.field(factory=list)
    saved: dict[int, Any] = attrs.field(factory=dict)
    engine: Any = None

    def __attrs_post_init__(self) -> None:
        self.engine = self.package.DeterministicEngine(self._process, **self.options)
        self.engine.add_event_handler(self.package.Events.ITERATION_COMPLETED, self._save)

    def run(self, data: Iterable[Any], state_dict: Any = None, **limits: Any) -> list[Seen]:
        """Run, from a state_dict if there is one, and give what this run saw."""
        if state_dict is not None:
            self.engine.load_state_dict(state_dict)
        begin = len(self.seen)
        torch.manual_seed(12)
        self.engine.run(data, **limits)
        return self.seen[begin:]

    def _process(self, engine: Any, batch: Any) -> None:
        value = batch.tolist() if isinstance(batch, torch.Tensor) else batch
        self.seen.append(Seen(value, draw()))

    def _save(self, engine: Any) -> None:
        self.saved[engine.state.iteration] = engine.state_dict()


def batches(seen: list[Seen]) -> list[object]:
    return [one.batch for one in seen]


def rest(data: Iterable[Any], state_dict: Any, package: Any = OURS) -> list[Seen]:
    """Resume in a new engine, and give what it sees."""
    return Play(package).run(data, state_dict)
