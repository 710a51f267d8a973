"""Without a folder: a snapshot written as a checkpoint is, for tests of going on."""

from __future__ import annotations

import json
from typing import Any, Generic, TypeVar, final

import attrs

from fengine import Loop, Snapshot
from fengine.checkpoints.going_on import read_snapshot
from fengine.checkpoints.saveable import with_plain_output
from fengine.checkpoints.tree import Tensors, join, split

B = TypeVar("B")
O = TypeVar("O")  # noqa: E741  # the output, beside the batch and the user
U = TypeVar("U")


@final
@attrs.frozen(eq=False)
class Written(Generic[U]):
    """Hold the text and the tensors of a checkpoint, and a record of the type of the kept one."""

    text: str
    tensors: Tensors
    user: U


def written(snapshot: Snapshot[B, O, U]) -> Written[U]:
    """Write a snapshot.

    Raises:
        NotPlain: it holds what no checkpoint can hold.
        SnapshotError: as `Snapshot.to_dict` does.

    >>> from fengine import State
    >>> written(Snapshot(State(epoch=2))).tensors
    {}
    """
    snapshot = attrs.evolve(snapshot, state=with_plain_output(snapshot.state))
    plain, tensors = split(snapshot.to_dict())
    copies = {name: tensor.clone() for name, tensor in tensors.items()}
    return Written(json.dumps(plain, allow_nan=False), copies, snapshot.state.user)


def read(kept: Written[U], loop: Loop[B, O, U]) -> Snapshot[B, O, U]:
    """Read what `written` returned, for a loop.

    Raises:
        SnapshotError: it is of another loop.
    """
    tree: Any = join(json.loads(kept.text), kept.tensors.__getitem__)
    return read_snapshot(loop, tree, kept.user)
