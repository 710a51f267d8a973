"""The script: what comes next in a run. The one loop.

The script is a generator over a box, which holds the run as it is now. It moves the run on, yields
each event that somebody listens to, and obeys what the handlers have asked for. Whoever pulls the
generator fires the events; not pulling is a pause.

Rule 1. All that decides the order of a run is in this file. Where requests lead is in `obeying`;
what is fired within a step is in `stepping`.
Rule 2. Every event that a run goes through has one shape:

    if at < THE_RANK_OF_THE_EVENT:
        write the registers that change, the event among them
        yield the event, if somebody listens
        obey the requests, if there are any

Rule 3. The script calls the step and the source, and no other code of the user's. It knows nothing
of the Engine, of torch, of clocks or of logs. It warns of nothing.
Rule 4. No exception of the user's leaves it, but as its return value. It is closed by GeneratorExit
alone; a GeneratorExit or StopIteration of the user's is carried past the generators as `Leaked`.
Rule 5. Registers are written as `box` says: what belongs together in one statement, what is let go
of last. An exception between any two statements then finds a whole run, and `box._handled` says
which handlers of its event have run, or that there are none to run.

`at` is a rank: the point of the run that is done. A run that is resumed, stopped or recovered
enters the same lines with another rank. `docs/inside.md` explains each term.
"""

from __future__ import annotations

from collections.abc import Container, Generator
from typing import Final, Generic, final

import attrs

from fengine.core import phases
from fengine.core.events import AnyEvent, Event, Events, rank_at
from fengine.core.missing import MISSING, Missing
from fengine.core.outcome import Failure, Outcome, Status
from fengine.core.requests import NO_REQUESTS, RequestError, Terminate
from fengine.core.state import Batch, Output, User
from fengine.core.steps import Stages, function_of_batch, whole_of
from fengine.run import obeying
from fengine.run.box import RUNNING, RUNS, Box, Leaked, Raised
from fengine.run.ending import reason
from fengine.run.failures import interrupt_of_workers, note
from fengine.run.place import note_end_of_pass
from fengine.run.preemption import is_preempted
from fengine.run.source import Source
from fengine.run.stepping import Firings, Step, Stepping

# So many recoveries in a row, without an iteration between, are no way on.
_MOST_RECOVERIES: Final = 1000

# What the loop over the iterations asks for each time, under one name each.
_EPOCH_STARTED: Final = phases.EPOCH_STARTED
_GET_BATCH_STARTED: Final = phases.GET_BATCH_STARTED
_STOP_ITERATION: Final = phases.STOP_ITERATION
_GET_BATCH_COMPLETED: Final = phases.GET_BATCH_COMPLETED
_ITERATION_STARTED: Final = phases.ITERATION_STARTED
_ITERATION_COMPLETED: Final = phases.ITERATION_COMPLETED
_EPOCH_OVER: Final = phases.EPOCH_OVER
_FETCHING: Final = Events.GET_BATCH_STARTED
_FETCHED: Final = Events.GET_BATCH_COMPLETED
_BEGUN: Final = Events.ITERATION_STARTED
_DONE: Final = Events.ITERATION_COMPLETED


def script(
    box: Box[Batch, Output, User],
    step: Step[Batch, Output, User],
    source: Source[Batch],
    heard: Container[str],
    *,
    finish_iteration: bool,
    own: Container[object] = (),
) -> Generator[AnyEvent, None, BaseException | None]:
    """Say what comes next in a run, until its end.

    Args:
        box: holds the run to begin or to go on with, and in the end the final state.
        step: makes the output of a batch.
        source: gives the batches.
        heard: the names of the events to yield. It may change while the run is under way; for
            events between stages that counts from the next epoch on.
        finish_iteration: a requested stop waits for the end of the iteration; see `Semantics`.
        own: the events that a step may fire.

    Yields:
        Each event that is heard, with the run standing at it in the box.

    Returns:
        The exception that ends the run, or None.
    """
    stepping = Stepping(box, step, heard, own)
    return _Script(box, stepping, source, heard, finish_iteration, rank_at(box.event)).whole()


@final
@attrs.define(eq=False)
class _Script(Generic[Batch, Output, User]):
    """Hold what a script works with, and where it is; see `script`.

    Args:
        at: the rank that is done.
        entering: the event that the run stands at is to be completed before anything else.
        unanswered: the exception that EXCEPTION_RAISED is to fire for.
        error: the exception that stays, and ends the run.
        leaving: the run is over, but for EXITED.
        recoveries: how many there were without an iteration between, and in which iteration.
    """

    box: Box[Batch, Output, User]
    stepping: Stepping[Batch, Output, User]
    source: Source[Batch]
    heard: Container[str]
    finish_iteration: bool
    at: int
    entering: bool = True
    unanswered: BaseException | None = None
    error: BaseException | None = None
    leaving: bool = False
    recoveries: tuple[int, int] = (0, 0)

    def whole(self) -> Generator[AnyEvent, None, BaseException | None]:
        """Go through a run, whatever comes between two lines of it."""
        box = self.box
        box.number = next(RUNS)
        try:
            RUNNING[box.number] = box
            box._notes = box.noting(run=box.number, is_read=False)
            while not box.status.has_ended:
                try:
                    yield from self.parts()
                    return self.error
                except GeneratorExit:
                    raise
                except BaseException as stray:
                    self.meet(stray)
            return self.error
        finally:
            RUNNING.pop(box.number, None)
            self.error = self.unanswered = None  # their tracebacks hold this frame

    def parts(self) -> Firings:
        """Go through a run part by part, with its jumps, its failures and its end."""
        while not (self.leaving and not self.box.exiting):
            try:
                if self.unanswered is not None:
                    yield from self.fail(self.unanswered)
                if self.error is None and self.at < phases.EXIT:
                    if self.entering:
                        self.entering = False
                        self.at = yield from self.enter(self.at)
                    while self.at < phases.STOPPED:
                        self.at = yield from self.beginning(self.at)
                        self.at = yield from self.iterations(self.at)
                        self.at = yield from self.end_of_epoch(self.at)
                    self.at = yield from self.end_of_run(self.at)
                yield from self.exit()
            except obeying.Jump as jump:
                self.at = jump.to
            except GeneratorExit:
                raise
            except BaseException as failure:
                self.meet(failure)

    def meet(self, failure: BaseException) -> None:
        """Take note of an exception, which is announced unless the run is ending already."""
        found = interrupt_of_workers(
            failure.error if isinstance(failure, Raised | Leaked) else failure
        )
        if self.error is None and not self.leaving and is_preempted(failure, self.box):
            self.at = phases.PAUSED
        elif self.error is None and not self.leaving:
            self.unanswered = found
        else:
            self.error = _foremost(self.error, found)

    def beginning(self, at: int) -> Generator[AnyEvent, None, int]:
        """Begin the run, and an epoch; return the rank that is reached."""
        box = self.box
        if at < phases.STARTED:
            box.status = Status.RUNNING
            yield from self.announce(Events.STARTED)
            self.obey()
            at = phases.STARTED
        if at < phases.EPOCH_STARTED:
            if box.is_done():
                return phases.TERMINATED
            box.begin_epoch(heard=Events.EPOCH_STARTED.name in self.heard)
            if box._handled is not None:
                yield Events.EPOCH_STARTED
            self.obey()
            at = phases.EPOCH_STARTED
        return at

    def iterations(self, at: int) -> Generator[AnyEvent, None, int]:
        """Go through the iterations of an epoch after the rank `at`; return the rank reached."""
        box, source, heard = self.box, self.source, self.heard
        if at < _EPOCH_OVER:
            source.open(box)
        step = self.stepping.step
        of_batch = function_of_batch(step, heard, box.event)
        whole = whole_of(step, heard, box.event)
        stages = step if isinstance(step, Stages) and whole is None else None
        stepping = self.stepping if whole is None else attrs.evolve(self.stepping, step=whole)
        while at < _EPOCH_OVER:
            if at < _GET_BATCH_STARTED:
                box._batch = MISSING
                if source.announced:
                    box.event, box._handled = _FETCHING, () if _FETCHING.name in heard else None
                    if box._handled is not None:
                        yield _FETCHING
                    if box.requests is not NO_REQUESTS:
                        self.obey()
            if at < _GET_BATCH_COMPLETED:
                try:
                    batch = MISSING if at == _STOP_ITERATION else source.fetch()
                except GeneratorExit as error:
                    raise Leaked(error) from None
                if batch is MISSING:
                    batch = yield from self.next_pass(at)
                    if batch is MISSING:
                        return _EPOCH_OVER
                box._batch, box.batches, box.event, box._handled, box._output = (
                    batch,
                    box.batches + 1,
                    _FETCHED,
                    () if source.announced and _FETCHED.name in heard else None,
                    MISSING,
                )
                del batch
                if box._handled is not None:
                    yield _FETCHED
                if box.requests is not NO_REQUESTS and source.announced:
                    self.obey()
            if at < _ITERATION_STARTED:
                box.iteration, box.event, box._handled = (
                    box.iteration + 1,
                    _BEGUN,
                    () if _BEGUN.name in heard else None,
                )
                if box._handled is not None:
                    yield _BEGUN
                if box.requests is not NO_REQUESTS:
                    self.obey()
            if at < _ITERATION_COMPLETED:
                if of_batch is not None and box._batch is not MISSING:
                    try:
                        output = of_batch(box._batch)
                    except (StopIteration, GeneratorExit) as error:
                        raise Leaked(error) from None
                    box.event, box._handled, box._output = (
                        _DONE,
                        () if _DONE.name in heard else None,
                        output,
                    )
                    del output
                elif stages is not None:
                    yield from stepping.stages(stages)
                else:
                    firings = stepping.plain_step()
                    if firings is not None:
                        yield from stepping.generator(firings)
                if box._handled is not None:
                    yield _DONE
                if box.requests is not NO_REQUESTS:
                    self.obey()
            at = _EPOCH_STARTED
            if box.batches == box.limits.epoch_length:
                return _EPOCH_OVER
            if box.limits.max_iters is not None and box.iteration >= box.limits.max_iters:
                box.ask(terminate=Terminate.LIMIT)
                return phases.STOPPED
        return at

    def next_pass(self, at: int) -> Generator[AnyEvent, None, Batch | Missing]:
        """Go on where the data gave no batch: start it again, unless the epoch ends with it."""
        box, source = self.box, self.source
        if at != phases.STOP_ITERATION and not box._exhausted:
            if box.drawn:
                source.end_pass(box)
            note_end_of_pass(box)
        known = box.limits.epoch_length is not None
        if (known or box.drawn) and not box.ends_with_data():
            if not known:
                box.learn_epoch_length()
            if at != phases.STOP_ITERATION and source.announced:
                yield from self.announce(Events.DATALOADER_STOP_ITERATION)
                self.obey()
            if at != phases.STOP_ITERATION or box._exhausted:
                source.restart(box)
            box._batch = MISSING
            try:
                batch = source.fetch()
            except GeneratorExit as error:
                raise Leaked(error) from None
            if batch is not MISSING:
                return batch
        elif box.drawn and not known:
            box.learn_epoch_length()
        if self.finish_iteration and box.requests is not NO_REQUESTS:
            obeying.obey(box, finish_iteration=True, no_batch=True)
        if not box.drawn:
            source.ran_dry(box)
            if box.limits.epoch_length is None:
                box.learn_epoch_length()
        return MISSING

    def announce(self, event: Event) -> Firings:
        """Stand at an event, and fire it if it is heard."""
        self.box.stand_at(event, heard=event.name in self.heard)
        if self.box._handled is not None:
            yield event

    def end_of_epoch(self, at: int) -> Generator[AnyEvent, None, int]:
        """End an epoch, after its last iteration or earlier; return the rank that is reached."""
        box = self.box
        if at >= phases.STOPPED:
            return at
        if at == phases.EPOCH_CUT:
            note_end_of_pass(box)
            # The last batch may have been fetched without an iteration that began with it.
            box.payload = box.batches - (box.event is _FETCHED)
            yield from self.announce(Events.TERMINATE_SINGLE_EPOCH)
            at = phases.EPOCH_TERMINATED
        if at == phases.EPOCH_TERMINATED and box._exhausted:
            self.source.restart(box)
        box.payload = None
        if obeying.ends_silently(box):
            box.event = Events.EPOCH_COMPLETED
        else:
            yield from self.announce(Events.EPOCH_COMPLETED)
        obeying.end_epoch(box, finish_iteration=self.finish_iteration)
        return phases.STARTED

    def end_of_run(self, at: int) -> Generator[AnyEvent, None, int]:
        """End the run where it is stopped, paused or done; return the rank to leave at."""
        box = self.box
        if at >= phases.EXIT:
            return at
        if at == phases.STOPPED:
            yield from self.announce(Events.TERMINATE)
            obeying.refuse_recovery(box)
        if at == phases.PAUSED:
            box.counts, box.status, box._notes, box._handled = (
                box.counted(Events.INTERRUPT),
                Status.INTERRUPTED,
                box.noting(paused_after=box._handled),
                () if Events.INTERRUPT.name in self.heard else None,
            )
            if box._handled is not None:
                yield Events.INTERRUPT
            obeying.refuse_recovery(box)
            return phases.INTERRUPTED
        if at < phases.COMPLETED and box.requests.terminate is not Terminate.SILENT:
            yield from self.announce(Events.COMPLETED)
            obeying.refuse_recovery(box)
        return phases.COMPLETED

    def obey(self) -> None:
        """Jump to where the requests lead, if there are any."""
        if self.box.requests is not NO_REQUESTS:
            obeying.obey(self.box, finish_iteration=self.finish_iteration)

    def enter(self, at: int) -> Generator[AnyEvent, None, int]:
        """Complete the event at which the run stands, and return the rank to go on from."""
        box = self.box
        event, status, failure = box.event, box.status, box.failure
        if status is Status.INTERRUPTED:
            if box._handled is not None:
                yield Events.INTERRUPT
                obeying.refuse_recovery(box)
            among = box._notes.paused_after
            box.requests, box.status, box._notes, box._handled = (
                box.asking(interrupt=None),
                Status.RUNNING,
                box.noting(paused_after=None),
                among,
            )
            status = status if among is None else Status.RUNNING
        elif at > phases.START:
            box.status = Status.RUNNING
        if failure is not None and box.requests.recovery is not None:
            return (yield from self.enter(obeying.recovered(box)))
        if failure is not None:
            handled = box._handled or () if failure is Failure.AT_EVENT else None
            box._notes, box._handled = box.noting(failure=None), handled
        emitted = event is not None and event.name not in phases.PHASES
        if box._handled is not None and event is not None and not emitted:
            yield event
        # After a pause, and before a run, the requests at the event have been looked at already.
        looked = status not in (Status.RUNNING, Status.FAILED)
        if looked and not obeying.was_asked_since(box, finish_iteration=self.finish_iteration):
            return phases.STARTED if at == phases.EPOCH_COMPLETED else at
        if at == phases.EPOCH_COMPLETED:
            obeying.end_epoch(box, finish_iteration=self.finish_iteration)
            return phases.STARTED
        if not emitted and phases.STARTED <= at < phases.EPOCH_OVER:
            self.obey()
        return at

    def fail(self, error: BaseException) -> Firings:
        """Fire EXCEPTION_RAISED; find where to go on from, or that the exception stays."""
        box = self.box
        if box.status is Status.INTERRUPTED:
            box._handled = None  # a run that goes on pauses again
        if box._handled is not None or box.failure is Failure.AT_EVENT:
            kind = Failure.AT_EVENT
        else:
            kind = Failure.REFUSED if isinstance(error, RequestError) else Failure.ELSEWHERE
        box._notes = box.noting(failure=kind)
        box.counts = box.counted(Events.EXCEPTION_RAISED)
        if Events.EXCEPTION_RAISED.name in self.heard:
            box.payload = error
            try:
                yield Events.EXCEPTION_RAISED
            except Raised as again:
                self.error, self.unanswered = _foremost(error, again.error), None
                return
            finally:
                box.payload = None
        number, iteration = self.recoveries
        number = number + 1 if iteration == box.iteration else 0
        self.recoveries = number, box.iteration
        if box.requests.recovery is None:
            self.error, self.unanswered = error, None
        elif number >= _MOST_RECOVERIES:
            times = f"recovered {_MOST_RECOVERIES} times in a row"
            note(error, f"{times}, without an iteration between")
            self.error, self.unanswered = error, None
        else:
            self.at, self.entering, self.unanswered = obeying.recovered(box), True, None

    def exit(self) -> Firings:
        """Say how the run ended, and fire EXITED, which is always the last event."""
        box, error = self.box, self.error
        if error is not None:
            box.status = Status.FAILED
        elif self.at == phases.INTERRUPTED:
            box.requests, box.status = box.asking(interrupt=None), Status.INTERRUPTED
        elif self.at == phases.EXIT or (
            box.requests.terminate is not Terminate.LIMIT and Events.TERMINATE.name in box.counts
        ):
            box.status = Status.TERMINATED
        else:
            box.status = Status.COMPLETED
        self.leaving, box.exiting, box.called = True, Events.EXITED.name in self.heard, False
        if box.exiting:
            box.payload = Outcome(box.status, error, reason(box, error))
            try:
                yield Events.EXITED
            except Raised as raised:
                # Handlers run once: where one has been called, the event is done with.
                if box.called:
                    box.exiting = False
                self.error = _foremost(error, raised.error)
            finally:
                box.payload = None


def _foremost(error: BaseException | None, again: BaseException) -> BaseException:
    """Choose which exception leaves, where a handler of another one raised `again`."""
    if error is None or again is error:
        return again
    if isinstance(again, Exception) and not isinstance(error, Exception):
        note(error, f"a handler of it raised {again!r}")
        return error
    if again.__context__ is None:
        again.__context__ = error
    return again
