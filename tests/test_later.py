"""Names that are imported when they are first asked for."""

from __future__ import annotations

import inspect
import subprocess
import sys
from typing import get_origin, get_type_hints

import pytest

import fengine
import fengine.engine


def run(program: str) -> None:
    """Run a program in a new interpreter, which has imported nothing yet."""
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize(
    ("package", "name", "module"),
    [
        ("fengine", "Recorder", "fengine.recorder"),
        ("fengine", "diff", "fengine.look.differences"),
        ("fengine.engine", "create_supervised_trainer", "fengine.engine.supervised.factories"),
        ("fengine.engine", "install", "fengine.engine.ignite.replacement"),
    ],
)
def test_a_name_imports_its_module_when_it_is_asked_for(
    package: str, name: str, module: str
) -> None:
    run(
        f"import sys, {package} as package\n"
        f"assert {name!r} in dir(package)\n"
        f"assert {module!r} not in sys.modules\n"
        f"from {package} import {name}\n"
        f"assert {name} is package.{name} is sys.modules[{module!r}].{name}\n"
    )


@pytest.mark.parametrize(
    "module", ["fengine.engine.deterministic", "fengine.engine.supervised", "fengine.training"]
)
def test_a_module_is_an_attribute_of_its_package(module: str) -> None:
    package = module.rpartition(".")[0]
    run(f"import sys, {package}; assert {module} is sys.modules[{module!r}]")


def test_a_module_runs_when_something_of_it_is_asked_for() -> None:
    run(
        "import sys, fengine\n"
        "assert 'fengine.look.blame' not in sys.modules\n"
        "assert 'fengine.recorder' not in sys.modules\n"
        "recorder = fengine.Recorder(fengine.Loop(fengine.outputs(abs)))\n"
        "import fengine.recorder\n"
        "assert type(recorder) is fengine.recorder.Recorder is fengine.Recorder\n"
    )


def test_a_module_is_imported_once_for_threads_that_ask_at_once() -> None:
    run(
        "import sys, threading, fengine\n"
        "sys.setswitchinterval(1e-6)\n"
        "start, made = threading.Barrier(4), []\n"
        "def record():\n"
        "    start.wait()\n"
        "    made.append(fengine.Recorder(fengine.Loop(fengine.outputs(abs))))\n"
        "threads = [threading.Thread(target=record) for _ in range(4)]\n"
        "[thread.start() for thread in threads]\n"
        "[thread.join() for thread in threads]\n"
        "assert [type(one) for one in made] == [fengine.Recorder] * 4\n"
    )


def test_the_hints_of_all_methods_of_a_loop_resolve() -> None:
    methods = {name: one for name, one in vars(fengine.Loop).items() if inspect.isfunction(one)}
    hints = {name: get_type_hints(method) for name, method in methods.items()}
    assert get_origin(hints["plan"]["return"]) is fengine.Plan


@pytest.mark.parametrize("package", [fengine, fengine.engine])
def test_a_name_that_there_is_not_is_none(package: object) -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Recordr'"):
        _ = package.Recordr  # type: ignore[attr-defined]
