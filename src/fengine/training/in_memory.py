"""Batches of tensors that are in memory: slices of them, and no sample is touched by itself.

The order of a pass follows from the seed and the number of the pass, and is that of a DataLoader
whose generator was given the same seed. The passes of a run are those of that DataLoader, but each
run of a Loop begins with pass 0, where the generator of a DataLoader would go on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Generic, SupportsIndex, cast, final

import torch
from torch import Tensor
from typing_extensions import TypeVarTuple, override

from fengine.core.describe import typed
from fengine.run.ranks import Alone, Ranks, number_of_ranks
from fengine.training.shuffling import integer

Tensors = TypeVarTuple("Tensors")


@final
class TensorBatches(Generic[*Tensors]):
    """Give the rows of some tensors in batches, each a tuple with a part of every tensor.

    Iteration over them is a pass, and begins the next one each time, from 0 on. A Loop says itself
    which pass it begins, each run with 0, and goes on within one at no cost for earlier batches.
    For another order in another run give another seed.

    Laws: the batches of the passes 0, 1, ... hold what `DataLoader(TensorDataset(*tensors),
    batch_size, shuffle=True, generator=torch.Generator().manual_seed(seed), drop_last=drop_last)`
    gives, iterated to its end again and again; without a seed, what it gives without shuffling. No
    other random generator is read or changed.

    Several ranks share each batch: joined in their order, what they give is the batch that one rank
    gives, and the sizes of their parts differ by one row at most. So which rows make a batch does
    not depend on the number of ranks. Each of them has all rows in memory.

    Args:
        tensors: of equal length along their first dimension; they may be on any device. In order,
            the batches are views of them; shuffled, they are copies on the same device.
        batch_size: number of rows in a batch, over all ranks together.
        seed: shuffle by it, as `torch.manual_seed` takes it; None: keep the order of the rows.
        drop_last: leave out a last batch that is shorter.
        ranks: the ranks that share the batches.

    Raises:
        TypeError: a tensor is none, or an argument is not of its type.
        ValueError: there are no tensors, they have no rows or not equally many, `batch_size` is
            below 1, a batch has fewer rows than there are ranks, or the seed is out of range.

    >>> batches = TensorBatches(torch.arange(5), batch_size=2)
    >>> len(batches), list(batches)
    (3, [(tensor([0, 1]),), (tensor([2, 3]),), (tensor([4]),)])
    >>> from fengine import Loop
    >>> from fengine.training import training_step
    >>> model = torch.nn.Linear(2, 1)
    >>> step = training_step(model, torch.optim.SGD(model.parameters()), torch.nn.MSELoss())
    >>> data = TensorBatches(torch.ones(6, 2), torch.zeros(6, 1), batch_size=4, seed=0)
    >>> Loop(step).run(data, max_epochs=3).iteration
    6
    """

    def __init__(
        self,
        *tensors: *Tensors,
        batch_size: SupportsIndex,
        seed: SupportsIndex | None = None,
        drop_last: bool = False,
        ranks: Ranks = Alone(),  # noqa: B008  # a frozen record
    ) -> None:
        self.tensors = tensors
        self.batch_size = integer("batch_size", batch_size)
        self.seed = None if seed is None else integer("seed", seed)
        self.drop_last = drop_last
        self._rows = _rows_of(tensors)
        _require(self.batch_size, self.seed, drop_last)
        self._rank, self._ranks = number_of_ranks("TensorBatches", ranks)
        self._require_rows_for_each()
        self._next_pass = 0
        # The order that was asked for last, with its number.
        self._drawn: tuple[int, Tensor] | None = None
        # The generator before some passes, for whoever goes through them one by one.
        self._ahead: dict[int, Tensor] = {}

    @override
    def __repr__(self) -> str:
        shapes = ", ".join(str(tuple(cast("Tensor", tensor).shape)) for tensor in self.tensors)
        return (
            f"TensorBatches({shapes}, batch_size={self.batch_size}, seed={self.seed}, "
            f"drop_last={self.drop_last})"
            + (f" on rank {self._rank} of {self._ranks}" if self._ranks > 1 else "")
        )

    def _require_rows_for_each(self) -> None:
        rest = 0 if self.drop_last else self._rows % self.batch_size
        least = min(self.batch_size, rest or self.batch_size)
        if least < self._ranks:
            raise ValueError(
                f"{self._rows} rows in batches of {self.batch_size} make a batch of {least}, which "
                f"is too few for {self._ranks} ranks; batch_size is the rows of all ranks "
                "together. Give another one, or drop_last=True"
            )

    def __len__(self) -> int:
        """Give the number of batches in a pass."""
        whole, rest = divmod(self._rows, self.batch_size)
        return whole if self.drop_last or not rest else whole + 1

    @property
    def epoch(self) -> int:
        """The pass that the next iteration begins, from 0 on."""
        return self._next_pass

    def set_epoch(self, epoch: SupportsIndex) -> None:
        """Have the next iteration begin this pass, from 0 on; a Loop does so itself.

        Raises:
            TypeError: it is not an int.
            ValueError: it is negative.
        """
        number = integer("epoch", epoch)
        if number < 0:
            raise ValueError(f"epoch={number} is negative; passes are numbered from 0")
        self._next_pass = number

    def __iter__(self) -> Iterator[tuple[*Tensors]]:
        """Begin the next pass."""
        return self.iterate_from(0)

    def iterate_from(self, place: int) -> Iterator[tuple[*Tensors]]:
        """Begin the next pass after its first batches; a Loop that goes on does so."""
        order = None if self.seed is None else self._order(self.seed, self._next_pass)
        self._next_pass += 1
        return self._batches(order, place)

    def _batches(self, order: Tensor | None, place: int) -> Iterator[tuple[*Tensors]]:
        tensors, size = cast("tuple[Tensor, ...]", self.tensors), self.batch_size
        orders = [] if order is None else [order.to(tensor.device) for tensor in tensors]
        for first in range(place * size, len(self) * size, size):
            rows = min(size, self._rows - first)
            start = first + rows * self._rank // self._ranks
            stop = first + rows * (self._rank + 1) // self._ranks
            if order is None:
                batch = tuple([tensor[start:stop] for tensor in tensors])
            else:
                batch = tuple(
                    [
                        tensor.index_select(0, its_order[start:stop])
                        for tensor, its_order in zip(tensors, orders, strict=True)
                    ]
                )
            yield cast("tuple[*Tensors]", batch)

    def _order(self, seed: int, number: int) -> Tensor:
        """Give the order of the rows in a pass, drawing those before it if they were not yet."""
        if self._drawn is not None and self._drawn[0] == number:
            return self._drawn[1]
        generator = torch.Generator().manual_seed(seed)
        at = max((ahead for ahead in self._ahead if ahead <= number), default=0)
        if at in self._ahead:
            generator.set_state(self._ahead.pop(at))
        for _ in range(at, number):
            _draw(self._rows, generator)
        order = _draw(self._rows, generator)
        self._drawn = number, order
        self._ahead[number + 1] = generator.get_state()
        if len(self._ahead) > _MOST_AHEAD:
            del self._ahead[next(iter(self._ahead))]
        return order


# So many runs may take turns without drawing again what they have drawn.
_MOST_AHEAD: Final = 8


def _draw(rows: int, generator: torch.Generator) -> Tensor:
    """Draw the order of a pass, and what else a DataLoader draws in it."""
    torch.empty((), dtype=torch.int64).random_(generator=generator)  # a seed for its workers
    order = torch.randperm(rows, generator=generator)
    torch.randperm(rows, generator=generator)  # its sampler asks for more than it needs
    return order


def _rows_of(tensors: tuple[object, ...]) -> int:
    """Give the number of rows that all these tensors have."""
    rows = []
    for place, tensor in enumerate(tensors):
        if not isinstance(tensor, Tensor):
            raise TypeError(
                f"tensors[{place}] is of type {type(tensor).__name__}, not a tensor; "
                "torch.as_tensor makes one of numbers or an array"
            )
        if tensor.ndim == 0:
            raise ValueError(f"tensors[{place}] is one number, {tensor!r}, and has no rows")
        rows.append(len(tensor))
    if not rows:
        raise ValueError("there are no tensors; give the inputs and the targets, each as a tensor")
    if len(set(rows)) > 1:
        raise ValueError(f"the tensors have {rows} rows; give tensors with equally many")
    return rows[0]


def _require(batch_size: int, seed: int | None, drop_last: bool) -> None:
    if not isinstance(drop_last, bool):
        raise TypeError(f"drop_last={typed(drop_last)} is not a bool")
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size} is below 1; a batch holds at least one row")
    if seed is not None and not -(2**63) <= seed < 2**64:
        raise ValueError(f"seed={seed} is out of range; torch takes seeds of 64 bits")
