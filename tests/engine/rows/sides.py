"""The same program for pytorch-ignite and for fengine, and what is seen of it, in short.

A `Tale` is an engine that tells its events in words: `S ES BS BC IS IC EC C` is a whole run of one
batch. Deeds are done at a firing of an event, named by its word: `{"IC2": terminate}`.
"""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from operator import methodcaller
from typing import Any, Final, TypeAlias
from unittest import mock

import attrs
import ignite.engine

import fengine.engine
from fengine import DOCUMENTED, IGNITE_0_5_5, Semantics

WORDS: Final = {
    "STARTED": "S",
    "EPOCH_STARTED": "ES",
    "GET_BATCH_STARTED": "BS",
    "DATALOADER_STOP_ITERATION": "DS",
    "GET_BATCH_COMPLETED": "BC",
    "ITERATION_STARTED": "IS",
    "ITERATION_COMPLETED": "IC",
    "TERMINATE_SINGLE_EPOCH": "TE",
    "EPOCH_COMPLETED": "EC",
    "TERMINATE": "T",
    "COMPLETED": "C",
    "INTERRUPT": "IN",
    "EXCEPTION_RAISED": "E",
}

ONE: Final = "BS BC IS IC"  # an iteration
AGAIN: Final = "BS DS BC IS IC"  # one that starts the data again
EPOCH: Final = f"ES {ONE} {ONE} EC"  # of two batches
EPOCH_AGAIN: Final = f"ES {AGAIN} {ONE} EC"
WHOLE: Final = f"S {EPOCH} {EPOCH_AGAIN} C"  # a run of two epochs

SILENT: Final = logging.getLogger("silent")
SILENT.disabled = True

Deed: TypeAlias = Callable[[Any], object]
Process: TypeAlias = Callable[[Any, Any], Any]


class Fault(Exception):
    """Stand for what goes wrong in user code."""


def identity(engine: Any, batch: Any) -> Any:
    return batch


@attrs.frozen
class Side:
    """One implementation of the Engine API."""

    name: str
    package: Any
    semantics: Semantics | None = None

    @property
    def events(self) -> Any:
        return self.package.Events

    def engine(self, process: Process = identity) -> Any:
        given = {} if self.semantics is None else {"semantics": self.semantics}
        engine = self.package.Engine(process, **given)
        engine.logger = SILENT
        return engine


IGNITE: Final = Side("pytorch-ignite", ignite.engine)
AS_IGNITE: Final = Side("IGNITE_0_5_5", fengine.engine, IGNITE_0_5_5)
AS_DOCUMENTED: Final = Side("DOCUMENTED", fengine.engine, DOCUMENTED)
OURS: Final = (AS_IGNITE, AS_DOCUMENTED)
SIDES: Final = (IGNITE, *OURS)

Program: TypeAlias = Callable[[Side], object]


def play(program: Program, side: Side) -> object:
    """Run a program on a side, with its semantics, and leave what all engines there share."""
    registry = side.package.State.event_to_attr
    known = set(registry)
    semantics = mock.patch.object(side.package.Engine, "semantics", side.semantics, create=True)
    try:
        with semantics:  # for engines that are not made by the side itself
            return program(side)
    finally:
        for event in set(registry) - known:
            del registry[event]


def everywhere(program: Program, gives: object) -> None:
    """Assert that a program gives this on every side."""
    for side in SIDES:
        assert play(program, side) == gives, side.name


def here(program: Program, gives: object) -> None:
    """Assert that a program gives this under both semantics; pytorch-ignite is not asked."""
    for side in OURS:
        assert play(program, side) == gives, side.name


def outcome(call: Callable[..., object], *args: Any, **kwargs: Any) -> object:
    """Give what a call gives, or the name of the exception that it raises."""
    try:
        return call(*args, **kwargs)
    except BaseException as error:
        return type(error).__name__


def own_events(side: Side) -> Any:
    """Make two events of one's own, with the base class of that side."""

    class Own(side.package.EventEnum):  # type: ignore[misc, name-defined]  # of either package
        TICK = "tick"
        TOCK = "tock"

    return Own


# Deeds

terminate: Final[Deed] = methodcaller("terminate")
terminate_epoch: Final[Deed] = methodcaller("terminate_epoch")
interrupt: Final[Deed] = methodcaller("interrupt")


def fail(*args: Any) -> None:
    raise Fault


def take(engine: Any, error: BaseException) -> None:
    """Answer an exception by doing nothing, which takes it."""


def put(**attributes: object) -> Deed:
    """Make a deed that writes attributes of the state."""

    def write(engine: Any) -> None:
        for name, value in attributes.items():
            setattr(engine.state, name, value)

    return write


class Tale:
    """An engine that tells its events, the warnings and the exceptions of its runs in words.

    Args:
        side: whose engine.
        deeds: what is done at which firing of which event, "P1" being the process function's.
        answer: a handler of EXCEPTION_RAISED, which is told as well; without one nothing listens.
    """

    def __init__(
        self,
        side: Side,
        deeds: Mapping[str, Deed] = {},
        answer: Callable[[Any, BaseException], object] | None = None,
    ) -> None:
        self.side, self.deeds, self.answer = side, deeds, answer
        self.words: list[str] = []
        self.batches: list[Any] = []
        self.firings: Counter[str] = Counter()
        self.engine = side.engine(self._process)
        for event in side.events:
            if event.name != "EXCEPTION_RAISED" or answer is not None:
                self.engine.add_event_handler(event, self._teller(WORDS[event.name]))

    def run(self, data: Any = (0, 1), max_epochs: int | None = 2, **limits: Any) -> str:
        """Run, and give the words of this run."""
        begin = len(self.words)
        if "max_iters" in limits:
            max_epochs = None
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = self._warned  # type: ignore[assignment]  # a recorder
            try:
                self.engine.run(data, max_epochs=max_epochs, **limits)
            except BaseException as error:
                self.words.append(f"!{type(error).__name__}")
        return " ".join(self.words[begin:])

    def _process(self, engine: Any, batch: Any) -> Any:
        self.batches.append(batch)
        self._act("P")
        return batch

    def _teller(self, word: str) -> Callable[..., None]:
        def tell(engine: Any, *args: Any, **kwargs: Any) -> None:
            self.words.append(word)
            self._act(word)
            if word == "E" and self.answer is not None:
                self.answer(engine, *args)

        return tell

    def _act(self, word: str) -> None:
        self.firings[word] += 1
        deed = self.deeds.get(f"{word}{self.firings[word]}")
        if deed is not None:
            deed(self.engine)

    def _warned(self, *args: Any) -> None:
        self.words.append("W")


def tale(side: Side, deeds: Mapping[str, Deed] = {}, data: Any = (0, 1), **limits: Any) -> str:
    """Tell of one run."""
    return Tale(side, deeds).run(data, **limits)
