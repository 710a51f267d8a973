"""Versions: this fengine, and that of another checkout, side by side in one process.

The modules of two versions have the same names, so `sys.modules` holds those of one at a time. What
a version imports later, in the middle of a run, is its own only while it is there: see `active`.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Final, final

import attrs

PACKAGE: Final = "fengine"


@final
@attrs.frozen
class Version:
    """Hold the modules of one version.

    Args:
        name: what the tables call it.
        functional: its `fengine`.
        engine: its `fengine.engine`, which needs torch; None without torch.
        modules: all that has been imported of it, by name. `active` adds to them.
    """

    name: str
    functional: ModuleType
    engine: ModuleType | None
    modules: dict[str, ModuleType]

    @contextmanager
    def active(self) -> Iterator[None]:
        """Have this version be the one that is imported."""
        others = _taken()
        sys.modules.update(self.modules)
        try:
            yield
        finally:
            self.modules.update(_taken())
            sys.modules.update(others)


def this_version(have: frozenset[str]) -> Version:
    """Give the version that this benchmark belongs to."""
    return _imported("after", have)


def other_version(source: Path, have: frozenset[str]) -> Version:
    """Import the version in a folder of sources; what is imported stays as it is."""
    others = _taken()
    sys.path.insert(0, str(source))
    try:
        return _imported("before", have)
    finally:
        sys.path.remove(str(source))
        _taken()
        sys.modules.update(others)


def sources(checkout: str) -> Path:
    """Find the sources in another checkout: its root is given, or the folder that they are in."""
    for folder in (Path(checkout, "src"), Path(checkout)):
        if (folder / PACKAGE / "__init__.py").is_file():
            return folder.resolve()
    raise argparse.ArgumentTypeError(f"there is no {PACKAGE} in {checkout}, nor in its folder src")


def _imported(name: str, have: frozenset[str]) -> Version:
    functional = importlib.import_module(PACKAGE)
    engine = importlib.import_module(f"{PACKAGE}.engine") if "torch" in have else None
    return Version(name, functional, engine, {key: sys.modules[key] for key in _names()})


def _taken() -> dict[str, ModuleType]:
    """Take what is imported of any version out of `sys.modules`."""
    return {name: sys.modules.pop(name) for name in _names()}


def _names() -> list[str]:
    return [name for name in sys.modules if name.partition(".")[0] == PACKAGE]
