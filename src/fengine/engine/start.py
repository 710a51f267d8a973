"""How a run of an Engine begins: what its arguments and its state together ask for.

Everything is checked first, and only then is anything changed.
"""

from __future__ import annotations

import numbers
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from immutables import Map

from fengine.core.ledger import Ledger
from fengine.core.outcome import Status
from fengine.core.records import copier
from fengine.core.requests import NO_REQUESTS
from fengine.core.state import State as Record
from fengine.core.transitions import is_done, with_limit, with_status

if TYPE_CHECKING:
    from fengine.engine.engine import Engine

set_begin: Final = copier(Record, "event", "batches", "requests", "ledger", "counts")
set_counters: Final = copier(Record, "iteration", "epoch")


def begin(
    engine: Engine,
    data: Iterable[Any] | None,
    max_epochs: int | None,
    max_iters: int | None,
    epoch_length: int | None,
) -> None:
    """Bring an engine's record to where the script can take over.

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
    record = engine._box.state
    bounded = record.limits.max_epochs is not None or record.limits.max_iters is not None
    for name, value in (("max_epochs", max_epochs), ("max_iters", max_iters)):
        if value is not None:
            check_limit(record, name, value)
            record = with_limit(record, name, value)
    suspended = record.status is Status.INTERRUPTED
    if not bounded or (is_done(record) and not suspended):
        if max_epochs is None and max_iters is None:
            record = with_limit(with_limit(record, "max_iters", None), "max_epochs", 1)
        length = _length(engine, data, epoch_length, resumed=False)
        record = set_counters(set_begin(record, None, 0, NO_REQUESTS, Ledger(), Map()), 0, 0)
        engine._init_iter = None
        if suspended:
            engine._dataloader_iter = None
            suspended = False
    else:
        length = _length(engine, data, epoch_length, resumed=True)
        if not suspended:
            engine._init_iter = 0 if engine.should_terminate else None
            record = set_begin(record, None, 0, NO_REQUESTS, Ledger(), Map())
    engine._box.state = with_limit(record, "epoch_length", length)
    if engine._dataloader_iter is None:
        engine.state.dataloader = data
    if suspended:
        # READY at an event: what was asked for there is done, what was asked for since is not.
        engine._box.state = with_status(engine._box.state, Status.READY)
        engine._take_posts()
    else:
        engine._posts.clear()


def check_limit(record: Record[Any, Any, Any], name: str, value: int) -> None:
    """Refuse a limit that contradicts those of the state, or is behind its progress.

    Raises:
        TypeError: it is no number.
        ValueError: it is refused.
    """
    check_number(name, value)
    other = "max_iters" if name == "max_epochs" else "max_epochs"
    bound = getattr(record.limits, other)
    if bound is not None:
        raise ValueError(
            f"{name}={value} is given, but the state already has {other}={bound}; "
            f"set engine.state.{other} = None to change over to {name}"
        )
    if getattr(record.limits, name) is not None:
        check_progress(name, value, record.epoch if name == "max_epochs" else record.iteration)


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
    """Refuse a limit that is too small, or behind what has been reached.

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
            f"larger one, or set engine.state.{name} = None to start anew"
        )


def data_length(data: Any) -> int | None:
    """Give the length of the data, or None where it has none."""
    try:
        return len(data) if hasattr(data, "__len__") else None
    except TypeError:
        return None


def _length(
    engine: Engine, data: Iterable[Any] | None, given: int | None, *, resumed: bool
) -> int | None:
    """Give the epoch length of a run, or None to find it out."""
    known = engine._box.state.limits.epoch_length
    if known == 0 and not (resumed and engine._box.state.status is Status.INTERRUPTED):
        known = None  # found out from empty data, it says nothing about other data
    if resumed and known is not None:
        if given is not None and given != known:
            raise ValueError(
                f"epoch_length={given} is given, but the run to go on with has "
                f"epoch_length={known}; give the same, or set engine.state.max_epochs = None to "
                "start anew"
            )
        engine._epoch_length_learned &= given is None
        return known
    length = given if given is not None else data_length(data)
    if given is None and length == 0 and engine.semantics.empty_data:
        return None
    found_out_again = engine._epoch_length_learned and length is None
    if length is None and (data is None or not engine._epoch_length_learned):
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
    engine._epoch_length_learned = found_out_again
    return length
