"""How a run of an Engine begins: what its arguments and its state together ask for.

Everything is checked first, and only then is anything changed.
"""

from __future__ import annotations

import numbers
from collections.abc import Iterable
from typing import Any, Final

from fengine.core.limits import Limits
from fengine.core.outcome import Status
from fengine.core.semantics import Semantics
from fengine.core.state import State as Record
from fengine.engine.engine_source import AnyBox, Feed, data_length
from fengine.engine.versions import version_of
from fengine.engine.wishes import Wishes


def begin(
    box: AnyBox,
    feed: Feed,
    wishes: Wishes,
    semantics: Semantics,
    data: Iterable[Any] | None,
    max_epochs: int | None,
    max_iters: int | None,
    epoch_length: int | None,
) -> None:
    """Bring a run to where the script can take over.

    Raises:
        TypeError: `data` is not iterable.
        ValueError: the limits contradict each other, the data or the state.
    """
    if data is not None and not isinstance(data, Iterable):
        raise TypeError(
            f"data={data!r} of type {type(data).__name__} is not iterable; give batches, such as a "
            "list or a DataLoader"
        )
    if max_epochs is not None and max_iters is not None:
        raise ValueError(
            f"both max_epochs={max_epochs} and max_iters={max_iters} are given; give one of them"
        )
    is_limited = max_epochs is not None or max_iters is not None
    limits = _asked_for(box, feed) if is_limited else box.limits
    bounded = limits.max_epochs is not None or limits.max_iters is not None
    for name, value in (("max_epochs", max_epochs), ("max_iters", max_iters)):
        if value is not None:
            check_limit(box, limits, name, value)
            limits = limits.replacing(name, value)
    suspended = box.status is Status.INTERRUPTED
    done = limits.are_reached(box.epoch, box.iteration) and not suspended
    starts_anew = done or not bounded
    if starts_anew and not is_limited:
        limits = limits.replacing("max_iters", None).replacing("max_epochs", 1)
    length = _length(
        box, feed, version_of(semantics).empty_data, data, epoch_length, resumed=not starts_anew
    )
    if starts_anew:
        feed.skipped, feed.has_short_passes = None, False
        if suspended:
            feed.drop()
            suspended = False
        box.iteration, box.epoch = 0, 0
    elif not suspended:
        epoch_is_done = feed.has_short_passes and box.iteration == feed.ended_at
        feed.skipped = 0 if epoch_is_done or wishes.flag("terminate", box) else None
    feed.ended_at = None
    if not suspended:
        forget_run(box)
        wishes.posted.clear()
    box.limits = limits.replacing("epoch_length", length)
    if feed.iterator is None:
        box.user["dataloader"] = data
    if suspended:
        # READY at an event: what was asked for there is done, what was asked for since is not.
        box.status = Status.READY
        wishes.take(box)
    else:
        feed.asked_length = epoch_length is not None or (feed.asked_length and not starts_anew)
        feed.said_by = None if feed.asked_length else box.user["dataloader"]
        feed.said_length = length if data_length(feed.said_by) == length else None


def forget_run(box: AnyBox) -> None:
    """Stand before a run, with the counters, the limits and the values of the user kept."""
    fresh = vars(Record())
    fresh.update({name: getattr(box, name) for name in _KEPT})
    box.__dict__ = fresh


_KEPT: Final = ("iteration", "epoch", "_batch", "_output", "user", "metrics", "limits")


def _asked_for(box: AnyBox, feed: Feed) -> Limits:
    """Return the limits of a run without the one that followed from another."""
    limits = box.limits
    if limits.max_iters is None or limits.max_epochs != feed.derived_max_epochs:
        return limits
    return limits.replacing("max_epochs", None)


def check_limit(box: AnyBox, limits: Limits, name: str, value: int) -> None:
    """Refuse a limit that contradicts those of the run, or is less than its progress.

    Raises:
        TypeError: it is no number.
        ValueError: it is refused.
    """
    check_number(name, value)
    other = "max_iters" if name == "max_epochs" else "max_epochs"
    bound = getattr(limits, other)
    if bound is not None:
        raise ValueError(
            f"{name}={value} is given, but the state already has {other}={bound}; "
            f"set engine.state.{other} = None to change over to {name}"
        )
    if getattr(limits, name) is not None:
        check_progress(name, value, box.epoch if name == "max_epochs" else box.iteration)


def check_number(name: str, value: object) -> None:
    """Refuse a limit that is no number.

    Raises:
        TypeError: it is refused.
    """
    if not isinstance(value, numbers.Real):
        raise TypeError(
            f"{name}={value!r} of type {type(value).__name__} is not a number; give an int"
        )


def check_progress(name: str, value: int, reached: int) -> None:
    """Refuse a limit that is too small, or less than what has been reached.

    Raises:
        TypeError: it is no number.
        ValueError: it is refused.
    """
    check_number(name, value)
    if value < 1:
        raise ValueError(f"{name}={value} is too small; it is at least 1")
    if value < reached:
        raise ValueError(
            f"{name}={value} is less than the {reached} that the run has reached already; give a "
            f"larger one, or set engine.state.{name} = None to start again"
        )


def _length(
    box: AnyBox,
    feed: Feed,
    takes_empty_data: bool,
    data: Iterable[Any] | None,
    given: int | None,
    *,
    resumed: bool,
) -> int | None:
    """Return the epoch length of a run, or None to find it out."""
    known = box.limits.epoch_length
    if known == 0 and not (resumed and box.status is Status.INTERRUPTED):
        known = None  # found out from empty data, it says nothing about other data
    if resumed and known is not None:
        if given is not None and given != known:
            raise ValueError(
                f"epoch_length={given} is given, but the run to go on with has "
                f"epoch_length={known}; give the same, or set engine.state.max_epochs = None to "
                "start again"
            )
        feed.has_learned_length &= given is None
        return known
    length = given if given is not None else data_length(data)
    if given is None and length == 0 and takes_empty_data:
        return None
    found_out_again = feed.has_learned_length and length is None
    if length is None and (data is None or not feed.has_learned_length):
        length = known
    if data is None and length is None:
        raise ValueError(
            "data is None and no epoch_length is known; give data, or epoch_length for a run "
            "without data"
        )
    if length is not None and not isinstance(length, numbers.Integral):
        raise ValueError(
            f"epoch_length={length!r} of type {type(length).__name__} is not an integer"
        )
    if length is not None and length < 1:
        what = "epoch_length" if given is not None else f"the length of data {type(data).__name__}"
        raise ValueError(f"{what} is {length}, so an epoch would have no batch; it is at least 1")
    feed.has_learned_length = found_out_again
    return length
