"""Purity: whether a handler depends on its argument alone, and changes nothing.

A handler is called with states that are kept, so a change of its argument shows; again with copies
of them, so a result that depends on something else shows; and once more in another order, so that
what it remembers from one state to the next shows too.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final, TypeAlias, final

import attrs
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from fengine.core.describe import describe
from fengine.core.equality import same
from fengine.core.handlers import AnyHandler
from fengine.core.missing import MISSING
from fengine.core.returned import kind_of
from fengine.core.state import State
from fengine.core.steps import Outputs, Stages, stages_of
from fengine.core.table import where_in_run
from fengine.look.differences import diff
from fengine.testing.strategies import states as any_states

AnyState: TypeAlias = State[Any, Any, Any]

_ADDRESS: Final = re.compile(r" at 0x[0-9a-fA-F]+")

# What only the loop changes.
_PLACE: Final = ("iteration", "epoch", "batches", "event")

_ANY_STATES = any_states(st.integers(), st.floats(), st.none())


@final
@attrs.frozen(eq=False)
class Called:
    """Hold what a call gave: a state, or an exception.

    >>> Called(State(epoch=1)).differs_from(Called(State(epoch=2)))
    'epoch: 1 -> 2'
    """

    state: AnyState | None = None
    error: Exception | None = None

    def differs_from(self, other: Called) -> str:
        """Say how two calls differ; nothing if they do not."""
        if self.state is not None and other.state is not None:
            return changes(self.state, other.state)
        return changes(_ending(self.error), _ending(other.error))


def _ending(error: Exception | None) -> str:
    """Show how a call ended, without the addresses of objects, which differ in each."""
    if error is None:
        return "a state"
    return _ADDRESS.sub("", f"{type(error).__qualname__}: {error}")


def changes(before: object, after: object) -> str:
    """Say in a line what differs between two values; nothing if they are equal.

    >>> changes({"loss": 0.5}, {"loss": 0.25})
    'loss: 0.5 -> 0.25'
    """
    return ", ".join(map(str, diff(before, after)))


def assert_pure(
    handler: AnyHandler[Any, Any, Any],
    states: Iterable[AnyState] | SearchStrategy[AnyState] | None = None,
    *,
    payload: object = MISSING,
) -> None:
    """Assert that a handler, or a step, is pure: equal states for equal ones, and no change.

    An exception is a result like any other, as long as not every state leads to one; two are equal
    if their types and texts are. Looked at are the state, the payload, and of the handler itself
    its closure, defaults and attributes, the arguments of a `functools.partial`, and the globals
    that it names; not what the functions that it calls keep, unless a result shows it.

    Args:
        handler: takes a state, of a payload event the payload too, and gives a state.
        states: the states to try, or a strategy of them, such as `states(...)`; by default
            generated ones with numbers as batch and output, and None as the user's record.
        payload: what a handler of a payload event is handed too.

    Raises:
        AssertionError: it is not pure; the message says what changed, and how to mend it.
        TypeError: a state does not equal its own copy, so that no change of it can be seen.

    >>> assert_pure(State.terminate)
    >>> seen = []
    >>> def remember(state):
    ...     seen.append(state.iteration)
    ...     return state
    >>> assert_pure(remember, [State(iteration=1)])
    Traceback (most recent call last):
    AssertionError: handler remember (...) keeps something outside the state: seen[0]: ...
    """
    payloads = () if payload is MISSING else (payload,)
    if states is None or isinstance(states, SearchStrategy):
        states = _drawn(_ANY_STATES if states is None else states)
    seen = [(state, called_twice(handler, state, payloads)) for state in states]
    if all(called.state is None for _, called in seen):
        errors = sorted({repr(called.error) for _, called in seen})
        raise AssertionError(
            f"handler {describe(handler)} was never seen to work ({', '.join(errors)}); give "
            "states= that it is made for"
        )
    for state, called in reversed(seen):
        if found := called.differs_from(_called(handler, state, payloads)):
            raise AssertionError(
                f"handler {describe(handler)} gave another result {where_in_run(state)} after it "
                f"was called with other states: {found}. What it remembers belongs into state.user"
            )


def called_twice(
    handler: AnyHandler[Any, Any, Any], state: AnyState, payloads: tuple[object, ...]
) -> Called:
    """Call a handler with a state and with a copy of it, and assert that nothing shows.

    Raises:
        AssertionError: the handler is not pure.
        TypeError: the state does not equal its own copy.

    >>> called_twice(State.terminate, State(), ()).state == State().terminate()
    True
    """
    before, kept = copy.deepcopy(state), dict(_comparable(_kept(handler)))
    names = {name for name, _ in _kept(handler)}
    handed = dict(_comparable(_numbered("payload", payloads)))
    if found := changes(state, before):
        raise TypeError(
            f"the state does not equal its own copy ({found}), so no change of it could be seen; "
            "give what is in it an ==, as @attrs.frozen does"
        )
    first = _called(handler, state, payloads)
    remembered = {name: now for name, now in _kept(handler) if name in kept or name not in names}
    if found := changes(kept, remembered):
        raise AssertionError(
            f"handler {describe(handler)} keeps something outside the state: {found}. What it "
            "remembers belongs into state.user"
        )
    if found := changes(before, state):
        raise AssertionError(
            f"handler {describe(handler)} changed its argument {where_in_run(before)}: {found}. "
            "A handler gives a new state: return state.evolve(...)"
        )
    now = {name: part for name, part in _numbered("payload", payloads) if name in handed}
    if found := changes(handed, now):
        raise AssertionError(
            f"handler {describe(handler)} changed its payload {where_in_run(before)}: {found}. "
            "Other handlers get the same one"
        )
    if found := first.differs_from(_called(handler, before, payloads)):
        raise AssertionError(
            f"handler {describe(handler)} was called twice {where_in_run(before)}, and gave two "
            f"results: {found}. It may depend on nothing but the state"
        )
    return first


def _called(
    handler: AnyHandler[Any, Any, Any], state: AnyState, payloads: tuple[object, ...]
) -> Called:
    try:
        result = handler(state, *payloads)
    except Exception as error:
        return Called(error=error)
    if type(result) is not State:
        raise AssertionError(
            f"handler {describe(handler)} returned {kind_of(result)} {where_in_run(state)}; "
            "a handler returns a State"
        )
    # A step of fengine's own leaves the state at ITERATION_COMPLETED.
    steps = isinstance(stages_of(handler), Stages | Outputs)
    place = _PLACE[:-1] if steps else _PLACE
    if moved := [str(part) for part in diff(state, result) if part.path in place]:
        raise AssertionError(
            f"handler {describe(handler)} returned a state of another place in the run: "
            f"{', '.join(moved)}. Only the loop moves a run; return state.evolve(...)"
        )
    return Called(result)


def _drawn(states: SearchStrategy[AnyState]) -> list[AnyState]:
    """Draw states, the simplest first; outside of Hypothesis, which calls nothing impure twice."""
    drawn: list[AnyState] = []
    once = settings(
        database=None,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )

    @given(states)
    def keep(state: AnyState) -> None:
        drawn.append(state)

    once(keep)()
    return drawn


def _kept(handler: Any) -> Iterator[tuple[str, object]]:
    """Give what a function or an object may remember something in, by name."""
    if isinstance(handler, functools.partial):
        yield from _kept(handler.func)
        yield from _numbered("argument", handler.args)
        yield from handler.keywords.items()
    function = getattr(handler, "__func__", handler)
    owner = getattr(handler, "__self__", handler)
    code = getattr(function, "__code__", None)
    if code is not None:
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            with contextlib.suppress(ValueError):  # nothing is in it yet
                yield name, cell.cell_contents
        known = function.__globals__
        yield from ((name, known[name]) for name in code.co_names if name in known)
        yield "defaults", function.__defaults__
        yield "keyword_defaults", function.__kwdefaults__
    yield from getattr(owner, "__dict__", {}).items()
    if attrs.has(type(owner)):
        yield from ((field.name, getattr(owner, field.name)) for field in attrs.fields(type(owner)))


def _numbered(name: str, values: tuple[object, ...]) -> Iterator[tuple[str, object]]:
    return ((f"{name}_{number}", value) for number, value in enumerate(values, start=1))


def _comparable(kept: Iterator[tuple[str, object]]) -> Iterator[tuple[str, object]]:
    """Copy the values of which a change can be seen."""
    for name, value in kept:
        with contextlib.suppress(Exception):
            copied = copy.deepcopy(value)
            if same(copied, value):
                yield name, copied
