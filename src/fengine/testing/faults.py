"""Faults: a loop in which a chosen handler fails at a chosen firing, and other changes of handlers.

A loop is a value, so this gives another loop, and the one that is tested stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeAlias, final

import attrs
from typing_extensions import override

from fengine.core.describe import describe
from fengine.core.events import AnyEvent, Event, PayloadEvent
from fengine.core.filters import counts_within_epoch, is_impossible_at
from fengine.core.handlers import AnyHandler
from fengine.core.phases import PHASES, Fires
from fengine.core.registration import Registration
from fengine.core.state import Batch, Output, State, User
from fengine.core.table import Table, count
from fengine.core.taking import StandIn
from fengine.loop import Loop
from fengine.testing.program import Fault

Error: TypeAlias = BaseException | type[BaseException]


def failing(
    loop: Loop[Batch, Output, User],
    event: AnyEvent,
    handler: AnyHandler[Batch, Output, User],
    *,
    firing: int = 1,
    error: Error | None = None,
) -> Loop[Batch, Output, User]:
    """Give a loop in which a handler raises at one firing of its event, instead of running.

    Resumed, it fails again at that firing; the loop itself, as often as it passes there, does not.

    Args:
        loop: the loop; it is not changed.
        event: the event, without a filter.
        handler: one of the handlers that the loop has for it.
        firing: at which firing of the event, as its filters number them.
        error: what it raises; a `Fault` unless given.

    Raises:
        TypeError: `firing` is no int, or `error` no exception.
        ValueError: the event has a filter, the loop has no such handler, or it does not run at
            that firing.

    >>> from fengine import Events, Loop, last_state, outputs
    >>> loop = Loop(outputs(abs)).on(Events.EPOCH_COMPLETED, State.terminate_epoch)
    >>> chosen = Events.EPOCH_COMPLETED, State.terminate_epoch
    >>> broken = failing(loop, *chosen, firing=2, error=OSError("disk full"))
    >>> try:
    ...     broken.run([-1, -2], max_epochs=3)
    ... except OSError as error:
    ...     print(last_state(error).iteration)
    4
    """
    _check(event, firing, error)
    chosen = Fault(event.name, firing) if error is None else error
    found = [
        registration
        for registration in loop.table.registrations
        if registration.event == event and registration.handler == handler
    ]
    if not found:
        known = [describe(one.handler) for one in loop.table.registrations if one.event == event]
        raise ValueError(
            f"{describe(handler)} is not registered for {event!r}; "
            f"known there: {', '.join(known) or 'no handler'}"
        )
    if not any(_runs_at(registration, firing) for registration in found):
        raise ValueError(
            f"{describe(handler)} never runs at firing {firing} of {event!r}: it is registered for "
            + ", ".join(f"{event!r}({registration.filter!r})" for registration in found)
        )

    def replaced(registration: Registration[Batch, Output, User]) -> AnyHandler[Any, Any, Any]:
        if registration not in found:
            return registration.handler
        return _Failing(registration.handler, event, firing, chosen)

    return with_handlers(loop, replaced)


def _check(event: object, firing: object, error: object) -> None:
    """Refuse what can never fail, or not in this way."""
    if not isinstance(event, Event | PayloadEvent):
        raise ValueError(
            f"{event!r} has a filter, or is no event; give the event without its filter"
        )
    if type(firing) is not int:
        raise TypeError(f"firing={firing!r} of type {type(firing).__name__} is not an int")
    if firing < 1:
        raise ValueError(f"firing={firing}: firings are numbered from 1")
    if firing > 1 and event.name in PHASES and PHASES[event.name].fires is Fires.IN_EACH_RUN:
        raise ValueError(f"firing={firing}: {event!r} fires once in a run; give firing=1")
    raisable = isinstance(error, type) and issubclass(error, BaseException)
    if not (error is None or raisable or isinstance(error, BaseException)):
        raise TypeError(
            f"error={error!r} of type {type(error).__name__} cannot be raised; give an exception"
        )


def with_handlers(
    loop: Loop[Batch, Output, User],
    replaced: Callable[[Registration[Batch, Output, User]], AnyHandler[Batch, Output, User]],
) -> Loop[Batch, Output, User]:
    """Give a loop with other handlers in the places of those that it has.

    >>> from fengine import Events, Loop, outputs
    >>> loop = Loop(outputs(abs)).on(Events.STARTED, State.terminate)
    >>> with_handlers(loop, lambda registration: State.interrupt).run([1]).status.value
    'interrupted'
    """
    # In the order in which they run: the wishes for an order name the old handlers.
    registrations = [
        Registration(registration.event, registration.filter, replaced(registration))
        for of_event in loop.table.for_run().values()
        for registration in of_event
    ]
    return attrs.evolve(loop, table=Table(tuple(registrations)))


@final
@attrs.frozen(repr=False)
class _Failing(StandIn, Generic[Batch, Output, User]):
    """Raise at one firing, and call the handler at the others."""

    handler: AnyHandler[Batch, Output, User]
    event: AnyEvent
    firing: int
    error: Error

    @override
    def stands_for(self) -> object:
        """Return the handler that is called where nothing fails."""
        return self.handler

    @override
    def __repr__(self) -> str:
        return f"failing({describe(self.handler)})"

    def __call__(
        self, state: State[Batch, Output, User], *payload: object
    ) -> State[Batch, Output, User]:
        if count(self.event, state) == self.firing:
            raise self.error
        return self.handler(state, *payload)


def _runs_at(registration: Registration[Any, Any, Any], firing: int) -> bool:
    wanted = registration.filter
    if wanted is None or counts_within_epoch(wanted):
        return True
    return not is_impossible_at(wanted, firing)
