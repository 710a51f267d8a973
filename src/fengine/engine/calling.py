"""How a handler is called: read once from its signature, at registration.

The rules of the Engine API: a handler is tried with the engine as its first argument, then without.
A first parameter named `engine` always is an engine: one given at registration, else the one that
fires. What the event adds comes after the engine and before the arguments given at registration; a
handler that has no room for it goes without. A handler whose signature cannot be read, as of some
builtins, gets the arguments given at registration and nothing else.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final, final

import attrs
from typing_extensions import override

from fengine.core.describe import describe, runs_later


@final
class _TheEngine:
    """Stand, in the arguments of a handler, for the engine that fires."""

    @override
    def __repr__(self) -> str:
        return "<the engine>"

    @override
    def __reduce__(self) -> str:
        return "THE_ENGINE"


# Not a reference: a table of handlers can be copied and pickled, and keeps no engine alive.
THE_ENGINE: Final = _TheEngine()
# The arguments of most handlers, as one object that is quickly known again.
ENGINE_ONLY: Final = (THE_ENGINE,)


@final
@attrs.frozen
class EventArguments:
    """Say what an event hands to its handlers beside the engine."""

    name: str
    keyword: bool
    example: object


EXCEPTION: Final = EventArguments("exception", keyword=False, example=Exception())
ITER_COUNTER: Final = EventArguments("iter_counter", keyword=True, example=0)


@final
@attrs.frozen
class Adapted:
    """Call a handler that takes the event's own argument in another way than the event gives it."""

    handler: Callable[..., Any]
    takes_argument: bool
    has_engine: bool

    def _parent(self) -> Callable[..., Any]:
        return self.handler

    def __getattr__(self, name: str) -> str:
        """Have the name of the handler, which profilers print."""
        if name == "__qualname__":
            return qualified_name(self.handler)
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def __call__(self, *args: Any, iter_counter: Any = None, **kwargs: Any) -> Any:
        """Call the handler with the argument moved into its place, or without it."""
        place = 1 if self.has_engine else 0
        if not self.takes_argument:
            rest = args if iter_counter is not None else args[:place] + args[place + 1 :]
        else:
            rest = (*args[:place], iter_counter, *args[place:])
        return self.handler(*rest, **kwargs)


def qualified_name(handler: Callable[..., Any]) -> str:
    """Give the name of a handler; of one without, that of its type."""
    return getattr(handler, "__qualname__", type(handler).__name__)


def check_signature(function: Callable[..., Any], role: str, *args: Any, **kwargs: Any) -> None:
    """Refuse a function that cannot be called with these arguments.

    Raises:
        TypeError: `function` is not callable.
        ValueError: it takes other arguments, or its signature cannot be read.
    """
    if not callable(function):
        raise TypeError(f"{role}={function!r} of type {type(function).__name__} is not callable")
    try:
        signature = inspect.signature(function)
    except ValueError as error:
        raise ValueError(f"{role} {function!r} has no readable signature: {error}") from None
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        given = [str(arg) for arg in args] + [f"{name}={value!r}" for name, value in kwargs.items()]
        raise ValueError(
            f"{role} {getattr(function, '__qualname__', function)!r} with the signature "
            f"{signature} cannot be called with ({', '.join(given)}): {error}"
        ) from None


def require_at_once(function: Callable[..., Any], role: str) -> None:
    """Refuse a function that a call would not run.

    Raises:
        TypeError: `function` is an async or generator function, or a partial of one.
    """
    if runs_later(function):
        raise TypeError(
            f"{role} {describe(function)!r} is an async or generator function: calling it would "
            "run nothing. Remove 'async', or 'yield'"
        )


def entry(
    handler: Callable[..., Any],
    extra: EventArguments | None,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
    """Give what to call and with what arguments, where `THE_ENGINE` stands for the engine.

    Raises:
        TypeError: `handler` is not callable, or is an async or generator function, which a call
            would not run.
        ValueError: `handler` takes other arguments.
    """
    if not callable(handler):
        raise TypeError(f"handler={handler!r} of type {type(handler).__name__} is not callable")
    require_at_once(handler, "handler")
    try:
        signature = inspect.signature(handler)
    except ValueError:
        return handler if extra is None else Adapted(handler, False, False), args, dict(kwargs)
    names_engine = _names_engine(signature) and "engine" not in kwargs and not _gives_engine(args)
    for with_engine in (True, False) if not names_engine else (True,):
        first = ("engine",) if with_engine else ()
        with_it = (THE_ENGINE, *args) if args else ENGINE_ONLY
        given = (with_it if with_engine else args, dict(kwargs))
        if extra is None:
            if _binds(signature, *first, *args, **kwargs):
                return handler, *given
            continue
        if extra.keyword and _binds(signature, *first, *args, **{**kwargs, extra.name: 0}):
            return handler, *given
        if _binds(signature, *first, extra.example, *args, **kwargs):
            return Adapted(handler, True, with_engine) if extra.keyword else handler, *given
        if with_engine and names_engine and _binds(signature, *first, *args, **kwargs):
            return Adapted(handler, False, with_engine), *given
    shown = (extra.name,) if extra is not None else ()
    check_signature(
        handler, "handler", *(("engine",) if names_engine else ()), *shown, *args, **kwargs
    )
    raise AssertionError("a handler that can be called is found above")


def _names_engine(signature: inspect.Signature) -> bool:
    """Tell whether the first parameter is named `engine`, and can be given by its place."""
    first = next(iter(signature.parameters.values()), None)
    return first is not None and first.name == "engine" and first.kind in _BY_PLACE


_BY_PLACE: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def _gives_engine(args: tuple[Any, ...]) -> bool:
    """Tell whether the first of these arguments is an engine, of this package or alike."""
    return bool(args) and hasattr(args[0], "fire_event")


def _binds(signature: inspect.Signature, *args: Any, **kwargs: Any) -> bool:
    try:
        signature.bind(*args, **kwargs)
    except TypeError:
        return False
    return True
