"""Reading: where a feature finds the metric that it reads.

It acts at the event where a feature before it sets the metric, or at an event that it is told.
"""

from __future__ import annotations

import difflib
from typing import Any

from fengine import Loop, State, When


def where_set(loop: Loop[Any, Any, Any], metric: str, at: When | None, reader: object) -> When:
    """Return the event to read a metric at.

    Raises:
        ValueError: no feature before the reader sets it, and no event is told.
    """
    if at is not None:
        return at
    if metric in loop.metrics:
        return loop.metrics[metric]
    known = ", ".join(sorted(loop.metrics)) or "none"
    alike = difflib.get_close_matches(metric, loop.metrics, n=1)
    way = f"Did you mean {alike[0]!r}? " if alike else ""
    raise ValueError(
        f"{reader!r} reads the metric {metric!r}, which no feature before it sets; set are "
        f"{known}. {way}Put the feature that sets {metric!r} before this one, such as "
        f"mean({metric!r}) or evaluation(...) with its prefix; or, where a handler of yours sets "
        f"it, say so before: loop.with_metrics({metric!r}, at=event)"
    )


def value_of(state: State[Any, Any, Any], metric: str, reader: object) -> float:
    """Return the value of a metric.

    Raises:
        LookupError: it is not set.
    """
    value = state.metrics.get(metric)
    if value is None:
        known = ", ".join(sorted(state.metrics)) or "none"
        raise LookupError(
            f"{reader!r} reads the metric {metric!r} at {state.event!r}, where it is not set; set "
            f"are {known}. Did its span end without an output, or is its result not one number?"
        )
    return value
