"""The handlers of an Engine: a live list of (handler, args, kwargs) for each event.

Code beside the Engine reads and changes these lists, so they are lists. A list that grows while its
event fires is followed to its end. Taking a handler away makes a new list, so that the firing that
is under way goes on with the old one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, Final, Self, TypeAlias, final

import attrs
from typing_extensions import override

from fengine.core.phases import PHASES, Fires
from fengine.engine.calling import Adapted, qualified_name
from fengine.engine.enums import Events, core_name
from fengine.engine.event_filters import Once, Stride

Entry: TypeAlias = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


EVERY_ITERATION: Final = frozenset(
    name for name, phase in PHASES.items() if phase.fires is Fires.IN_EACH_ITERATION
)


@final
class HandlerLists(dict[Any, list[Entry]]):
    """Map each event to its list, made when it is first asked for.

    `by_name` maps the loop's names of built-in events to those same lists: the names that the loop
    has to yield. Rare events are always among them; those of every iteration once they have a list.
    """

    def __init__(self) -> None:
        super().__init__()
        self.by_name: dict[str, list[Entry]] = {
            event.value: [] for event in Events if event.value not in EVERY_ITERATION
        }

    def __missing__(self, event: Any) -> list[Entry]:
        """Make an empty list for an event."""
        self[event] = self.by_name.get(core_name(event) or "", [])
        return self[event]

    @override
    def __setitem__(self, event: Any, entries: list[Entry]) -> None:
        super().__setitem__(event, entries)
        name = core_name(event)
        if name is not None:
            self.by_name[name] = entries

    @override
    def __delitem__(self, event: Any) -> None:
        super().__delitem__(event)
        name = core_name(event)
        if name in EVERY_ITERATION:
            del self.by_name[name]
        elif name is not None:
            self.by_name[name] = []

    # What dict has by these names goes past the methods above.
    popitem = MutableMapping.popitem
    clear = MutableMapping.clear
    update = MutableMapping.update

    @override
    def pop(self, event: Any, *default: Any) -> Any:
        """Take a list out of the table, and return it."""
        if event not in self:
            return super().pop(event, *default)
        entries = self[event]
        del self[event]
        return entries

    @override
    def setdefault(self, event: Any, entries: Any = None, /) -> Any:
        """Return the list of an event; put one there first if it has none."""
        if event not in self and entries is not None:
            self[event] = entries
        return self[event]

    @override
    def __ior__(self, table: Any) -> Self:  # type: ignore[override]  # those of dict
        """Take up the lists of another table."""
        self.update(table)
        return self

    def become(self, table: Mapping[Any, list[Entry]]) -> None:
        """Have the lists of another table, and no others."""
        lists = dict(table)
        self.clear()
        self.update(lists)

    @override
    def __reduce__(self) -> Any:
        return HandlerLists, (), None, None, iter(list(self.items()))


@final
@attrs.frozen
class Question:
    """Ask a filter for the count of an event.

    `attr` is the counter of the event where it was known when the handler was added.
    """

    event: Any
    attr: str | None
    filter: Callable[[Any, int], bool]
    is_pure: bool = attrs.field(init=False)
    """Whether the answer is the same as long as no handler runs; of users' filters nobody knows."""

    @is_pure.default
    def _is_known(self) -> bool:
        return isinstance(self.filter, Stride | Once)

    def holds(self, engine: Any) -> object:
        """Tell whether the filter says yes."""
        inside, attr = engine._fengine, self.attr
        if attr is None:
            return self.filter(engine, inside.registrations.count(self.event, inside.state))
        return self.filter(engine, getattr(inside.state, attr))


class _Named:
    """Have room for a `__qualname__` beside slots; a `__getattr__` for it slows all reading."""


@final
@attrs.frozen
class Filtered(_Named):
    """Call a handler where the filter of its event holds; always takes the engine first.

    Neighbours that ask the same pure question share it.
    """

    question: Question
    handler: Callable[..., Any]
    takes_engine: bool

    def _parent(self) -> Callable[..., Any]:
        return original(self.handler)

    def __attrs_post_init__(self) -> None:
        """Have the name of the handler, which profilers print."""
        object.__setattr__(self, "__qualname__", qualified_name(self.handler))

    @override
    def __reduce__(self) -> Any:
        return Filtered, (self.question, self.handler, self.takes_engine)

    def __call__(self, engine: Any, *args: Any, **kwargs: Any) -> Any:
        """Call the handler, with the engine if it takes it, unless the filter says no."""
        if not self.question.holds(engine):
            return None
        return (
            self.handler(engine, *args, **kwargs)
            if self.takes_engine
            else self.handler(*args, **kwargs)
        )


@final
@attrs.frozen
class Surrounded(_Named):
    """Have a handler called by something that is put around it."""

    handler: Callable[..., Any]
    around: Callable[..., Any]

    def _parent(self) -> Callable[..., Any]:
        return original(self.handler)

    def __attrs_post_init__(self) -> None:
        """Have the name of the handler, which profilers print."""
        object.__setattr__(self, "__qualname__", qualified_name(self.handler))

    @override
    def __reduce__(self) -> Any:
        return Surrounded, (self.handler, self.around)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Have the handler called."""
        return self.around(self.handler, *args, **kwargs)


def original(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Return the user's handler that an entry of the table stands for."""
    # A profiler of pytorch-ignite puts a wrapper around it.
    for held in (handler, getattr(handler, "__wrapped__", None)):
        if isinstance(held, Filtered | Adapted | Surrounded):
            return held._parent()
    return handler
