"""Metrics: named results, each one number, checked where it is set.

A number of another library, such as that of an array or a tensor of one element, becomes a float
here, so that a metric compares, prints and is written down as what it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, SupportsFloat

from immutables import Map

from fengine.core.equality import is_array, is_masked, is_table

# They are no numbers, though `float` takes some of them.
_NO_NUMBERS: Final = (bool, str, bytes, bytearray, type(None))


def metric(name: object, value: object) -> float:
    """Return the value of a metric as a float, and refuse what is not one number.

    Raises:
        TypeError: `name` is not a string, or `value` is not one number.

    >>> metric("loss", 1)
    1.0
    """
    if not isinstance(name, str):
        raise TypeError(f"a metric has the name {name!r} of type {type(name).__name__}, not a str")
    if type(value) is float:
        return value
    number: Any = value
    if is_array(number):
        number = _only_element(name, number)
    if isinstance(number, _NO_NUMBERS):
        raise _refusal(name, value)
    try:
        return float(number)
    except (TypeError, ValueError, OverflowError) as error:
        raise _refusal(name, value) from error


def frozen_metrics(metrics: Mapping[str, SupportsFloat]) -> Map[str, float]:
    """Return metrics as a map of floats; the very map where it is one.

    Raises:
        TypeError: one of them is not one number.

    >>> frozen_metrics({"loss": 1})
    immutables.Map({'loss': 1.0})
    """
    if isinstance(metrics, Map) and all(
        type(value) is float and isinstance(name, str) for name, value in metrics.items()
    ):
        return metrics
    return Map({name: metric(name, value) for name, value in metrics.items()})


def _only_element(name: str, array: Any) -> object:
    """Return the element of an array or a tensor that has one."""
    if math.prod(array.shape) != 1 or (is_masked(array) and array.mask.all()):
        raise _refusal(name, array)
    return array.item()


def _refusal(name: str, value: Any) -> TypeError:
    """Return the error that says what is set as a metric."""
    if is_array(value) or is_table(value):
        what = f"a {type(value).__name__} of shape {tuple(value.shape)}"
        advice = "give one number, such as its mean"
    elif value is None:
        what, advice = "None", "leave the metric out where there is no result"
    else:
        what = f"{value!r} of type {type(value).__name__}"
        advice = "give a number, such as float(...) of it"
    return TypeError(f"the metric {name!r} is {what}, and not one number; {advice}")
