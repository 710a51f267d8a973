"""Docstrings as pages show them.

A session that begins with `>>>` is a block of code. A record, of attrs or a NamedTuple, is made by
the fields that its docstring describes; one whose docstring describes none is made by a function.

A package that exports a function named like the module that defines it has the function.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import griffe

# From a prompt to the next empty line, as doctest reads it.
_SESSION = re.compile(r"^(?P<indent> *)>>> .*?(?=\n\s*\n|\Z)", re.MULTILINE | re.DOTALL)
_RECORDS = {"attrs.frozen", "attrs.define", "typing.NamedTuple"}


class Sessions(griffe.Extension):
    """Put the sessions of all docstrings into fences."""

    def on_instance(self, *, obj: griffe.Object, **_: object) -> None:
        """Rewrite the docstring of an object before it is parsed."""
        if obj.docstring is not None:
            obj.docstring.value = _SESSION.sub(
                r"\g<indent>```pycon\n\g<0>\n\g<indent>```", obj.docstring.value
            )


class Records(griffe.Extension):
    """Give records the `__init__` that is made for them."""

    def on_class_members(self, *, cls: griffe.Class, **_: object) -> None:
        """Add it to a class whose members are known."""
        bases = [base.canonical_path for base in cls.bases if isinstance(base, griffe.Expr)]
        if _RECORDS & {*bases, *(one.callable_path for one in cls.decorators)}:
            parameters = list(_parameters(cls))
            if parameters and "__init__" not in cls.members:
                made = griffe.Function("__init__", parameters=griffe.Parameters(*parameters))
                cls.set_member("__init__", made)


class Exports(griffe.Extension):
    """Have packages show what they export, and not the modules of the same names."""

    def on_package(self, *, pkg: griffe.Module, **_: object) -> None:
        """Put functions in the place of modules, once all else has been found in these."""
        packages = [pkg, *(one for one in pkg.modules.values() if one.is_init_module)]
        for package in packages:
            for name, member in package.members.items():
                if member.is_alias and name in (package.exports or ()):
                    member.resolve_target()
        for package in packages:
            for name, member in list(package.members.items()):
                if name in (package.exports or ()) and member.is_module:
                    package.members[name] = griffe.Alias(name, member[name], parent=package)


def _parameters(cls: griffe.Class) -> Iterator[griffe.Parameter]:
    """Give the parameters of a record that its docstring describes."""
    described = cls.docstring.value if cls.docstring is not None else ""
    for field in cls.attributes.values():
        given = _arguments(field.value)
        name = str(given.get("alias", field.name)).strip("_'\"")
        if re.search(rf"^    {name}: ", described, re.MULTILINE) and "init" not in given:
            factory = given.get("factory")
            yield griffe.Parameter(
                name,
                annotation=field.annotation,
                kind=griffe.ParameterKind.positional_or_keyword,
                default=f"{factory}()" if factory else given.get("default"),
            )


def _arguments(value: griffe.Expr | str | None) -> dict[str, griffe.Expr | str]:
    """Give what a field is declared with, by name; a plain value is its default."""
    if value is None:
        return {}
    if not isinstance(value, griffe.ExprCall) or value.canonical_path != "attrs.field":
        return {"default": value}
    keywords = [one for one in value.arguments if isinstance(one, griffe.ExprKeyword)]
    return {one.name: one.value for one in keywords}
