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
from typing import Any, Generic, TypeAlias, TypeVar, cast, final

import attrs
from typing_extensions import TypeVar as DefaultTypeVar
from typing_extensions import override

from fengine.core.describe import describe, require_callable
from fengine.core.state import Batch, Output, State, User, of_run

P = DefaultTypeVar("P", default=object)
Part = TypeVar("Part")

Handler: TypeAlias = Callable[[State[Batch, Output, User]], State[Batch, Output, User]]
PayloadHandler: TypeAlias = Callable[[State[Batch, Output, User], P], State[Batch, Output, User]]
AnyHandler: TypeAlias = Callable[..., State[Batch, Output, User]]


@final
@attrs.frozen(repr=False)
class Compose(Generic[Batch, Output, User]):
    """Call handlers one after the other; made by `compose`."""

    handlers: tuple[Handler[Batch, Output, User], ...]

    @override
    def __repr__(self) -> str:
        return f"compose({', '.join(map(describe, self.handlers))})"

    def __call__(self, state: State[Batch, Output, User]) -> State[Batch, Output, User]:
        """Give the state as the last handler leaves it."""
        for handler in self.handlers:
            state = _stated(handler, handler(state))
        return state


@final
@attrs.frozen(repr=False)
class When(Generic[Batch, Output, User]):
    """Call a handler where all predicates hold, each asked after those before it; made by `when`.

    It is flat, since one in another could not be nested deeper than Python calls functions.
    """

    predicates: tuple[Callable[[State[Batch, Output, User]], bool], ...]
    handler: Handler[Batch, Output, User]

    def __setstate__(self, kept: Any) -> None:
        """Take up what `copy` and `pickle` kept, of version 0.1 too."""
        fields: dict[str, Any] = kept[1] if isinstance(kept, tuple) else kept
        predicates, handler = fields.get("predicates"), fields["handler"]
        if predicates is None:
            predicates = (fields["predicate"],)
            if isinstance(handler, When):
                predicates, handler = predicates + handler.predicates, handler.handler
        object.__setattr__(self, "predicates", predicates)
        object.__setattr__(self, "handler", handler)

    @override
    def __repr__(self) -> str:
        opened = "".join(f"when({describe(predicate)}, " for predicate in self.predicates)
        return f"{opened}{describe(self.handler)}{')' * len(self.predicates)}"

    def __call__(self, state: State[Batch, Output, User]) -> State[Batch, Output, User]:
        """Give the state as the handler leaves it, or as it is."""
        for predicate in self.predicates:
            if not predicate(state):
                return state
        return _stated(self.handler, self.handler(state))


@final
@attrs.frozen(repr=False)
class Tap(Generic[Batch, Output, User]):
    """Call an effect and keep the state; made by `tap`."""

    effect: Callable[[State[Batch, Output, User]], object]

    @override
    def __repr__(self) -> str:
        return f"tap({describe(self.effect)})"

    def __call__(self, state: State[Batch, Output, User]) -> State[Batch, Output, User]:
        """Give the state as it is."""
        self.effect(state)
        return state


@final
@attrs.frozen(repr=False)
class Focus(Generic[Batch, Output, Part]):
    """Call a handler on one field of the user's record; made by `focus`."""

    field: str
    handler: Handler[Batch, Output, Part]

    @override
    def __repr__(self) -> str:
        return f"focus({self.field!r}, {describe(self.handler)})"

    def __call__(self, state: State[Batch, Output, User]) -> State[Batch, Output, User]:
        """Give the state with one part of the user's record renewed."""
        whole = state.user
        if self.field not in _fields(whole):
            raise AttributeError(
                f"focus({self.field!r}): the user's record {whole!r} has no field "
                f"{self.field!r}; start the run with an attrs class, a dataclass or a named tuple "
                "that has: run(..., user=...)"
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
) -> Handler[Batch, Output, User]:
    """Make a handler that acts only where a predicate of the state holds.

    Law: `when(p, when(q, h))` does what `h` does where `p` holds, and then `q` does.

    Raises:
        TypeError: either is not a function of one state.

    >>> stop_late = when(lambda state: state.epoch > 5, State.terminate)
    >>> stop_late(State(epoch=2)) == State(epoch=2)
    True
    """
    require_callable(predicate, "a predicate", "state")
    require_callable(handler, "a handler", "state")
    if isinstance(handler, When):
        return When((predicate, *handler.predicates), handler.handler)
    return When((predicate,), handler)


def tap(effect: Callable[[State[Batch, Output, User]], object]) -> Handler[Batch, Output, User]:
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
            f"handler {describe(handler)} returned {kind_of(result)}; "
            f"a handler returns a State.{hint}"
        )
    return result


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


def accepted(
    before: State[Batch, Output, User],
    after: State[Batch, Output, User],
    owner: str,
    place: tuple[str, ...] = ("iteration", "epoch", "batches", "event"),
) -> State[Batch, Output, User]:
    """Return the state that somebody has made of another one, as a state of the same run.

    Args:
        before: the state that was given.
        after: the state that came back.
        owner: who returned it, in words.
        place: the fields in which both are to be at one place.

    Raises:
        ValueError: it stands elsewhere in the run, or in another run, or has other limits.
    """
    changes = [
        f"{name} from {getattr(before, name)} to {getattr(after, name)}"
        for name in place
        if getattr(before, name) != getattr(after, name)
    ]
    if changes:
        raise ValueError(
            f"{owner} returned a State of another place in the run: {', '.join(changes)}. Only the "
            "loop moves a run; return the state that was given, with evolve() for what changes in "
            "it"
        )
    if after._run is not None and after._run != before._run:
        raise ValueError(
            f"{owner} returned a State of another run, at the same place; return the state that "
            "was given, with evolve() for what changes in it"
        )
    if after.limits != before.limits:
        raise ValueError(
            f"{owner} returned a State with other limits: {after.limits} instead of "
            f"{before.limits}. A run keeps the limits that it began with; ask for its end with "
            "terminate(), or go on from where it ended: loop.resume(state.with_limits(...), data)"
        )
    return after if after._run == before._run else of_run(after, before._run)


def kind_of(result: object) -> str:
    """Say what a handler returned instead of a state."""
    if result is None:
        return "None"
    if hasattr(result, "__await__"):
        return f"a {type(result).__name__} (was it declared 'async' by mistake?)"
    return f"a {type(result).__name__}"
