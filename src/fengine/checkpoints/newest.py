"""Newest: the checkpoint that a run goes on from, which is the same one on all ranks.

Each rank reads it for itself, so each has to see it whole. The first rank says what there is, since
it alone writes. The parts of all ranks are checked by turns, so that each is read once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import PurePath

from fengine.checkpoints.as_one import in_words, said_by
from fengine.checkpoints.errors import CheckpointError, NewerFormat
from fengine.checkpoints.folder import Folder
from fengine.checkpoints.open_tensors import OpenTensors
from fengine.run.ranks import Ranks


def newest_of_all(ranks: Ranks, folder: Folder) -> AbstractContextManager[OpenTensors | None]:
    """Open the newest checkpoint that is intact for each rank, if there is any; collective.

    Raises:
        CheckpointError: a rank does not see what the first one sees, or as `Folder.newest` does.
    """
    return folder.newest() if ranks.size == 1 else _newest(ranks, folder)


@contextlib.contextmanager
def _newest(ranks: Ranks, folder: Folder) -> Iterator[OpenTensors | None]:
    there = ranks.gathered(folder.names())
    names = there[0] or max(there, key=len)
    broken: list[str] = []
    with contextlib.ExitStack() as opened:
        found = None
        for name in reversed(names):
            stack, error = contextlib.ExitStack(), None
            try:
                found = stack.enter_context(folder.tensors(name, by=(ranks.rank, ranks.size)))
            except CheckpointError as failed:
                error = failed
            told = ranks.gathered((folder.path / name, folder.sees(name), error))
            opened.enter_context(stack)
            unseen = {rank: path for rank, (path, sees, _) in enumerate(told) if not sees}
            _require_seen(unseen, told[0][0], ranks.size)
            errors = {rank: one for rank, (*_, one) in enumerate(told) if one is not None}
            if not errors:
                break
            found = None
            newer = next((one for one in errors.values() if isinstance(one, NewerFormat)), None)
            if newer is not None:
                raise newer
            broken.append(str(said_by(errors, ranks.size)))
        if broken:
            folder.tell(broken, found, warns=ranks.rank == 0)
        yield found


def _require_seen(unseen: Mapping[int, PurePath], path: PurePath, size: int) -> None:
    """Refuse a checkpoint that some ranks see and others do not.

    Args:
        unseen: where those looked that do not see it, by rank.
        path: where the first rank looked.
        size: how many ranks there are.

    Raises:
        CheckpointError: it is such a one.
    """
    if 0 < len(unseen) < size:
        where = next(iter(unseen.values())).parent
        raise CheckpointError(
            path,
            f"is not seen by {in_words(unseen)} of {size} in {where}; give all ranks one folder, "
            "on a file system that they share",
        )
