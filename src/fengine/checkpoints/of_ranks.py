"""Of ranks: what each of several ranks adds to a checkpoint, and what it takes from one.

The first rank writes what is the same on all. Beside that a checkpoint holds what differs: the
random states, and the places of data that knows its own. Parts that each rank counts for itself are
merged; where the run goes on, the first rank has the whole count, and the others begin empty.

On another number of ranks nobody has a random state. They start again from a seed, the rank and the
iteration, so that the run goes on with other chance, of which there is a warning.
"""

from __future__ import annotations

import functools
import hashlib
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar, final

import attrs
from torch import nn

from fengine import Loop, State
from fengine.checkpoints.errors import CheckpointError
from fengine.checkpoints.retention import Kept
from fengine.core.stateful import Stateful
from fengine.run.loaders import parts_of
from fengine.run.place import innermost
from fengine.run.ranks import Ranks
from fengine.run.source import length_of
from fengine.training import RandomState
from fengine.training.random_state import seed_all

B = TypeVar("B")
O = TypeVar("O")  # noqa: E741  # the output, beside the batch and the user
U = TypeVar("U")
AnyLoop = Loop[Any, Any, Any]

_FLAT: Final = "torch.distributed.fsdp.fully_sharded_data_parallel.FullyShardedDataParallel"


@final
@attrs.frozen(eq=False)
class OfRank:
    """Hold what differs between ranks of a run that is saved.

    Args:
        parts: the parts that are merged, as far as they are set, by name.
        random: the random states among the things outside the state, by name.
        position: what the data said of its place.
    """

    parts: Mapping[str, object]
    random: Mapping[str, object]
    position: object


def of_rank(loop: AnyLoop, state: State[Any, Any, Any], position: object) -> OfRank:
    """Return what this rank adds."""
    parts = {name: state.parts[name] for name in _merges(loop) if name in state.parts}
    return OfRank(parts, random_states(loop.external), position)


def random_states(external: Mapping[str, Stateful]) -> dict[str, object]:
    """Return the random states among things outside the state, by name."""
    return {name: thing.state_dict() for name, thing in _random(external).items()}


def merged(loop: AnyLoop, state: State[B, O, U], every: Iterable[OfRank]) -> State[B, O, U]:
    """Return a state with the parts of all ranks merged."""
    for name, merge in _merges(loop).items():
        counted = [one.parts[name] for one in every if name in one.parts]
        if counted:
            state = state.with_part(loop.parts[name], functools.reduce(merge, counted))
    return state


def tree_of(every: Iterable[OfRank], data: object) -> dict[str, object]:
    """Return what differs between ranks as it is kept, beside what is the same on all."""
    return {
        "random": [dict(one.random) for one in every],
        "positions": [one.position for one in every],
        "sampler": _sampler_by_rank(data),
    }


def for_rank(
    ranks: Ranks,
    external: Mapping[str, Stateful],
    kept: Kept,
    tree: Mapping[str, Any],
    seed: int | None,
) -> dict[str, Any]:
    """Return the tree of a checkpoint as this rank takes it up.

    Args:
        ranks: the ranks that take it up.
        external: the things that do.
        kept: the checkpoint.
        tree: what was written, by one rank or several; its external may hold no data.
        seed: what random numbers follow from on another number of ranks; None: from the run.
    """
    of_ranks = _of_ranks(kept, tree)
    tree = {name: one for name, one in tree.items() if name != "ranks"}
    if kept.ranks == ranks.size:
        if of_ranks:
            tree["position"] = of_ranks["positions"][ranks.rank]
            tree["external"] = {**tree["external"], **of_ranks["random"][ranks.rank]}
        return tree
    names = [name for name in _random(external) if name in tree["external"]]
    if names:
        drawn = f"{kept.run if seed is None else seed}, {ranks.rank}, {kept.iteration}"
        tree["external"] = {**tree["external"], **dict.fromkeys(names, _random_state(drawn))}
        if ranks.rank == 0:
            warnings.warn(
                f"{kept.path} was kept by {_in_words(kept.ranks)}, and goes on with "
                f"{_in_words(ranks.size)}, so chance is not exact from there on: random numbers "
                "begin again from a seed, the rank and the iteration",
                stacklevel=7,
            )
    tree["position"] = None
    return tree


def counted_by_first(loop: AnyLoop, state: State[B, O, U]) -> State[B, O, U]:
    """Return a state that was kept as this rank goes on with it: one rank has the counts of all."""
    if loop.ranks.rank:
        for name in _merges(loop):
            state = state.with_part(loop.parts[name], loop.parts[name].initial)
    return state


def random_of(
    ranks: Ranks, external: Mapping[str, Stateful], kept: Kept, states: Mapping[str, object]
) -> dict[str, object]:
    """Return the random states that a rank takes up in the place of the one that was saved.

    Args:
        ranks: the ranks.
        external: the things that take states up.
        kept: the checkpoint.
        states: the states of the things, as `for_rank` returned them.
    """
    if kept.ranks == ranks.size == 1:
        return {}
    return {name: states[name] for name in _random(external)}


def require_same_shards(
    ranks: Ranks, kept: Kept, tree: Mapping[str, Any], data: object = None
) -> None:
    """Refuse data that gives each rank its own rows, on another number of ranks.

    Raises:
        CheckpointError: it does, or that of the run did.
    """
    of_ranks = _of_ranks(kept, tree)
    was, is_now = _in_words(kept.ranks), _in_words(ranks.size)
    if kept.ranks == ranks.size:
        return
    sampler = of_ranks.get("sampler") or _sampler_by_rank(data)
    if sampler is not None:
        _refuse(kept, f"the {sampler} of {was} gives other rows to {is_now}")
    if any(place is not None for place in of_ranks.get("positions", [])):
        _refuse(kept, f"its data knew its own place on each of {was}, and there are {is_now}")


def require_same_batches(
    ranks: Ranks, kept: Kept, state: State[Any, Any, Any], data: object
) -> None:
    """Refuse data that makes other batches of its rows on another number of ranks.

    Raises:
        CheckpointError: it does.
    """
    before, length = state.limits.epoch_length, length_of(data)
    is_of_data = state._notes.length_of_data and length is not None
    if kept.ranks != ranks.size and is_of_data and length != before:
        was, is_now = _in_words(kept.ranks), _in_words(ranks.size)
        _refuse(kept, f"an epoch had {before} batches on {was}, and has {length} on {is_now}")


def _of_ranks(kept: Kept, tree: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a tree holds of each rank; nothing where there was one.

    Raises:
        CheckpointError: it is not what `tree_of` returned.
    """
    if kept.ranks == 1:
        return {}
    found = tree.get("ranks")
    lists = [found.get(name) for name in ("random", "positions")] if type(found) is dict else []
    if not lists or any(type(one) is not list or len(one) != kept.ranks for one in lists):
        raise CheckpointError(kept.path, f"does not say what {kept.ranks} ranks have kept")
    return found or {}


def require_whole_things(external: Mapping[str, Stateful]) -> None:
    """Refuse models whose optimizers have states that nobody could put together again.

    Raises:
        ValueError: there is one.
    """
    for name, thing in external.items():
        for one in thing.modules() if isinstance(thing, nn.Module) else ():
            if f"{type(one).__module__}.{type(one).__name__}" == _FLAT:
                raise ValueError(
                    f"external[{name!r}] is a FullyShardedDataParallel, whose optimizer holds "
                    "parts of flat parameters; shard it with torch.distributed.fsdp.fully_shard"
                )


def _refuse(kept: Kept, what: str) -> None:
    raise CheckpointError(
        kept.path,
        f"{what}, so that some rows would be read twice, and some never. Go on with as many ranks "
        "as before; data whose batches do not depend on their number is TensorBatches(..., "
        "ranks=ranks), or a DataLoader with sampler=Shuffled(dataset, seed=0, ranks=ranks) and the "
        "same number of rows in the batches of all ranks together",
    )


def _in_words(size: int) -> str:
    return "1 process" if size == 1 else f"{size} ranks"


def _sampler_by_rank(data: object) -> str | None:
    """Name the sampler that gives each of so many ranks its own rows; None if there is none."""
    for part in parts_of(innermost(data)):
        if type(getattr(part, "num_replicas", None)) is int:
            return type(part).__name__
    return None


def _merges(loop: AnyLoop) -> dict[str, Callable[[Any, Any], Any]]:
    return {name: one.merge for name, one in loop.parts.items() if one.merge is not None}


def _random(external: Mapping[str, Stateful]) -> dict[str, RandomState]:
    return {name: one for name, one in external.items() if isinstance(one, RandomState)}


def _random_state(drawn: str) -> dict[str, Any]:
    """Return a random state that follows from a text."""
    before = RandomState().state_dict()
    try:
        seed_all(int.from_bytes(hashlib.blake2b(drawn.encode(), digest_size=4).digest()))
        return RandomState().state_dict()
    finally:
        RandomState().load_state_dict(before)
