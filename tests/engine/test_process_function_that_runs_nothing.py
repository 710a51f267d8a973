"""An Engine refuses a process function, or a handler, whose call would run nothing."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from fengine.engine import Engine, Events
from fengine.engine.deterministic import DeterministicEngine


async def coroutine(engine: Any, batch: Any) -> Any:
    return batch


def generator(engine: Any, batch: Any) -> Any:
    yield batch


async def async_generator(engine: Any, batch: Any) -> Any:
    yield batch


class Later:
    async def __call__(self, engine: Any, batch: Any) -> Any:
        return batch

    def method(self, engine: Any, batch: Any) -> Any:
        yield batch


LATER: list[Any] = [coroutine, generator, async_generator, Later(), Later().method]
NOTHING: list[Any] = LATER + [partial(function) for function in LATER]
NOTHING += [partial(partial(partial(coroutine)))]


@pytest.mark.parametrize("function", NOTHING, ids=range(len(NOTHING)))
@pytest.mark.parametrize("kind", [Engine, DeterministicEngine])
def test_a_process_function_that_runs_nothing_is_refused(kind: Any, function: Any) -> None:
    with pytest.raises(TypeError, match=r"process_function .* is an async or generator function"):
        kind(function)


@pytest.mark.parametrize("function", NOTHING, ids=range(len(NOTHING)))
def test_so_is_a_handler(function: Any) -> None:
    engine = Engine(lambda engine, batch: batch)
    with pytest.raises(TypeError, match=r"handler .* is an async or generator function"):
        engine.add_event_handler(Events.STARTED, function, 1)


def test_a_partial_of_a_plain_function_runs() -> None:
    def add(amount: int, engine: Any, batch: int) -> int:
        return amount + batch

    assert Engine(partial(add, 1)).run([1]).output == 2
