"""The shape of the package: imports only go towards the core, which is pure; exports are complete.

The rules on imports are read from the source, so they hold for what no test happens to run too.
"""

import ast
import doctest
import importlib
import importlib.util
import inspect
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import get_origin

import pytest

SOURCE = Path(__file__).parents[1] / "src"

FACADE = "fengine"  # the package itself, which re-exports the functional API

# The rooms from the core outwards. A file imports from its own room, and from rooms before it.
ROOMS = (
    "core",
    "run",
    "keep",
    "look",
    "loop",
    "recorder",
    "later",
    FACADE,
    "training",
    "metrics",
    "writers",
    "features",
    "distributed",
    "checkpoints",
    "runtime",
    "engine",
    "engine.supervised",
    "engine.ignite",
    "testing",
    "examples",
)

# The imports that go outwards, each made when it is first needed: states are written and read by
# the room that does so, and packages offer names of outer rooms.
OUTWARDS = {
    ("fengine.core.state", "fengine.keep.plain_data"),
    ("fengine.keep.putting_back", "fengine.training.random_state"),
    ("fengine.engine", "fengine.engine.supervised"),
    ("fengine.engine", "fengine.engine.ignite"),
    ("fengine.engine.__main__", "fengine.engine.ignite"),
}

# The rooms within `engine`, and from which of them a file of each may import; "" has the Engine.
# The package itself names what others import later, and its `__main__` is a command.
WITHIN_ENGINE = {
    "": {""},
    "supervised": {"", "supervised"},
    "ignite": {"", "supervised", "ignite"},
}
ENTRIES = {"fengine.engine", "fengine.engine.__main__"}

# Names that several files have: of packages and commands, of the documented modules, and of the
# state and the table of handlers, of which the core and the Engine have one each.
SHARED_NAMES = {"__init__", "__main__", "events", "state", "table"}

# All that the core may import from outside: nothing here does I/O, reads a clock or draws a number.
PURE = {
    "__future__",
    "abc",
    "attrs",
    "attrs.exceptions",
    "collections",
    "collections.abc",
    "contextlib",
    "copy",
    "dataclasses",
    "difflib",
    "enum",
    "functools",
    "graphlib",
    "immutables",
    "inspect",
    "itertools",
    "math",
    "operator",
    "reprlib",
    "types",
    "typing",
    "typing_extensions",
}
IMPURE_NAMES = {"compile", "eval", "exec", "input", "open", "print"}

PUBLIC = (
    "fengine",
    "fengine.engine",
    "fengine.engine.deterministic",
    "fengine.training",
    "fengine.metrics",
    "fengine.writers",
    "fengine.features",
    "fengine.distributed",
    "fengine.checkpoints",
    "fengine.testing",
)

# Where programs written against the documented package look for the names of `fengine.engine` too.
COMPATIBLE = {
    "fengine.engine.deterministic": ("DeterministicEngine",),
    "fengine.engine.engine": ("Engine", "RemovableEventHandle"),
    "fengine.engine.events": (
        "CallableEventWithFilter",
        "EventEnum",
        "Events",
        "EventsList",
        "RemovableEventHandle",
        "State",
    ),
}


# The Engine API has modules of these names, at which programs look.
MIRRORED = {"engine", "events", "state", "deterministic", "utils"}


def module_name(path: Path) -> str:
    """Name the module that a file under `src` defines."""
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(SOURCE.rglob("*.py"))}
TREES = {
    name: ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    for name, path in MODULES.items()
}


def imports(module: str) -> Iterator[str]:
    """Name what a module imports, wherever in the file; a submodule rather than its package."""
    package = module if MODULES[module].stem == "__init__" else module.rpartition(".")[0]
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            relative = "." * node.level + (node.module or "")
            origin = importlib.util.resolve_name(relative, package)
            for alias in node.names:
                submodule = f"{origin}.{alias.name}"
                yield submodule if submodule in MODULES else origin


def is_ours(module: str) -> bool:
    """Tell whether a module belongs to the package."""
    return module.partition(".")[0] == FACADE


def room(module: str) -> str:
    """Name the room of one of our modules."""
    inner = module.partition(".")[2]
    within = [name for name in ROOMS if inner == name or inner.startswith(f"{name}.")]
    return max(within, key=len) if within else FACADE if module == FACADE else inner


def in_rooms(*rooms: str) -> Iterator[str]:
    """List the modules of some rooms."""
    return (module for module in MODULES if room(module) in rooms)


def test_every_module_is_in_a_known_room() -> None:
    assert {room(module) for module in MODULES} == set(ROOMS)


def test_imports_go_towards_the_core() -> None:
    wrong = [
        f"{module} imports {target}"
        for module in MODULES
        for target in imports(module)
        if is_ours(target)
        and ROOMS.index(room(target)) > ROOMS.index(room(module))
        and not any(module == one and target.startswith(other) for one, other in OUTWARDS)
    ]
    assert not wrong


def test_what_is_imported_outwards_is_imported_later() -> None:
    at_once = [
        f"{module}: {ast.unparse(node)}"
        for module, target in OUTWARDS
        if not module.endswith("__main__")  # which nothing imports
        for node in TREES[module].body
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(target)
    ]
    assert not at_once


def test_imports_have_no_cycle() -> None:
    graph = {
        module: {
            target
            for target in imports(module)
            if target != module and not any(target.startswith(other) for _, other in OUTWARDS)
        }
        for module in MODULES
        if module not in (FACADE, "fengine.engine")
    }
    TopologicalSorter(graph).prepare()  # a CycleError names the modules of the cycle


def test_core_imports_nothing_impure() -> None:
    wrong = [
        f"{module} imports {target}"
        for module in in_rooms("core")
        for target in imports(module)
        if not is_ours(target) and target not in PURE
    ]
    assert not wrong


def is_impure(node: ast.AST) -> bool:
    """Tell whether a part of a program does I/O, runs a text, or changes what something is."""
    if isinstance(node, ast.Attribute):
        return node.attr == "__class__" and not isinstance(node.ctx, ast.Load)
    return isinstance(node, ast.Global) or (isinstance(node, ast.Name) and node.id in IMPURE_NAMES)


def test_core_and_the_machine_of_the_loop_do_nothing_impure() -> None:
    wrong = [
        f"{module}, line {node.lineno}: {ast.unparse(node)}"
        for module in in_rooms("core", "run")
        for node in ast.walk(TREES[module])
        if isinstance(node, ast.expr | ast.stmt) and is_impure(node)
    ]
    assert not wrong


@pytest.mark.parametrize(
    "program", ["exec('x')", "eval('x')", "one.__class__ = other", "del one.__class__", "print(1)"]
)
def test_what_is_impure_is_found(program: str) -> None:
    assert any(is_impure(node) for node in ast.walk(ast.parse(program)))


def test_a_module_name_stands_for_one_thing() -> None:
    files = defaultdict(list)
    for module in MODULES:
        if module.rpartition(".")[2] not in MIRRORED:
            files[module.rpartition(".")[2]].append(module)
    packages = {module for module, path in MODULES.items() if path.stem == "__init__"}
    assert [
        several
        for several in files.values()
        if len(several) > 1 and not set(several) & (packages | {"fengine.engine.__main__"})
    ] == []


def test_the_functional_api_does_not_import_torch() -> None:
    wrong = [
        f"{module} imports {target}"
        for module in in_rooms("core", "run", "keep", "look", "loop", "recorder", "later", FACADE)
        for target in imports(module)
        if target.partition(".")[0] == "torch"
    ]
    assert not wrong
    program = "import fengine; import sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_are_documented(name: str) -> None:
    module = importlib.import_module(name)
    # A type alias can hold no docstring.
    values = {
        public: value
        for public in module.__all__
        if get_origin(value := getattr(module, public)) is None
    }
    bare = [public for public, value in values.items() if not value.__doc__]
    without_doctest = [
        public
        for public, value in values.items()
        if (inspect.isclass(value) or inspect.isroutine(value))
        and not doctest.DocTestParser().get_examples(value.__doc__ or "")
    ]
    assert (bare, without_doctest) == ([], [])


def test_everything_public_is_exported_once() -> None:
    places = defaultdict(list)
    for name in PUBLIC:
        module = importlib.import_module(name)
        for public in module.__all__:
            places[id(getattr(module, public))].append(f"{name}.{public}")
    assert [found for found in places.values() if len(found) > 1] == []


@pytest.mark.parametrize("name", COMPATIBLE)
def test_compatible_modules_share_the_names_of_the_engine(name: str) -> None:
    module = importlib.import_module(name)
    engine = importlib.import_module("fengine.engine")
    different = [
        public
        for public in COMPATIBLE[name]
        if getattr(module, public, None) is not getattr(engine, public)
    ]
    assert not different
