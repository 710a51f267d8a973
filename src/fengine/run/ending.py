"""Ending: why a run ended, in a sentence.

Nothing here decides anything; the script does.
"""

from __future__ import annotations

from typing import Any

from fengine.core.events import AnyEvent
from fengine.core.outcome import Status
from fengine.core.table import where_in_run
from fengine.run.box import Box
from fengine.run.failures import said_of


def reason(box: Box[Any, Any, Any], error: BaseException | None) -> str:
    """Say why a run ended: its limits, its data, who asked for it and where, or what failed.

    Args:
        box: the run, which has its last status.
        error: the exception that leaves it, or None.
    """
    if error is not None:
        return f"{_in_words(error)} was raised {said_of(error) or where_in_run(box)}"
    if box.status is Status.COMPLETED:
        return _completed(box)
    what = "a pause" if box.status is Status.INTERRUPTED else "the end"
    if box.asked is None:
        who = "another rank" if box.is_shared else "somebody before this run"
        return f"{who} asked for {what} {where_in_run(box)}"
    return f"{box.asked[0]} asked for {what} {box.asked[1]}"


def asking(who: str, event: AnyEvent, box: Box[Any, Any, Any]) -> tuple[str, str]:
    """Return who asks for something in a run, and where."""
    return who, f"at {event!r} in epoch {box.epoch}, iteration {box.iteration}"


def _completed(box: Box[Any, Any, Any]) -> str:
    limits = box.limits
    if limits.max_iters is not None and box.iteration >= limits.max_iters:
        return f"max_iters={limits.max_iters} was reached {where_in_run(box)}"
    if box.is_done():
        return f"max_epochs={limits.max_epochs} was reached {where_in_run(box)}"
    return f"the data ended {where_in_run(box)}"


def _in_words(error: BaseException) -> str:
    text = str(error)
    return f"{type(error).__qualname__}: {text}" if text else type(error).__qualname__
