"""Writing: what a writer is, and what it is given.

A log is a value, a function of a place that opens a `Writer`: the place where a run first has
something to write. What stands in the log from there on was written by a run that did not last, and
is written again. So the log of runs that go on is that of the whole run.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from numbers import Integral, Real
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from immutables import Map

from fengine import Status
from fengine.core.describe import typed
from fengine.writers.places import Place

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Scalar: TypeAlias = str | int | float | None
"""What a hyperparameter is, once what is nested has been flattened."""
OpensWriter: TypeAlias = "Callable[[Place], Writer]"
"""A log: called with the place of the first write of a run, it returns what writes there."""
Closing: TypeAlias = "weakref.finalize[..., Any]"


class Writer(Protocol):
    """Take what a run writes, until the run ends.

    What one of its methods raises is reported, and the run goes on, unless `log_to` is told to
    raise it.

    >>> class Collecting:
    ...     def __init__(self, place):
    ...         self.lines = []
    ...     def parameters(self, parameters):
    ...         self.lines.append(dict(parameters))
    ...     def numbers(self, place, numbers):
    ...         self.lines.append((place.epoch, dict(numbers)))
    ...     def figure(self, place, name, figure):
    ...         self.lines.append(name)
    ...     def end(self, status):
    ...         print(*self.lines, status.value)
    >>> from fengine import Loop, outputs
    >>> from fengine.features import log_to
    >>> from fengine.metrics import mean
    >>> loop = Loop(outputs(float)) | mean("loss") | log_to(Collecting, parameters={"lr": 0.1})
    >>> done = loop.run([1, 2], max_epochs=2)
    {'lr': 0.1} (1, {'loss': 1.5}) (2, {'loss': 1.5}) completed
    """

    def parameters(self, parameters: Mapping[str, Scalar], /) -> object:
        """Take the hyperparameters, once, before all else; also where a run goes on."""

    def numbers(self, place: Place, numbers: Mapping[str, float], /) -> object:
        """Take the numbers of a place, sorted by name."""

    def figure(self, place: Place, name: str, figure: Figure, /) -> object:
        """Take a figure; a writer that has no use for it leaves it out."""

    def end(self, status: Status, /) -> object:
        """Write what is held back, and let go of everything: the run has ended, or pauses."""


def flattened(parameters: Mapping[str, Any]) -> Map[str, Scalar]:
    """Return hyperparameters by one name each: what is nested has its names joined by dots.

    Numbers of other libraries, such as numpy's, become those of Python.

    Raises:
        TypeError: they are no mapping, a name is not a string, or a value is none of those that
            are written.
        ValueError: two have one name.

    >>> flattened({"adam": {"lr": 0.1, "betas": (0.9, 0.99)}})["adam.betas.1"]
    0.99
    """
    if not isinstance(parameters, Mapping):
        raise TypeError(
            f"parameters={typed(parameters)} is not a mapping from names to values; of an object, "
            "such as that of argparse, give vars(...)"
        )
    found: dict[str, Scalar] = {}
    for name, value in _leaves((), parameters):
        if name in found:
            raise ValueError(f"there are two parameters {name!r}; what is nested is joined by dots")
        found[name] = value
    return Map(found)


def _leaves(path: tuple[str, ...], value: object) -> Iterator[tuple[str, Scalar]]:
    if isinstance(value, Mapping):
        for name, one in value.items():
            if not isinstance(name, str):
                raise TypeError(f"a parameter has the name {typed(name)}, not a str")
            yield from _leaves((*path, name), one)
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        for place, one in enumerate(value):
            yield from _leaves((*path, str(place)), one)
    elif value is None or isinstance(value, str | int | float):
        yield ".".join(path), value
    elif isinstance(value, Real):
        yield ".".join(path), int(value) if isinstance(value, Integral) else float(value)
    else:
        raise TypeError(
            f"the parameter {'.'.join(path)!r} is {typed(value)}; give a "
            "str, a number, None, or a mapping or a sequence of these, such as str(...) of it"
        )


def require_package(name: str, user: str, extra: str) -> ModuleType:
    """Import a package of an extra.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as missing:
        raise ModuleNotFoundError(
            f"{user} needs {name.partition('.')[0]}; install it with: "
            f"pip install 'fengine[{extra}]'"
        ) from missing


def tell(words: str) -> None:
    """Warn of what ends no run; nobody is told where the standard error stream is closed."""
    with contextlib.suppress(ValueError):  # as such a stream raises
        warnings.warn(words, RuntimeWarning, stacklevel=3)


def closing(owner: object, close: Callable[..., object], *arguments: object) -> Closing:
    """Have something closed once: when it is asked for, or when nobody has the owner any more.

    What fails then can be told to nobody. In a process that was forked meanwhile nothing is closed:
    it is the parent's.
    """
    return weakref.finalize(owner, _close_here, os.getpid(), close, *arguments)


def _close_here(process: int, close: Callable[..., object], *arguments: object) -> None:
    if os.getpid() == process:
        with contextlib.suppress(Exception):
            close(*arguments)


def require_text(user: str, name: str, value: object) -> None:
    """Refuse what is no text, or an empty one.

    Raises:
        TypeError: it is no string.
        ValueError: it is empty.
    """
    if not isinstance(value, str):
        raise TypeError(f"{user}: {name}={typed(value)} is not a str")
    if not value:
        raise ValueError(f"{user}: {name} is empty")
