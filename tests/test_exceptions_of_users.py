"""Exceptions of the user's: they stay what they are, and cross processes; ours never win over them.

What a run keeps with an exception is a courtesy: a note on where, and the last state. Neither may
hinder the exception, or travel with it where a copy of it goes.
"""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from typing_extensions import override

from fengine import Events, Loop, State, last_state, outputs
from fengine.engine import Engine

AnyState = State[Any, Any, Any]


class Log:
    """Be a record that cannot be pickled, as those that hold a lock or a file."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


class Large:
    """Be data that nobody wants to have sent to another process."""

    def __init__(self) -> None:
        self.memory = bytes(1_000_000)

    def __iter__(self) -> Iterator[int]:
        return iter([1, 2])


@dataclass(frozen=True)
class Frozen(Exception):
    """Refuse notes and attributes."""

    code: int


class Slotted(Exception):
    """Refuse notes alone."""

    @override
    def add_note(self, note: str, /) -> None:
        raise TypeError("no notes")


def double(batch: int) -> int:
    return 2 * batch


def boom(batch: int) -> int:
    raise ValueError(f"batch {batch}")


def boom_in_engine(engine: Engine, batch: int) -> int:
    raise ValueError(f"batch {batch}")


def run_loop() -> None:
    Loop[int, int, Log](outputs(boom)).run([1], user=Log())


def iterate_loop() -> None:
    list(Loop[int, int, Log](outputs(boom)).iterate([1], user=Log()))


def resume_loop() -> None:
    loop = Loop[int, int, Log](outputs(boom))
    begun = Loop[int, int, Log](outputs(double)).on(Events.STARTED, State.interrupt)
    loop.resume(begun.run([1], user=Log()), [1])


def run_engine() -> None:
    engine = Engine(boom_in_engine)
    engine.state.metrics["log"] = Log()
    engine.run(Large())


RUNS = [run_loop, iterate_loop, resume_loop, run_engine]


def raised_by(run: Callable[[], object]) -> BaseException:
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - whatever it is
        run()
    return caught.value


def notes_of(error: BaseException) -> list[str]:
    return getattr(error, "__notes__", [])


@pytest.mark.parametrize("run", RUNS)
def test_an_exception_crosses_processes_with_its_notes(run: Callable[[], None]) -> None:
    spawning = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawning) as pool:
        error = pool.submit(run).exception(timeout=120)
    assert type(error) is ValueError
    assert error.args == ("batch 1",)
    assert notes_of(error) == notes_of(raised_by(run))


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize(
    "copied",
    [lambda error: pickle.loads(pickle.dumps(error)), copy.copy, copy.deepcopy],
    ids=["pickle", "copy", "deepcopy"],
)
def test_a_copy_of_an_exception_carries_no_state(
    run: Callable[[], None], copied: Callable[[BaseException], BaseException]
) -> None:
    error = raised_by(run)
    again = copied(error)
    assert type(again) is type(error)
    assert again.args == error.args
    assert notes_of(again) == notes_of(error)
    assert len(pickle.dumps(error)) < 1000
    with pytest.raises(LookupError, match="copy"):
        last_state(again)


def test_an_exception_that_is_raised_again_holds_what_its_newest_run_says() -> None:
    one = ValueError("always the same")

    def fail(batch: int) -> int:
        if batch == 3:
            raise one
        return batch

    loop = Loop(outputs(fail))
    assert raised_by(lambda: loop.run([3])) is one
    assert last_state(one).iteration == 1
    first = notes_of(one)
    assert raised_by(lambda: loop.run([1, 2, 3])) is one
    assert last_state(one).iteration == 3
    assert len(notes_of(one)) == len(first) == 1
    assert "iteration 3" in notes_of(one)[0]


def test_notes_of_the_user_stay() -> None:
    one = ValueError("always the same")
    one.add_note("mine")

    def fail(batch: int) -> int:
        raise one

    for _ in range(2):
        raised_by(lambda: Loop(outputs(fail)).run([1]))
    assert notes_of(one)[0] == "mine"
    assert len(notes_of(one)) == 2


@pytest.mark.parametrize("error", [Frozen(3), Slotted("slotted")], ids=repr)
@pytest.mark.parametrize("where", ["step", "handler", "data", "engine"])
def test_an_exception_that_refuses_notes_leaves_as_it_is(error: Exception, where: str) -> None:
    seen: list[BaseException] = []

    def fail(*values: Any) -> Any:
        raise error

    def failing() -> Iterator[int]:
        yield 1
        raise error

    def see(state: AnyState, met: BaseException) -> AnyState:
        seen.append(met)
        return state

    loop: Loop[Any, Any, Any] = Loop(outputs(fail if where == "step" else abs))
    loop = loop.on(Events.EXCEPTION_RAISED, see)
    if where == "handler":
        loop = loop.on(Events.ITERATION_COMPLETED, lambda state: fail())
    if where == "engine":
        assert raised_by(lambda: Engine(fail).run([1])) is error
        return
    data: Any = failing() if where == "data" else [1]
    assert raised_by(lambda: loop.run(data, epoch_length=2)) is error
    assert seen == [error]
    assert last_state(error).iteration == 1


class Unclosable:
    """Give one batch, and refuse to be closed."""

    def __iter__(self) -> Unclosable:
        return self

    def __next__(self) -> int:
        return 1

    def close(self) -> None:
        raise OSError("it does not close")


class Opening:
    """Be read by an iterator that refuses to be closed."""

    def __iter__(self) -> Iterator[int]:
        return Unclosable()


@pytest.mark.parametrize("action", ["error", "ignore"])
def test_what_closing_the_data_raises_wins_over_no_exception(action: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter(action)
        error = raised_by(lambda: Loop(outputs(boom)).run(Opening(), epoch_length=1))
    assert isinstance(error, ValueError)
    assert last_state(error).iteration == 1


def test_what_closing_the_data_raises_is_said_where_all_else_went_well() -> None:
    with pytest.warns(UserWarning, match="it does not close"):
        final = Loop(outputs(double)).run(Opening(), epoch_length=1)
    assert final.iteration == 1


class LosingItsWorkers:
    """Be interrupted as a DataLoader is whose workers got the signal, too."""

    def __iter__(self) -> Iterator[int]:
        yield 1
        try:
            raise KeyboardInterrupt
        finally:
            raise RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly")


def test_ctrl_c_is_what_leaves_data_that_loses_its_workers_by_it() -> None:
    seen: list[BaseException] = []

    def see(state: AnyState, error: BaseException) -> AnyState:
        seen.append(error)
        return state

    loop: Loop[int, int, None] = Loop(outputs(double))
    error = raised_by(
        lambda: loop.on(Events.EXCEPTION_RAISED, see).run(LosingItsWorkers(), epoch_length=2)
    )
    assert isinstance(error, KeyboardInterrupt)
    assert seen == [error]
    engine = Engine(lambda engine, batch: batch)
    left = raised_by(lambda: engine.run(LosingItsWorkers(), epoch_length=2))
    assert isinstance(left, KeyboardInterrupt)


FORKING = """
import os, sys
from fengine import Events, Loop, outputs
from fengine.engine import Engine, Events as EngineEvents

def say(*values):
    print(os.getpid() == parent, *values, flush=True)

def split(state):
    if os.fork() == 0:
        sys.exit(0)  # in the child
    os.wait()
    return state

def tell(state, payload):
    say(type(payload).__name__)
    return state

parent = os.getpid()
loop = Loop(outputs(abs)).on(Events.ITERATION_COMPLETED(once=1), split)
loop = loop.on(Events.EXITED, tell).on(Events.EXCEPTION_RAISED, tell)
if sys.argv[1] == "run":
    loop.run([1, 2])
elif sys.argv[1] == "iterate":
    for moment in loop.iterate([1, 2]):
        pass
else:
    engine = Engine(lambda engine, batch: batch)
    engine.add_event_handler(EngineEvents.ITERATION_COMPLETED(once=1), split)
    engine.add_event_handler(EngineEvents.EXCEPTION_RAISED, lambda engine, error: say("failed"))
    engine.add_event_handler(EngineEvents.COMPLETED, lambda engine: say("Outcome"))
    engine.run([1, 2])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("how", ["run", "iterate", "engine"])
def test_only_the_process_that_began_a_run_ends_it(how: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKING, how],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.splitlines() == ["True Outcome"], done.stderr
