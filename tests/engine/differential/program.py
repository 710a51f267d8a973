"""A program: runs of one engine, and what handlers and the process function do in them."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import attrs

import fengine.engine
from tests.engine.differential.batches import Data
from tests.engine.differential.deeds import OWN_EVENTS, Deed, Listener

LOOP_EVENTS: Final = tuple(event.value for event in fengine.engine.Events)
EVENTS: Final = (*LOOP_EVENTS, *OWN_EVENTS)
PROCESS: Final = "process"

Answer: TypeAlias = Literal["take", "raise", "replace", "stop"]


@attrs.frozen
class Act:
    """Do something at the n-th firing of an event, or the n-th call of the process function."""

    place: str
    firing: int
    deed: Deed


@attrs.frozen
class Run:
    """Call `run` once, after doing things."""

    data: Data = attrs.field(factory=Data)
    max_epochs: int | None = None
    max_iters: int | None = None
    epoch_length: int | None = None
    before: tuple[Deed, ...] = ()

    @property
    def limits(self) -> dict[str, int]:
        """The limits that are given."""
        given = {
            "max_epochs": self.max_epochs,
            "max_iters": self.max_iters,
            "epoch_length": self.epoch_length,
        }
        return {name: value for name, value in given.items() if value is not None}


@attrs.frozen
class Program:
    """Hold runs of one engine, and what happens in them.

    Args:
        runs: the calls of `run`.
        acts: what handlers and the process function do.
        quiet: the events that no handler listens to.
        answers: what the handler of EXCEPTION_RAISED does at its firings, over and over; nothing
            listens to it if there are none.
        removed: add a handler of EXCEPTION_RAISED, and take it away before the first run.
        listeners: further handlers.
        saves: the state's attribute `alpha` is saved and loaded too.
        pauses: whether `interrupt` is allowed.
    """

    runs: tuple[Run, ...] = (Run(),)
    acts: tuple[Act, ...] = ()
    quiet: frozenset[str] = frozenset()
    answers: tuple[Answer, ...] = ()
    removed: bool = False
    listeners: tuple[Listener, ...] = ()
    saves: bool = False
    pauses: bool = True
