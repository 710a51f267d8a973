"""The error of checkpoints: what is wrong, and with which file or folder."""

from __future__ import annotations

import os
from typing import Self

from typing_extensions import override


class CheckpointError(RuntimeError):
    """Tell that a checkpoint cannot be written, read, or gone on from.

    Args:
        path: the file or folder that it is about.
        reason: what is wrong with it.

    >>> print(CheckpointError("runs/a", "holds broken checkpoints only"))
    runs/a: holds broken checkpoints only
    """

    def __init__(self, path: str | os.PathLike[str], reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(f"{os.fspath(path)}: {reason}")

    @override
    def __reduce__(self) -> tuple[type[Self], tuple[str | os.PathLike[str], str]]:
        """Return what `copy` and `pickle` make it of."""
        return type(self), (self.path, self.reason)


def reason_of(error: OSError) -> str:
    """Say in words why the system refused.

    >>> import errno
    >>> reason_of(OSError(errno.ENOSPC, "os error 28"))
    'No space left on device'
    """
    return os.strerror(error.errno) if error.errno else str(error)


class NewerFormat(CheckpointError):
    """Tell that a newer fengine has written a checkpoint, which is never skipped.

    >>> issubclass(NewerFormat, CheckpointError)
    True
    """
