"""Running: one run of an Engine, as the script asks for it.

The script names the events; here they are fired through the hooks of the engine, the time is kept,
and a failure is answered as the Engine API has it. Nothing here decides what comes next.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Container, Generator
from typing import Any, final

import attrs

from fengine.core.events import AnyEvent
from fengine.core.events import Events as CoreEvents
from fengine.core.outcome import Status
from fengine.core.phases import PHASES, Fires
from fengine.core.requests import Recovery
from fengine.core.steps import Outputs
from fengine.engine.engine_source import EngineSource, Feed
from fengine.engine.enums import EVENT_OF
from fengine.engine.handler_lists import EVERY_ITERATION
from fengine.engine.registrations import Registrations, call
from fengine.engine.state import State, box_of
from fengine.engine.telling import OwnWords, Words, fails_in_iteration, tell
from fengine.engine.versions import version_of
from fengine.engine.wishes import Wishes
from fengine.run.driver import pull
from fengine.run.failures import note, say_where
from fengine.run.ranks import AgreeEvery, Alone, Ranks
from fengine.run.script import script
from fengine.run.source import length_of
from fengine.run.together import Together

_EPOCH_STARTED = CoreEvents.EPOCH_STARTED
_EPOCH_COMPLETED = CoreEvents.EPOCH_COMPLETED
_CUT = CoreEvents.TERMINATE_SINGLE_EPOCH
_COMPLETED = CoreEvents.COMPLETED
# Where nobody listens to these, nothing is to be done: the state of the engine numbers them.
_UNCOUNTED = frozenset(
    name
    for name, phase in PHASES.items()
    if phase.rank is not None and phase.fires in (Fires.IN_EACH_RUN, Fires.IN_EACH_EPOCH)
)


@final
@attrs.define(eq=False)
class Inside:
    """Hold what an Engine has beside the documented API, as its attribute `_fengine`.

    Args:
        clock: returns the time in seconds.
        state: the live state.
        registrations: the events and their handlers.
        wishes: what is asked of the engine.
        feed: what it knows of its data.
        words: what it writes to its log.
        is_running: whether a run is under way.
        began: when the run began.
        epoch_began: when the epoch began.
        cuda_rng_states: those that a deterministic engine has loaded, until they are used.
        ranks: the processes that run this engine together.
        leaving: what is called as a run is left, however it ends, with the exception or None.
    """

    clock: Callable[[], float]
    state: State = attrs.field(factory=State)
    registrations: Registrations = attrs.field(factory=Registrations)
    wishes: Wishes = attrs.field(factory=Wishes)
    feed: Feed = attrs.field(factory=Feed)
    words: Words = attrs.field(factory=OwnWords)
    is_running: bool = False
    began: float = 0.0
    epoch_began: float = 0.0
    cuda_rng_states: list[Any] | None = None
    ranks: Ranks = Alone()  # noqa: RUF009  # a frozen record
    leaving: list[Callable[[BaseException | None], object]] = attrs.field(factory=list)

    def leave(self, failure: BaseException | None) -> None:
        """Call what is to be called as a run is left; an exception of the run is not lost to it."""
        try:
            with contextlib.ExitStack() as stack:
                for let_go in reversed(self.leaving):
                    stack.callback(let_go, failure)
        except Exception as error:
            if failure is None:
                raise
            note(failure, f"as the run was left, {error!r} was raised too")


@final
class Running:
    """Run an engine once.

    Args:
        engine: calls its hooks.
        inside: its parts.
        fires_by_hook: every event goes through `_fire_event`, since somebody wants to see it;
            otherwise the lists of handlers are called at once.
    """

    __slots__ = ("_box", "_by_hook", "_engine", "_inside", "_lists", "_together", "_wishes")

    def __init__(self, engine: Any, inside: Inside, *, fires_by_hook: bool) -> None:
        self._engine, self._inside, self._by_hook = engine, inside, fires_by_hook
        self._box, self._wishes = box_of(inside.state), inside.wishes
        self._lists = inside.registrations.lists.by_name
        self._together: Together | None = None
        self._box.is_shared, self._box.agreed, self._box.preemption = False, None, None
        if inside.ranks.size > 1:
            data = inside.state.dataloader
            self._together = Together(
                self._box,
                inside.ranks,
                AgreeEvery(1),
                length_of(data),
                data is not None,
                lambda: dict(inside.state.metrics),
            )

    def run(self) -> BaseException | None:
        """Run to the end, and return the exception that ended the run, or None."""
        check = getattr(type(self._engine._process_function), "as_run_begins", None)
        if check is not None:  # of a supervised trainer
            check(self._engine._process_function)
        together = self._together
        heard: Container[str] = EVENT_OF if self._by_hook or together else self._lists
        course = script(
            self._box,
            Outputs(self.process),
            EngineSource(
                self._engine,
                version_of(self._engine.semantics),
                self._box,
                self._inside.feed,
                self._wishes,
            ),
            heard,
            finish_iteration=self._engine.semantics.finish_iteration,
        )
        fire: Callable[[AnyEvent], None] = self.fire
        if together is not None:
            try:
                together.begin(self._said_to_others())
            except Exception as error:
                return together.tell(error)
            fire = together.agreeing_after(fire)
        pulled: Generator[None, None, BaseException | None] = pull(course, fire, self.fire_failure)
        while True:
            try:
                next(pulled)
            except StopIteration as end:
                left: BaseException | None = end.value
                return left if left is None or together is None else together.tell(left)

    def _said_to_others(self) -> dict[str, object]:
        """Return what this engine is made of, as far as it has to be the same on all ranks."""
        return {"engine": type(self._engine).__qualname__, "semantics": self._engine.semantics}

    def process(self, batch: Any) -> Any:
        """Call the process function."""
        engine = self._engine
        output = engine._process_function(engine, batch)
        if self._wishes.posted:
            self._wishes.take(self._box)
        return output

    def fire(self, event: AnyEvent) -> None:
        """Fire what the script names, and keep the time."""
        name = event.name
        if name in EVERY_ITERATION:
            if self._by_hook:
                self._engine._fire_event(EVENT_OF[name])
            elif self._together is None or name in self._lists:
                call(self._lists[name], self._engine)
        else:
            self._fire_rarely(event)
        self._box._handled = None
        if self._wishes.posted:
            self._wishes.take(self._box)

    def _fire_rarely(self, event: AnyEvent) -> None:
        inside, box = self._inside, self._box
        times: dict[str, float | None] = box.user["times"]
        if event is _EPOCH_STARTED:
            inside.epoch_began = inside.clock()
        elif event is _EPOCH_COMPLETED:
            times["EPOCH_COMPLETED"] = inside.clock() - inside.epoch_began
        elif event is _COMPLETED:
            times["COMPLETED"] = inside.clock() - inside.began
        if event is _CUT:
            self._engine._fire_event(EVENT_OF[event.name], iter_counter=box.payload)
        elif (
            self._by_hook
            or self._lists.get(event.name)
            or event.name not in _UNCOUNTED
            or "_fire_event" in vars(self._engine)  # set since the run began
        ):
            self._engine._fire_event(EVENT_OF[event.name])
        else:
            inside.registrations.last = EVENT_OF[event.name], (box.event, box.batches)
        if event is _EPOCH_COMPLETED or event is _CUT:
            took = times["EPOCH_COMPLETED"] = inside.clock() - inside.epoch_began
            if self._wishes.posted:
                self._wishes.take(box)
            tell(self._engine, "epoch_ends", took)

    def fire_failure(self, event: AnyEvent) -> None:
        """Hand an exception to the engine; on several ranks no handler takes it."""
        box, together = self._box, self._together
        error: Any = box.payload
        leaving = error if together is None else together.tell(error)
        self._engine._handle_exception(leaving)
        if self._wishes.posted:
            self._wishes.take(box)
        if together is not None and box.requests.recovery is not None:
            box.ask(recovery=None)
            note(leaving, f"one of {together.ranks.size} ranks cannot go on by itself")
        if leaving is not error:
            raise leaving


def answer(engine: Any, inside: Inside, error: Any) -> None:
    """Fire EXCEPTION_RAISED; handlers that raise nothing have taken the exception."""
    box = box_of(inside.state)
    say_where(error, box)
    tell(engine, "fails", error, level=logging.ERROR)
    failure = CoreEvents.EXCEPTION_RAISED.name
    if not inside.registrations.lists.by_name[failure]:
        return
    ends_epoch = fails_in_iteration(box, error)
    try:
        engine._fire_event(EVENT_OF[failure], error)
    finally:
        del error  # the traceback of what a handler raises holds this frame
    if box.status is Status.INTERRUPTED:
        # A handler of INTERRUPT failed: there is no pause, and what asked for it stays.
        box.status = Status.RUNNING
    box.ask(recovery=Recovery.END_EPOCH if ends_epoch else Recovery.END_RUN)
