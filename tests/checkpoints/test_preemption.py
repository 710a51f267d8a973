"""A process that is asked to end pauses its run, keeps it, and ends with the documented code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader
from typing_extensions import override

from fengine import Events, Loop, State, Status, outputs, tap
from fengine.checkpoints import Checkpoints, Preemption
from fengine.core.phases import has_step_to_come, rank_of
from fengine.core.registry import BUILT_IN_EVENTS
from fengine.features import evaluation
from fengine.metrics import mean
from fengine.training import TensorBatches
from tests.checkpoints.trainings import Training, in_child

DOUBLING: Loop[Any, float, None] = Loop(outputs(lambda batch: 2.0 * batch))
AnyState = State[Any, Any, Any]


def kill(number: int = signal.SIGTERM) -> None:
    os.kill(os.getpid(), number)


EVENTS = [one for one in BUILT_IN_EVENTS.events if one is not Events.INTERRUPT]


@pytest.mark.parametrize("event", EVENTS)
def test_a_signal_in_a_handler_pauses_at_the_next_event_without_a_batch(event: Any) -> None:
    if event in (Events.EXCEPTION_RAISED, Events.TERMINATE, Events.TERMINATE_SINGLE_EPOCH):
        asking = Events.ITERATION_COMPLETED(once=3)
        how = State.terminate_epoch if event is Events.TERMINATE_SINGLE_EPOCH else State.terminate
        loop: Any = DOUBLING.on(asking, how)
    else:
        loop = DOUBLING
    signalled: list[int] = []

    def once(state: AnyState, payload: object = None) -> AnyState:
        if not signalled:
            signalled.append(1)
            kill()
        return state

    with Preemption() as preemption:
        state = loop.on(event, once).run([1, 2], max_epochs=2, preemption=preemption)
    if signalled and event not in (Events.TERMINATE, Events.COMPLETED, Events.EXITED):
        assert state.status is Status.INTERRUPTED
        assert state.event is not None
        assert not has_step_to_come(rank_of(state.event.name))
        assert loop.resume(state, [1, 2]).epoch == 2
    else:
        assert state.status is not Status.INTERRUPTED
    assert state.requests.interrupt is None


def test_the_first_signal_sets_a_flag_and_the_second_acts_as_before() -> None:
    calls: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: calls.append(number))
    try:
        with Preemption() as preemption:
            assert not preemption.asked
            assert preemption.exit_code is None
            kill()
            assert preemption.asked
            assert calls == [signal.SIGTERM]  # the program's own handler is called as well
            kill()
            assert calls == [signal.SIGTERM] * 2
        assert preemption.exit_code == 143
        kill()
        assert calls == [signal.SIGTERM] * 3
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_second_signal_without_a_handler_ends_the_process() -> None:
    def twice() -> None:
        with Preemption():
            kill()
            kill()

    child = in_child(twice)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGTERM


def test_ctrl_c_pauses_where_it_is_asked_for_and_a_second_one_interrupts() -> None:
    # Where the tests run in the background, Ctrl-C may be ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with Preemption(signal.SIGINT) as preemption:
            kill(signal.SIGINT)
            assert preemption.exit_code == 130
            with pytest.raises(KeyboardInterrupt):
                kill(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_handler_that_was_installed_within_stays() -> None:
    def later(number: int, frame: object) -> None:
        pass

    before = signal.getsignal(signal.SIGTERM)
    try:
        with Preemption():
            signal.signal(signal.SIGTERM, later)
        assert signal.getsignal(signal.SIGTERM) is later
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_forked_process_is_not_asked_to_pause() -> None:
    with Preemption() as preemption:
        child = os.fork()
        if not child:
            time.sleep(60)
            os._exit(0)
        time.sleep(0.05)
        os.kill(child, signal.SIGTERM)
        _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGTERM
    assert not preemption.asked


def test_it_is_entered_in_the_main_thread_and_once() -> None:
    found: list[BaseException] = []

    def enter() -> None:
        try:
            Preemption().__enter__()
        except RuntimeError as error:
            found.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert "main thread" in str(found[0])
    with Preemption() as preemption, pytest.raises(RuntimeError, match="entered already"):
        preemption.__enter__()


@pytest.mark.parametrize("wrong", ["TERM", True, 0, 1000, signal.SIGKILL, signal.SIGSTOP, 2.5])
def test_what_is_no_signal_is_refused(wrong: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="signal"):
        Preemption(wrong)


def test_what_has_no_flag_is_refused() -> None:
    for wrong in (3, Preemption, "asked"):
        with pytest.raises(TypeError, match="has no `asked`"):
            DOUBLING.run([1], preemption=wrong)  # type: ignore[call-overload]


def evaluating(flag: Any, *, before: Any = None) -> tuple[Any, list[str]]:
    """A loop whose evaluation is asked to end within its first pass, after one handler has run."""
    calls: list[str] = []

    def trip(batch: int) -> float:
        if batch == 7 and flag is not None and calls.count("before") == 2:
            flag.asked = True
        return float(batch)

    judging = Loop(outputs(trip)) | mean("loss")
    loop: Any = Loop(outputs(abs))
    loop = loop.on(Events.EPOCH_COMPLETED, tap(lambda state: calls.append("before")))
    loop = loop | evaluation(judging, [5, 7, 9])
    return loop.on(Events.EPOCH_COMPLETED, tap(lambda state: calls.append("after"))), calls


def test_an_evaluation_that_is_preempted_has_not_run() -> None:
    flag = SimpleNamespace(asked=False)
    loop, calls = evaluating(flag)
    paused = loop.run([1, 2], max_epochs=3, preemption=flag)
    assert (paused.status, paused.epoch) == (Status.INTERRUPTED, 2)
    assert calls == ["before", "after", "before"]
    plain = json.loads(json.dumps(paused.to_dict()))
    other, calls = evaluating(None)
    final = other.resume(State.from_dict(plain, parts=other.parts), [1, 2])
    assert calls == ["after", "before", "after"]
    assert final.metrics == other.run([1, 2], max_epochs=3).metrics


def test_a_checkpoint_of_a_preempted_evaluation_goes_on_with_it(tmp_path: Path) -> None:
    flag = SimpleNamespace(asked=False)
    loop, _ = evaluating(flag)
    with pytest.raises(SystemExit) as asked:
        Checkpoints(tmp_path, preemption=flag).run(loop, [1, 2], max_epochs=3)
    assert asked.value.code == 143
    other, calls = evaluating(None)
    Checkpoints(tmp_path).run(other, [1, 2], max_epochs=3)
    assert calls == ["after", "before", "after"]


def test_an_evaluation_where_a_batch_is_due_ends_first() -> None:
    flag = SimpleNamespace(asked=False)
    seen: list[int] = []

    def trip(batch: int) -> float:
        flag.asked = True
        seen.append(batch)
        return float(batch)

    judging = Loop(outputs(trip)) | mean("loss")
    loop: Any = Loop(outputs(abs)) | evaluation(judging, [5, 7], at=Events.ITERATION_STARTED)
    paused = loop.run([1, 2], preemption=flag)
    assert (paused.status, paused.event) == (Status.INTERRUPTED, Events.ITERATION_COMPLETED)
    assert seen == [5, 7]


def test_a_preempted_run_ends_with_the_code_and_goes_on_exactly(tmp_path: Path) -> None:
    whole = Training()
    wanted = whole.digest(whole.loop.run(whole.data, max_epochs=3))
    ends = []
    for number in range(1, 40):
        training = Training()
        count = 0

        def ask(state: AnyState, number: int = number) -> AnyState:
            nonlocal count
            count += 1
            if count == 1 + number % 3:
                kill()
            return state

        loop = training.loop.on(Events.ITERATION_STARTED | Events.EPOCH_STARTED, ask)
        try:
            with Preemption() as preemption:
                checkpoints = Checkpoints(tmp_path, preemption=preemption)
                final = checkpoints.run(loop, training.data, max_epochs=3)
        except SystemExit as asked:
            ends.append(asked.code)
            continue
        assert training.digest(final) == wanted
        break
    assert ends
    assert set(ends) == {143}


def test_loop_run_returns_the_paused_state() -> None:
    with Preemption() as preemption:
        state = DOUBLING.on(Events.ITERATION_COMPLETED, tap(lambda state: kill())).run(
            [1, 2], preemption=preemption
        )
    assert (state.status, state.iteration) == (Status.INTERRUPTED, 1)


def test_without_a_flag_a_handler_finds_none(tmp_path: Path) -> None:
    training = Training()
    final = Checkpoints(tmp_path).run(training.loop, training.data, max_epochs=2)
    assert final.status is Status.COMPLETED


class Slow(torch.utils.data.Dataset[int]):
    def __len__(self) -> int:
        return 4000

    @override
    def __getitem__(self, index: int) -> int:
        time.sleep(0.002)
        return index


GROUP = """
import sys
from torch.utils.data import DataLoader
from fengine import Events, Loop, outputs, tap
from fengine.checkpoints import Checkpoints, Preemption
from tests.checkpoints.test_preemption import Slow
loader = DataLoader(Slow(), batch_size=4, num_workers=2)
loop = Loop(outputs(lambda batch: float(batch.sum())))
loop = loop.on(Events.ITERATION_COMPLETED(once=5), tap(lambda state: print("ready", flush=True)))
with Preemption() as preemption:
    Checkpoints(sys.argv[1], preemption=preemption).run(loop, loader)
"""


@pytest.mark.parametrize("wait", [0.0, 0.05])
def test_workers_that_get_the_signal_too_are_no_error(tmp_path: Path, wait: float) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", GROUP, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(wait)
    os.killpg(process.pid, signal.SIGTERM)
    _, complaints = process.communicate(timeout=120)
    assert (process.returncode, complaints) == (143, "")
    kept = Checkpoints(tmp_path).latest()
    assert kept is not None
    assert kept.iteration >= 5
    loader = DataLoader(Slow(), batch_size=4, num_workers=0)
    loop: Any = Loop(outputs(lambda batch: float(batch.sum())))
    loop = loop.on(Events.ITERATION_COMPLETED, State.terminate)
    final = Checkpoints(tmp_path).run(loop, loader)
    place = 4 * kept.iteration
    assert final.output == float(sum(range(place, place + 4)))


def test_data_in_memory_is_gone_on_with_where_it_stood(tmp_path: Path) -> None:
    x = torch.arange(12.0)
    seen: list[float] = []

    def build(stop: bool) -> tuple[Any, Any]:
        data = TensorBatches(x, batch_size=3, seed=1)
        loop: Any = Loop(outputs(lambda batch: seen.append(float(batch[0].sum()))))
        return (
            loop.on(Events.ITERATION_COMPLETED(once=6), tap(lambda s: kill())) if stop else loop
        ), data

    loop, data = build(stop=False)
    loop.run(data, max_epochs=3)
    whole, seen[:] = list(seen), []
    loop, data = build(stop=True)
    with Preemption() as preemption, pytest.raises(SystemExit):
        Checkpoints(tmp_path, preemption=preemption).run(loop, data, max_epochs=3)
    loop, data = build(stop=False)
    Checkpoints(tmp_path).run(loop, data, max_epochs=3)
    assert seen == whole
