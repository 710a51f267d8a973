"""Attaching: what is asked of an Engine by whatever serves one, without a word on its class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from fengine.core.describe import typed
from fengine.run.ranks import Alone, Ranks


class Handle(Protocol):
    """Be what takes a handler away again."""

    def remove(self) -> object:
        """Take it away."""


class AnyEngine(Protocol):
    """Be an Engine, as `fengine.engine.Engine` is: events of it are known by their names."""

    @property
    def state(self) -> Any:
        """The live state."""

    def add_event_handler(self, event_name: Any, handler: Callable[..., Any], /) -> Handle:
        """Have a handler called with the engine, whenever an event fires."""


class SavedEngine(AnyEngine, Protocol):
    """Be an Engine that can be written down."""

    @property
    def state_dict_user_keys(self) -> list[str]:
        """The names of the attributes of the state to write down."""


def require_engine(engine: object, user: object) -> None:
    """Refuse what is no Engine.

    Raises:
        TypeError: it has no state, or takes no handlers.

    >>> require_engine(3, "throughput()")
    Traceback (most recent call last):
    TypeError: throughput() is attached to an Engine, and 3 of type int is none; ...
    """
    if not callable(getattr(engine, "add_event_handler", None)) or not hasattr(engine, "state"):
        raise TypeError(
            f"{user} is attached to an Engine, and {typed(engine)} is "
            "none; give fengine.engine.Engine. To a Loop it is joined by `loop | feature`"
        )


def ranks_of(engine: AnyEngine) -> Ranks:
    """Return the processes that run an Engine together."""
    ranks: Ranks = getattr(getattr(engine, "_fengine", None), "ranks", Alone())
    return ranks


def call_as_runs_are_left(
    engine: AnyEngine, let_go: Callable[[BaseException | None], object]
) -> None:
    """Have something called as each run of an Engine is left, with its exception or None.

    A handler of EXCEPTION_RAISED will not do: where there is one, the Engine takes the exception
    for answered.
    """
    leaving: list[Callable[[BaseException | None], object]]
    leaving = getattr(getattr(engine, "_fengine", None), "leaving", [])
    leaving.append(let_go)
