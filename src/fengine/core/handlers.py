"""Handlers, and the combinators that make handlers of handlers.

A handler is a pure function `State -> State`; at a `PayloadEvent[P]` it takes the payload too.
Combinators give frozen records, not closures, so that what is made of them compares, hashes and
pickles where its parts do.

Does not live here: who listens to what, and firing (`table`).
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any, Concatenate, Generic, Protocol, TypeAlias, TypeVar, cast, final, overload

import attrs
from typing_extensions import TypeVar as DefaultTypeVar
from typing_extensions import override

from fengine.core.describe import require_callable, required
from fengine.core.returned import stated
from fengine.core.state import Batch, Output, State, User
from fengine.core.taking import Combined, Takes, first_in_need, not_a_state, takes

P = DefaultTypeVar("P", default=object)
Part = TypeVar("Part")

Handler: TypeAlias = Callable[[State[Batch, Output, User]], State[Batch, Output, User]]
"""What `on` takes at an event: a function from state to state."""
PayloadHandler: TypeAlias = Callable[[State[Batch, Output, User], P], State[Batch, Output, User]]
"""What `on` takes at an event with a payload: it gets that as well."""
AnyHandler: TypeAlias = Callable[..., State[Batch, Output, User]]


class EitherHandler(Protocol[Batch, Output, User]):
    """Be a handler of any event: it takes a payload, and can do without one."""

    def __call__(
        self, state: State[Batch, Output, User], payload: object = None, /
    ) -> State[Batch, Output, User]:
        """Return the state."""


# With or without a payload, whatever it is.
AtAnyEvent: TypeAlias = Callable[
    Concatenate[State[Batch, Output, User], ...], State[Batch, Output, User]
]


def _called(
    handler: AnyHandler[Batch, Output, User],
    accepted: Takes,
    state: State[Batch, Output, User],
    payload: tuple[object, ...],
) -> State[Batch, Output, User]:
    """Call a handler as its event does, without the payload if it takes none."""
    result = handler(state, *payload) if accepted.payload else handler(state)
    return stated(handler, result)


def _take_up(
    handler: Compose[Any, Any, Any] | Tap[Any, Any, Any] | Focus[Any, Any, Any],
    kept: Any,
) -> None:
    """Set the fields of a handler that `copy` and `pickle` kept, and find out the others."""
    fields: dict[str, Any] = kept[1] if isinstance(kept, tuple) else kept
    for field in attrs.fields(type(handler)):
        if field.init:
            object.__setattr__(handler, field.name, fields[field.name])
    handler.__attrs_post_init__()


@final
@attrs.frozen(repr=False)
class Compose(Combined, Generic[Batch, Output, User]):
    """Call handlers one after the other; made by `compose`."""

    handlers: tuple[AnyHandler[Batch, Output, User], ...]
    _accepted: tuple[Takes, ...] = attrs.field(init=False, eq=False)
    takes: Takes = attrs.field(init=False, eq=False)

    def __attrs_post_init__(self) -> None:
        """Ask the handlers once what they take."""
        accepted = tuple(map(takes, self.handlers))
        object.__setattr__(self, "_accepted", accepted)
        object.__setattr__(self, "takes", Takes(all(one.alone for one in accepted), payload=True))

    def __setstate__(self, kept: Any) -> None:
        """Take up what `copy` and `pickle` kept, of version 0.1 too."""
        _take_up(self, kept)

    @override
    def first_in_need(self) -> object:
        """Return the first part that cannot do without a payload."""
        return first_in_need(*zip(self.handlers, self._accepted, strict=True))

    @override
    def in_words(self, word: Callable[[object], str]) -> str:
        """Say what it is made of, with a word for each part."""
        return f"compose({', '.join(map(word, self.handlers))})"

    def __call__(
        self, state: State[Batch, Output, User], *payload: object
    ) -> State[Batch, Output, User]:
        """Return the state as the last handler leaves it."""
        if type(state) is not State:
            raise not_a_state(self, state)
        if not payload:
            for handler in self.handlers:
                state = stated(handler, handler(state))
            return state
        for handler, accepted in zip(self.handlers, self._accepted, strict=True):
            state = _called(handler, accepted, state, payload)
        return state


@final
@attrs.frozen(repr=False)
class When(Combined, Generic[Batch, Output, User]):
    """Call a handler where all predicates hold, each asked after those before it; made by `when`.

    It is flat, since one in another could not be nested deeper than Python calls functions.
    """

    predicates: tuple[Callable[..., bool], ...]
    handler: AnyHandler[Batch, Output, User]
    # What each of them takes, which is asked once:
    _asked: tuple[Takes, ...] = attrs.field(alias="asked", eq=False)
    _accepted: Takes = attrs.field(alias="accepted", eq=False)
    takes: Takes = attrs.field(eq=False)

    @override
    def first_in_need(self) -> object:
        """Return the first part that cannot do without a payload."""
        parts = (*self.predicates, self.handler)
        return first_in_need(*zip(parts, (*self._asked, self._accepted), strict=True))

    def __setstate__(self, kept: Any) -> None:
        """Take up what `copy` and `pickle` kept, of version 0.1 too."""
        fields: dict[str, Any] = kept[1] if isinstance(kept, tuple) else kept
        predicates, handler = fields.get("predicates"), fields["handler"]
        if predicates is None:
            predicates = (fields["predicate"],)
            if isinstance(handler, When):
                predicates, handler = predicates + handler.predicates, handler.handler
        asked = tuple(takes(predicate, "a predicate") for predicate in predicates)
        accepted = takes(handler)
        alone = accepted.alone and all(one.alone for one in asked)
        whole = Takes(alone, payload=True)
        self.__init__(predicates, handler, asked, accepted, whole)

    @override
    def in_words(self, word: Callable[[object], str]) -> str:
        """Say what it is made of, with a word for each part."""
        opened = "".join(f"when({word(predicate)}, " for predicate in self.predicates)
        return f"{opened}{word(self.handler)}{')' * len(self.predicates)}"

    def __call__(
        self, state: State[Batch, Output, User], *payload: object
    ) -> State[Batch, Output, User]:
        """Return the state as the handler leaves it, or as it is."""
        if type(state) is not State:
            raise not_a_state(self, state)
        if not payload:
            for predicate in self.predicates:
                if not predicate(state):
                    return state
            return stated(self.handler, self.handler(state))
        for predicate, asked in zip(self.predicates, self._asked, strict=True):
            if not (predicate(state, *payload) if asked.payload else predicate(state)):
                return state
        return _called(self.handler, self._accepted, state, payload)


@final
@attrs.frozen(repr=False)
class Tap(Combined, Generic[Batch, Output, User]):
    """Call an effect and keep the state; made by `tap`."""

    effect: Callable[..., object]
    _required: int = attrs.field(init=False, eq=False)
    takes: Takes = attrs.field(init=False, eq=False)

    def __attrs_post_init__(self) -> None:
        """Ask the effect once how many of its arguments it requires."""
        count = required(self.effect, "state", "payload")
        assert count is not None, "tap has asked"
        alone = required(self.effect, "state") is not None
        object.__setattr__(self, "_required", count)
        object.__setattr__(self, "takes", Takes(alone, payload=True))

    def __setstate__(self, kept: Any) -> None:
        """Take up what `copy` and `pickle` kept, of version 0.1 too."""
        _take_up(self, kept)

    @override
    def first_in_need(self) -> object:
        """Return the effect, which cannot do without a payload."""
        return self.effect

    @override
    def in_words(self, word: Callable[[object], str]) -> str:
        """Say what it is made of, with a word for each part."""
        return f"tap({word(self.effect)})"

    def __call__(
        self, state: State[Batch, Output, User], *payload: object
    ) -> State[Batch, Output, User]:
        """Return the state as it is."""
        if type(state) is not State:
            raise not_a_state(self, state)
        self.effect(*(state, *payload)[: self._required])
        return state


@final
@attrs.frozen(repr=False)
class Focus(Combined, Generic[Batch, Output, Part]):
    """Call a handler on one field of the user's record; made by `focus`."""

    field: str
    handler: AnyHandler[Batch, Output, Part]
    takes: Takes = attrs.field(init=False, eq=False)
    _acts: Takes = attrs.field(init=False, eq=False)

    def __attrs_post_init__(self) -> None:
        """Ask the handler once what it takes."""
        acts = takes(self.handler)
        object.__setattr__(self, "_acts", acts)
        object.__setattr__(self, "takes", Takes(acts.alone, payload=True))

    def __setstate__(self, kept: Any) -> None:
        """Take up what `copy` and `pickle` kept, of version 0.1 too."""
        _take_up(self, kept)

    @override
    def first_in_need(self) -> object:
        """Return the handler, which cannot do without a payload."""
        return self.handler

    @override
    def in_words(self, word: Callable[[object], str]) -> str:
        """Say what it is made of, with a word for each part."""
        return f"focus({self.field!r}, {word(self.handler)})"

    def __call__(
        self, state: State[Batch, Output, User], *payload: object
    ) -> State[Batch, Output, User]:
        """Return the state with one part of the user's record renewed."""
        if type(state) is not State:
            raise not_a_state(self, state)
        whole = state.user
        if self.field not in _fields(whole):
            raise AttributeError(
                f"focus({self.field!r}): the user's record {whole!r} has no field "
                f"{self.field!r}; start the run with an attrs class, a dataclass or a named tuple "
                "that has: run(..., user=...)"
            )
        on_part = cast("State[Batch, Output, Part]", state.evolve(user=getattr(whole, self.field)))
        if payload:
            result = _called(self.handler, self._acts, on_part, payload)
        else:
            result = stated(self.handler, self.handler(on_part))
        back = cast("State[Batch, Output, User]", result)
        if result.user is on_part.user:
            return back.evolve(user=whole)
        return back.evolve(user=cast("User", _replaced(whole, self.field, result.user)))


@overload
def compose(*handlers: Handler[Batch, Output, User]) -> AtAnyEvent[Batch, Output, User]: ...


@overload
def compose(
    *handlers: Handler[Batch, Output, User] | PayloadHandler[Batch, Output, User, P],
) -> PayloadHandler[Batch, Output, User, P]: ...


def compose(*handlers: AnyHandler[Batch, Output, User]) -> AnyHandler[Batch, Output, User]:
    """Join handlers into one that calls them in order.

    At a payload event, each handler that takes the payload gets it.

    Laws: it is associative; `compose()` changes nothing; `compose(h) == h`.

    Raises:
        TypeError: something is not a function of the state, or of the state and a payload.

    >>> both = compose(State.terminate, State.interrupt)
    >>> both(State()) == State().terminate().interrupt()
    True
    >>> compose(compose(), State.terminate) == compose(State.terminate)
    True
    """
    flat: list[AnyHandler[Batch, Output, User]] = []
    for handler in handlers:
        flat.extend(handler.handlers if isinstance(handler, Compose) else [handler])
    joined: Compose[Batch, Output, User] = Compose(tuple(flat))
    return flat[0] if len(flat) == 1 else joined


@overload
def when(
    predicate: Callable[[State[Batch, Output, User]], bool],
    handler: Handler[Batch, Output, User],
) -> AtAnyEvent[Batch, Output, User]: ...


@overload
def when(
    predicate: Callable[[State[Batch, Output, User]], bool]
    | Callable[[State[Batch, Output, User], P], bool],
    handler: Handler[Batch, Output, User] | PayloadHandler[Batch, Output, User, P],
) -> PayloadHandler[Batch, Output, User, P]: ...


def when(
    predicate: Callable[..., bool], handler: AnyHandler[Batch, Output, User]
) -> AnyHandler[Batch, Output, User]:
    """Make a handler that acts only where a predicate of the state holds.

    At a payload event, the predicate and the handler get the payload if they take it.

    Law: `when(p, when(q, h))` does what `h` does where `p` holds, and then `q` does.

    Raises:
        TypeError: either is not a function of the state, or of the state and a payload.

    >>> stop_late = when(lambda state: state.epoch > 5, State.terminate)
    >>> stop_late(State(epoch=2)) == State(epoch=2)
    True
    """
    asked = takes(predicate, "a predicate")
    if isinstance(handler, When):
        more, last = handler.predicates, handler.handler
        whole = Takes(asked.alone and handler.takes.alone, payload=True)
        return When((predicate, *more), last, (asked, *handler._asked), handler._accepted, whole)
    accepted = takes(handler)
    whole = Takes(asked.alone and accepted.alone, payload=True)
    return When((predicate,), handler, (asked,), accepted, whole)


@overload
def tap(
    effect: Callable[[State[Batch, Output, User]], object],
) -> AtAnyEvent[Batch, Output, User]: ...


@overload
def tap(effect: Callable[[], object]) -> AtAnyEvent[Batch, Output, User]: ...


@overload
def tap(
    effect: Callable[[State[Batch, Output, User], P], object],
) -> PayloadHandler[Batch, Output, User, P]: ...


def tap(effect: Callable[..., object]) -> Any:
    """Make a handler of an effect, such as a print; what it returns cannot change the state.

    The effect gets as many of the state and, at a payload event, the payload as it requires: none
    if it requires none, as `scheduler.step` does, and all where it takes `*args`.

    Raises:
        TypeError: `effect` requires something else.

    >>> tap(lambda state: print("epoch", state.epoch))(State(epoch=2)) == State(epoch=2)
    epoch 2
    True
    """
    count = required(effect, "state", "payload")
    require_callable(effect, "an effect", *("state", "payload")[: 1 if count is None else count])
    return Tap(effect)


@overload
def focus(field: str, handler: Handler[Batch, Output, Part]) -> Focus[Batch, Output, Part]: ...


@overload
def focus(
    field: str, handler: PayloadHandler[Batch, Output, Part, P]
) -> PayloadHandler[Batch, Output, Any, P]: ...


def focus(field: str, handler: AnyHandler[Batch, Output, Part]) -> Any:
    """Lift a handler that knows one part of the user's record to the whole record.

    Law: it changes no other field of the record.

    Args:
        field: the name of the part, a field of the user's attrs class, dataclass or named tuple.
        handler: a handler of states whose `user` is that part; it may take a payload too.

    Raises:
        TypeError: `field` is not a string, or `handler` not a function of the state.

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
    return Focus(field, handler)


def _fields(record: object) -> tuple[str, ...]:
    """Name the fields of a record that can be copied with one of them renewed."""
    kind = type(record)
    if attrs.has(kind):
        return tuple(field.name for field in attrs.fields(kind))
    if dataclasses.is_dataclass(record):
        return tuple(field.name for field in dataclasses.fields(record))
    return getattr(kind, "_fields", ())


def _replaced(record: object, field: str, value: object) -> object:
    if isinstance(record, tuple):
        replace: Callable[..., object] = getattr(record, "_replace")  # noqa: B009 - a named tuple
        return replace(**{field: value})
    # Not through the constructor: that may leave fields out, and change others.
    renewed = copy.copy(record)
    object.__setattr__(renewed, field, value)
    return renewed
