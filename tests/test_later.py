"""Names that are imported when they are first asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

import fengine
import fengine.engine


@pytest.mark.parametrize(
    ("package", "name", "module"),
    [
        ("fengine", "Recorder", "fengine.runtime.recorder"),
        ("fengine", "diff", "fengine.runtime.differences"),
        ("fengine.engine", "create_supervised_trainer", "fengine.engine.supervised"),
    ],
)
def test_a_name_imports_its_module_when_it_is_asked_for(
    package: str, name: str, module: str
) -> None:
    program = (
        f"import sys, {package} as package\n"
        f"assert {name!r} in dir(package)\n"
        f"assert {module!r} not in sys.modules\n"
        f"from {package} import {name}\n"
        f"assert {name} is package.{name} is sys.modules[{module!r}].{name}\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize(
    "module", ["fengine.engine.deterministic", "fengine.engine.supervised", "fengine.training"]
)
def test_a_module_is_an_attribute_of_its_package(module: str) -> None:
    package = module.rpartition(".")[0]
    program = f"import sys, {package}; assert {module} is sys.modules[{module!r}]"
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("package", [fengine, fengine.engine])
def test_a_name_that_there_is_not_is_none(package: object) -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Recordr'"):
        _ = package.Recordr  # type: ignore[attr-defined]
