"""Programs: whole runs as values, with everything that data, steps and handlers do in them.

A program replays: what it does depends on itself and on the state alone, so that running it twice,
or going on from any of its states, does the same again. Does not live here: generating programs,
and the values that they are made of (`strategies`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, TypeAlias, cast, final

import attrs
from immutables import Map

from fengine.core.events import (
    AnyEvent,
    Event,
    Events,
    EventSet,
    FilteredPayloadEvent,
    PayloadEvent,
)
from fengine.core.limits import Limits
from fengine.core.parts import Part
from fengine.core.requests import Recovery, Requests
from fengine.core.semantics import DOCUMENTED, Semantics
from fengine.core.state import State
from fengine.core.steps import stages
from fengine.loop import Loop, Moment
from fengine.testing.batches import Batch, Data

Output: TypeAlias = tuple[int, Batch]  # an iteration and its batch
Seen: TypeAlias = Map[str, int]  # how often each player and listener has been called
Played: TypeAlias = State[Batch, Output, Seen]


@final
@attrs.frozen
class Calls:
    """Hold how often players and listeners have been called, and which one was last.

    >>> Calls()
    Calls(number=0, last='')
    """

    number: int = 0
    last: str = ""


CALLS: Final = Part("calls", Calls())


@final
class Fault(Exception):
    """Stand for whatever goes wrong in a run.

    Args:
        place: the name of the event whose handler failed, or of the stage.
        firing: which firing of the event it was; at a stage, which iteration.
        recovery: how the program answers it; None if it does not.

    >>> Fault("started", 1).recovery is None
    True
    """

    def __init__(self, place: str, firing: int, recovery: Recovery | None = None) -> None:
        self.place = place
        self.firing = firing
        self.recovery = recovery
        super().__init__(place, firing, recovery)


@final
@attrs.frozen
class Ask:
    """Ask the loop for something, as a handler.

    Args:
        requests: what to ask for, beside what has been asked for already.

    >>> Ask(State().interrupt().requests)(State()) == State().interrupt()
    True
    """

    requests: Requests

    def __call__(self, state: State[Any, Any, Any]) -> State[Any, Any, Any]:
        """Give the state with the requests."""
        asked = attrs.asdict(self.requests, recurse=False, filter=_is_there)
        return attrs.evolve(state, requests=attrs.evolve(state.requests, **asked))


def _is_there(field: object, value: object) -> bool:
    return value is not None


@final
@attrs.frozen
class Fail:
    """Raise a `Fault`.

    Args:
        recovery: what the handlers of EXCEPTION_RAISED answer; None if they do not.

    >>> Fail().recovery is None
    True
    """

    recovery: Recovery | None = None


@final
@attrs.frozen
class Act:
    """Say what happens at one firing of an event, or in one iteration of a stage.

    Args:
        place: the name of the event, or "stage 1", "stage 2" and so on.
        firing: which of the firings, from 1; at a stage, which iteration.
        deed: what happens; a stage can only fail.

    >>> stop = Act("epoch_completed", 2, Ask(State().terminate().requests))
    """

    place: str
    firing: int
    deed: Ask | Fail

    def __call__(self, state: State[Any, Any, Any]) -> State[Any, Any, Any]:
        """Give the state with what is asked.

        Raises:
            Fault: the deed is to fail.
        """
        if isinstance(self.deed, Fail):
            raise Fault(self.place, self.firing, self.deed.recovery)
        return self.deed(state)


@final
@attrs.frozen
class _Player:
    """Play the acts of one event, and count the calls: a call that raises is counted later."""

    event: AnyEvent
    acts: tuple[Act, ...]

    def __call__(self, state: Played, payload: object = None) -> Played:
        state = _seen(state, self.event.name)
        call = state.user[self.event.name]
        if self.event.attr is not None and self.event.attr not in ("iteration", "epoch"):
            state = state.with_attribute(self.event.attr, call)
        for act in self.acts:
            if act.firing == call:
                state = act(state)
        if isinstance(payload, Fault) and payload.recovery is not None:
            state = _seen(state, payload.place).recover(payload.recovery)
        return state


@final
@attrs.frozen
class _Listener:
    """Count the calls."""

    name: str

    def __call__(self, state: Played, payload: object = None) -> Played:
        return _seen(state, self.name)


def _seen(state: Played, name: str) -> Played:
    state = state.evolve(user=state.user.set(name, state.user.get(name, 0) + 1))
    return state.with_part(CALLS, Calls(state.part(CALLS).number + 1, name))


@final
@attrs.frozen
class _Stage:
    acts: tuple[Act, ...]

    def __call__(self, value: Output) -> Output:
        for act in self.acts:
            if act.firing == value[0]:
                act(State())
        return value


@final
@attrs.frozen
class _Step:
    stage: _Stage

    def __call__(self, state: Played) -> Played:
        return state.evolve(output=self.stage(_begin(state)))


def _begin(state: Played) -> Output:
    return state.iteration, state.batch


@final
@attrs.frozen
class Program:
    """Hold a whole run: its data and limits, and what happens in it.

    Law: two runs of a program give equal moments.

    Args:
        data: where the batches come from.
        limits: how long the run is.
        acts: what happens at the firings of events and in the stages; one at each at most.
        emitted: own events that fire between the stages of the step; if none, it is a plain step.
        listened: filtered events at which a further handler counts its calls in `state.user`.
        semantics: when a requested stop acts.

    >>> stop = Act("iteration_completed", 2, Ask(State().terminate().requests))
    >>> program = Program(Data("list", 5), Limits(max_epochs=1), (stop,))
    >>> program.run().output
    (2, 1)
    >>> [moment.event for moment in program.iterate()][-3:]
    [Events.TERMINATE, Events.COMPLETED, Events.EXITED]
    """

    data: Data
    limits: Limits
    acts: tuple[Act, ...] = ()
    emitted: tuple[AnyEvent, ...] = ()
    listened: tuple[EventSet | FilteredPayloadEvent[object], ...] = ()
    semantics: Semantics = DOCUMENTED

    def loop(self) -> Loop[Batch, Output, Seen]:
        """Build the loop."""
        first = self._stage(1)
        if self.emitted:
            course = stages(_begin).then(first)
            for number, event in enumerate(self.emitted, start=2):
                course = course.emit(cast("PayloadEvent[Output]", event)).then(self._stage(number))
            loop = Loop(course, semantics=self.semantics)
        else:
            loop = Loop(_Step(first), semantics=self.semantics)
        for event in (*Events.all(), *self.emitted):
            acts = self._acts_at(event.name)
            recovers = event is Events.EXCEPTION_RAISED and self._recovers()
            if acts or event in self.emitted or recovers:
                loop = loop.on(cast(Event, event), _Player(event, acts))
        for number, filtered in enumerate(self.listened):
            loop = loop.on(cast(EventSet, filtered), _Listener(f"listener {number}"))
        return loop.with_part(CALLS)

    def run(self) -> Played:
        """Run from the start to the end on fresh data."""
        return self.loop().run(self.data.fresh(), user=Map(), **attrs.asdict(self.limits))

    def iterate(self, after: Played | None = None) -> Iterator[Moment[Batch, Output, Seen]]:
        """Run step by step on fresh data, from the start or from after a state."""
        loop, batches = self.loop(), self.data.fresh()
        if after is not None:
            return loop.iterate(batches, after=after, replay=True)
        return loop.iterate(batches, user=Map(), **attrs.asdict(self.limits))

    def _stage(self, number: int) -> _Stage:
        return _Stage(self._acts_at(f"stage {number}"))

    def _acts_at(self, place: str) -> tuple[Act, ...]:
        return tuple(act for act in self.acts if act.place == place)

    def _recovers(self) -> bool:
        return any(isinstance(act.deed, Fail) and act.deed.recovery for act in self.acts)
