"""The player: it plays a program on an Engine, and keeps what a user of it could have seen.

It asks of an Engine only what every Engine of this API has, and judges nothing.
"""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any, Final, TypeAlias, final

import attrs

from fengine.core.events import Events
from fengine.core.limits import Limits
from fengine.core.requests import NO_REQUESTS, Recovery, Requests, Terminate, TerminateEpoch
from fengine.core.semantics import Semantics
from fengine.testing.automaton import joined
from fengine.testing.conformance.programs import STEP, Call, EngineProgram
from fengine.testing.program import Ask, Fault
from fengine.testing.traces import Fired

# Makes an engine of a process function.
MakeEngine: TypeAlias = Callable[[Callable[[Any, Any], Any]], Any]

# More events than any run has that ends by itself.
MOST_EVENTS: Final = 300

# Where an exception that is taken ends the epoch; elsewhere it ends the run.
_IN_ITERATION: Final = frozenset(
    {
        "get_batch_started",
        "dataloader_stop_iteration",
        "get_batch_completed",
        "iteration_started",
        "iteration_completed",
    }
)


@final
class Endless(BaseException):
    """Leave a run that does not end by itself, past all handlers of exceptions.

    >>> issubclass(Endless, Exception)
    False
    """


@final
@attrs.frozen
class Progress:
    """Hold what the state of an engine says of the run and its limits.

    >>> Progress(1, 3, max_epochs=2, max_iters=None, epoch_length=3).iteration
    3
    """

    epoch: int
    iteration: int
    max_epochs: int | None
    max_iters: int | None
    epoch_length: int | None


@final
@attrs.define
class Ran:
    """Hold what was seen of one call of `run`.

    Attributes:
        call: the call.
        before: where the engine stood before it.
        previous: what was seen of the last call before it that was not refused.
        fired: what fired, with what was asked for there.
        progress: where the engine stood at each firing, and at the end.
        batches: what the step was called with, and how many events had fired then.
        outputs: what the step returned, and what `state.output` was at ITERATION_COMPLETED.
        raised: what handlers and the step raised.
        handled: what the handler of EXCEPTION_RAISED was called with.
        error: what left the run, if anything did.
        returned: what it returned.
        endless: whether it was left because it did not end.

    >>> from fengine.testing import Data
    >>> begin = Progress(0, 0, max_epochs=None, max_iters=None, epoch_length=None)
    >>> Ran(Call(Data("list", 1), Limits()), begin, error=ValueError("no")).refused
    True
    """

    call: Call
    before: Progress
    previous: Ran | None = None
    fired: list[Fired] = attrs.field(factory=list)
    progress: list[Progress] = attrs.field(factory=list)
    batches: list[tuple[Any, int]] = attrs.field(factory=list)
    outputs: list[tuple[object, object]] = attrs.field(factory=list)
    raised: list[Exception] = attrs.field(factory=list)
    handled: list[BaseException] = attrs.field(factory=list)
    error: Exception | None = None
    returned: object = None
    endless: bool = False

    @property
    def refused(self) -> bool:
        """Whether the call was refused before anything ran."""
        return self.error is not None and not self.fired and self.error not in self.raised

    @property
    def interrupted(self) -> bool:
        """Whether it was paused, for the next call to go on."""
        return bool(self.fired) and self.fired[-1].event == "interrupt" and self.error is None


@final
@attrs.frozen(eq=False)
class Played:
    """Hold what was seen of a program.

    Args:
        program: the program.
        runs: what was seen of its calls; none after one that did not end.
        state: the state of the engine.
        semantics: when stops have to act; None: either way will do.

    >>> Played(EngineProgram(()), (), state=None, semantics=None).runs
    ()
    """

    program: EngineProgram
    runs: tuple[Ran, ...]
    state: object
    semantics: Semantics | None


def play(
    program: EngineProgram, make: MakeEngine, events: Any, semantics: Semantics | None = None
) -> Played:
    """Play a program on a new engine.

    Args:
        program: the program.
        make: makes the engine of a process function.
        events: the class of its events.
        semantics: when stops have to act; None: either way will do.

    >>> from fengine.engine import Engine, Events
    >>> from fengine.testing import Data
    >>> program = EngineProgram((Call(Data("list", 2), Limits(max_epochs=3)),))
    >>> [run.progress[-1].iteration for run in play(program, Engine, Events).runs]
    [6]
    """
    player = _Player(program, make, events)
    runs = player.play()
    return Played(program, runs, player.engine.state, semantics)


class _Player:
    """Be the handlers and the step of one engine."""

    def __init__(self, program: EngineProgram, make: MakeEngine, events: Any) -> None:
        self.program = program
        self.deeds = {(act.place, act.firing): act.deed for act in program.acts}
        self.firings: Counter[str] = Counter()
        self.asked_in_step = NO_REQUESTS
        self.output: object = None
        self.engine = make(self._step)
        self.engine.logger = _SILENT
        self.ran: Ran
        for event in Events.all():
            if event.name not in ("exception_raised", "exited"):
                listener = self._listener(event.name)
                self.engine.add_event_handler(getattr(events, event.name.upper()), listener)
        if program.listener == "removed":
            with self.engine.add_event_handler(events.EXCEPTION_RAISED, self._handle):
                pass
        elif program.listener != "nobody":
            self.engine.add_event_handler(events.EXCEPTION_RAISED, self._handle)

    def play(self) -> tuple[Ran, ...]:
        runs: list[Ran] = []
        calls = list(self.program.calls)
        for call in calls:
            previous = next((ran for ran in reversed(runs) if not ran.refused), None)
            self.ran = Ran(call, self._progress(), previous)
            runs.append(self.ran)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._run(call)
            self.ran.progress.append(self._progress())
            if self.ran.endless:
                break
            last = previous if self.ran.refused else self.ran
            if len(runs) == len(calls) and last is not None and last.interrupted:
                calls.append(Call(last.call.data, Limits()))  # what is paused goes on to its end
        return tuple(runs)

    def _run(self, call: Call) -> None:
        limits = attrs.asdict(call.limits, filter=lambda _, limit: limit is not None)
        try:
            self.ran.returned = self.engine.run(call.data.fresh(), **limits)
        except Endless:
            pass
        except Exception as error:
            self.ran.error = error

    def _progress(self) -> Progress:
        state = self.engine.state
        return Progress(*(getattr(state, field.name) for field in attrs.fields(Progress)))

    def _listener(self, name: str) -> Callable[..., None]:
        def listen(engine: Any, *args: object, **kwargs: object) -> None:
            self._bound()
            asked, self.asked_in_step = self.asked_in_step, NO_REQUESTS
            deed = self._deed(name)
            if isinstance(deed, Ask):
                asked = joined(asked, deed.requests)
                self._ask(deed.requests)
            self._note(name, asked)
            if name == "iteration_completed":
                self.ran.outputs.append((self.output, engine.state.output))
            if deed is not None and not isinstance(deed, Ask):
                self._raise(name)

        return listen

    def _step(self, engine: Any, batch: Any) -> Any:
        self.ran.batches.append((batch, len(self.ran.fired)))
        deed = self._deed(STEP)
        if isinstance(deed, Ask):
            self.asked_in_step = deed.requests
            self._ask(deed.requests)
        elif deed is not None:
            self._raise(STEP)
        self.output = f"output {self.firings[STEP]}"
        return self.output

    def _handle(self, engine: Any, error: BaseException) -> None:
        if isinstance(error, Endless):
            raise error
        self._bound()
        again = any(error is handled for handled in self.ran.handled)
        self.ran.handled.append(error)
        if again:
            raise error
        if self.program.listener != "takes":
            self._note("exception_raised", NO_REQUESTS)
            raise error
        answer = Recovery.END_EPOCH if self._place() in _IN_ITERATION else Recovery.END_RUN
        self._note("exception_raised", Requests(recovery=answer))

    def _place(self) -> str:
        """Give the last event of the run, which may have fired before it was paused."""
        ran, paused = self.ran, False
        while True:
            for fired in reversed(ran.fired):
                if fired.event in _IN_RUN and not (paused and fired.event == "interrupt"):
                    return fired.event
            if ran.previous is None or not ran.previous.interrupted:
                return ""
            ran, paused = ran.previous, True

    def _deed(self, place: str) -> object:
        self.firings[place] += 1
        return self.deeds.get((place, self.firings[place]))

    def _ask(self, requests: Requests) -> None:
        if requests.terminate is not None:
            silent = requests.terminate is Terminate.SILENT
            self.engine.terminate(**({"skip_completed": True} if silent else {}))
        if requests.terminate_epoch is not None:
            silent = requests.terminate_epoch is TerminateEpoch.SILENT
            self.engine.terminate_epoch(**({"skip_epoch_completed": True} if silent else {}))
        if requests.interrupt is not None:
            self.engine.interrupt()

    def _raise(self, place: str) -> None:
        fault = Fault(place, self.firings[place])
        self.ran.raised.append(fault)
        raise fault

    def _note(self, name: str, asked: Requests) -> None:
        progress = self._progress()
        self.ran.progress.append(progress)
        self.ran.fired.append(Fired(name, progress.epoch, progress.iteration, asked))

    def _bound(self) -> None:
        if len(self.ran.fired) >= MOST_EVENTS:
            self.ran.endless = True
            raise Endless


_IN_RUN: Final = frozenset(event.name for event in Events.all()) - {"exception_raised"}
_SILENT: Final = logging.getLogger(f"{__name__}.silent")
_SILENT.disabled = True
