"""How a handler is called: read once from its signature, at registration.

The rules of the Engine API: a handler is tried with the engine as its first argument, then without.
A first parameter named `engine` always is the engine. What the event adds comes behind the engine
and before the arguments given at registration; a handler that has no room for it goes without.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final, final

import attrs
from typing_extensions import override


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

    def __call__(self, *args: Any, iter_counter: Any = None, **kwargs: Any) -> Any:
        """Call the handler with the argument moved into its place, or without it."""
        place = 1 if self.has_engine else 0
        if not self.takes_argument:
            rest = args if iter_counter is not None else args[:place] + args[place + 1 :]
        else:
            rest = (*args[:place], iter_counter, *args[place:])
        return self.handler(*rest, **kwargs)


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
    code = handler if inspect.isroutine(handler) else getattr(handler, "__call__", handler)  # noqa: B004
    if inspect.iscoroutinefunction(code) or inspect.isgeneratorfunction(code):
        raise TypeError(
            f"handler {getattr(handler, '__qualname__', handler)!r} is an async or generator "
            "function: calling it would run nothing. Remove 'async', or 'yield'"
        )
    names_engine = _first_parameter(handler) == "engine"
    for with_engine in (True, False) if not names_engine else (True,):
        first = ("engine",) if with_engine else ()
        given = ((THE_ENGINE, *args) if with_engine else args, dict(kwargs))
        if extra is None:
            if _binds(handler, *first, *args, **kwargs):
                return handler, *given
            continue
        if extra.keyword and _binds(handler, *first, *args, **kwargs, **{extra.name: 0}):
            return handler, *given
        if _binds(handler, *first, extra.example, *args, **kwargs):
            return Adapted(handler, True, with_engine) if extra.keyword else handler, *given
        if with_engine and names_engine and _binds(handler, *first, *args, **kwargs):
            return Adapted(handler, False, with_engine), *given
    shown = (extra.name,) if extra is not None else ()
    check_signature(
        handler, "handler", *(("engine",) if names_engine else ()), *shown, *args, **kwargs
    )
    raise AssertionError("a handler that can be called is found above")


def _first_parameter(function: Callable[..., Any]) -> str | None:
    try:
        return next(iter(inspect.signature(function).parameters), None)
    except ValueError:
        return None


def _binds(function: Callable[..., Any], *args: Any, **kwargs: Any) -> bool:
    try:
        inspect.signature(function).bind(*args, **kwargs)
    except (TypeError, ValueError):
        return False
    return True
