"""The laws of ensembles, over models, optimizers, rates, data and what is stopped when."""

from __future__ import annotations

import copy
import pickle
from typing import Any, TypeAlias

import attrs
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fengine import Events, Loop, State
from fengine.testing import assert_pure, assert_resume_exact
from fengine.training import (
    EnsembleState,
    TrainState,
    compact,
    ensemble_step,
    functional_step,
    members,
    sgd,
    stack,
)
from tests.training.ensembles.groups import (
    MODELS,
    OF_TORCH,
    OWN,
    Group,
    Pair,
    dropping,
    furthest,
    in_double,
    loss_fn,
)

AnyState: TypeAlias = State[Any, Any, Any]
ENOUGH = 1e-9

groups = st.builds(
    Group.of,
    st.sampled_from(sorted(MODELS)),
    st.sampled_from(sorted({**OWN, **OF_TORCH})),
    st.integers(1, 4),
    st.integers(1, 3),
)
own_groups = st.builds(
    Group.of, st.sampled_from(sorted(MODELS)), st.sampled_from(sorted(OWN)), st.integers(2, 4)
)


def exact(rates: list[float]) -> Tensor:
    return torch.tensor(rates, dtype=torch.float64)


def finals(group: Group, start: EnsembleState | None = None, **options: Any) -> AnyState:
    step = group.step(**options)
    user = group.start(**options) if start is None else start
    return Loop(step).run(group.batches, user=user, max_epochs=2)


def require_close(one: AnyState, other: AnyState) -> None:
    assert torch.allclose(one.output, other.output, rtol=0, atol=ENOUGH, equal_nan=True)
    pairs = zip(members(one.user), members(other.user), strict=True)
    assert max(furthest(a, b) for a, b in pairs) < ENOUGH


@settings(max_examples=20)
@given(groups, st.sampled_from([None, 0.1]))
def test_all_at_once_is_one_after_the_other(group: Group, clip: float | None) -> None:
    together, in_turn = (finals(group, clip=clip, method=one) for one in ("vmap", "loop"))
    require_close(together, in_turn)
    assert members(together.user)[0].random == members(in_turn.user)[0].random


@settings(max_examples=10)
@given(own_groups, st.lists(st.floats(0, 0.1), min_size=4, max_size=4), st.data())
def test_rates_differ_between_members(group: Group, given_rates: list[float], data: Any) -> None:
    rates = given_rates[: len(group.models)]
    as_given = data.draw(st.sampled_from([list, tuple, exact]))(rates)
    together = finals(group, learning_rate=as_given)
    in_turn = finals(group, learning_rate=rates, method="loop")
    require_close(together, in_turn)
    assert [one.learning_rates for one in members(together.user)] == [(rate,) for rate in rates]
    # Rates that the members have need not be said again.
    start = stack(
        [
            one.with_learning_rate(rate)
            for one, rate in zip(members(group.start()), rates, strict=True)
        ]
    )
    assert finals(group, start).user == finals(group, learning_rate=rates).user


@settings(max_examples=12)
@given(groups, st.integers(0, 2))
def test_members_of_a_stack_are_what_was_stacked(group: Group, epochs: int) -> None:
    trainings = []
    for number, model in enumerate(group.models):
        made = group.optimizer(model.parameters())
        step = functional_step(model, made, loss_fn)
        start = step.init(seed=number).with_learning_rate(0.1 * number)
        loop = Loop(step)
        for _ in range(epochs):
            start = loop.run(group.batches, user=start).user
        trainings.append(start)
    ensemble = stack(trainings)
    assert members(ensemble) == tuple(trainings)
    assert stack(members(ensemble)) == ensemble
    again = pickle.loads(pickle.dumps(ensemble))
    assert again == ensemble
    assert members(copy.deepcopy(ensemble)) == tuple(trainings)
    stopped = compact(ensemble.stopping([0]))
    assert members(stopped) == tuple(trainings)


@settings(max_examples=12)
@given(groups, st.sets(st.integers(0, 3)), st.integers(0, 3), st.sampled_from(["vmap", "loop"]))
def test_a_member_that_is_stopped_stays_and_compacting_changes_nothing(
    group: Group, stopped: set[int], at: int, method: str
) -> None:
    numbers = [one for one in sorted(stopped) if one < len(group.models)]
    kept = list[TrainState]()

    def stop(state: AnyState) -> AnyState:
        if state.iteration != at:
            return state
        ensemble = state.user.stopping(numbers)
        kept[:] = members(ensemble)
        return state.evolve(user=ensemble)

    def stop_and_compact(state: AnyState) -> AnyState:
        stopping = stop(state)
        return stopping.evolve(user=compact(stopping.user))

    step, start = group.step(method=method), group.start(method=method)
    if not at:
        kept[:] = members(start)
        start = start.stopping(numbers)
    whole = Loop(step).run(group.batches, user=start, max_epochs=2)
    done = Events.ITERATION_COMPLETED
    masked = Loop(step).on(done, stop).run(group.batches, user=start, max_epochs=2)
    out = Loop(step).on(done, stop_and_compact)
    taken_out = out.run(group.batches, user=compact(start), max_epochs=2)

    has_stopped = at <= 2 * len(group.batches)
    for number in range(len(group.models)):
        is_stopped = has_stopped and number in numbers
        if is_stopped:
            assert members(masked.user)[number] == kept[number]
            assert members(taken_out.user)[number] == kept[number]
        elif at:
            assert furthest(members(masked.user)[number], members(whole.user)[number]) < ENOUGH
        assert furthest(members(masked.user)[number], members(taken_out.user)[number]) < ENOUGH
    require_close(masked, taken_out)
    if has_stopped:
        is_nan = [bool(one) for one in masked.output.isnan()]
        last = at == 2 * len(group.batches)  # its output is from before
        assert is_nan == [one in numbers and not last for one in range(len(group.models))]


@pytest.mark.parametrize("optimizer", sorted(OF_TORCH))
def test_classes_of_torch_equal_members_alone(optimizer: str) -> None:
    group = Group.of("network", optimizer)
    batch = group.batches[0]
    together = Loop(group.step()).run([batch], user=group.start()).user
    for number, model in enumerate(group.models):
        made = group.optimizer(model.parameters())
        step = functional_step(model, made, loss_fn)
        alone = Loop(step).run([batch], user=step.init(seed=number)).user
        member = members(together)[number]
        assert furthest(member, alone) < ENOUGH
        assert member.updates == alone.updates
        # A member goes on alone, as if it had never been one of several.
        on = Loop(step).run(group.batches, user=member, max_epochs=2).user
        assert furthest(on, Loop(step).run(group.batches, user=alone, max_epochs=2).user) < ENOUGH


@pytest.mark.parametrize("method", ["vmap", "loop"])
@pytest.mark.parametrize("optimizer", ["adamw", "momentum", "RMSprop"])
def test_a_run_goes_on_exactly_in_another_process(optimizer: str, method: str) -> None:
    def build() -> tuple[Loop[Any, Any, Any], list[Pair], dict[str, Any]]:
        group = Group.of("convolutions", optimizer)
        start = group.start(method=method)
        return Loop(group.step(method=method)), group.batches, {"user": start}

    assert_resume_exact(build)


@settings(max_examples=5)
@given(groups)
def test_a_run_is_pure(group: Group) -> None:
    step, start = group.step(), group.start()
    kept, own = copy.deepcopy(start), torch.get_rng_state()
    before = copy.deepcopy([one.state_dict() for one in group.models])
    final = Loop(step).run(group.batches, user=start, max_epochs=2)
    assert Loop(step).run(group.batches, user=start, max_epochs=2) == final
    assert start == kept
    assert torch.equal(torch.get_rng_state(), own)
    for model, state in zip(group.models, before, strict=True):
        assert all(torch.equal(one, state[name]) for name, one in model.state_dict().items())
    moments = Loop(step).iterate(group.batches, user=start, max_epochs=2)
    assert [one.state for one in moments][-1] == final
    done = Events.ITERATION_COMPLETED
    states: list[AnyState] = [
        State(iteration=1, epoch=1, event=done, batch=group.batches[0], user=start)
    ]
    assert_pure(step, states)


def dropped(randomness: str, seeds: list[int], **options: Any) -> tuple[Tensor, EnsembleState]:
    torch.manual_seed(0)
    (model,) = in_double(dropping, 1)
    data = [(torch.randn(4, 5).double(), torch.randint(3, (4,)))]
    given: Any = randomness
    step = ensemble_step(model, sgd(0.0), loss_fn, randomness=given, **options)
    start = step.init([model] * len(seeds), seeds=seeds)
    final = Loop(step).run(data, user=start)
    return final.output, final.user


def test_dropout_is_equal_in_distribution_only() -> None:
    seeds = list(range(400))
    together, final = dropped("different", seeds)
    in_turn, _ = dropped("different", seeds, method="loop")
    assert len(set(together.tolist())) > 390
    assert together[0] != in_turn[1]
    spread = float(in_turn.std()) / 20  # that of a mean of 400
    assert abs(float(together.mean() - in_turn.mean())) < 5 * spread
    assert 0.8 < float(together.std() / in_turn.std()) < 1.25
    # The draws of the members go on from one place, and not from where they began.
    again, _ = dropped("different", seeds)
    assert torch.equal(again, together)
    assert members(final)[0].random == members(final)[1].random
    begun = torch.Generator().manual_seed(0).get_state()
    assert not torch.equal(members(final)[0].random["cpu"], begun)


@pytest.mark.parametrize("method", ["vmap", "loop"])
def test_members_may_draw_the_same(method: Any) -> None:
    losses, _ = dropped("same", [0, 1, 2], method=method)
    assert len(set(losses.tolist())) == 1


@pytest.mark.parametrize("method", ["vmap", "loop"])
def test_members_may_be_forbidden_to_draw(method: Any) -> None:
    with pytest.raises(RuntimeError, match="random"):
        dropped("error", [0, 1], method=method)


def test_one_member_draws_as_it_would_alone() -> None:
    losses, final = dropped("different", [3])
    alone, other = dropped("different", [3], method="loop")
    assert torch.allclose(losses, alone)
    assert final.random == other.random


def test_what_is_evolved_is_another_value() -> None:
    start = Group.of("network", "adam").start()
    assert attrs.evolve(start, updates=(1, 2, 3)) != start
    assert start != members(start)
    with pytest.raises(TypeError, match="unhashable"):
        hash(start)
