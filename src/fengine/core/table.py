"""The table of who listens to what, and firing as a fold over it.

A table holds registrations in their order; compiled, it gives those of one event at once. `fire`
threads a state through them and does nothing else.

Does not live here: when an event fires (`script`), and who calls `fire` (`runtime.driver`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeAlias, final

import attrs

from fengine.core.describe import describe
from fengine.core.events import AnyEvent, PayloadEvent
from fengine.core.handlers import kind_of, moved
from fengine.core.order import ordered, require_others
from fengine.core.registration import Registration
from fengine.core.state import Batch, Output, State, User


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

    def in_order(self) -> Compiled[Batch, Output, User]:
        """Give, by the name of their event, the registrations in the order in which they run."""
        found: dict[str, list[Registration[Batch, Output, User]]] = {}
        for registration in self.registrations:
            found.setdefault(registration.event.name, []).append(registration)
        return {name: ordered(registrations) for name, registrations in found.items()}

    def compiled(self) -> Compiled[Batch, Output, User]:
        """Give `in_order()` for a run.

        Raises:
            ValueError: one is to run before or after a handler that is not registered.
        """
        require_others(self.registrations)
        return self.in_order()


Compiled: TypeAlias = Mapping[str, tuple[Registration[Batch, Output, User], ...]]


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
    very state comes back.

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
    registrations = table.get(event.name, ())
    carries = isinstance(event, PayloadEvent)
    role = "handler"
    called: object = None
    try:
        for registration in registrations:
            wanted = registration.filter
            if wanted is not None:
                role, called = "filter", wanted
                if not wanted.holds(count(event, state), count_in_epoch(event, state), state):
                    continue
            role, called = "handler", registration.handler
            result = called(state, payload) if carries else called(state)
            if result is not state:
                if type(result) is not State:
                    raise TypeError(_no_state(called, result, event, state))
                if (
                    result.iteration != state.iteration
                    or result.epoch != state.epoch
                    or result.batches != state.batches
                    or (result.event is not state.event and result.event != state.event)
                ):
                    raise ValueError(f"handler {describe(called)} {moved(state, result)}")
                state = result
    except BaseException as error:
        error.add_note(f"in {role} {describe(called)} of {event!r} {where_in_run(state)}")
        raise
    return state


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
