"""Handlers: the table of who listens to what, firing as a fold, and the combinators.

A handler is a pure function `State -> State`; at a `PayloadEvent[P]` it takes the payload too.
Combinators give frozen records, not closures, so that tables compare, hash and pickle where their
parts do. `fire` threads a state through the handlers of one event and does nothing else.

Does not live here: when an event fires (`script`), and running the fold (`runtime.driver`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Generic, TypeAlias, TypeVar, cast, final

import attrs
from typing_extensions import TypeVar as DefaultTypeVar

from fengine.core.describe import describe, require_callable
from fengine.core.events import AnyEvent, EventSet, FilteredPayloadEvent, PayloadEvent
from fengine.core.filters import Filter
from fengine.core.state import Batch, Output, State, User

P = DefaultTypeVar("P", default=object)
Part = TypeVar("Part")

Handler: TypeAlias = Callable[[State[Batch, Output, User]], State[Batch, Output, User]]
PayloadHandler: TypeAlias = Callable[[State[Batch, Output, User], P], State[Batch, Output, User]]
AnyHandler: TypeAlias = Callable[..., State[Batch, Output, User]]


@final
@attrs.frozen
class Registration(Generic[Batch, Output, User]):
    """Hold one handler with the event that it listens to, and the filter on it or None."""

    event: AnyEvent
    filter: Filter | None
    handler: AnyHandler[Batch, Output, User]


@final
@attrs.frozen
class Table(Generic[Batch, Output, User]):
    """Hold registrations in their order.

    Laws: `table.adding(r).without(r) == table`; neither changes the table.

    >>> from fengine import Events
    >>> table = Table().adding(Registration(Events.STARTED, None, compose()))
    >>> [registration.event for registration in table.registrations]
    [Events.STARTED]
    """

    registrations: tuple[Registration[Batch, Output, User], ...] = ()

    def adding(
        self, *registrations: Registration[Batch, Output, User]
    ) -> Table[Batch, Output, User]:
        """Give this table with registrations behind those it has."""
        return Table(self.registrations + registrations)

    def without(
        self, registration: Registration[Batch, Output, User]
    ) -> Table[Batch, Output, User]:
        """Give this table without the latest registration equal to the given one.

        Raises:
            ValueError: there is none.
        """
        for place in reversed(range(len(self.registrations))):
            if self.registrations[place] == registration:
                return Table(self.registrations[:place] + self.registrations[place + 1 :])
        raise ValueError(
            f"{describe(registration.handler)} is not registered for {registration.event!r}"
            + (f"({registration.filter!r})" if registration.filter else "")
            + ", so there is nothing to take away"
        )

    def compiled(self) -> Compiled[Batch, Output, User]:
        """Sort the registrations by the name of their event, each kept in its order."""
        found: dict[str, list[Registration[Batch, Output, User]]] = {}
        for registration in self.registrations:
            found.setdefault(registration.event.name, []).append(registration)
        return {name: tuple(registrations) for name, registrations in found.items()}


Compiled: TypeAlias = Mapping[str, tuple[Registration[Batch, Output, User], ...]]


def members(
    event: AnyEvent | EventSet | FilteredPayloadEvent[object],
) -> Iterator[tuple[AnyEvent, Filter | None]]:
    """Give the single events of anything a handler can be registered for, with their filters."""
    if isinstance(event, EventSet):
        yield from event
    elif isinstance(event, FilteredPayloadEvent):
        yield event.event, event.filter
    else:
        yield event, None


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
    if event.name in ("get_batch_completed", "iteration_started", "iteration_completed"):
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
            if type(result) is not State:
                raise TypeError(_no_state(called, result, event, state))
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
        f"handler {describe(handler)} returned {_kind(result)} from {event!r} "
        f"{where_in_run(state)}; a handler returns a State.{hint}"
    )


def _kind(result: object) -> str:
    if result is None:
        return "None"
    if hasattr(result, "__await__"):
        return f"a {type(result).__name__} (was it declared 'async' by mistake?)"
    return f"a {type(result).__name__}"


@final
@attrs.frozen
class Compose(Generic[Batch, Output, User]):
    """Call handlers one after the other; made by `compose`."""

    handlers: tuple[Handler[Batch, Output, User], ...]

    def __call__(self, state: State[Batch, Output, User]) -> State[Batch, Output, User]:
        """Give the state as the last handler leaves it."""
        for handler in self.handlers:
            state = _stated(handler, handler(state))
        return state


@final
@attrs.frozen
class When(Generic[Batch, Output, User]):
    """Call a handler where a predicate holds; made by `when`."""

    predicate: Callable[[State[Batch, Output, User]], bool]
    handler: Handler[Batch, Output, User]

    def __call__(self, state: State[Batch, Output, User]) -> State[Batch, Output, User]:
        """Give the state as the handler leaves it, or as it is."""
        return _stated(self.handler, self.handler(state)) if self.predicate(state) else state


@final
@attrs.frozen
class Tap(Generic[Batch, Output, User]):
    """Call an effect and keep the state; made by `tap`."""

    effect: Callable[[State[Batch, Output, User]], object]

    def __call__(self, state: State[Batch, Output, User]) -> State[Batch, Output, User]:
        """Give the state as it is."""
        self.effect(state)
        return state


@final
@attrs.frozen
class Focus(Generic[Batch, Output, Part]):
    """Call a handler on one field of the user's record; made by `focus`."""

    field: str
    handler: Handler[Batch, Output, Part]

    def __call__(self, state: State[Batch, Output, User]) -> State[Batch, Output, User]:
        """Give the state with one part of the user's record renewed."""
        whole = state.user
        if not hasattr(whole, self.field):
            raise AttributeError(
                f"focus({self.field!r}): the user's record {whole!r} has no field "
                f"{self.field!r}; start the run with a record that has: run(..., user=...)"
            )
        on_part = cast("State[Batch, Output, Part]", state.evolve(user=getattr(whole, self.field)))
        result = _stated(self.handler, self.handler(on_part))
        back = cast("State[Batch, Output, User]", result)
        if result.user is on_part.user:
            return back.evolve(user=whole)
        return back.evolve(user=cast("User", _replaced(whole, self.field, result.user)))


def compose(*handlers: Handler[Batch, Output, User]) -> Handler[Batch, Output, User]:
    """Join handlers into one that calls them in order.

    Laws: it is associative; `compose()` changes nothing; `compose(h) == h`.

    Raises:
        TypeError: something is not a function of one state.

    >>> both = compose(State.terminate, State.interrupt)
    >>> both(State()) == State().terminate().interrupt()
    True
    >>> compose(compose(), State.terminate) == compose(State.terminate)
    True
    """
    flat: list[Handler[Batch, Output, User]] = []
    for handler in handlers:
        require_callable(handler, "a handler", "state")
        flat.extend(handler.handlers if isinstance(handler, Compose) else [handler])
    return flat[0] if len(flat) == 1 else Compose(tuple(flat))


def when(
    predicate: Callable[[State[Batch, Output, User]], bool],
    handler: Handler[Batch, Output, User],
) -> When[Batch, Output, User]:
    """Make a handler that acts only where a predicate of the state holds.

    Raises:
        TypeError: either is not a function of one state.

    >>> stop_late = when(lambda state: state.epoch > 5, State.terminate)
    >>> stop_late(State(epoch=2)) == State(epoch=2)
    True
    """
    require_callable(predicate, "a predicate", "state")
    require_callable(handler, "a handler", "state")
    return When(predicate, handler)


def tap(effect: Callable[[State[Batch, Output, User]], object]) -> Tap[Batch, Output, User]:
    """Make a handler of an effect, such as a print; what it returns cannot change the state.

    Raises:
        TypeError: `effect` is not a function of one state.

    >>> tap(lambda state: print("epoch", state.epoch))(State(epoch=2)) == State(epoch=2)
    epoch 2
    True
    """
    require_callable(effect, "an effect", "state")
    return Tap(effect)


def focus(field: str, handler: Handler[Batch, Output, Part]) -> Focus[Batch, Output, Part]:
    """Lift a handler that knows one part of the user's record to the whole record.

    Law: it changes no other field of the record.

    Args:
        field: the name of the part, a field of the user's attrs class, dataclass or named tuple.
        handler: a handler of states whose `user` is that part.

    Raises:
        TypeError: `field` is not a string, or `handler` not a function of one state.

    >>> import attrs
    >>> @attrs.frozen
    ... class Both:
    ...     best: float
    ...     epochs: int
    >>> def count_epochs(state: State[int, float, int]) -> State[int, float, int]:
    ...     return state.evolve(user=state.user + 1)
    >>> focus("epochs", count_epochs)(State(user=Both(0.5, 1))).user
    Both(best=0.5, epochs=2)
    """
    if not isinstance(field, str):
        raise TypeError(f"focus takes the name of a field first, not {field!r}")
    require_callable(handler, "a handler", "state")
    return Focus(field, handler)


def _stated(handler: object, result: State[Batch, Output, User]) -> State[Batch, Output, User]:
    if type(result) is not State:
        hint = " Did you forget 'return state'?" if result is None else ""
        raise TypeError(
            f"handler {describe(handler)} returned {_kind(result)}; "
            f"a handler returns a State.{hint}"
        )
    return result


def _replaced(record: object, field: str, value: object) -> object:
    kind = type(record)
    if attrs.has(kind):
        return kind(
            **{
                f.alias: value if f.name == field else getattr(record, f.name)
                for f in attrs.fields(kind)
                if f.init
            }
        )
    replace = getattr(record, "_replace", None)
    if callable(replace):
        return replace(**{field: value})
    if dataclasses.is_dataclass(record) and not isinstance(record, type):
        return dataclasses.replace(record, **{field: value})
    raise TypeError(
        f"focus({field!r}) cannot replace a field of {record!r}; make the user's record an attrs "
        "class, a dataclass or a named tuple"
    )
