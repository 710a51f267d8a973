"""Words for objects: a callable by its name and place, any value in a line.

What is large is shown as what it is: a tensor by its shape, a model by its class and number of
parameters. Nothing shows an address. Values are known by what they have; nothing here imports
torch or numpy, and nothing here decides anything.
"""

from __future__ import annotations

import functools
import inspect
import math
import re
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from typing import Any, Final, final

import attrs
from immutables import Map
from typing_extensions import override

from fengine.core.equality import is_array, is_table, same

# Of a value in words: characters, and of what holds several, characters and items.
_LONGEST: Final = 60
_LONGEST_ROW: Final = 100
_MOST_ITEMS: Final = 6
_ADDRESS: Final = re.compile(r"(?: object)? at 0x[0-9a-fA-F]+")


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


def made_by(maker: Callable[..., object], record: object, /, **instead: object) -> str:
    """Write the call of a function that made a record, without arguments that have their defaults.

    Args:
        maker: the function; the record has what each of its arguments was, under the same name.
        record: the record.
        **instead: what to write for some of the arguments, by name.

    >>> from types import SimpleNamespace
    >>> def wait(seconds, *, every=1): ...
    >>> made_by(wait, SimpleNamespace(seconds=3, every=1))
    'wait(3)'
    """
    positional: list[object] = []
    named: dict[str, object] = {}
    for name, parameter in inspect.signature(maker).parameters.items():
        value: Any = instead[name] if name in instead else getattr(record, name)
        if parameter.kind is parameter.VAR_POSITIONAL:
            positional.extend(value)
        elif parameter.kind is parameter.VAR_KEYWORD:
            named.update(sorted(value.items()))
        elif parameter.kind is not parameter.KEYWORD_ONLY:
            positional.append(value)
        elif not same(value, parameter.default):
            named[name] = value
    return call_in_words(name_of(maker), *positional, **named)


@final
@attrs.frozen(repr=False)
class Words:
    """Stand for something in a call in words, and print as these words."""

    words: str

    @override
    def __repr__(self) -> str:
        return self.words


def _in_words(value: object) -> str:
    if hasattr(value, "__qualname__"):
        return name_of(value)
    return model_in_words(value) or repr(value)


def model_in_words(value: Any) -> str | None:
    """Name a model or an optimizer by its class and number of parameters; None for all else."""
    if isinstance(value, type):
        return None
    if hasattr(value, "named_parameters") and hasattr(value, "state_dict"):
        parameters = [one for _, one in value.named_parameters()]
    elif hasattr(value, "param_groups") and hasattr(value, "state_dict"):
        parameters = [one for group in value.param_groups for one in group["params"]]
    else:
        return None
    name = type(value).__qualname__
    try:
        number = sum(one.numel() for one in parameters)
    except Exception:
        return name  # lazy ones have no number yet
    if not number:
        return None
    return f"{name} of {number:,} {'parameter' if number == 1 else 'parameters'}"


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


def can_take(function: object, *numbers: int) -> tuple[bool, ...]:
    """Tell for some numbers of positional arguments whether `require_callable` lets them through.

    It makes no words of why it does not, so it is quick where the answer may well be no.

    >>> can_take(lambda state: state, 1, 2)
    (True, False)
    """
    if not callable(function) or isinstance(function, type) or runs_later(function):
        return (False,) * len(numbers)
    try:
        signature = inspect.signature(function)
    except ValueError:
        return (True,) * len(numbers)
    return tuple(_binds(signature, number) for number in numbers)


def _binds(signature: inspect.Signature, number: int) -> bool:
    try:
        signature.bind(*range(number))
    except TypeError:
        return False
    return True


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

    >>> typed(3), typed(int), typed(list(range(100)))
    ('3 of type int', 'the class int', '[0, 1, 2, 3, 4, 5, ... 100 in all] of type list')
    """
    if isinstance(value, type):
        return f"the class {value.__qualname__}"
    return f"{brief(value)} of type {type(value).__name__}"


def brief(value: Any) -> str:
    """Say a value in a line, in full where it is small.

    >>> brief({"rates": (0.1, 0.2)}), brief([*range(1000)])
    ("{'rates': (0.1, 0.2)}", '[0, 1, 2, 3, 4, 5, ... 1000 in all]')
    """
    if isinstance(value, Enum):
        return f"{type(value).__qualname__}.{value.name}"
    if is_array(value) or is_table(value):
        return array_in_words(value, small=True)
    if hasattr(value, "__qualname__"):
        return describe(value)
    if isinstance(value, Mapping):
        # The order of a map that never changes is another one in each process.
        items = sorted(value.items(), key=repr) if isinstance(value, Map) else value.items()
        return _joined("{", (f"{brief(k)}: {brief(v)}" for k, v in items), len(value), "}")
    if type(value) is tuple and len(value) == 1:
        return f"({brief(value[0])},)"
    if type(value) in (tuple, list):
        begin, end = "()" if type(value) is tuple else "[]"
        return _joined(begin, map(brief, value), len(value), end)
    return model_in_words(value) or _cut(repr(value))


def _joined(begin: str, items: Iterator[str], number: int, end: str) -> str:
    some: list[str] = []
    for item in items:
        if len(some) == _MOST_ITEMS or (some and sum(map(len, some)) + len(item) > _LONGEST_ROW):
            return f"{begin}{', '.join(some)}, ... {number} in all{end}"
        some.append(item)
    return f"{begin}{', '.join(some)}{end}"


def _cut(text: str) -> str:
    line = _ADDRESS.sub("", " ".join(text.split()) if "\n" in text else text)
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..."


def array_in_words(array: Any, *, small: bool = False) -> str:
    """Name a tensor, an array or a frame by its type, elements and shape.

    Args:
        array: the array.
        small: write one of a single element as it prints.
    """
    if is_table(array):
        return f"{type(array).__name__} of shape {getattr(array, 'shape', '?')}"
    kind = str(array.dtype).removeprefix("torch.")
    if getattr(array, "is_nested", False):
        return f"nested {type(array).__name__} {kind} of {array.size(0)} tensors"
    shape = tuple(array.shape)
    if small and math.prod(shape) == 1:
        return _cut(repr(array))
    return f"{type(array).__name__} {kind} of shape {shape}"
