"""Names of packages that may be absent: import one, or say what it is for and how to get it."""

from __future__ import annotations

import importlib
from typing import Any


def require(module: str, name: str, purpose: str, remedy: str) -> Any:
    """Import a name of a package that may be absent.

    Raises:
        ModuleNotFoundError: there is no such module.
        ImportError: it has no such name.

    >>> require("fengine.engine.nowhere", "x", "the demo", "choose another name")
    Traceback (most recent call last):
    ModuleNotFoundError: the demo needs fengine.engine.nowhere.x, but there is no module ...
    """
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{purpose} needs {module}.{name}, but there is no module {error.name!r}; {remedy}",
            name=error.name,
        ) from error
    try:
        return getattr(found, name)
    except AttributeError:
        raise ImportError(
            f"{purpose} needs {module}.{name}, which is not there; {remedy}", name=module
        ) from None


def require_torch_amp(name: str) -> Any:
    """Import a name of `torch.amp`.

    Raises:
        ImportError: this torch does not have it.

    >>> require_torch_amp("autocast").__name__
    'autocast'
    """
    return require("torch.amp", name, "amp_mode='amp'", "install torch 2.4 or later")


def require_xla(name: str) -> Any:
    """Import a name of `torch_xla.core.xla_model`.

    Raises:
        ImportError: there is none.
    """
    remedy = "install torch_xla, or give another device"
    return require("torch_xla.core.xla_model", name, "an XLA device", remedy)
