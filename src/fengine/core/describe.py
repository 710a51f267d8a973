"""Name a user's callable and its place in the source, for errors that teach.

Lives here: turning objects into words. Nothing here decides anything.
"""

from __future__ import annotations

import functools
import inspect
import reprlib
from collections.abc import Callable
from typing import Final


def describe(function: object) -> str:
    """Name a callable the way its author would look for it: `log_loss (train.py:31)`."""
    function = _written(function)
    if not hasattr(function, "__qualname__"):
        return repr(function)
    code = getattr(function, "__code__", None)
    if code is None:
        return name_of(function)
    file = code.co_filename.replace("\\", "/").rpartition("/")[2]
    return f"{name_of(function)} ({file}:{code.co_firstlineno})"


def name_of(function: object) -> str:
    """Name a callable the same in each process, wherever in its file it stands.

    >>> name_of(dict.fromkeys), name_of(functools.partial(max, 1)), name_of(functools.partial)
    ('dict.fromkeys', 'max', 'partial')
    """
    function = _written(function)
    name = getattr(function, "__qualname__", None)
    return str(name or type(function).__qualname__).replace("<locals>.", "")


def _written(function: object) -> object:
    """Return the function that a user has written, without what was wrapped around it."""
    while isinstance(function, functools.partial):
        function = function.func
    function = inspect.unwrap(function) if callable(function) else function
    return getattr(function, "__func__", function)


def call_in_words(name: str, /, *positional: object, **named: object) -> str:
    """Write a call as its author would have: what makes a record that is printed.

    >>> call_in_words("mean", "loss", weight=len)
    "mean('loss', weight=len)"
    """
    words = [_in_words(one) for one in positional]
    words += [f"{key}={_in_words(one)}" for key, one in named.items()]
    return f"{name}({', '.join(words)})"


def _in_words(value: object) -> str:
    return name_of(value) if hasattr(value, "__qualname__") else repr(value)


def require_callable(
    function: object,
    role: str,
    *given: str,
    or_class: bool = False,
    or_generator: bool = False,
) -> None:
    """Refuse a callable that cannot take the positional arguments named in `given`.

    A callable without a readable signature, such as some builtins, is let through: it can only be
    judged by calling it. A class is let through where any value will do, by `or_class`;
    a generator function where it is gone through, by `or_generator`.

    Raises:
        TypeError: `function` is not callable, is a coroutine or generator function, or its
            signature does not take that many positional arguments.
    """
    wanted = f"{role} takes ({', '.join(given)})"
    if not callable(function):
        raise TypeError(f"{wanted}, so it must be callable, not {typed(function)}")
    if isinstance(function, type) and not or_class:
        raise TypeError(f"{wanted}; {function.__qualname__} is a class: give an instance of it")
    if runs_later(function) and not (or_generator and is_generator_function(function)):
        raise TypeError(
            f"{wanted} and must return at once, but {describe(function)} is an async or generator "
            "function: calling it runs nothing. Remove 'async', or 'yield'"
        )
    try:
        signature = inspect.signature(function)
    except ValueError:
        return
    try:
        signature.bind(*given)
    except TypeError as mismatch:
        raise TypeError(
            f"{wanted}, but {describe(function)} has the signature {signature}: {mismatch}"
        ) from None


def is_generator_function(function: object) -> bool:
    """Tell whether calling a function returns a generator.

    >>> is_generator_function(len)
    False
    """
    return callable(function) and inspect.isgeneratorfunction(_code_of(function))


def required(function: object, *available: str) -> int | None:
    """Return how many of the available positional arguments a function requires.

    All of them go to `*args`. A function whose signature cannot be read requires the first.

    Returns:
        The number, or None where it is no function, or cannot be called with these alone.

    >>> required(lambda a, b=0: None, "x", "y"), required(print, "x", "y"), required(max)
    (1, 2, 0)
    """
    if not callable(function):
        return None
    try:
        signature = inspect.signature(function)
    except ValueError:
        return min(1, len(available))
    parameters = signature.parameters.values()
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        count = len(available)
    else:
        by_place = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        count = sum(one.kind in by_place and one.default is one.empty for one in parameters)
    try:
        signature.bind(*available[:count])
    except TypeError:
        return None
    return count


def runs_later(function: Callable[..., object]) -> bool:
    """Tell whether a call would only make something that nobody runs: a coroutine, a generator."""
    code = _code_of(function)
    return (
        inspect.iscoroutinefunction(code)
        or inspect.isgeneratorfunction(code)
        or inspect.isasyncgenfunction(code)
    )


def _code_of(function: Callable[..., object]) -> object:
    while isinstance(function, functools.partial):
        function = function.func
    return function if inspect.isroutine(function) else type(function).__call__


def typed(value: object) -> str:
    """Write a value with its type, cut short where it is long, such as a list of batches.

    >>> typed(3), typed(list(range(100)))
    ('3 of type int', '[0, 1, ...] of type list')
    """
    words = " ".join(_BRIEF.repr(value).split())
    return f"{words} of type {type(value).__name__}"


_BRIEF: Final = reprlib.Repr()
_BRIEF.maxlist = _BRIEF.maxtuple = _BRIEF.maxdict = _BRIEF.maxset = 2
_BRIEF.maxlevel = 1
_BRIEF.maxstring = _BRIEF.maxother = 60
