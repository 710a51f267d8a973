"""The documented API, as the stubs in `typings/documented_engine` state it, is all there."""

import ast
import importlib
import inspect
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import attrs
import pytest
from typing_extensions import override

STUBS = Path(__file__).parents[2] / "typings" / "documented_engine"
MODULES = {"__init__": "fengine.engine", "engine": "fengine.engine.engine"}

# Documented defaults that ours replace by one that means the same to whoever leaves it out.
MEANS_THE_SAME = {("Engine.run", "max_epochs"): None}  # the limit of the state, else 1

# Later versions of the documented package take these by position, so code may do so as well.
LATER = {("Engine.terminate", "skip_completed"), ("Engine.terminate_epoch", "skip_epoch_completed")}


@attrs.frozen
class Documented:
    """Hold a function of the stubs."""

    module: str
    name: str
    arguments: ast.arguments

    @override
    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


def _trees() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(STUBS.glob("*.pyi")):
        yield MODULES[path.stem], ast.parse(path.read_text(encoding="utf-8"), str(path))


def _functions() -> Iterator[Documented]:
    for module, tree in _trees():
        for node in tree.body:
            if isinstance(node, ast.FunctionDef):
                yield Documented(module, node.name, node.args)
            elif isinstance(node, ast.ClassDef):
                for member in node.body:
                    if isinstance(member, ast.FunctionDef):
                        yield Documented(module, f"{node.name}.{member.name}", member.args)


def _classes() -> Iterator[tuple[str, ast.ClassDef]]:
    for module, tree in _trees():
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                yield module, node


def _find(documented: Documented) -> Any:
    found: Any = importlib.import_module(documented.module)
    for part in documented.name.split("."):
        found = getattr(found, part)
    return found


def _differences(documented: Documented, signature: inspect.Signature) -> Iterator[str]:
    """Name what keeps a documented call from meaning the same with our signature."""
    wanted, ours = documented.arguments, list(signature.parameters.values())
    kinds = inspect.Parameter
    positional = [one for one in ours if one.kind in (kinds.POSITIONAL_OR_KEYWORD,)]
    defaults = [None] * (len(wanted.args) - len(wanted.defaults)) + list(wanted.defaults)
    for place, (argument, default) in enumerate(zip(wanted.args, defaults, strict=True)):
        if place >= len(positional) or positional[place].name != argument.arg:
            yield f"{argument.arg} is not at place {place}"
        else:
            yield from _default_differs(documented, positional[place], default)
    for more in positional[len(wanted.args) :]:
        if (documented.name, more.name) not in LATER:
            yield f"{more.name} can be given by position, which is not documented"
    for one in ours:
        if one.kind is kinds.KEYWORD_ONLY and one.default is kinds.empty:
            yield f"{one.name} has to be given, which is not documented"
    by_name = {one.name: one for one in ours if one.kind is kinds.KEYWORD_ONLY}
    for argument, default in zip(wanted.kwonlyargs, wanted.kw_defaults, strict=True):
        if argument.arg not in by_name:
            yield f"{argument.arg} cannot be given by its name"
        else:
            yield from _default_differs(documented, by_name[argument.arg], default)
    if wanted.vararg and not any(one.kind is kinds.VAR_POSITIONAL for one in ours):
        yield f"takes no *{wanted.vararg.arg}"
    if wanted.kwarg and not any(one.kind is kinds.VAR_KEYWORD for one in ours):
        yield f"takes no **{wanted.kwarg.arg}"


def _default_differs(
    documented: Documented, ours: inspect.Parameter, default: ast.expr | None
) -> Iterator[str]:
    if default is None:
        return  # documented as required; that ours may be left out hurts nobody
    expected = ast.literal_eval(default)
    expected = MEANS_THE_SAME.get((documented.name, ours.name), expected)
    if expected is ... and callable(ours.default):
        return
    if ours.default is inspect.Parameter.empty or ours.default != expected:
        yield f"{ours.name} has the default {ours.default!r}, not {expected!r}"


@pytest.mark.parametrize("documented", list(_functions()), ids=str)
def test_every_documented_call_is_possible(documented: Documented) -> None:
    signature = inspect.signature(_find(documented))
    assert list(_differences(documented, signature)) == []


def test_every_documented_class_and_attribute_exists() -> None:
    for module, node in _classes():
        ours = getattr(importlib.import_module(module), node.name)
        assert inspect.isclass(ours)
        for member in node.body:
            if isinstance(member, ast.AnnAssign):
                assert isinstance(member.target, ast.Name)
                assert hasattr(ours, member.target.id)


def test_every_documented_event_has_its_value() -> None:
    events = next(node for _, node in _classes() if node.name == "Events")
    documented = {
        target.id: ast.literal_eval(member.value)
        for member in events.body
        if isinstance(member, ast.Assign)
        for target in member.targets
        if isinstance(target, ast.Name)
    }
    ours = importlib.import_module("fengine.engine").Events
    assert issubclass(ours, Enum)
    assert {name: ours[name].value for name in documented} == documented
    assert len(documented) == 7


def test_the_check_notices_each_kind_of_difference() -> None:
    stub = "def f(self, a, b=1, *args, c=2, **kwargs): ..."
    node = ast.parse(stub).body[0]
    assert isinstance(node, ast.FunctionDef)
    documented = Documented("here", "f", node.args)

    def same(self: Any, a: Any, b: int = 1, *args: Any, c: int = 2, **kwargs: Any) -> None:
        pass

    def more(
        self: Any, a: Any, b: int = 1, *args: Any, c: int = 2, d: int = 3, **kwargs: Any
    ) -> None:
        pass

    def swapped(self: Any, b: Any, a: int = 1, *args: Any, c: int = 2, **kwargs: Any) -> None:
        pass

    def inserted(
        self: Any, a: Any, b: int = 1, e: int = 5, *args: Any, c: int = 2, **kwargs: Any
    ) -> None:
        pass

    def other_default(self: Any, a: Any, b: int = 9, *args: Any, c: int = 2, **kwargs: Any) -> None:
        pass

    def nothing_else(self: Any, a: Any, b: int = 1) -> None:
        pass

    def demanding(self: Any, a: Any, b: int = 1, *args: Any, c: int, d: int, **kwargs: Any) -> None:
        pass

    def count(function: Any) -> int:
        return len(list(_differences(documented, inspect.signature(function))))

    counts = [count(function) for function in (same, more, swapped, inserted, other_default)]
    assert counts == [0, 0, 2, 1, 1]
    assert (count(nothing_else), count(demanding)) == (3, 3)
