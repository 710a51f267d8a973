"""Checks of a process in which `fengine.engine` is installed and nothing else is imported yet."""

from __future__ import annotations

import copy
import importlib
import pickle
import sys
from collections.abc import Callable
from typing import Any, Final

import ignite.engine as theirs

import fengine.engine as ours
from fengine import DOCUMENTED, IGNITE_0_5_5

MODULES: Final = ("", ".deterministic", ".engine", ".events", ".utils")

CHECKS: Final[dict[str, Callable[[], None]]] = {}


def check(function: Callable[[], None]) -> Callable[[], None]:
    """Put the decorated function among the checks, under its own name."""
    CHECKS[function.__name__] = function
    return function


def echo(engine: Any, batch: Any) -> Any:
    return batch


@check
def a_second_call_does_nothing() -> None:
    finders = list(sys.meta_path)
    ours.install()
    assert sys.meta_path == finders


@check
def a_module_is_one_object_under_two_names() -> None:
    names = [name[1:] for name in MODULES if name]
    assert all(getattr(theirs, name) is sys.modules[f"ignite.engine.{name}"] for name in names)
    for name in MODULES:
        module = importlib.import_module(f"ignite.engine{name}")
        assert module.__spec__ is not None
        assert importlib.import_module(module.__name__) is module
        assert module.__spec__.name == module.__name__
        assert module.__spec__.origin == module.__file__


@check
def a_class_is_the_same_wherever_it_comes_from() -> None:
    engine: Any = importlib.import_module("ignite.engine.engine")
    events: Any = importlib.import_module("ignite.engine.events")
    deterministic: Any = importlib.import_module("ignite.engine.deterministic")
    assert engine.Engine is theirs.Engine
    assert deterministic.DeterministicEngine is theirs.DeterministicEngine
    for name in ("Events", "EventEnum", "EventsList", "State", "RemovableEventHandle"):
        assert getattr(events, name) is getattr(theirs, name) is getattr(ours, name)
        assert getattr(engine, name) is getattr(events, name)


@check
def a_star_imports_all_names() -> None:
    names: dict[str, Any] = {}
    exec("from ignite.engine import *", names)
    assert {*theirs.__all__} == names.keys() - {"__builtins__"}
    assert len(theirs.__all__) == 16
    assert {"create_supervised_trainer", "DeterministicEngine", "EventsList"} <= names.keys()


@check
def private_names_that_others_import_are_there() -> None:
    for module, names in {
        "": ["_prepare_batch", "_check_arg"],
        ".utils": ["_check_signature", "_to_hours_mins_secs"],
        ".deterministic": ["_get_rng_states", "_set_rng_states", "_repr_rng_state"],
    }.items():
        found = importlib.import_module(f"ignite.engine{module}")
        assert [name for name in names if not hasattr(found, name)] == []


@check
def classes_and_engines_are_pickled_under_both_names() -> None:
    for value in (theirs.Engine, theirs.State, theirs.Events, theirs.Events.STARTED):
        assert pickle.loads(pickle.dumps(value)) is value
    for module, name in (("engine", "Engine"), ("events", "Events"), ("events", "State")):
        by_name = pickle.loads(f"cignite.engine.{module}\n{name}\n.".encode())
        assert by_name is getattr(theirs, name)
    for kind in (theirs.Engine, theirs.DeterministicEngine):
        engine = kind(echo)
        engine.run([1, 2], 2)
        for copied in (pickle.loads(pickle.dumps(engine)), copy.deepcopy(engine)):
            assert type(copied) is kind
            assert copied.run([1, 2], 3).iteration == 6


@check
def engines_follow_the_version_that_is_replaced() -> None:
    for kind in (theirs.Engine, theirs.DeterministicEngine):
        assert kind.semantics is IGNITE_0_5_5  # type: ignore[attr-defined]
        engine = kind(echo)
        assert engine.logger.name == f"ignite.engine.engine.{kind.__name__}"
        assert engine.run([1, 2, 3], None, 4, 2).iteration == 4
    assert ours.Engine.semantics is DOCUMENTED
