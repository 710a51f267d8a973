"""Programs for an Engine: calls of `run`, and what handlers and the step do in them, as values.

A program says nothing about what is right; it can be played on any Engine, and printed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal, TypeAlias, final, get_args

import attrs
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from typing_extensions import override

from fengine.core.events import Events
from fengine.core.limits import Limits
from fengine.core.requests import NO_REQUESTS, Terminate, TerminateEpoch
from fengine.testing.batches import Data, Kind
from fengine.testing.program import Act, Ask, Fail
from fengine.testing.program_strategies import data
from fengine.testing.strategies import limits, requests

STEP: Final = "step"

# Who listens to EXCEPTION_RAISED: nobody, one who is taken away before the first run, one who takes
# the exception, or one who raises it again.
Listener: TypeAlias = Literal["nobody", "removed", "takes", "raises"]

# What is asked for at the other two is an answer to what happened there.
PLACES: Final = (
    STEP,
    *(e.name for e in Events.all() if e.name not in ("interrupt", "exception_raised", "exited")),
)


@final
@attrs.frozen
class Call:
    """Hold the arguments of one call of `run`.

    >>> print(Call(Data("iterator", 2), Limits(max_iters=3)))
    engine.run(iter([0, 1]), max_iters=3)
    """

    data: Data
    limits: Limits

    @override
    def __str__(self) -> str:
        given = attrs.asdict(self.limits, filter=lambda _, limit: limit is not None)
        batches = _SHOWN[self.data.kind].format([*range(self.data.size)])
        return f"engine.run({', '.join([batches, *(f'{k}={v}' for k, v in given.items())])})"


_SHOWN: Final[dict[Kind, str]] = {
    "list": "{}",
    "sized": "Sized({})",
    "unsized": "Unsized({})",
    "iterator": "iter({})",
    "generator": "(batch for batch in {})",
    "none": "None",
}


@final
@attrs.frozen
class EngineProgram:
    """Hold what is done with one engine.

    Args:
        calls: the calls of `run`, one after the other.
        acts: what handlers and the step do at which of all the firings; one at each at most.
        listener: who listens to EXCEPTION_RAISED.

    >>> print(EngineProgram((), (Act("started", 1, Fail()),)))
    engine = Engine(step)
    at STARTED, firing 1: raise Fault
    """

    calls: tuple[Call, ...]
    acts: tuple[Act, ...] = ()
    listener: Listener = "nobody"

    @override
    def __str__(self) -> str:
        """Show what is done before the calls."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield "engine = Engine(step)"
        if self.listener == "removed":
            yield "with engine.add_event_handler(Events.EXCEPTION_RAISED, print): pass"
        elif self.listener != "nobody":
            yield f"at EXCEPTION_RAISED: {_LISTENERS[self.listener]}"
        for act in self.acts:
            place = act.place if act.place == STEP else act.place.upper()
            for deed in _deeds(act.deed):
                yield f"at {place}, firing {act.firing}: {deed}"


_LISTENERS: Final = {"takes": "pass", "raises": "raise the exception again"}


def _deeds(deed: Ask | Fail) -> Iterator[str]:
    if isinstance(deed, Fail):
        yield "raise Fault"
        return
    asked = deed.requests
    if asked.terminate is not None:
        silent = asked.terminate is Terminate.SILENT
        yield f"engine.terminate({'skip_completed=True' if silent else ''})"
    if asked.terminate_epoch is not None:
        silent = asked.terminate_epoch is TerminateEpoch.SILENT
        yield f"engine.terminate_epoch({'skip_epoch_completed=True' if silent else ''})"
    if asked.interrupt is not None:
        yield "engine.interrupt()"


def _with_length(call: Call) -> Call:
    """Say how long an epoch is where no data does."""
    if call.data.kind != "none" or call.limits.epoch_length is not None:
        return call
    return attrs.evolve(call, limits=attrs.evolve(call.limits, epoch_length=call.data.size))


_CALLS = st.builds(Call, data(), limits()).map(_with_length)
_ACTS = st.lists(
    st.builds(
        Act,
        st.sampled_from(PLACES),
        st.sampled_from([1, 2, 1, 3, 4]),  # most events of the end fire once
        st.builds(Ask, requests().filter(lambda asked: asked != NO_REQUESTS)) | st.just(Fail()),
    ),
    max_size=3,
    unique_by=lambda act: (act.place, act.firing),
).map(tuple)
_LISTENER: SearchStrategy[Listener] = st.sampled_from(get_args(Listener))


@st.composite
def engine_programs(draw: st.DrawFn) -> EngineProgram:
    """Generate programs of one to three calls, some of which repeat an earlier one.

    >>> from hypothesis import find
    >>> len(find(engine_programs(), lambda program: len(program.calls) > 1).calls)
    2
    """
    calls = [draw(_CALLS)]
    for _ in range(draw(st.integers(0, 2))):
        calls.append(draw(st.sampled_from(calls) | _CALLS))
    return EngineProgram(tuple(calls), draw(_ACTS), draw(_LISTENER))
