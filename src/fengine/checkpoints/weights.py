"""Weights: the tensors of a checkpoint, for who only wants to predict."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from fengine.checkpoints.errors import CheckpointError
from fengine.checkpoints.folder import folder_at
from fengine.checkpoints.manifest import numbers_of
from fengine.checkpoints.open_tensors import OpenTensors


def weights(path: str | os.PathLike[str], name: str) -> dict[str, torch.Tensor]:
    """Return the state of a thing that a run has kept, such as the weights of its model.

    Args:
        path: a folder of checkpoints, of which the newest intact one is read, or one of them.
        name: the name of the thing, such as "model"; or, with dots, where it is in the state, such
            as "user.parameters".

    Returns:
        What its `state_dict` returned, on the CPU.

    Raises:
        CheckpointError: there is no checkpoint, it is broken, or it has nothing of that name.

    >>> import tempfile
    >>> from torch import nn
    >>> from fengine import Loop, outputs
    >>> from fengine.checkpoints import Checkpoints
    >>> loop = Loop(outputs(abs)).with_external(model=nn.Linear(2, 1))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     final = Checkpoints(folder).run(loop, [1])
    ...     list(weights(folder, "model"))
    ['weight', 'bias']
    """
    text = os.fspath(path)
    parent, _, last = text.rstrip("/").rpartition("/")
    is_step = numbers_of(last) is not None
    folder = folder_at((parent or ("/" if text.startswith("/") else ".")) if is_step else text)
    if not is_step and "://" not in text and not Path(text).is_dir():
        raise CheckpointError(text, "is no folder")
    with folder.tensors(last) if is_step else folder.newest() as tensors:
        if tensors is None:
            raise CheckpointError(text, "holds no checkpoint")
        return _found(tensors, name)


def _found(tensors: OpenTensors, name: str) -> dict[str, torch.Tensor]:
    path = tensors.kept.path
    things = tensors.names("external")
    if name in things:
        found = tensors.filled("external", name)
    else:
        found = tensors.filled("state") if "state" in tensors.names() else {}
        for key in name.split("."):
            if not isinstance(found, dict) or key not in found:
                named = ", ".join(things) or "none"
                raise CheckpointError(
                    path, f"holds nothing named {name!r}; things outside the state are: {named}"
                )
            found = found[key]
    if not isinstance(found, dict):
        raise CheckpointError(
            path,
            f"{name!r} is a {type(found).__name__} there, not a dict of tensors; name one",
        )
    return found
