"""Loaders: how a torch DataLoader begins a pass after batches that a run has had already.

Its sampler says which items are read, so a copy of the loader with the rest of the sampler reads
nothing twice. Nothing here imports torch: whoever has a DataLoader has imported it.
"""

from __future__ import annotations

import copy
import itertools
import sys
from collections.abc import Iterator, Sequence
from typing import Any, Final, final

import attrs


def is_stateful_loader(data: object) -> bool:
    """Tell whether data is a StatefulDataLoader of torchdata's."""
    module = sys.modules.get("torchdata.stateful_dataloader")
    return module is not None and isinstance(data, module.StatefulDataLoader)


def chance_of(loader: object) -> object | None:
    """Return the sampler of a StatefulDataLoader that draws an order which nobody can restore."""
    for part in parts_of(loader):
        draws = isinstance(part, _torch_data().Sampler) and hasattr(part, "generator")
        saves = type(part).__module__.startswith("torchdata.") or hasattr(part, "load_state_dict")
        if draws and not saves and not hasattr(part, "set_epoch"):
            return part
    return None


def generators_of(loader: object) -> list[Any]:
    """Return the random generators of a loader and of its samplers, each once."""
    generators: list[Any] = []
    for part in parts_of(loader):
        generator = getattr(part, "generator", None)
        drawing = hasattr(generator, "get_state") and hasattr(generator, "set_state")
        if drawing and not any(generator is known for known in generators):
            generators.append(generator)
    return generators


def parts_of(data: object) -> list[object]:
    """Return data, and what it takes its batches from: samplers and datasets, the innermost too."""
    parts = [data]
    for part in parts:  # which grows meanwhile
        for name in _NAMES_OF_PARTS:
            found = getattr(part, name, None)
            if found is None:
                continue
            if name != _SEVERAL:
                found = (found,)
            for one in found if isinstance(found, list | tuple) else ():
                known = any(one is other for other in parts)
                if one is not None and not known and len(parts) < _MOST_PARTS:
                    parts.append(one)
    return parts


# In the order in which they are told.
_SEVERAL: Final = "datasets"  # as in a ConcatDataset
_NAMES_OF_PARTS: Final = ("batch_sampler", "sampler", "dataset", _SEVERAL)
# Data that has any attribute one asks for, such as a mock, has parts without end.
_MOST_PARTS: Final = 64


def is_loader(data: object) -> bool:
    """Tell whether data is a DataLoader whose sampler says which items are read."""
    torch_data = _torch_data()
    return (
        torch_data is not None
        and isinstance(data, torch_data.DataLoader)
        and type(data).__iter__ is torch_data.DataLoader.__iter__
        and not isinstance(data.dataset, torch_data.IterableDataset)
    )


def rest_of(loader: Any, done: int) -> Any:
    """Copy a DataLoader for one pass that leaves out the first batches."""
    rest = copy.copy(loader)
    name = "sampler" if loader.batch_sampler is None else "batch_sampler"
    # It refuses to have them set; and workers that persist are those of the loader itself.
    vars(rest).update({name: _Rest(_index_sampler(loader), done), "_iterator": None})
    return rest


def order_of(loader: Any) -> tuple[Any, bool]:
    """Return the sampler that orders the items, and whether it repeats its order for a pass."""
    sampler = _index_sampler(loader)
    while type(sampler) is _torch_data().BatchSampler:
        sampler = sampler.sampler
    repeats = (
        isinstance(sampler, Sequence)
        or hasattr(sampler, "set_epoch")
        or type(sampler) is _torch_data().SequentialSampler
    )
    return sampler, repeats


@final
@attrs.frozen(eq=False, repr=False)
class _Rest:
    """Leave out the first indices of a sampler."""

    sampler: Any
    done: int

    def __iter__(self) -> Iterator[Any]:
        return itertools.islice(self.sampler, self.done, None)

    def __len__(self) -> int:
        return len(self.sampler) - self.done


def _index_sampler(loader: Any) -> Any:
    return loader.sampler if loader.batch_sampler is None else loader.batch_sampler


def _torch_data() -> Any:
    return sys.modules.get("torch.utils.data")
