"""Profiling sessions: one run that is profiled, of a loop or of an engine.

A session is told which events fire, and calls the handlers. It ends once, however the run does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any, Final, final

import attrs

from fengine import Event, Events
from fengine.features.stopwatch import DATA, STEP, Profile, Stopwatch
from fengine.features.tracing import Tracing
from fengine.training.attaching import AnyEngine

# At the first of them that fires a run begins, or goes on.
MARKED: Final = (
    Events.STARTED,
    Events.EPOCH_STARTED,
    Events.GET_BATCH_STARTED,
    Events.ITERATION_STARTED,
    Events.ITERATION_COMPLETED,
)


@final
@attrs.define(eq=False)
class Session:
    """Profile one run."""

    keep: Callable[[Profile], None]
    watch: Stopwatch
    tracing: Tracing | None
    is_over: bool = False

    def at(self, event: Event) -> None:
        """Take note that an event fires."""
        watch = self.watch
        if event is Events.EPOCH_STARTED or event is Events.GET_BATCH_STARTED:
            if watch.mark is None:
                watch.begin()
        elif event is Events.ITERATION_STARTED:
            watch.end(DATA)
            watch.begin()
        elif event is Events.ITERATION_COMPLETED:
            watch.end(STEP)
            if self.tracing is not None:
                self.tracing.step()

    def call(self, key: tuple[str, str], handler: Callable[..., Any], *given: Any) -> Any:
        """Call a handler, timed."""
        if self.tracing is not None:
            handler = self.tracing.named(": ".join(key), handler)
        return self.watch.call(key, handler, *given)

    def drop(self) -> None:
        """End without a word."""
        if not self.is_over and self.tracing is not None:
            with contextlib.suppress(Exception):
                self.tracing.stop()
        self.is_over = True

    def end(self, error: BaseException | None) -> None:
        """End, keep what was found, and show it."""
        if self.is_over:
            return
        self.is_over = True
        try:
            if self.tracing is not None:
                self.tracing.stop(error)
        finally:
            traces = () if self.tracing is None else self.tracing.traces
            self.keep(self.watch.profile(traces))


@final
@attrs.define(eq=False)
class ProfiledEngine:
    """Profile the runs of one engine."""

    make: Callable[[], Session]
    feature: object
    session: Session | None = None

    def attach(self, engine: Any) -> None:
        """Time the handlers that the engine has, and add those that mark where a run is."""
        for handler, _, _ in engine._event_handlers["COMPLETED"]:
            other = getattr(handler, "__self__", None)
            if isinstance(other, ProfiledEngine):
                raise ValueError(f"the engine is profiled already, by {other.feature!r}")
        engine._fengine.registrations.surround(self.call)
        for event in MARKED:
            engine.add_event_handler(event.name.upper(), partial(self.at, event))
        for name in ("COMPLETED", "TERMINATE", "INTERRUPT"):
            engine.add_event_handler(name, self.end)
        engine.add_event_handler("EXCEPTION_RAISED", self.fail)

    def at(self, event: Event, engine: AnyEngine) -> None:
        """Take note that an event fires; a run begins, or goes on, at the first of them."""
        self.begun().at(event)

    def begun(self) -> Session:
        """Return what profiles the run that is under way."""
        if self.session is None:
            self.session = self.make()
        return self.session

    def call(
        self, key: tuple[str, str], handler: Callable[..., Any], *given: Any, **named: Any
    ) -> Any:
        """Call a handler, timed."""
        if self.session is None and key[0] != "STARTED":
            return handler(*given, **named)
        return self.begun().call(key, partial(handler, **named), *given)

    def end(self, engine: AnyEngine, error: BaseException | None = None) -> None:
        """End with the run."""
        session, self.session = self.session, None
        if session is not None:
            session.end(error)

    def fail(self, engine: Any, error: BaseException) -> None:
        """End with a run that fails; the engine takes an exception for answered that none raises.

        Raises:
            BaseException: the exception, where no other handler answers it.
        """
        self.end(engine, error)
        if len(engine._event_handlers["EXCEPTION_RAISED"]) == 1:
            raise error
