"""Small runs, each with a handler or metric of pytorch-ignite, that give what happened as data.

`python -m tests.engine.unmodified.setups` prints what all of them give, as JSON; with `--fengine`
they run after `fengine.engine.install()`. A set-up knows nothing of that: it imports what any
program imports. So this file imports nothing of pytorch-ignite, and `every` all of the set-ups.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import attrs

Function: TypeAlias = Callable[[], Any]


@attrs.frozen
class Setup:
    """Hold a set-up, and the file of pytorch-ignite that it is for: `handlers/stores.py`, say."""

    file: str
    run: Function


SETUPS: dict[str, Setup] = {}


def setup(file: str) -> Callable[[Function], Function]:
    """Put the decorated function among the set-ups, under its own name."""

    def put(function: Function) -> Function:
        name = function.__name__
        assert name not in SETUPS, f"there is a set-up {name} already"
        SETUPS[name] = Setup(file, function)
        return function

    return put
