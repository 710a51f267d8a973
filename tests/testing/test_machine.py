"""The machine drives handlers through plausible runs, and finds what is wrong with them."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs
import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, run_state_machine_as_test

from fengine import DOCUMENTED, IGNITE_0_5_5, SKIP_BATCH, Events, Loop, State, outputs
from fengine.features import early_stopping
from fengine.testing import HandlerMachine

AnyState = State[Any, Any, Any]

QUICK = settings(
    max_examples=30, stateful_step_count=25, phases=[Phase.generate, Phase.shrink], database=None
)


def keep_best(state: AnyState) -> AnyState:
    return state.evolve(user=max(state.user, state.output))


class KeepBest(HandlerMachine):
    loop = Loop[Any, Any, Any](outputs(abs)).on(Events.ITERATION_COMPLETED, keep_best)
    batches = st.integers(-9, 9)
    user = 0

    @invariant()
    def the_best_is_no_less_than_the_output(self) -> None:
        if self.moment is not None and self.moment.event is Events.ITERATION_COMPLETED:
            assert self.moment.state.user >= self.moment.state.output


class KeepBestAtOnce(KeepBest):
    loop = attrs.evolve(KeepBest.loop, semantics=IGNITE_0_5_5)


def report_loss(state: AnyState) -> AnyState:
    return state.with_metric("loss", state.output)


STOP = early_stopping("loss", mode="min", patience=2, at=Events.ITERATION_COMPLETED)


class Stop(HandlerMachine):
    loop = Loop[Any, Any, Any](outputs(abs)).on(Events.ITERATION_COMPLETED, report_loss) | STOP
    batches = st.integers(0, 3)

    @invariant()
    def it_never_waits_longer(self) -> None:
        if self.moment is not None:
            # One more where a stop that came later is first, and the run is read from there.
            assert self.moment.state.part(STOP.part).since <= 3


@pytest.mark.parametrize("machine", [KeepBest, KeepBestAtOnce, Stop])
def test_handlers_that_are_right_pass(machine: type[HandlerMachine]) -> None:
    run_state_machine_as_test(machine, settings=QUICK)


def test_it_is_a_test_case_for_a_test_runner() -> None:
    KeepBest.TestCase.settings = QUICK
    KeepBest.TestCase("runTest").runTest()


def failure(machine: type[HandlerMachine]) -> str:
    with pytest.raises(AssertionError) as found:
        run_state_machine_as_test(machine, settings=QUICK)
    return "\n".join([str(found.value), *found.value.__notes__])


def test_a_changed_argument_is_found_by_a_short_run() -> None:
    def append(state: AnyState) -> AnyState:
        state.user.append(state.output)
        return state

    class Append(HandlerMachine):
        loop = Loop[Any, Any, Any](outputs(abs)).on(Events.ITERATION_COMPLETED, append)
        batches = st.just(0)
        user: ClassVar[list[int]] = []  # each run begins with a copy

    found = failure(Append)
    assert "changed its argument at epoch 1, iteration 1: user[0]: nothing -> 0" in found
    assert found.count("state.fire_next()") == 6
    assert Append.user == []


def test_a_handler_that_moves_the_run_is_found_even_where_it_would_be_recovered() -> None:
    def skip(state: AnyState) -> AnyState:
        return attrs.evolve(state, iteration=state.iteration + 1)

    class Skip(HandlerMachine):
        loop = (
            Loop[Any, Any, Any](outputs(abs))
            .on(Events.STARTED, skip)
            .on(Events.EXCEPTION_RAISED, lambda state, error: state.recover(SKIP_BATCH))
        )
        batches = st.just(0)

    assert "iteration: 0 -> 1" in failure(Skip)


def test_an_invariant_that_fails_shows_the_moves_that_lead_there() -> None:
    class Interrupted(HandlerMachine):
        loop = Loop[Any, Any, Any](outputs(abs), semantics=DOCUMENTED)
        batches = st.just(0)

        @invariant()
        def nothing_is_ever_interrupted(self) -> None:
            assert self.moment is None or self.moment.event is not Events.INTERRUPT

    found = failure(Interrupted)
    assert "state.ask(asked=Requests(" in found
    assert "interrupt=Interrupt.ANNOUNCED" in found


def test_a_machine_without_a_loop_or_batches_says_so() -> None:
    class Nothing(HandlerMachine):
        pass

    class NoBatches(HandlerMachine):
        loop = Loop[Any, Any, Any](outputs(abs))

    with pytest.raises(TypeError, match="Nothing has no `loop`; say in its class what to run"):
        Nothing()
    with pytest.raises(TypeError, match="NoBatches has no `batches`"):
        NoBatches()
