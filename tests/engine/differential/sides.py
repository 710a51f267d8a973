"""The sides: pytorch-ignite as it is, pytorch-ignite mended, and fengine."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import attrs
import ignite.engine
from typing_extensions import override

import fengine.engine
from fengine import DOCUMENTED, Semantics
from tests.engine.differential.deeds import CUSTOM, TICK, TOCK
from tests.engine.differential.documented import Documented
from tests.engine.differential.mended import Mended, Watched
from tests.engine.differential.program import PROCESS
from tests.engine.differential.seen import Result

Process = Callable[[Any, Any], Any]


class StandIn(Exception):
    """Stand, in pytorch-ignite, for a StopIteration of the user's: rows Q-04, C5 and R-17.

    There it is taken for the end of the data or becomes a RuntimeError; here it stays itself and is
    an exception like any other.
    """


class Side(Protocol):
    """One implementation of the Engine."""

    @property
    def stop_iteration(self) -> type[Exception]:
        """What is raised where a program raises StopIteration."""

    def event(self, name: str) -> Any:
        """Give an event, built-in or a program's own."""

    def engine(self, process: Process, result: Result) -> Any:
        """Make an engine."""

    def processing(self, engine: Any) -> None:
        """Take note that the process function is called."""

    def warning(self, engine: Any) -> AbstractContextManager[None]:
        """Take note of a warning."""

    def close(self, engine: Any) -> None:
        """Leave nothing behind."""


class _IgniteOwn(ignite.engine.EventEnum):
    TICK = TICK
    TOCK = TOCK


class _Own(fengine.engine.EventEnum):
    TICK = TICK
    TOCK = TOCK


class IgniteSide:
    """pytorch-ignite as it is."""

    stop_iteration: type[Exception] = StopIteration

    def event(self, name: str) -> Any:
        if name == CUSTOM:
            return name
        return (_IgniteOwn if name in (TICK, TOCK) else ignite.engine.Events)(name)

    def engine(self, process: Process, result: Result) -> Any:
        return Watched(process, result)

    def processing(self, engine: Any) -> None:
        pass

    def warning(self, engine: Any) -> AbstractContextManager[None]:
        return nullcontext()

    def close(self, engine: Any) -> None:
        engine._internal_run_generator = None
        # Row A3: what one engine registers is written into the class of the states of all.
        ignite.engine.State.event_to_attr.pop(_IgniteOwn.TICK, None)


@attrs.frozen
class MendedSide(IgniteSide):
    """pytorch-ignite without the defects that are fixed here, for these semantics."""

    semantics: Semantics = DOCUMENTED
    stop_iteration: type[Exception] = StandIn

    @override
    def engine(self, process: Process, result: Result) -> Any:
        kind = Documented if self.semantics is DOCUMENTED else Mended
        return kind(process, result)

    @override
    def processing(self, engine: Any) -> None:
        engine.place = PROCESS

    @override
    def warning(self, engine: Any) -> AbstractContextManager[None]:
        warning: AbstractContextManager[None] = engine.warning()
        return warning


@attrs.frozen
class OurSide:
    """fengine."""

    semantics: Semantics = DOCUMENTED
    stop_iteration: type[Exception] = StopIteration

    def event(self, name: str) -> Any:
        if name == CUSTOM:
            return name
        return (_Own if name in (TICK, TOCK) else fengine.engine.Events)(name)

    def engine(self, process: Process, result: Result) -> Any:
        return fengine.engine.Engine(process, semantics=self.semantics)

    def processing(self, engine: Any) -> None:
        pass

    def warning(self, engine: Any) -> AbstractContextManager[None]:
        return nullcontext()

    def close(self, engine: Any) -> None:
        pass


def error_name(error: object) -> str:
    """Name an exception, and one of our own classes by the built-in one that it stands for."""
    if type(error) is StandIn:
        return "StopIteration"
    return next(kind for kind in type(error).__mro__ if "fengine" not in kind.__module__).__name__
