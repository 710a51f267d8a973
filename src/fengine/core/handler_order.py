"""Handler order: in which order the handlers of one event run.

That is the order of registration, except where `runs_before` and `runs_after` ask for another. What
they name may be registered later, and under any filter; at an event where it does not listen, the
wish says nothing. An Onlooker comes after all others.
"""

from __future__ import annotations

from collections.abc import Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any

from fengine.core.describe import describe
from fengine.core.registration import Registration
from fengine.core.state import Batch, Output, User
from fengine.core.taking import Onlooker


def ordered(
    registrations: Sequence[Registration[Batch, Output, User]],
) -> tuple[Registration[Batch, Output, User], ...]:
    """Give the registrations of one event in the order in which they run.

    Laws: every wish is kept; without wishes nothing moves; what is ordered stays as it is.

    Raises:
        ValueError: the wishes go round in a circle, which is named.
    """
    registrations = sorted(registrations, key=lambda one: isinstance(one.handler, Onlooker))
    if not any(one.runs_before or one.runs_after for one in registrations):
        return tuple(registrations)
    before: dict[int, set[int]] = {place: set() for place in range(len(registrations))}
    for place, one in enumerate(registrations):
        for other_place, other in enumerate(registrations):
            if other.handler in one.runs_after:
                before[place].add(other_place)
            if other.handler in one.runs_before:
                before[other_place].add(place)
    try:
        TopologicalSorter(before).prepare()
    except CycleError as error:
        path = " runs before ".join(
            describe(registrations[place].handler) for place in error.args[1]
        )
        raise ValueError(
            f"the handlers of {registrations[0].event!r} cannot be put in order: {path}; "
            "leave one runs_before= or runs_after= out"
        ) from None
    waiting = list(before)
    sorted_places: list[int] = []
    while waiting:
        place = next(place for place in waiting if before[place].isdisjoint(waiting))
        waiting.remove(place)
        sorted_places.append(place)
    return tuple(registrations[place] for place in sorted_places)


def require_others(registrations: Sequence[Registration[Any, Any, Any]]) -> None:
    """Refuse to run before or after a handler that listens to no event at all.

    Raises:
        ValueError: there is such a wish.
    """
    for one in registrations:
        for wish, named in (("runs_before", one.runs_before), ("runs_after", one.runs_after)):
            for handler in named:
                if not any(other.handler == handler for other in registrations):
                    raise ValueError(
                        f"{describe(one.handler)} is registered for {one.event!r} with {wish}="
                        f"{describe(handler)}, which is not registered; register it, or leave "
                        f"{wish} out"
                    )
