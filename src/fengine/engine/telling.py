"""What an Engine writes to its log, in our words or in others.

Programs filter log records by their text, so the texts are a value of the engine. An empty text is
not written. A text is made only where the logger takes it.
"""

from __future__ import annotations

import logging
from typing import Any, Protocol, final

import attrs

from fengine.core.events import rank_at
from fengine.core.phases import is_in_iteration
from fengine.engine.utils import _to_hours_mins_secs
from fengine.run.box import Box

AnyBox = Box[Any, Any, Any]


class Words(Protocol):
    """Be the texts for what happens to an engine."""

    def begins(self, name: str, box: AnyBox) -> str:
        """Say that a run begins or goes on."""

    def ends(self, name: str, box: AnyBox, took: float) -> str:
        """Say that a run has ended well, or is paused."""

    def epoch_ends(self, name: str, box: AnyBox, took: float) -> str:
        """Say that an epoch has ended; called at the event that ends it."""

    def fails(self, name: str, box: AnyBox, error: BaseException) -> str:
        """Say that something has failed."""

    def leaves(self, name: str, box: AnyBox, error: BaseException) -> str:
        """Say that an exception leaves a run, which `fails` has told of."""

    def fires(self, name: str, box: AnyBox, event: object) -> str:
        """Say that an event is fired."""

    def is_asked(self, name: str, box: AnyBox, wish: str) -> str:
        """Say that something is asked for: `terminate`, `terminate_epoch` or `interrupt`."""

    def adds(self, name: str, box: AnyBox, event: object) -> str:
        """Say that a handler was added."""


@final
@attrs.frozen
class OwnWords:
    """Say what an engine does, and where in the run."""

    def begins(self, name: str, box: AnyBox) -> str:
        """Say that a run begins or goes on."""
        limits = box.limits
        named = ("max_epochs", "max_iters", "epoch_length")
        said = ", ".join(f"{limit}={getattr(limits, limit)}" for limit in named)
        return f"{_place(name, box)}, runs with {said}"

    def ends(self, name: str, box: AnyBox, took: float) -> str:
        """Say that a run has ended well, or is paused."""
        return f"{_place(name, box)}, is {box.status.value} after {_shown(took)}"

    def epoch_ends(self, name: str, box: AnyBox, took: float) -> str:
        """Say that an epoch has ended."""
        return f"{_place(name, box)}, has ended an epoch after {_shown(took)}"

    def fails(self, name: str, box: AnyBox, error: BaseException) -> str:
        """Say that something has failed."""
        return f"{name} is stopped by {error!r}"

    def leaves(self, name: str, box: AnyBox, error: BaseException) -> str:
        """Say nothing more."""
        return ""

    def fires(self, name: str, box: AnyBox, event: object) -> str:
        """Say that an event is fired."""
        return f"{name} fires {event}"

    def is_asked(self, name: str, box: AnyBox, wish: str) -> str:
        """Say nothing: what is asked for is seen by what follows."""
        return ""

    def adds(self, name: str, box: AnyBox, event: object) -> str:
        """Say nothing."""
        return ""


def fails_in_iteration(box: AnyBox, error: BaseException) -> bool:
    """Tell whether a failure ends the epoch alone, where a handler takes it."""
    return is_in_iteration(rank_at(box.event)) and isinstance(error, Exception)


def tell(engine: Any, what: str, *values: object, level: int = logging.INFO) -> None:
    """Write to the log of an engine.

    Args:
        engine: the engine.
        what: the name of a method of `Words`.
        *values: what it takes beside the name of the engine and the run.
        level: of the record.
    """
    if not engine.logger.isEnabledFor(level):
        return
    inside = engine._fengine
    text = getattr(inside.words, what)(type(engine).__name__, inside.state._fengine.box, *values)
    if text:
        engine.logger.log(level, "%s", text)


def _place(name: str, box: AnyBox) -> str:
    return f"{name}, at epoch {box.epoch}, iteration {box.iteration}"


def _shown(seconds: float) -> str:
    return "{:02d}:{:02d}:{:06.3f}".format(*_to_hours_mins_secs(seconds))
