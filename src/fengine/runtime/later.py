"""Later: modules that are imported when something of them is first asked for.

To import a package costs what every program needs; what few need comes with its first use.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from types import ModuleType


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


def module_later(name: str) -> ModuleType:
    """Give a module of this package that runs when an attribute of it is first asked for.

    Args:
        name: its whole name.

    >>> module_later("fengine.runtime.plan").Plan.__name__
    'Plan'
    """
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.loader is not None
    spec.loader = importlib.util.LazyLoader(spec.loader)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    package, _, own = name.rpartition(".")
    setattr(sys.modules[package], own, module)
    return module
