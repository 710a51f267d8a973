"""Profiling: the time of each handler of a run, as a table, and a trace by torch's profiler.

What is timed stands in for the handlers that a loop has, so a loop that goes on knows them by their
own names. Nothing of it is in the state.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar, final

import attrs
import torch
from immutables import Map
from typing_extensions import Unpack, override

from fengine import Event, Events, Loop, Outcome, Registration, State, Table
from fengine.core.describe import call_in_words, describe, require_callable
from fengine.core.taking import Looking, StandIn
from fengine.features.by_run import ByRun
from fengine.features.profiling_sessions import MARKED, ProfiledEngine, Session
from fengine.features.stopwatch import Profile, Stopwatch
from fengine.features.tracing import Cycles, ProfilerOptions, Trace, Tracing
from fengine.look.loop_in_words import registration_in_words
from fengine.run.box import RUNNING
from fengine.training.attaching import AnyEngine, require_engine
from fengine.writers.consoles import Writable, require_writable

B = TypeVar("B")
O = TypeVar("O")  # noqa: E741  # the output, beside the batch and the user
U = TypeVar("U")

_USUAL: Final = Cycles(wait=1, warmup=1, active=3, repeat=1, skip_first=0)


@final
class _Latest(list[Profile]):
    """Hold the profile of the run that has ended last; a copy of it holds none."""

    @override
    def __reduce__(self) -> tuple[type[_Latest], tuple[()]]:
        """Return what `copy` and `pickle` make it of."""
        return _Latest, ()


@final
@attrs.frozen(repr=False)
class Profiled:
    """Profile a run; made by `profiled`.

    >>> profiled().profile is None
    True
    """

    cycles: Cycles
    trace: Trace | None
    file: Writable | None = attrs.field(eq=id)
    clock: Callable[[], float]
    options: Map[str, Any]
    _sessions: ByRun[Session] = attrs.field(factory=ByRun, init=False, eq=False)
    _latest: _Latest = attrs.field(factory=_Latest, init=False, eq=False)

    @property
    def profile(self) -> Profile | None:
        """What was found in the run that has ended last; None before."""
        return self._latest[-1] if self._latest else None

    @override
    def __repr__(self) -> str:
        shown: dict[str, object] = {
            name: number
            for name, number in attrs.asdict(self.cycles).items()
            if number != getattr(_USUAL, name)
        }
        if self.trace is not None:
            shown["trace"] = str(self.trace) if isinstance(self.trace, Path) else self.trace
        if self.file is not None:
            shown["file"] = type(self.file)
        if self.clock is not time.perf_counter:
            shown["clock"] = self.clock
        return call_in_words("profiled", **shown, **dict(sorted(self.options.items())))

    def __call__(self, loop: Loop[B, O, U], /) -> Loop[B, O, U]:
        """Return the loop with its handlers timed.

        Raises:
            ValueError: its handlers are timed already.
        """
        timed = []
        for one in loop.table.registrations:
            if isinstance(one.handler, _Timed | _Marking):
                raise ValueError(f"the loop is profiled already, by {one.handler.feature!r}")
            key = one.event.name.upper(), registration_in_words(one)
            timed.append(
                attrs.evolve(
                    one,
                    handler=_Timed(self, key, one.handler),
                    runs_before=tuple(_Timed(self, key, other) for other in one.runs_before),
                    runs_after=tuple(_Timed(self, key, other) for other in one.runs_after),
                )
            )
        marks = [Registration(event, None, _Marking(self, event)) for event in MARKED]
        return attrs.evolve(loop, table=Table((*marks, *timed))).on(Events.EXITED, _Ending(self))

    def attach(self, engine: AnyEngine) -> None:
        """Profile the runs of an Engine, and time the handlers that it has now.

        Args:
            engine: a `fengine.engine.Engine`.

        Raises:
            TypeError: `engine` is none.
            ValueError: its handlers are timed already.

        >>> from io import StringIO
        >>> from fengine.engine import Engine
        >>> engine = Engine(lambda engine, batch: batch)
        >>> profile = profiled(file=StringIO())
        >>> profile.attach(engine)
        >>> state = engine.run([1, 2, 3])
        >>> sorted((one.name, one.calls) for one in profile.profile.timings)
        [('the step', 3), ('waiting for data', 3)]
        """
        require_engine(engine, self)
        ProfiledEngine(self.begin, self).attach(engine)

    def begin(self) -> Session:
        """Begin to profile a run.

        Raises:
            RuntimeError: torch's profiler is in use.
            FileNotFoundError: there is no folder for the trace.
        """
        tracing = None
        if self.trace is not None:
            options: Any = dict(self.options)
            tracing = Tracing(self.trace, self.cycles, options)
            tracing.start()
        return Session(self.keep, Stopwatch(self.clock), tracing)

    def session_of(self, state: State[Any, Any, Any]) -> Session:
        """Return what profiles the run of a state."""

        def begin() -> Session:
            session = self.begin()
            # A run that is dropped tells nobody of its end.
            weakref.finalize(RUNNING[state._notes.run], session.drop)
            return session

        return self._sessions.of(state, begin)

    def timing(self, state: State[Any, Any, Any]) -> Session | None:
        """Return what profiles the run of a state, if anything does."""
        return self._sessions.get(state._notes.run)

    def keep(self, profile: Profile) -> None:
        """Keep what was found, and show it; whatever happens to the output, the run goes on."""
        self._latest[:] = [profile]
        with contextlib.suppress(Exception):
            file = sys.stderr if self.file is None else self.file
            file.write(f"{profile}\n")
            file.flush()


@final
@attrs.frozen(repr=False)
class _Marking(Looking):
    feature: Profiled
    event: Event

    @override
    def __repr__(self) -> str:
        return f"{self.feature!r}, timing"

    def __call__(self, state: State[B, O, U]) -> State[B, O, U]:
        self.feature.session_of(state).at(self.event)
        return state


@final
@attrs.frozen(repr=False)
class _Timed(StandIn):
    """Call a handler, and take its time."""

    feature: Profiled
    key: tuple[str, str] = attrs.field(eq=False)
    handler: Callable[..., Any]

    @override
    def stands_for(self) -> object:
        """Return the handler."""
        return self.handler

    @override
    def __repr__(self) -> str:
        return describe(self.handler)

    def __call__(self, state: State[B, O, U], *payload: Any) -> Any:
        session = self.feature.timing(state)
        if session is None:
            return self.handler(state, *payload)
        return session.call(self.key, self.handler, state, *payload)


@final
@attrs.frozen(repr=False)
class _Ending(Looking):
    feature: Profiled

    @override
    def __repr__(self) -> str:
        return repr(self.feature)

    def __call__(self, state: State[B, O, U], outcome: Outcome) -> State[B, O, U]:
        session = self.feature.timing(state)
        if session is not None:
            session.end(outcome.error)
        return state


def profiled(
    *,
    wait: int = _USUAL.wait,
    warmup: int = _USUAL.warmup,
    active: int = _USUAL.active,
    repeat: int = _USUAL.repeat,
    skip_first: int = _USUAL.skip_first,
    trace: str | os.PathLike[str] | Callable[[torch.profiler.profile], object] | None = None,
    file: Writable | None = None,
    clock: Callable[[], float] = time.perf_counter,
    **options: Unpack[ProfilerOptions],
) -> Profiled:
    """Make a feature that shows where the time of a run goes.

    As the run ends, in whatever way, it writes a table: how long the run waited for data, how long
    its steps took, and each handler. `.profile` has its numbers. Put the feature last, since it
    times the handlers that the loop has by then; they are in the loop in its stead, so take none
    out afterwards. Work that a device does meanwhile is in the time of whoever waits for it.

    With `trace`, torch's profiler records some batches too, by the schedule below, and what is
    recorded is written to a file that https://ui.perfetto.dev opens, with the handlers by their
    names. A run that ends earlier writes what there is. A file that cannot be written is a warning,
    and the run goes on.

    Args:
        wait: how many batches a cycle begins with that are not recorded.
        warmup: for how many batches the profiler then runs without recording.
        active: how many batches are then recorded.
        repeat: how many cycles there are; 0: until the run ends.
        skip_first: how many batches come before the first cycle.
        trace: the file; of the cycles after the first, `trace.2.json` and so on. Or a function
            that is called with the `torch.profiler.profile` of each cycle, such as
            `torch.profiler.tensorboard_trace_handler(folder)`. None: torch's profiler stays off.
        file: where the table goes: anything with `write` and `flush`; None: the standard error
            stream.
        clock: gives the time in seconds; see `fengine.testing.FakeClock`.
        **options: `activities`, `record_shapes`, `profile_memory`, `with_stack` and `with_flops`,
            as `torch.profiler.profile` takes them.

    Raises:
        TypeError: an argument is not of its type.
        ValueError: a number of batches is negative, or `active` is 0.
        RuntimeError: in the run, torch's profiler is in use already.
        FileNotFoundError: as the run begins, there is no folder for the trace.

    >>> from fengine import outputs
    >>> from fengine.testing import FakeClock
    >>> clock = FakeClock()
    >>> loop = Loop(outputs(clock.advance)) | profiled(file=sys.stdout, clock=clock)
    >>> final = loop.run([1, 2, 3])
    6.000 seconds
      share    seconds    calls    mean ms
      100 %      6.000        3   2000.000  the step
        0 %      0.000        3      0.000  waiting for data
    """
    cycles = Cycles(wait, warmup, active, repeat, skip_first)
    unknown = options.keys() - ProfilerOptions.__optional_keys__
    if unknown:
        raise TypeError(
            f"profiled() takes no {sorted(unknown)}; of torch's profiler it takes "
            f"{sorted(ProfilerOptions.__optional_keys__)}"
        )
    require_writable(file)
    require_callable(clock, "clock")
    if isinstance(trace, str | os.PathLike):
        trace = Path(trace)
    elif trace is not None:
        require_callable(trace, "trace", "profiler")
    return Profiled(cycles, trace, file, clock, Map(options))
