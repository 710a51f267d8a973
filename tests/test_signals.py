"""Signals: Ctrl-C may come between any two lines, and nothing is lost, done twice or left behind.

A tracer raises KeyboardInterrupt once at each line of the package that a run goes through; real
signals are sent by a timer, at random moments. Steps and handlers are pure here, and the data can
be read again, so a run that goes on has to end as one that nobody disturbed.
"""

from __future__ import annotations

import random
import signal
import sys
import time
import traceback
from collections.abc import Callable, Generator, Iterator
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, TypedDict

import attrs
import pytest
import torch
from torch import nn

import fengine
from fengine import Event, Events, Loop, Outcome, State, last_state, outputs, stages, tap
from fengine.engine import Engine
from fengine.engine import Events as EngineEvents
from fengine.training import evaluation_step, modes, training_step

PACKAGE = str(Path(fengine.__file__).parent)
DATA = [1, 2]
PAIRS = [(torch.ones(1, 1), torch.ones(1, 1))] * 2
SIGNALS = 500


class Limits(TypedDict, total=False):
    max_epochs: int
    max_iters: int


Kept = tuple[int, ...]
Run = State[int, int, Kept]


class CtrlC(KeyboardInterrupt):
    """Ctrl-C, with where it came.

    Args:
        frame: the frame in which it came.

    Attributes:
        function: the name of the function of that frame.
        was_exiting: whether the handlers of EXITED ran meanwhile.
    """

    def __init__(self, frame: FrameType | None) -> None:
        super().__init__()
        assert frame is not None
        self.function = frame.f_code.co_name
        self.was_exiting = any(
            one.f_locals.get("event") == Events.EXITED for one, _ in traceback.walk_stack(frame)
        )


class Journal:
    """Count which ends of a run were announced; the handlers that write it change nothing else."""

    def __init__(self) -> None:
        self.started = self.exited = 0

    def begin(self, state: Run) -> Run:
        self.started += 1
        return state

    def leave(self, state: Run, outcome: Outcome) -> Run:
        self.exited += 1
        return state


def keep(state: Run) -> Run:
    return state.evolve(user=(*state.user, state.iteration))


def cut_first(state: Run) -> Run:
    return state.terminate_epoch() if state.iteration == 1 else state


def double(number: int) -> int:
    return 2 * number


def listening(loop: Loop[int, int, Kept]) -> Loop[int, int, Kept]:
    for event in Events.all():
        if isinstance(event, Event) and event != Events.INTERRUPT:
            loop = loop.on(event, keep)
    return loop


def doubled(state: Run) -> Run:
    return state.evolve(user=state.user * 2)


def many(loop: Loop[int, int, Kept]) -> Loop[int, int, Kept]:
    """Add handlers that do not commute, so that none can be left out or run twice unseen."""
    for handler in (keep, tap(abs_of), doubled, keep, doubled):
        loop = loop.on(Events.EPOCH_COMPLETED | Events.ITERATION_STARTED(every=2), handler)
    return loop


def abs_of(state: Run) -> int:
    return abs(state.iteration)


def batch_of(state: Run) -> int:
    return state.batch


def firing(state: Run) -> Generator[tuple[Event, Run], Run, Run]:
    for part in range(3):
        state = yield MIDDLE, state.evolve(output=part)
    return state.evolve(output=2 * state.batch)


MIDDLE = Event("middle")
STEPS: dict[str, Loop[int, int, Kept]] = {
    "of the batch": Loop[int, int, Kept](outputs(double)).on(Events.ITERATION_COMPLETED, keep),
    "heard at each event": listening(Loop(outputs(double))),
    "of many handlers": many(Loop(outputs(double))),
    "cut": listening(Loop(outputs(double))).on(Events.ITERATION_COMPLETED, cut_first),
    "of the state": Loop[int, int, Kept](
        lambda state: state.evolve(output=2 * state.batch)
    ).on(Events.ITERATION_COMPLETED, keep),
    "of stages": Loop[int, int, Kept](
        stages(batch_of).emit(MIDDLE).then(double)
    ).on(MIDDLE, keep),
    "that fires": Loop[int, int, Kept](firing).register(MIDDLE).on(MIDDLE, keep),
}  # fmt: skip
LIMITS: list[Limits] = [{"max_epochs": 2}, {"max_iters": 1}]


def at_each_line(
    begin: Callable[[], Callable[[], object]],
) -> Iterator[tuple[BaseException | None, str]]:
    """Run once for each line of the package that a run goes through, with Ctrl-C at that line.

    Args:
        begin: prepares a run, and returns what runs it.

    Yields:
        What came out of the run, and the line.
    """
    target = 0
    while True:
        target += 1
        met, line = 0, ""

        def trace(frame: FrameType, event: str, argument: object) -> Any:
            nonlocal met, line
            if not frame.f_code.co_filename.startswith(PACKAGE):
                return None
            if event == "line" and not line:
                met += 1
                if met == target:  # noqa: B023 - the run is over before it changes
                    line = f"{frame.f_code.co_filename}:{frame.f_lineno}"
                    raise CtrlC(frame)
            return trace

        run, error = begin(), None
        before = sys.gettrace()
        sys.settrace(trace)
        try:
            run()
        except BaseException as raised:
            error = raised
        finally:
            sys.settrace(before)
        if not line:
            assert error is None
            return
        yield error, line


def came_as_it_returned(error: CtrlC) -> bool:
    """Tell whether it came when a run was over, on the way of its state to the caller."""
    return error.function in ("run", "with_signal_after")


def undisturbed(state: State[Any, Any, Any]) -> State[Any, Any, Any]:
    """Leave out how often EXCEPTION_RAISED has fired, which differs in a run that was disturbed."""
    failure = Events.EXCEPTION_RAISED.name
    now, before = state.counts, state._counts_before
    return attrs.evolve(
        state,
        counts=now.delete(failure) if failure in now else now,
        counts_before=before.delete(failure) if failure in before else before,
    )


def begun(kind: str, limits: Limits) -> tuple[Loop[int, int, Kept], Journal, Run]:
    """Return a loop, its journal, and what its run comes to where nobody disturbs it."""
    journal = Journal()
    loop = STEPS[kind]
    whole = loop.run(DATA, user=(), **limits)
    loop = loop.on(Events.STARTED, journal.begin).on(Events.EXITED, journal.leave)
    return loop, journal, whole


def goes_on(
    loop: Loop[int, int, Kept], journal: Journal, whole: Run, error: BaseException | None, line: str
) -> None:
    """Check what Ctrl-C has left of a run, then forget what the journal says."""
    assert isinstance(error, CtrlC), line
    assert journal.exited <= 1, line
    if journal.started and not error.was_exiting:
        assert journal.exited == 1, line
    try:
        left: Any = last_state(error)
    except LookupError:
        assert not journal.started or came_as_it_returned(error), line
    else:
        assert undisturbed(loop.resume(left, DATA)) == undisturbed(whole), line
    journal.started = journal.exited = 0


@pytest.mark.parametrize("limits", LIMITS, ids=str)
@pytest.mark.parametrize("kind", STEPS)
def test_a_run_goes_on_after_ctrl_c_at_any_line(kind: str, limits: Limits) -> None:
    loop, journal, whole = begun(kind, limits)
    for error, line in at_each_line(lambda: partial(loop.run, DATA, user=(), **limits)):
        goes_on(loop, journal, whole, error, line)


@pytest.mark.parametrize("kind", STEPS)
def test_a_resumed_run_goes_on_after_ctrl_c_at_any_line(kind: str) -> None:
    loop, journal, _ = begun(kind, LIMITS[0])
    paused = loop.on(Events.ITERATION_COMPLETED(once=1), State.interrupt)
    half = paused.run(DATA, user=(), **LIMITS[0])
    assert half.iteration == 1
    whole = loop.resume(half, DATA)
    journal.started = journal.exited = 0
    for error, line in at_each_line(lambda: partial(loop.resume, half, DATA)):
        goes_on(loop, journal, whole, error, line)


@pytest.mark.parametrize("kind", STEPS)
def test_moments_go_on_after_ctrl_c_at_any_line(kind: str) -> None:
    loop, journal, whole = begun(kind, LIMITS[0])

    def pull() -> None:
        for _ in loop.iterate(DATA, user=(), **LIMITS[0]):
            pass

    for error, line in at_each_line(lambda: pull):
        goes_on(loop, journal, whole, error, line)


def test_an_engine_runs_again_after_ctrl_c_at_any_line() -> None:
    engine = Engine(lambda engine, number: 2 * number)

    def begin() -> Callable[[], object]:
        nonlocal engine
        engine = Engine(lambda engine, number: 2 * number)
        engine.add_event_handler(EngineEvents.ITERATION_COMPLETED(every=2), lambda engine: None)
        engine.add_event_handler(EngineEvents.EPOCH_COMPLETED, lambda engine: None)
        return partial(engine.run, DATA, max_epochs=2)

    for error, line in at_each_line(begin):
        assert isinstance(error, KeyboardInterrupt), line
        state = engine.run(DATA, max_epochs=4)
        assert (state.epoch, state.epoch_length) == (4, 2), line


def modes_of(model: nn.Module) -> list[bool]:
    return [module.training for module in model.modules()]


@pytest.mark.parametrize("is_training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("is_pulled", [True, False], ids=["iterate", "run"])
def test_a_model_has_its_modes_after_ctrl_c_at_any_line(is_training: bool, is_pulled: bool) -> None:
    model = nn.Sequential(nn.Linear(1, 1), nn.Dropout(), nn.Linear(1, 1))
    if is_training:
        step = training_step(model, torch.optim.SGD(model.parameters(), lr=0.1), nn.MSELoss())
        run: Callable[[], object] = partial(Loop(step).run, PAIRS)
        moments: Callable[[], Iterator[object]] = partial(Loop(step).iterate, PAIRS)
    else:
        evaluation = Loop(evaluation_step(model))
        run, moments = partial(evaluation.run, PAIRS), partial(evaluation.iterate, PAIRS)

    def begin() -> Callable[[], object]:
        model.train(not is_training)
        model[1].eval()
        return (lambda: list(moments())) if is_pulled else run

    begin()
    before = modes_of(model)
    for error, line in at_each_line(begin):
        assert isinstance(error, KeyboardInterrupt), line
        assert modes_of(model) == before, line
        assert not modes._EVALUATED, line
        assert torch.is_grad_enabled(), line


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no such timer")
# A signal that comes while something is deleted is dropped by Python itself.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("kind", STEPS)
def test_a_run_goes_on_after_real_signals(kind: str) -> None:
    loop, journal, whole = begun(kind, LIMITS[0])
    chance = random.Random(0)
    longest = measured(STEPS[kind])
    came = 0
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for _ in range(SIGNALS):
            error = with_signal_after(chance.uniform(1e-6, longest), loop)
            if error is not None:
                came += 1
                goes_on(loop, journal, whole, error, "a signal")
            journal.started = journal.exited = 0
    finally:
        signal.signal(signal.SIGALRM, before)
    assert came > SIGNALS // 10


def interrupt(number: int, frame: FrameType | None) -> None:
    raise CtrlC(frame)


def measured(loop: Loop[int, int, Kept]) -> float:
    """Return how many seconds a run takes, about."""
    began = time.perf_counter()
    for _ in range(20):
        loop.run(DATA, user=(), **LIMITS[0])
    return (time.perf_counter() - began) / 20


def with_signal_after(seconds: float, loop: Loop[int, int, Kept]) -> BaseException | None:
    """Run with a signal on its way, and return what came out, or None where it came too late."""
    error: BaseException | None = None
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            loop.run(DATA, user=(), **LIMITS[0])
        except KeyboardInterrupt as raised:
            error = raised
        signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:  # beside the run
        return error
    return error
