"""Put `fengine.engine` in the place of `ignite.engine`, for code that imports it from now on.

Lives here: `install`, the finder, and the loader that returns a module of ours under another name.
The modules that stand in are elsewhere; the table below says which one stands for which name.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Final, final

import attrs
from typing_extensions import override

_OURS: Final = {
    "ignite.engine": "fengine.engine.ignite.stand_in",
    "ignite.engine.deterministic": "fengine.engine.ignite.stand_in.positional_deterministic",
    "ignite.engine.engine": "fengine.engine.ignite.stand_in.positional_engine",
    "ignite.engine.events": "fengine.engine.events",
    "ignite.engine.utils": "fengine.engine.utils",
}


def install() -> None:
    """Make `ignite.engine` mean this package, under `IGNITE_0_5_5`, in code imported afterwards.

    A second call does nothing.

    Raises:
        ModuleNotFoundError: pytorch-ignite is not installed.
        RuntimeError: pytorch-ignite is imported already, so that its handlers and metrics hold on
            to its own Engine.

    >>> import subprocess, sys
    >>> program = '''
    ... import fengine.engine
    ... fengine.engine.install()
    ... from ignite.engine import Engine
    ... from ignite.metrics import Average
    ... engine = Engine(lambda engine, batch: batch)
    ... Average().attach(engine, "mean")
    ... print(isinstance(engine, fengine.engine.Engine), engine.run([1, 2, 3]).metrics)
    ... '''
    >>> run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    >>> print(run.stdout, end="")
    True {'mean': 2.0}
    """
    if _FINDER in sys.meta_path:
        return
    early = sorted(name for name in sys.modules if name.partition(".")[0] == "ignite")
    if early:
        raise RuntimeError(
            f"pytorch-ignite is imported already ({', '.join(early[:3])}, ...), and its handlers "
            "and metrics keep its own Engine; call fengine.engine.install() before the first "
            "import of ignite"
        )
    if importlib.util.find_spec("ignite") is None:
        raise ModuleNotFoundError(
            "pytorch-ignite is not installed, so there is no ignite.engine to replace; run "
            "'pip install pytorch-ignite', or import from fengine.engine instead",
            name="ignite",
        )
    sys.meta_path.insert(0, _FINDER)


@final
@attrs.frozen
class _Alias(Loader):
    """Load a module by returning, as it is, the one that has another name."""

    name: str

    @override
    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(self.name)
        spec.loader_state = module.__spec__
        return module

    @override
    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        # It has run under its own name; what imports it here has written another spec into it.
        module.__spec__ = module.__spec__.loader_state
        if self.name == _OURS["ignite.engine"]:
            _complete(module)


@final
@attrs.frozen
class _Finder(MetaPathFinder):
    """Find `ignite.engine` and its modules here."""

    @override
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in _OURS:
            return None
        return ModuleSpec(fullname, _Alias(_OURS[fullname]))


_FINDER: Final = _Finder()


def _complete(package: ModuleType) -> None:
    """Have what importing the package of pytorch-ignite brings: its base class and its modules."""
    base: type = importlib.import_module("ignite.base").Serializable
    if not issubclass(package.Engine, base):
        package.Engine.__bases__ = (*package.Engine.__bases__, base)
    for name in _OURS:
        importlib.import_module(name)
    package.engine.Serializable = base
    package.deterministic.manual_seed = importlib.import_module("ignite.utils").manual_seed
