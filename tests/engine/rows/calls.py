"""Calls of an Engine API to be played on a side, for the table of refusals."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from tests.engine.rows.sides import Side, identity

Call: TypeAlias = Callable[[Side], object]


class Indexed:
    """Give batches by index only, which is no iterable."""

    def __getitem__(self, index: int) -> int:
        return index


def engine_of(process: Any) -> Call:
    """Make an engine."""
    return lambda side: side.engine(process)


def event(**filters: Any) -> Call:
    """Filter an event."""
    return lambda side: side.events.EPOCH_STARTED(**filters)


def add(handler: Any, name: str = "STARTED", *args: Any, **kwargs: Any) -> Call:
    """Add a handler to an event."""
    return lambda side: side.engine().add_event_handler(side.events[name], handler, *args, **kwargs)


def register(*names: Any, **kwargs: Any) -> Call:
    return lambda side: side.engine().register_events(*names, **kwargs)


def run(*args: Any, state: dict[str, Any] | None = None, **kwargs: Any) -> Call:
    """Run an engine whose state has these attributes."""

    def call(side: Side) -> None:
        engine = side.engine()
        for name, value in (state or {}).items():
            setattr(engine.state, name, value)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            engine.run(*args, **kwargs)

    return call


def load(state_dict: Any = None, *keys: str, **more: Any) -> Call:
    """Load a dict of these entries into an engine with these user keys."""

    def call(side: Side) -> None:
        engine = side.engine()
        engine.state_dict_user_keys.extend(keys)
        engine.load_state_dict(more if state_dict is None else state_dict)

    return call


class Unsized:
    """Give one batch; `len` of it raises."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __iter__(self) -> Iterator[int]:
        return iter([1])

    def __len__(self) -> int:
        raise self.error


def remove_unknown(side: Side) -> None:
    engine = side.engine()
    engine.add_event_handler(side.events.STARTED, repr)
    engine.remove_event_handler(print, side.events.STARTED)


def forbidden_interrupt(side: Side) -> None:
    engine = side.engine()
    engine.interrupt_resume_enabled = False
    engine.interrupt()


def cut_early(name: str) -> Call:
    """Ask for the end of the epoch where none has a batch yet."""

    def call(side: Side) -> None:
        engine = side.engine()
        engine.add_event_handler(side.events[name], engine.terminate_epoch)
        engine.run([1])

    return call


def run_again(side: Side) -> None:
    side.engine(lambda engine, batch: engine.run([1])).run([1])


def without_iterator(side: Side) -> None:
    class Sub(side.package.Engine):  # type: ignore[misc, name-defined]  # of either package
        def _setup_engine(self) -> None:
            pass

    Sub(identity).run([1])


def empty_group(side: Side) -> None:
    class Sub(side.package.Engine):  # type: ignore[misc, name-defined]  # of either package
        _state_dict_one_of_opt_keys = ((),)

    Sub(identity).load_state_dict({"iteration": 0, "epoch_length": 1, "max_epochs": 1})


def save_without_attribute(side: Side) -> None:
    engine = side.engine()
    engine.state_dict_user_keys.append("rate")
    engine.state_dict()


def one(engine: Any) -> None:
    """Take the engine."""


def three(a: Any, b: Any, c: Any) -> None:
    """Take three arguments."""
