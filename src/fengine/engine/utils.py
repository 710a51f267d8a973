"""What code beside the documented package takes from its module `utils`, by the same names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fengine.engine.calling import check_signature
from fengine.engine.handler_lists import original


def _check_signature(
    fn: Callable[..., Any], fn_description: str, *args: Any, **kwargs: Any
) -> None:
    """Refuse a function, or the handler within one with a filter, that cannot be called so.

    Raises:
        TypeError: `fn` is not callable.
        ValueError: it takes other arguments.

    >>> _check_signature(lambda engine: None, "handler", "engine")
    """
    check_signature(original(fn), fn_description, *args, **kwargs)


def _to_hours_mins_secs(time_taken: float) -> tuple[int, int, float]:
    """Take seconds apart.

    >>> _to_hours_mins_secs(7384.5)
    (2, 3, 4.5)
    """
    minutes, seconds = divmod(time_taken, 60)
    return int(minutes // 60), int(minutes % 60), seconds
