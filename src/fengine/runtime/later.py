"""Later: modules that are imported when something of them is first asked for.

To import a package costs what every program needs; what few need comes with its first use.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import final

from typing_extensions import override


def importing_later(package: str, names: Mapping[str, tuple[str, ...]]) -> Callable[[str], object]:
    """Make the `__getattr__` of a package; it imports the modules of the package too.

    Args:
        package: its name.
        names: which names are imported later, by the module that has them.
    """
    modules = {name: module for module, some in names.items() for name in some}

    def get(name: str) -> object:
        own = f"{package}.{name}"
        if name in modules:
            value: object = getattr(importlib.import_module(modules[name]), name)
        elif not name.startswith("_") and importlib.util.find_spec(own) is not None:
            value = importlib.import_module(own)
        else:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        setattr(sys.modules[package], name, value)
        return value

    return get


@final
class _Later(ModuleType):
    """Stand for a module: what is asked of it, the module is asked."""

    @override
    def __getattr__(self, name: str) -> object:
        value: object = getattr(importlib.import_module(self.__name__), name)
        return value


def module_later(name: str) -> ModuleType:
    """Give what stands for a module, which is imported when an attribute is first asked for.

    Args:
        name: its whole name.

    >>> module_later("fengine.runtime.plan").Plan.__name__
    'Plan'
    """
    return _Later(name)
