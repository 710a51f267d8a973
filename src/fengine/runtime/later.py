"""Later: names of a package that are imported when they are first asked for.

To import a package costs what every program needs; what few need comes with its first use.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping


def importing_later(package: str, names: Mapping[str, tuple[str, ...]]) -> Callable[[str], object]:
    """Make the `__getattr__` of a package.

    Args:
        package: its name.
        names: which names are imported later, by the module that has them.
    """
    modules = {name: module for module, some in names.items() for name in some}

    def get(name: str) -> object:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(modules[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    return get
