"""The loop, written once: what comes next in a run.

The script is a generator. It yields each event that somebody listens to, reads from its box the
state that the handlers left there, and obeys the requests in it. It calls no handler, and lets no
exception of the user's through: it comes out as its return value. Whoever pulls the generator fires
the events; not pulling is a pause, and `Raised` thrown in says that a handler failed.

The state is never held in a local variable while other code runs, so that the box alone decides
what stays alive: a batch is released before the next one is fetched.

`at` is the rank that is behind us; see `ranks`. A run that resumes, and one that jumps, enters the
same loop with another `at`.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Generator
from typing import Final, TypeAlias, cast

import attrs

from fengine.core.describe import describe
from fengine.core.events import AnyEvent, Event, Events, PayloadEvent
from fengine.core.handlers import moved
from fengine.core.ledger import Failure
from fengine.core.missing import MISSING
from fengine.core.outcome import Outcome, Status
from fengine.core.ports import EXHAUSTED, Box, Exhausted, Leaked, Raised, Source
from fengine.core.ranks import (
    COMPLETED,
    EPOCH_COMPLETED,
    EPOCH_CUT,
    EPOCH_OVER,
    EPOCH_STARTED,
    EPOCH_TERMINATED,
    EXIT,
    GET_BATCH_COMPLETED,
    GET_BATCH_STARTED,
    ITERATION_COMPLETED,
    ITERATION_STARTED,
    OBEYED,
    PAUSED,
    RANKS,
    START,
    STARTED,
    STOP_ITERATION,
    STOPPED,
    Jump,
    after_recovery,
    asked_since,
    end_of_epoch,
    obey,
    rank,
    refuse_recovery,
)
from fengine.core.requests import NO_REQUESTS, RequestError, Terminate, TerminateEpoch
from fengine.core.semantics import Semantics
from fengine.core.state import Batch, Output, State, User, with_requests
from fengine.core.steps import Outputs, Stages
from fengine.core.transitions import (
    at_event,
    begin_epoch,
    begin_iteration,
    begin_iteration_with,
    begin_run,
    counted,
    counted_aside,
    draft_output,
    end_epoch,
    end_of_data,
    end_pass,
    is_done,
    learn_epoch_length,
    release_batch,
    request_batch,
    restart_data,
    show,
    with_batch,
    with_failure,
    with_output,
    with_status,
)

Step: TypeAlias = Callable[[State[Batch, Output, User]], State[Batch, Output, User]]


# So many recoveries in a row, without an iteration between, are no way on.
_MOST_RECOVERIES: Final = 1000


def script(
    box: Box[Batch, Output, User],
    step: Step[Batch, Output, User],
    source: Source[Batch],
    heard: Container[str],
    semantics: Semantics,
) -> Generator[AnyEvent, None, BaseException | None]:
    """Say what comes next in the run of the box's state, until its end.

    Args:
        box: holds the state to begin or go on with, and in the end the final one.
        step: makes the output of a batch.
        source: gives the batches.
        heard: the names of the events to yield. It may change while the run is under way; for
            events between stages that counts from the next epoch on.
        semantics: when a requested stop acts.

    Yields:
        Each event that is heard, with the state at it in the box; `show` it to others.

    Returns:
        The exception that ends the run, or None.
    """
    if box.state.status.has_ended:
        return None
    at, entering = rank(box.state), True
    stuck, iteration = 0, box.state.iteration
    while True:
        error: BaseException | None = None
        try:
            if entering:
                entering = False
                at = yield from _enter(box, semantics, at)
            yield from _run(box, step, source, heard, semantics, at)
            break
        except Jump as jump:
            at = jump.to
        except GeneratorExit:
            raise
        except BaseException as failure:
            error = failure
        if error is not None:
            stuck = stuck + 1 if box.state.iteration == iteration else 0
            iteration = box.state.iteration
            at, error = yield from _fail(box, heard, error, last=stuck >= _MOST_RECOVERIES)
            entering = True
            if error is not None or at == PAUSED:
                break
    try:
        return (yield from _exit(box, heard, at, error))
    finally:
        del error  # its traceback holds this frame


def _run(
    box: Box[Batch, Output, User],
    step: Step[Batch, Output, User],
    source: Source[Batch],
    heard: Container[str],
    semantics: Semantics,
    at: int,
) -> Generator[AnyEvent, None, None]:
    """Go through a run, from behind the rank `at`."""
    if at < STARTED:
        box.state = begin_run(box.state)
        yield from _announce(box, heard, Events.STARTED, semantics)
        at = STARTED
    while at < STOPPED and (at > STARTED or not is_done(box.state)):
        if at < EPOCH_STARTED:
            box.state = begin_epoch(box.state)
            yield from _announce(box, heard, Events.EPOCH_STARTED, semantics)
            at = EPOCH_STARTED
        if at < EPOCH_OVER:
            box.state = source.open(box.state)
            try:
                at = yield from _iterations(box, step, source, heard, semantics, at)
            finally:
                show(box)
            if at == STOPPED:
                break
        if at == EPOCH_CUT:
            box.state = counted(box.state, Events.TERMINATE_SINGLE_EPOCH)
            if "terminate_single_epoch" in heard:
                yield Events.TERMINATE_SINGLE_EPOCH
            at = EPOCH_TERMINATED
        if at == EPOCH_TERMINATED:
            source.restart(box.state.drawn)
            box.state = restart_data(box.state)
        box.state = end_epoch(box.state)
        silent = box.state.requests.terminate_epoch is TerminateEpoch.SILENT
        if "epoch_completed" in heard and not silent:
            yield Events.EPOCH_COMPLETED
        end_of_epoch(box, semantics)
        at = STARTED
    if at == STOPPED:
        box.state = counted(box.state, Events.TERMINATE)
        if "terminate" in heard:
            yield Events.TERMINATE
        refuse_recovery(box)
    if at == PAUSED:
        box.state = with_status(counted_aside(box.state, Events.INTERRUPT), Status.INTERRUPTED)
        if "interrupt" in heard:
            yield Events.INTERRUPT
        refuse_recovery(box)
    elif at < COMPLETED and box.state.requests.terminate is not Terminate.SILENT:
        box.state = at_event(box.state, Events.COMPLETED)
        if "completed" in heard:
            yield Events.COMPLETED
        refuse_recovery(box)


def _iterations(
    box: Box[Batch, Output, User],
    step: Step[Batch, Output, User],
    source: Source[Batch],
    heard: Container[str],
    semantics: Semantics,
    at: int,
) -> Generator[AnyEvent, None, int]:
    """Go through the iterations of an epoch, from behind the rank `at`; give the rank reached.

    The state is a draft here, at the events that are yielded too; whoever hands it on shows it.
    """
    of_batch = _of_batch(step, heard, box.state)
    while at < EPOCH_OVER:
        if at < GET_BATCH_STARTED and source.announced:
            request_batch(box)
            if "get_batch_started" in heard:
                yield Events.GET_BATCH_STARTED
            if box.state.requests is not NO_REQUESTS:
                obey(box, semantics)
        elif at < GET_BATCH_STARTED:
            release_batch(box)
        if at < GET_BATCH_COMPLETED:
            try:
                batch = EXHAUSTED if at == STOP_ITERATION else source.fetch()
            except GeneratorExit as error:
                raise Leaked(error) from None
            if batch is EXHAUSTED:
                show(box)
                batch = yield from _refetch(box, source, heard, semantics, at)
                if batch is EXHAUSTED:
                    return EPOCH_OVER
            if (
                "get_batch_completed" in heard or box.state.requests is not NO_REQUESTS
            ) and source.announced:
                box.state = with_batch(box.state, batch)
                batch = EXHAUSTED
                yield from _announce(box, heard, Events.GET_BATCH_COMPLETED, semantics)
                box.state = begin_iteration(box.state)
            else:
                begin_iteration_with(box, batch)
                batch = EXHAUSTED
        elif at < ITERATION_STARTED:
            box.state = begin_iteration(box.state)
        if at < ITERATION_STARTED:
            if "iteration_started" in heard:
                yield Events.ITERATION_STARTED
            if box.state.requests is not NO_REQUESTS:
                obey(box, semantics)
        if at < ITERATION_COMPLETED:
            if of_batch is not None and box.state._batch is not MISSING:
                try:
                    output = of_batch(box.state._batch)
                except (StopIteration, GeneratorExit) as error:
                    raise Leaked(error) from None
                draft_output(box, output)
                del output
            else:
                show(box)
                if isinstance(step, Stages):
                    yield from _run_stages(box, step, heard)
                else:
                    box.state = _stepped(step, box)
            if "iteration_completed" in heard:
                yield Events.ITERATION_COMPLETED
            if box.state.requests is not NO_REQUESTS:
                obey(box, semantics)
        at = EPOCH_STARTED
        limits = box.state.limits
        if box.state.batches == limits.epoch_length:
            return EPOCH_OVER
        if limits.max_iters is not None and box.state.iteration >= limits.max_iters:
            requests = attrs.evolve(box.state.requests, terminate=Terminate.LIMIT)
            box.state = with_requests(box.state, requests)
            return STOPPED
    return at


def _refetch(
    box: Box[Batch, Output, User],
    source: Source[Batch],
    heard: Container[str],
    semantics: Semantics,
    at: int,
) -> Generator[AnyEvent, None, Batch | Exhausted]:
    """Go on where the data gave no batch: start it again, unless the epoch was one pass over it."""
    if box.state.drawn and at != STOP_ITERATION:
        source.end_pass(box.state)
        box.state = end_pass(box.state)
    known = box.state.limits.epoch_length is not None
    if known or box.state.batches < box.state.drawn:
        box.state = box.state if known else learn_epoch_length(box.state)
        if at != STOP_ITERATION and source.announced:
            box.state = end_of_data(box.state)
            yield from _announce(box, heard, Events.DATALOADER_STOP_ITERATION, semantics)
        source.restart(box.state.drawn)
        box.state = restart_data(box.state)
        release_batch(box)
        try:
            batch = source.fetch()
        except GeneratorExit as error:
            raise Leaked(error) from None
        if batch is not EXHAUSTED:
            return batch
    elif box.state.drawn:
        box.state = learn_epoch_length(box.state)
    if semantics.finish_iteration and box.state.requests is not NO_REQUESTS:
        obey(box, semantics, no_batch=True)
    if not box.state.drawn:
        source.ran_dry(box.state)
        if box.state.limits.epoch_length is None:
            box.state = learn_epoch_length(box.state)
    return EXHAUSTED


def _run_stages(
    box: Box[Batch, Output, User], step: Stages[Batch, Output, Output, User], heard: Container[str]
) -> Generator[AnyEvent, None, None]:
    """Run the stages of a step; where a run resumes between them, events behind it stay silent."""
    stands_at = box.state.event
    silent = stands_at is not Events.ITERATION_STARTED and stands_at in tuple(step.events)
    value: object = box.state
    for part in step.parts:
        if not isinstance(part, Event | PayloadEvent):
            value = _called(part, value)
            continue
        if silent:
            silent = part != stands_at
            if silent or box.state.ledger.failure is not Failure.AT_EVENT:
                continue
            box.state = with_failure(box.state, None)
        elif _is_due(part, heard):
            box.state = counted(box.state, part)
        if part.name in heard:
            box.payload = value
            yield part
    box.payload = None
    box.state = with_output(box.state, cast("Output", value))


def _announce(
    box: Box[Batch, Output, User], heard: Container[str], event: AnyEvent, semantics: Semantics
) -> Generator[AnyEvent, None, None]:
    """Fire an event if it is heard, and obey what is asked."""
    if event.name in heard:
        yield event
    if box.state.requests is not NO_REQUESTS:
        obey(box, semantics)


def _enter(
    box: Box[Batch, Output, User], semantics: Semantics, at: int
) -> Generator[AnyEvent, None, int]:
    """Complete the event at which the state stands, and give the rank to go on from."""
    event, status, failure = box.state.event, box.state.status, box.state.ledger.failure
    if at > START:
        box.state = with_status(box.state, Status.RUNNING)
    if status is Status.INTERRUPTED:
        box.state = with_requests(box.state, attrs.evolve(box.state.requests, interrupt=None))
    if failure is not None and box.state.requests.recovery is not None:
        return (yield from _enter(box, semantics, after_recovery(box)))
    emitted = event is not None and event.name not in RANKS
    if failure is Failure.AT_EVENT and event is not None and not emitted:
        yield event
    if failure is not None and not (failure is Failure.AT_EVENT and emitted):
        box.state = with_failure(box.state, None)
    # Behind a pause, and before a run, the requests at the event have been looked at already.
    looked = status not in (Status.RUNNING, Status.FAILED)
    if looked and not asked_since(box.state, semantics):
        return STARTED if at == EPOCH_COMPLETED else at
    if at == EPOCH_COMPLETED:
        end_of_epoch(box, semantics)
        return STARTED
    if not emitted and at in OBEYED and box.state.requests is not NO_REQUESTS:
        obey(box, semantics)
    return at


def _fail(
    box: Box[Batch, Output, User], heard: Container[str], failure: BaseException, *, last: bool
) -> Generator[AnyEvent, None, tuple[int, BaseException | None]]:
    """Fire EXCEPTION_RAISED once; give the rank to go on from, or the exception that stays."""
    error = failure.error if isinstance(failure, Raised | Leaked) else failure
    # INTERRUPT leaves the state where it stood; the event there is complete.
    at_event = isinstance(failure, Raised) and box.state.status is not Status.INTERRUPTED
    kind = Failure.REFUSED if isinstance(error, RequestError) else Failure.ELSEWHERE
    box.state = with_failure(box.state, Failure.AT_EVENT if at_event else kind)
    box.state = counted_aside(box.state, Events.EXCEPTION_RAISED)
    if "exception_raised" in heard:
        box.payload = error
        try:
            yield Events.EXCEPTION_RAISED
        except Raised as again:
            return EXIT, _foremost(error, again.error)
        finally:
            box.payload = None
    if box.state.requests.recovery is None:
        return EXIT, error
    if last:
        error.add_note(f"recovered {_MOST_RECOVERIES} times in a row, without an iteration between")
        return EXIT, error
    return after_recovery(box), None


def _foremost(error: BaseException | None, again: BaseException) -> BaseException:
    """Choose which exception leaves, where a handler of another one raised `again`."""
    if error is None or again is error:
        return again
    if isinstance(again, Exception) and not isinstance(error, Exception):
        error.add_note(f"a handler of it raised {again!r}")
        return error
    if again.__context__ is None:
        again.__context__ = error
    return again


def _exit(
    box: Box[Batch, Output, User], heard: Container[str], at: int, error: BaseException | None
) -> Generator[AnyEvent, None, BaseException | None]:
    """Say how the run ended, and fire EXITED, which is always the last event."""
    state, requests = box.state, box.state.requests
    if error is not None:
        status = Status.FAILED
    elif at == PAUSED:
        status = Status.INTERRUPTED
        box.state = with_requests(box.state, attrs.evolve(requests, interrupt=None))
    else:
        asked = requests.terminate is not Terminate.LIMIT and Events.TERMINATE.name in state.counts
        stopped = asked or at == EXIT
        status = Status.TERMINATED if stopped else Status.COMPLETED
    box.state = with_status(box.state, status)
    del state
    if "exited" in heard:
        box.payload = Outcome(status, error)
        try:
            yield Events.EXITED
        except Raised as raised:
            return _foremost(error, raised.error)
        finally:
            box.payload = None
    return error


def _stepped(
    step: Step[Batch, Output, User], box: Box[Batch, Output, User]
) -> State[Batch, Output, User]:
    """Call a step, and stand at ITERATION_COMPLETED with what it returned."""
    try:
        result = step(box.state)
    except (StopIteration, GeneratorExit) as error:
        raise Leaked(error) from None
    if type(result) is not State:
        raise TypeError(
            f"step {describe(step)} returned {type(result).__name__}; a step returns a State. "
            "For a function of the batch write Loop(outputs(function))"
        )
    # Not with the state that it was called with: the Engine's program writes counters.
    state = box.state
    if (
        result.iteration != state.iteration
        or result.epoch != state.epoch
        or result.batches != state.batches
    ):
        raise ValueError(f"step {describe(step)} {moved(state, result)}")
    if result.event is Events.ITERATION_COMPLETED:
        return result
    return at_event(result, Events.ITERATION_COMPLETED)


def _of_batch(
    step: Step[Batch, Output, User], heard: Container[str], state: State[Batch, Output, User]
) -> Callable[[Batch], Output] | None:
    """Give the function of the batch that a step is in this epoch, if there is one."""
    if isinstance(step, Outputs):
        return step.function
    if not isinstance(step, Stages) or any(_is_due(event, heard) for event in step.events):
        return None
    return None if state.event in tuple(step.events) else step.fused


def _is_due(event: AnyEvent, heard: Container[str]) -> bool:
    """Tell whether an event between stages is heard, or counted for whoever asks later."""
    return event.attr is None or event.name in heard


def _called(stage: Callable[..., object], value: object) -> object:
    """Call a stage."""
    try:
        return stage(value)
    except (StopIteration, GeneratorExit) as error:
        raise Leaked(error) from None
