"""The loop, written once: what comes next in a run.

The script is a generator. It yields each event that somebody listens to, reads from its box the
state that the handlers left there, and obeys the requests in it. It calls no handler, and raises
nothing: an exception of the user's comes out as its return value. Whoever pulls the generator fires
the events; not pulling is a pause, and `Raised` thrown in says that a handler failed.

The state is never held in a local variable while other code runs, so that the box alone decides
what stays alive: a batch is released before the next one is fetched.

Every point of a run has a rank. `at` is the rank that is already behind us: a run that resumes, and
one that jumps, enters the same loop with another `at`.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Generator
from enum import Enum
from typing import Final, Generic, Protocol, TypeAlias, TypeVar, cast, final

import attrs

from fengine.core.describe import describe
from fengine.core.events import AnyEvent, Event, Events, PayloadEvent
from fengine.core.outcome import Outcome, Status
from fengine.core.requests import NO_REQUESTS, Recovery, Terminate, TerminateEpoch
from fengine.core.semantics import Semantics
from fengine.core.state import (
    Batch,
    Output,
    State,
    User,
    at_event,
    begin_epoch,
    begin_iteration,
    begin_iteration_with,
    begin_run,
    counted,
    counted_aside,
    end_epoch,
    end_of_data,
    is_done,
    learn_epoch_length,
    request_batch,
    restart_data,
    with_batch,
    with_failure,
    with_output,
    with_requests,
    with_status,
)
from fengine.core.steps import Stages

Step: TypeAlias = Callable[[State[Batch, Output, User]], State[Batch, Output, User]]


@final
class Exhausted(Enum):
    """Stand for the batch that does not come."""

    EXHAUSTED = "exhausted"


EXHAUSTED: Final = Exhausted.EXHAUSTED

Fetched = TypeVar("Fetched", covariant=True)


class Source(Protocol[Fetched]):
    """Give batches; the effect that a script needs for its data.

    A StopIteration that is not the end of the data leaves a source as `Leaked`.
    """

    @property
    def announced(self) -> bool:
        """Whether there is data, so that fetching from it is announced by events."""

    def open(self, state: State[Batch, Output, User]) -> State[Batch, Output, User]:
        """Get ready to fetch at the place where the state stands; called at each epoch."""

    def fetch(self) -> Fetched | Exhausted:
        """Give the next batch, or EXHAUSTED."""

    def restart(self) -> None:
        """Start iteration over the data again."""

    def ran_dry(self, state: State[Batch, Output, User]) -> None:
        """Take note that a restarted iteration gave nothing; may raise."""


@final
@attrs.define(eq=False)
class Box(Generic[Batch, Output, User]):
    """Hold the one current state of a run, and the payload of the event being fired.

    The script and its driver take turns with it; nothing else of a run is mutable.
    """

    state: State[Batch, Output, User]
    payload: object = None


@final
class Raised(Exception):
    """Carry what a handler raised into the script, whatever its type."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
        super().__init__(error)


@final
class Leaked(Exception):
    """Carry a StopIteration of the user's through generators, which would turn it into another."""

    def __init__(self, error: StopIteration) -> None:
        self.error = error
        super().__init__(error)


@final
class _Jump(Exception):
    """Leave the current place for the rank `to`; never leaves the script."""

    def __init__(self, to: int) -> None:
        self.to = to
        super().__init__(to)


(
    _START,
    _STARTED,
    _EPOCH_STARTED,
    _GET_BATCH_STARTED,
    _STOP_ITERATION,
    _GET_BATCH_COMPLETED,
    _ITERATION_STARTED,
    _ITERATION_COMPLETED,
    _EPOCH_OVER,
    _EPOCH_CUT,
    _EPOCH_TERMINATED,
    _EPOCH_COMPLETED,
    _STOPPED,
    _TERMINATED,
    _COMPLETED,
    _EXIT,
    _PAUSED,
) = range(17)

_RANKS: Final = {
    "started": _STARTED,
    "epoch_started": _EPOCH_STARTED,
    "get_batch_started": _GET_BATCH_STARTED,
    "dataloader_stop_iteration": _STOP_ITERATION,
    "get_batch_completed": _GET_BATCH_COMPLETED,
    "iteration_started": _ITERATION_STARTED,
    "iteration_completed": _ITERATION_COMPLETED,
    "terminate_single_epoch": _EPOCH_TERMINATED,
    "epoch_completed": _EPOCH_COMPLETED,
    "terminate": _TERMINATED,
    "completed": _COMPLETED,
}


# Where a stop waits for the end of the iteration, if the semantics say so.
_BEFORE_STEP: Final = frozenset(
    {
        "epoch_started",
        "get_batch_started",
        "dataloader_stop_iteration",
        "get_batch_completed",
        "iteration_started",
    }
)

# Behind which requests are obeyed on entering; the others are followed by no such check.
_OBEYED: Final = frozenset(range(_STARTED, _EPOCH_OVER))


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
        heard: the names of the events to yield; it may change while the run is under way.
        semantics: when a requested stop acts.

    Yields:
        Each event that is heard, with the state at it in the box.

    Returns:
        The exception that ends the run, or None.
    """
    if box.state.status.has_ended:
        return None
    at, entering = _rank(box.state), True
    while True:
        error: BaseException | None = None
        try:
            if entering:
                entering = False
                at = yield from _enter(box, semantics, at)
            yield from _run(box, step, source, heard, semantics, at)
            break
        except _Jump as jump:
            at = jump.to
        except GeneratorExit:
            raise
        except BaseException as failure:
            error = failure
        if error is not None:
            at, error = yield from _fail(box, heard, error)
            entering = True
            if error is not None:
                break
    return (yield from _exit(box, heard, at, error))


def _run(
    box: Box[Batch, Output, User],
    step: Step[Batch, Output, User],
    source: Source[Batch],
    heard: Container[str],
    semantics: Semantics,
    at: int,
) -> Generator[AnyEvent, None, None]:
    """Go through a run, from behind the rank `at`."""
    if at < _STARTED:
        box.state = begin_run(box.state)
        yield from _announce(box, heard, Events.STARTED, semantics)
        at = _STARTED
    while at < _STOPPED and (at > _STARTED or not is_done(box.state)):
        if at < _EPOCH_STARTED:
            box.state = begin_epoch(box.state)
            yield from _announce(box, heard, Events.EPOCH_STARTED, semantics)
            at = _EPOCH_STARTED
        if at < _EPOCH_OVER:
            box.state = source.open(box.state)
            at = yield from _iterations(box, step, source, heard, semantics, at)
            if at == _STOPPED:
                break
        if at == _EPOCH_CUT:
            box.state = counted(box.state, Events.TERMINATE_SINGLE_EPOCH)
            if "terminate_single_epoch" in heard:
                yield Events.TERMINATE_SINGLE_EPOCH
            at = _EPOCH_TERMINATED
        if at == _EPOCH_TERMINATED:
            source.restart()
            box.state = restart_data(box.state)
        box.state = end_epoch(box.state)
        silent = box.state.requests.terminate_epoch is TerminateEpoch.SILENT
        if "epoch_completed" in heard and not silent:
            yield Events.EPOCH_COMPLETED
        _end_of_epoch(box, semantics)
        at = _STARTED
    if at == _STOPPED:
        box.state = counted(box.state, Events.TERMINATE)
        if "terminate" in heard:
            yield Events.TERMINATE
    if at == _PAUSED:
        box.state = with_status(counted_aside(box.state, Events.INTERRUPT), Status.INTERRUPTED)
        if "interrupt" in heard:
            yield Events.INTERRUPT
        box.state = with_requests(box.state, attrs.evolve(box.state.requests, interrupt=None))
    elif at < _COMPLETED and box.state.requests.terminate is not Terminate.SILENT:
        box.state = at_event(box.state, Events.COMPLETED)
        if "completed" in heard:
            yield Events.COMPLETED


def _iterations(
    box: Box[Batch, Output, User],
    step: Step[Batch, Output, User],
    source: Source[Batch],
    heard: Container[str],
    semantics: Semantics,
    at: int,
) -> Generator[AnyEvent, None, int]:
    """Go through the iterations of an epoch, from behind the rank `at`; give the rank reached."""
    while at < _EPOCH_OVER:
        if at < _GET_BATCH_STARTED and source.announced:
            box.state = request_batch(box.state)
            if "get_batch_started" in heard:
                yield Events.GET_BATCH_STARTED
            if box.state.requests is not NO_REQUESTS:
                _obey(box.state, semantics)
        if at < _GET_BATCH_COMPLETED:
            batch = EXHAUSTED if at == _STOP_ITERATION else source.fetch()
            if batch is EXHAUSTED:
                batch = yield from _refetch(box, source, heard, semantics, at)
                if batch is EXHAUSTED:
                    return _EPOCH_OVER
            if source.announced and (
                "get_batch_completed" in heard or box.state.requests is not NO_REQUESTS
            ):
                box.state = with_batch(box.state, batch)
                batch = EXHAUSTED
                yield from _announce(box, heard, Events.GET_BATCH_COMPLETED, semantics)
                box.state = begin_iteration(box.state)
            else:
                box.state = begin_iteration_with(box.state, batch)
                batch = EXHAUSTED
        elif at < _ITERATION_STARTED:
            box.state = begin_iteration(box.state)
        if at < _ITERATION_STARTED:
            if "iteration_started" in heard:
                yield Events.ITERATION_STARTED
            if box.state.requests is not NO_REQUESTS:
                _obey(box.state, semantics)
        if at < _ITERATION_COMPLETED:
            if isinstance(step, Stages):
                yield from _run_stages(box, step, heard)
            else:
                box.state = _stepped(step, box.state)
            if "iteration_completed" in heard:
                yield Events.ITERATION_COMPLETED
            if box.state.requests is not NO_REQUESTS:
                _obey(box.state, semantics)
        at = _EPOCH_STARTED
        limits = box.state.limits
        if box.state.batches == limits.epoch_length:
            return _EPOCH_OVER
        if limits.max_iters is not None and box.state.iteration >= limits.max_iters:
            box.state = box.state.terminate()
            return _STOPPED
    return at


def _refetch(
    box: Box[Batch, Output, User],
    source: Source[Batch],
    heard: Container[str],
    semantics: Semantics,
    at: int,
) -> Generator[AnyEvent, None, Batch | Exhausted]:
    """Go on where the data gave no batch: restart it, unless this end says how long an epoch is."""
    if box.state.limits.epoch_length is not None:
        if at != _STOP_ITERATION and source.announced:
            box.state = end_of_data(box.state)
            yield from _announce(box, heard, Events.DATALOADER_STOP_ITERATION, semantics)
        source.restart()
        box.state = restart_data(box.state)
        batch = source.fetch()
        if batch is not EXHAUSTED:
            return batch
    else:
        box.state = learn_epoch_length(box.state)
    if semantics.finish_iteration and box.state.requests is not NO_REQUESTS:
        _obey(box.state, semantics, no_batch=True)
    if box.state.drawn == 0:
        source.ran_dry(box.state)
    return EXHAUSTED


def _run_stages(
    box: Box[Batch, Output, User], step: Stages[Batch, Output, Output, User], heard: Container[str]
) -> Generator[AnyEvent, None, None]:
    """Run the stages of a step; where a run resumes between them, events behind it stay silent."""
    stands_at = box.state.event
    silent = any(event == stands_at for event in step.events)
    value: object = box.state
    for part in step.parts:
        if not isinstance(part, Event | PayloadEvent):
            value = _called(part, value)
            continue
        if silent:
            silent = part != stands_at
            if silent or not box.state.ledger.failed_at_event:
                continue
            box.state = with_failure(box.state, at_event=False)
        else:
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
        _obey(box.state, semantics)


def _obey(
    state: State[Batch, Output, User], semantics: Semantics, *, no_batch: bool = False
) -> None:
    """Jump to where the requests lead; the one place that ranks them.

    A terminate goes before a terminate_epoch, and that before an interrupt.
    """
    requests, event = state.requests, state.event
    if requests.recovery is not None:
        raise RuntimeError(
            f"recover({requests.recovery.name}) was asked for at {event!r}, where nothing had "
            "failed; recover in a handler of Events.EXCEPTION_RAISED"
        )
    name = "" if event is None else event.name
    waits = semantics.finish_iteration and not no_batch and name in _BEFORE_STEP
    if requests.terminate is not None and not waits:
        raise _Jump(_STOPPED)
    if requests.terminate_epoch is not None and not waits:
        if name in ("started", "epoch_started") and not semantics.finish_iteration:
            raise RuntimeError(
                f"terminate_epoch() was asked for at {event!r}, before any batch of an epoch; "
                "ask for it from GET_BATCH_STARTED on"
            )
        if name != "started":
            raise _Jump(_EPOCH_CUT)
    if requests.interrupt is not None:
        raise _Jump(_PAUSED)


def _end_of_epoch(box: Box[Batch, Output, User], semantics: Semantics) -> None:
    """Forget a request to end the epoch, and obey the others."""
    requests = box.state.requests
    if requests.terminate_epoch is not None:
        box.state = with_requests(box.state, attrs.evolve(requests, terminate_epoch=None))
    if box.state.requests is not NO_REQUESTS:
        _obey(box.state, semantics)


def _enter(
    box: Box[Batch, Output, User], semantics: Semantics, at: int
) -> Generator[AnyEvent, None, int]:
    """Complete the event at which the state stands, and give the rank to go on from."""
    state = box.state
    paused = state.status is Status.INTERRUPTED
    if at > _START:
        box.state = with_status(state, Status.RUNNING)
    if paused:
        box.state = with_requests(box.state, attrs.evolve(state.requests, interrupt=None))
    if state.requests.recovery is not None:
        return (yield from _enter(box, semantics, _after_recovery(box)))
    if state.ledger.failed_at_event and state.event is not None and state.event.name in _RANKS:
        yield state.event
        box.state = with_failure(box.state, at_event=False)
    if at == _EPOCH_COMPLETED:
        if not paused:
            _end_of_epoch(box, semantics)
        return _STARTED
    if not paused and at in _OBEYED and box.state.requests is not NO_REQUESTS:
        _obey(box.state, semantics)
    return at


def _fail(
    box: Box[Batch, Output, User], heard: Container[str], failure: BaseException
) -> Generator[AnyEvent, None, tuple[int, BaseException | None]]:
    """Fire EXCEPTION_RAISED once; give the rank to go on from, or the exception that stays."""
    error = failure.error if isinstance(failure, Raised | Leaked) else failure
    box.state = with_failure(box.state, at_event=isinstance(failure, Raised))
    if "exception_raised" in heard:
        box.state = counted_aside(box.state, Events.EXCEPTION_RAISED)
        box.payload = error
        try:
            yield Events.EXCEPTION_RAISED
        except Raised as again:
            if again.error is not error and again.error.__context__ is None:
                again.error.__context__ = error
            return _EXIT, again.error
        finally:
            box.payload = None
    if box.state.requests.recovery is None:
        return _EXIT, error
    return _after_recovery(box), None


def _after_recovery(box: Box[Batch, Output, User]) -> int:
    """Take the recovery out of the state, and give the rank from which it goes on."""
    recovery, at = box.state.requests.recovery, _rank(box.state)
    box.state = with_failure(
        with_requests(box.state, attrs.evolve(box.state.requests, recovery=None)), at_event=False
    )
    if recovery is Recovery.END_RUN:
        return _EXIT
    if recovery is Recovery.END_EPOCH and _EPOCH_STARTED <= at < _EPOCH_OVER:
        return _EPOCH_OVER
    if recovery is Recovery.SKIP_BATCH and _EPOCH_STARTED < at < _EPOCH_OVER:
        box.state = at_event(box.state, Events.ITERATION_COMPLETED)
        return _ITERATION_COMPLETED
    return at


def _exit(
    box: Box[Batch, Output, User], heard: Container[str], at: int, error: BaseException | None
) -> Generator[AnyEvent, None, BaseException | None]:
    """Say how the run ended, and fire EXITED, which is always the last event."""
    limits, requests = box.state.limits, box.state.requests
    if error is not None:
        status = Status.FAILED
    elif at == _PAUSED:
        status = Status.INTERRUPTED
    elif limits.max_iters is not None and box.state.iteration >= limits.max_iters:
        status = Status.COMPLETED
    else:
        stopped = requests.terminate is not None or at == _EXIT
        status = Status.TERMINATED if stopped else Status.COMPLETED
    box.state = with_status(box.state, status)
    if "exited" in heard:
        box.payload = Outcome(status, error)
        try:
            yield Events.EXITED
        except Raised as raised:
            if raised.error.__context__ is None:
                raised.error.__context__ = error
            return raised.error
        finally:
            box.payload = None
    return error


def _rank(state: State[Batch, Output, User]) -> int:
    """Give the rank of the event that a state stands at; within the step, that before it."""
    return _START if state.event is None else _RANKS.get(state.event.name, _ITERATION_STARTED)


def _stepped(
    step: Step[Batch, Output, User], state: State[Batch, Output, User]
) -> State[Batch, Output, User]:
    """Call a step, and stand at ITERATION_COMPLETED with what it returned."""
    try:
        result = step(state)
    except StopIteration as stop:
        raise Leaked(stop) from None
    if type(result) is not State:
        raise TypeError(
            f"step {describe(step)} returned {type(result).__name__}; a step returns a State. "
            "For a function of the batch write Loop(outputs(function))"
        )
    if result.event is Events.ITERATION_COMPLETED:
        return result
    return at_event(result, Events.ITERATION_COMPLETED)


def _called(stage: Callable[..., object], value: object) -> object:
    """Call a stage."""
    try:
        return stage(value)
    except StopIteration as stop:
        raise Leaked(stop) from None
