"""The table of who listens to what.

A table holds registrations in their order. Compiled, it holds the handlers of each event in groups,
for whoever fires it. The number of a firing, which filters ask for, is told here too.

Does not live here: when an event fires, and calling its handlers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Generic, Protocol, TypeAlias, final

import attrs
from immutables import Map
from typing_extensions import override

from fengine.core.describe import describe
from fengine.core.events import AnyEvent, PayloadEvent
from fengine.core.filters import Filter, asks_for_numbers
from fengine.core.handler_order import ordered, require_others
from fengine.core.handlers import AnyHandler
from fengine.core.missing import MISSING
from fengine.core.phases import (
    PHASES,
    Fires,
    has_batch_to_come,
    is_counted,
    is_report,
    rank_of,
)
from fengine.core.registration import Registration
from fengine.core.state import Batch, Output, User
from fengine.core.taking import acting, name_of_handler


@final
@attrs.frozen(repr=False)
class Table(Generic[Batch, Output, User]):
    """Hold registrations in their order.

    Laws: `table.adding(r).without(r) == table`; neither changes the table. Within one event,
    handlers run in the order of registration, as far as `runs_before` and `runs_after` allow.

    >>> from fengine import Events, State, compose
    >>> table = Table().adding(Registration(Events.STARTED, None, compose()))
    >>> [registration.event for registration in table.registrations]
    [Events.STARTED]
    """

    registrations: tuple[Registration[Batch, Output, User], ...] = ()

    @override
    def __repr__(self) -> str:
        return f"<Table of {self.in_words()}>"

    def in_words(self) -> str:
        """Say how many handlers there are."""
        number = len(self.registrations)
        return f"{number} {'handler' if number == 1 else 'handlers'}"

    def adding(
        self, *registrations: Registration[Batch, Output, User]
    ) -> Table[Batch, Output, User]:
        """Return this table with more registrations after those it has.

        Raises:
            ValueError: `runs_before` and `runs_after` of its handlers go round in a circle.
        """
        table = Table(self.registrations + registrations)
        for name in {registration.event.name for registration in registrations}:
            ordered([one for one in table.registrations if one.event.name == name])
        return table

    def without(
        self, registration: Registration[Batch, Output, User]
    ) -> Table[Batch, Output, User]:
        """Return this table without the latest registration of the same event, filter and handler.

        Raises:
            ValueError: there is none.
        """
        for place in reversed(range(len(self.registrations))):
            if self.registrations[place].is_alike(registration):
                return Table(self.registrations[:place] + self.registrations[place + 1 :])
        raise ValueError(
            f"{describe(registration.handler)} is not registered for {registration.event!r}"
            + (f"({registration.filter!r})" if registration.filter else "")
            + ", so there is nothing to take away"
        )

    def in_order(self) -> dict[str, tuple[Registration[Batch, Output, User], ...]]:
        """Return the registrations in the order in which they run, by the name of their event."""
        found: dict[str, list[Registration[Batch, Output, User]]] = {}
        for registration in self.registrations:
            found.setdefault(registration.event.name, []).append(registration)
        return {name: ordered(registrations) for name, registrations in found.items()}

    def for_run(self) -> dict[str, tuple[Registration[Batch, Output, User], ...]]:
        """Return `in_order()`, where all handlers that the order names are there.

        Raises:
            ValueError: one is to run before or after a handler that is not registered.
        """
        require_others(self.registrations)
        return self.in_order()

    def acting(self) -> Table[Batch, Output, User]:
        """Return the handlers that run where a loop is tried out, in their order.

        One that stands in for another is replaced by that other one.

        Raises:
            ValueError: as for `for_run`.
        """
        made = []
        for registrations in self.for_run().values():
            for one in registrations:
                handler: Any = acting(one.handler)
                if handler is not None:
                    made.append(attrs.evolve(one, handler=handler, runs_before=(), runs_after=()))
        return Table(tuple(made))

    def begun(self, event: AnyEvent, names: tuple[str, ...]) -> tuple[str, ...]:
        """Return the names of the first handlers of an event, which have run already.

        Args:
            event: the event.
            names: those that a state has, perhaps of a run with others that only looked on.

        Raises:
            ValueError: the handlers of the table begin with others.
        """
        wanted = [name for name in names if name]
        known = [name_of_handler(one.handler) for one in self.in_order().get(event.name, ())]
        named = [place for place, name in enumerate(known) if name]
        if [known[place] for place in named[: len(wanted)]] != wanted:
            found = ", ".join(known[place] for place in named) or "none"
            raise ValueError(
                f"the state was taken at {event!r}, after {', '.join(wanted)} had run there, and "
                f"going on runs the handlers after them. This loop has {found} there: give it the "
                "same ones first, in that order, or go on from a state that was taken after all of "
                "them"
            )
        return tuple(known[: named[len(wanted) - 1] + 1]) if wanted else ()

    def compiled(self) -> Compiled[Batch, Output, User]:
        """Return the handlers of `for_run()` in groups, by the name of their event.

        Neighbours under the same filter are one group if the filter asks for the number of the
        firing only, and the loop counts that number: then it holds for all of them or for none.

        Raises:
            ValueError: as for `for_run`.
        """
        return {name: _listening(registrations) for name, registrations in self.for_run().items()}


# A filter, whether it asks for numbers only, the handlers under it, and the names of all handlers
# of the event up to the last of those; none where the event reports.
Group: TypeAlias = tuple[
    Filter | None, bool, tuple[AnyHandler[Batch, Output, User], ...], tuple[str, ...]
]
Groups: TypeAlias = tuple[Group[Batch, Output, User], ...]


# Whether an event hands a payload to its handlers, whether it reports what happened, the
# handler that is called last (MISSING where that one is called earlier, too), and the handlers.
Listening: TypeAlias = tuple[bool, bool, object, Groups[Batch, Output, User]]
# By the name of the event.
Compiled: TypeAlias = Mapping[str, Listening[Batch, Output, User]]

# What counts the firings of an event where the loop does: handlers cannot change it.
COUNTED_BY_THE_LOOP: Final = (None, "iteration", "epoch")


def _listening(
    registrations: tuple[Registration[Batch, Output, User], ...],
) -> Listening[Batch, Output, User]:
    event, last = registrations[0].event, registrations[-1].handler
    is_called_once = sum(one.handler is last for one in registrations) == 1
    reports = is_report(event.name)
    groups = _grouped(registrations, reports=reports)
    return isinstance(event, PayloadEvent), reports, last if is_called_once else MISSING, groups


def _grouped(
    registrations: Iterable[Registration[Batch, Output, User]], *, reports: bool
) -> Groups[Batch, Output, User]:
    groups: list[Group[Batch, Output, User]] = []
    named: tuple[str, ...] = ()
    for registration in registrations:
        filter, handler = registration.filter, registration.handler
        named = () if reports else (*named, name_of_handler(handler))
        numbers = filter is None or asks_for_numbers(filter)
        kept = registration.event.attr in COUNTED_BY_THE_LOOP
        if groups and groups[-1][0] == filter and (filter is None or (numbers and kept)):
            groups[-1] = filter, numbers, (*groups[-1][2], handler), named
        else:
            groups.append((filter, numbers, (handler,), named))
    return tuple(groups)


class _Standing(Protocol):
    """Tell where a run stands, as a State does, and as the registers of a run do."""

    @property
    def iteration(self) -> int: ...
    @property
    def epoch(self) -> int: ...
    @property
    def batches(self) -> int: ...
    @property
    def event(self) -> AnyEvent | None: ...
    @property
    def counts(self) -> Map[str, int]: ...
    @property
    def attributes(self) -> Map[str, int]: ...
    @property
    def _counts_before(self) -> Map[str, int]: ...


def count(event: AnyEvent, place: _Standing) -> int:
    """Return the number within the run of the firing of `event` that a run stands at.

    >>> from fengine import Events, State
    >>> count(Events.ITERATION_COMPLETED, State(iteration=7))
    7
    """
    if event.attr == "iteration":
        return place.iteration
    if event.attr == "epoch":
        return place.epoch
    if event.attr is not None:
        return place.attributes.get(event.attr, 0)
    if is_counted(event.name, event.attr):
        return place.counts.get(event.name, 0)
    return 1 if PHASES[event.name].fires is Fires.IN_EACH_RUN else place.iteration + 1


def count_in_epoch(event: AnyEvent, place: _Standing) -> int:
    """Return the number within the epoch of the firing of `event` that a run stands at.

    >>> from fengine import Events, State
    >>> count_in_epoch(Events.ITERATION_COMPLETED, State(epoch=2, iteration=7, batches=3))
    3
    """
    if event.attr == "iteration":
        return place.batches
    phase = PHASES.get(event.name)
    if phase is not None and phase.is_numbered_in_epoch:
        return place.batches + has_batch_to_come(rank_of(event.name))
    return count(event, place) - place._counts_before.get(event.name, 0)


def where_in_run(place: _Standing) -> str:
    """Say where in the run a state stands: `at epoch 2, iteration 7`."""
    return f"at epoch {place.epoch}, iteration {place.iteration}"
