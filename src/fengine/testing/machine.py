"""The machine: handlers of the user's, driven through plausible runs by Hypothesis.

It is a state machine in the sense of Hypothesis: it does something, looks at what must hold, and
does something else, in an order that is made up and then made simple where something fails. What it
does are the moves of a real run, so its states are those that handlers meet.
"""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import attrs
from hypothesis import Phase, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from hypothesis.strategies import SearchStrategy
from typing_extensions import override

from fengine.core.events import Events
from fengine.core.handlers import AnyHandler
from fengine.core.outcome import Status
from fengine.core.registration import Registration
from fengine.core.requests import NO_REQUESTS, Requests
from fengine.core.state import State
from fengine.core.table import Table
from fengine.loop import Loop, Moment, Moments
from fengine.testing.faults import with_handlers
from fengine.testing.program import Ask
from fengine.testing.purity import called_twice
from fengine.testing.strategies import limits, requests


class HandlerMachine(RuleBasedStateMachine):
    """Drive the handlers of a loop through runs: stopped, interrupted, written and read, resumed.

    Each call of a handler is checked as by `assert_pure`; so it is made twice. Derive a class that
    says what to run; add invariants of yours, which read `moment`. Its `TestCase` is what a test
    runner finds. A report names each event that fired. Hypothesis does not explain a failure line
    by line, which takes minutes here; settings of yours go on from those of the `TestCase`.

    Attributes:
        loop: the loop with the handlers, and a step that makes their outputs.
        batches: a strategy of the batches.
        user: the user's record to begin with.
        moment: the event that fired last, with the state after it; None before the first.

    >>> from fengine import outputs
    >>> from hypothesis import settings
    >>> def keep_best(state):
    ...     return state.evolve(user=max(state.user, state.output))
    >>> class KeepBest(HandlerMachine):
    ...     loop = Loop(outputs(abs)).on(Events.ITERATION_COMPLETED, keep_best)
    ...     batches = st.integers(-9, 9)
    ...     user = 0
    >>> case = KeepBest.TestCase
    >>> case.settings = settings(case.settings, max_examples=10, database=None)
    >>> case("runTest").runTest()
    """

    loop: ClassVar[Loop[Any, Any, Any]]
    batches: ClassVar[SearchStrategy[Any]]
    user: ClassVar[Any] = None

    @override
    def __init_subclass__(cls) -> None:
        """Leave out the phase that explains failures."""
        super().__init_subclass__()
        case = cls.TestCase
        phases = [phase for phase in case.settings.phases if phase is not Phase.explain]
        case.settings = settings(case.settings, phases=phases)

    def __init__(self) -> None:
        for name in ("loop", "batches"):
            if not hasattr(type(self), name):
                raise TypeError(
                    f"{type(self).__name__} has no `{name}`; say in its class what to run"
                )
        super().__init__()
        self.moment: Moment[Any, Any, Any] | None = None
        self._moments: Moments[Any, Any, Any] | None = None
        self._data: list[Any] = []
        self._asked = NO_REQUESTS
        self._broken: list[AssertionError] = []
        checked = with_handlers(self.loop, self._checked)
        asking = (Registration(event, None, self._ask) for event in checked.registry.events)
        table = Table((*asking, *checked.table.registrations))
        self._checked_loop = attrs.evolve(checked, table=table)

    @initialize(draw=st.data())
    def begin(self, draw: st.DataObject) -> None:
        """Begin a run."""
        self._data = draw.draw(st.lists(self.batches, min_size=1, max_size=4), "data")
        limited = attrs.asdict(draw.draw(limits(), "limits"))
        self._asked = NO_REQUESTS
        self._moments = self._checked_loop.iterate(
            self._data, user=copy.deepcopy(self.user), **limited
        )

    @precondition(lambda self: self._moments is None)
    @rule(draw=st.data())
    def begin_again(self, draw: st.DataObject) -> None:
        """Begin another run, where one has ended."""
        self.begin(draw)

    @precondition(lambda self: self._moments is not None)
    @rule()
    def fire_next(self) -> None:
        """Let the next event fire; an interrupted run goes on."""
        assert self._moments is not None
        moment = next(self._moments, None)
        if self._broken:
            raise self._broken[0]
        if moment is not None:
            self.moment = moment
            place = f"epoch {moment.state.epoch}, iteration {moment.state.iteration}"
            note(f"fired {moment.event!r} at {place}")
        elif self.moment is not None and self.moment.state.status is Status.INTERRUPTED:
            self._go_on(self.moment.state)
        else:
            self._moments = None

    @precondition(lambda self: self._moments is not None)
    @rule(asked=requests())
    def ask(self, asked: Requests) -> None:
        """Ask for a stop at the next event."""
        self._asked = asked

    @precondition(lambda self: self._moments is not None and self.moment is not None)
    @rule()
    def write_and_read(self) -> None:
        """Give the run up, and go on from its state as it was written and read."""
        assert self.moment is not None
        if self.moment.state.status is Status.RUNNING:
            plain = self.moment.state.to_dict(user=lambda user: user)
            self._go_on(State.from_dict(plain, events=self.loop.registry, parts=self.loop.parts))

    def _go_on(self, state: State[Any, Any, Any]) -> None:
        # What is outside the state is as the run has left it.
        self._moments = self._checked_loop.iterate(self._data, after=state, restored=True)

    def _ask(self, state: State[Any, Any, Any], payload: object = None) -> State[Any, Any, Any]:
        asked, self._asked = self._asked, NO_REQUESTS
        at_once = not self.loop.semantics.finish_iteration
        if at_once and state.event in (Events.STARTED, Events.EPOCH_STARTED):
            asked = attrs.evolve(asked, terminate_epoch=None)  # which is an error there
        return Ask(asked)(state)

    def _checked(self, registration: Registration[Any, Any, Any]) -> AnyHandler[Any, Any, Any]:
        def checked(state: State[Any, Any, Any], *payload: object) -> State[Any, Any, Any]:
            try:
                outcome = called_twice(registration.handler, state, payload)
            except AssertionError as broken:
                self._broken.append(broken)  # a handler of the user's may recover from it
                raise
            if outcome.error is not None:
                raise outcome.error
            assert outcome.state is not None
            return outcome.state

        return checked
