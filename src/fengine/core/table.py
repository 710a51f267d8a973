"""The table of who listens to what, and firing as a fold over it.

A table holds registrations in their order; compiled, it gives those of one event at once. `fire`
threads a state through them and does nothing else.

Does not live here: when an event fires (`script`), and who calls `fire` (`runtime.driver`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Generic, TypeAlias, final

import attrs

from fengine.core.describe import describe
from fengine.core.events import AnyEvent, PayloadEvent
from fengine.core.filters import Filter, asks_for_numbers
from fengine.core.handlers import AnyHandler, kind_of, moved
from fengine.core.order import ordered, require_others
from fengine.core.registration import Registration
from fengine.core.state import Batch, Output, State, User
from fengine.core.transitions import shown


@final
@attrs.frozen
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

    def adding(
        self, *registrations: Registration[Batch, Output, User]
    ) -> Table[Batch, Output, User]:
        """Give this table with registrations behind those it has.

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
        """Give this table without the latest registration of the same event, filter and handler.

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
        """Give, by the name of their event, the registrations in the order in which they run."""
        found: dict[str, list[Registration[Batch, Output, User]]] = {}
        for registration in self.registrations:
            found.setdefault(registration.event.name, []).append(registration)
        return {name: ordered(registrations) for name, registrations in found.items()}

    def for_run(self) -> dict[str, tuple[Registration[Batch, Output, User], ...]]:
        """Give `in_order()`, where all that the order speaks of is there.

        Raises:
            ValueError: one is to run before or after a handler that is not registered.
        """
        require_others(self.registrations)
        return self.in_order()

    def compiled(self) -> Compiled[Batch, Output, User]:
        """Give, by the name of their event, the handlers of `for_run()` in groups.

        Neighbours under the same filter are one group, if it asks for the number of the firing
        only, and that is no counter of the user's: then it holds for all of them or for none.

        Raises:
            ValueError: as for `for_run`.
        """
        return {name: _grouped(registrations) for name, registrations in self.for_run().items()}


# A filter, whether it asks for numbers only, and the handlers under it.
Group: TypeAlias = tuple[Filter | None, bool, tuple[AnyHandler[Batch, Output, User], ...]]
Compiled: TypeAlias = Mapping[str, tuple[Group[Batch, Output, User], ...]]


def _grouped(
    registrations: Iterable[Registration[Batch, Output, User]],
) -> tuple[Group[Batch, Output, User], ...]:
    groups: list[Group[Batch, Output, User]] = []
    for registration in registrations:
        filter, handler = registration.filter, registration.handler
        numbers = filter is None or asks_for_numbers(filter)
        alike = filter is None or (numbers and registration.event.attr in _KEPT)
        if alike and groups and groups[-1][0] == filter:
            groups[-1] = filter, numbers, (*groups[-1][2], handler)
        else:
            groups.append((filter, numbers, (handler,)))
    return tuple(groups)


def count(event: AnyEvent, state: State[Batch, Output, User]) -> int:
    """Give the number of the firing of `event` that `state` stands at, within the run.

    >>> from fengine import Events
    >>> count(Events.ITERATION_COMPLETED, State(iteration=7))
    7
    """
    if event.attr == "iteration":
        return state.iteration
    if event.attr == "epoch":
        return state.epoch
    if event.attr is not None:
        return state.attributes.get(event.attr, 0)
    if event.name in ("get_batch_started", "get_batch_completed"):
        return state.iteration + 1
    if event.name in ("started", "completed", "exited"):
        return 1
    return state.counts.get(event.name, 0)


def count_in_epoch(event: AnyEvent, state: State[Batch, Output, User]) -> int:
    """Give the number of the firing of `event` that `state` stands at, within the epoch.

    >>> from fengine import Events
    >>> count_in_epoch(Events.ITERATION_COMPLETED, State(epoch=2, iteration=7, batches=3))
    3
    """
    if event.name == "get_batch_started":
        return state.batches + 1
    if event.attr == "iteration" or event.name == "get_batch_completed":
        return state.batches
    return count(event, state) - state.ledger.counts_before.get(event.name, 0)


def fire(
    table: Compiled[Batch, Output, User],
    event: AnyEvent,
    state: State[Batch, Output, User],
    payload: object = None,
) -> State[Batch, Output, User]:
    """Thread a state through the handlers of an event whose filters hold, in their order.

    Laws: it equals calling those handlers by hand, one after the other; where there are none, the
    very state comes back. A draft is shown if somebody looks at it.

    Args:
        table: the handlers, as `Table.compiled` gives them.
        event: the event that fires.
        state: the state, standing at the event.
        payload: what a payload event hands to its handlers.

    Raises:
        TypeError: a handler returned something else than a state.
        ValueError: a handler returned a state that stands elsewhere in the run.
        BaseException: whatever a handler raised, with a note that says which one and where.

    >>> from fengine import Events
    >>> table = Table().adding(Registration(Events.STARTED, None, State.terminate)).compiled()
    >>> fire(table, Events.STARTED, State()).requests.terminate
    <Terminate.ANNOUNCED: 'announced'>
    """
    groups = table.get(event.name, ())
    carries = isinstance(event, PayloadEvent)
    wanted: Filter | None = None
    handler: AnyHandler[Batch, Output, User] | None = None
    number = in_epoch = _UNKNOWN
    try:
        for filter, numbers, handlers in groups:
            if filter is not None:
                wanted = filter
                if number == _UNKNOWN or event.attr not in _KEPT:
                    number, in_epoch = count(event, state), count_in_epoch(event, state)
                if not filter.holds(number, in_epoch, state if numbers else shown(state)):
                    continue
                wanted = None
            shown(state)
            for handler in handlers:
                result = handler(state, payload) if carries else handler(state)
                if result is state:
                    continue
                if type(result) is not State:
                    raise TypeError(_no_state(handler, result, event, state))
                if (
                    result.iteration != state.iteration
                    or result.epoch != state.epoch
                    or result.batches != state.batches
                    or (result.event is not state.event and result.event != state.event)
                ):
                    raise ValueError(f"handler {describe(handler)} {moved(state, result)}")
                state = result
    except BaseException as error:
        role, called = ("handler", handler) if wanted is None else ("filter", wanted)
        error.add_note(f"in {role} {describe(called)} of {event!r} {where_in_run(state)}")
        raise
    return state


# No firing has this number.
_UNKNOWN: Final = -1
# What counts the firings of an event, where that is not the user's: handlers cannot change it.
_KEPT: Final = (None, "iteration", "epoch")


def where_in_run(state: State[Batch, Output, User]) -> str:
    """Say where in the run a state stands: `at epoch 2, iteration 7`."""
    return f"at epoch {state.epoch}, iteration {state.iteration}"


def _no_state(
    handler: object, result: object, event: AnyEvent, state: State[Batch, Output, User]
) -> str:
    hint = " Did you forget 'return state'?" if result is None else ""
    return (
        f"handler {describe(handler)} returned {kind_of(result)} from {event!r} "
        f"{where_in_run(state)}; a handler returns a State.{hint}"
    )
