"""`when` within `when`, as deep as one likes, is one record, as `compose` within `compose` is."""

from __future__ import annotations

import copy
import pickle
from typing import Any

from fengine import Events, Loop, State, compose, outputs, when

DEPTH = 5000


def is_early(state: State[Any, Any]) -> bool:
    return state.epoch < 3


def never(state: State[Any, Any]) -> bool:
    return False


def nested(predicate: Any, depth: int = DEPTH) -> Any:
    handler: Any = State.terminate
    for _ in range(depth):
        handler = when(predicate, handler)
    return handler


def test_it_is_called_in_a_run() -> None:
    for predicate, epochs in ((is_early, 1), (never, 4)):
        loop: Any = Loop(outputs(abs)).on(Events.EPOCH_COMPLETED, nested(predicate))
        assert loop.run([1], max_epochs=4).epoch == epochs


def test_it_compares_hashes_prints_copies_and_pickles() -> None:
    handler = nested(is_early)
    assert handler == nested(is_early)
    assert handler != nested(never)
    assert hash(handler) == hash(nested(is_early))
    assert repr(handler).count("when(is_early") == DEPTH
    assert pickle.loads(pickle.dumps(handler)) == handler
    assert copy.deepcopy(handler) == handler
    loop: Any = Loop(outputs(abs)).on(Events.EPOCH_COMPLETED, handler)
    assert loop == Loop(outputs(abs)).on(Events.EPOCH_COMPLETED, nested(is_early))
    assert str(loop)


def test_predicates_are_asked_from_the_outside_until_one_fails() -> None:
    asked: list[str] = []

    def asking(name: str, answer: bool) -> Any:
        def ask(state: Any) -> bool:
            asked.append(name)
            return answer

        return ask

    inner = when(asking("inner", True), State.terminate)
    when(asking("outer", True), when(asking("middle", False), inner))(State())  # type: ignore[no-untyped-call]
    assert asked == ["outer", "middle"]


def test_it_prints_as_it_was_written() -> None:
    assert repr(when(is_early, when(never, State.terminate))).startswith("when(is_early (")
    twice = when(is_early, when(is_early, compose(State.terminate, State.interrupt)))
    assert repr(twice).endswith(")))")
