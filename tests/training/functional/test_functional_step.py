"""What users of functional steps see: values, refusals, and what models may do."""

from __future__ import annotations

import copy
import json
import pickle
import re
import threading
from typing import Any

import attrs
import pytest
import torch
from torch import Tensor, nn, optim
from torch.nn.functional import cross_entropy, mse_loss
from typing_extensions import override

from fengine import Event, Events, Loop, Part, Recorder, State, blame, diff, last_state, tap
from fengine.core.equality import same
from fengine.testing import assert_pure, assert_resume_exact
from fengine.training import (
    Backprop,
    Donated,
    ForwardPass,
    TrainState,
    Update,
    Updated,
    Window,
    functional_evaluation_step,
    functional_step,
    restore,
    training_step,
    windows,
)
from fengine.training.functional.loan import Loan
from tests.training.functional.tasks import Pair, Task, loss_fn

AnyState = State[Any, Any, Any]


def step_of(task: Task, **options: Any) -> Any:
    return functional_step(task.model, task.optimizer, loss_fn, **options)


def first_of(task: Task) -> nn.Module:
    return next(task.model.children())


@pytest.fixture
def task() -> Task:
    return Task.of("convolutions", "AdamW")


# The value.


def test_a_training_is_a_value(task: Task) -> None:
    step = step_of(task)
    start = step.init()
    final = Loop(step).run(task.batches, user=start).user
    assert start == step.init()
    assert final != start
    assert start == pickle.loads(pickle.dumps(start)) == copy.deepcopy(start)
    assert final.updates == 2
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        final.updates = 3
    with pytest.raises(AttributeError, match="never change"):
        final.parameters.whatever = 3
    assert repr(final) == "TrainState(<87 parameters>, updates=2)"


def test_a_difference_has_the_name_of_its_parameter(task: Task) -> None:
    step = step_of(task)
    moments = list(Loop(step).iterate(task.batches, user=step.init()))
    paths = [one.path for one in diff(moments[0].state, moments[-1].state)]
    assert "user.parameters.0.weight" in paths
    assert "user.buffers.1.running_mean" in paths
    assert "user.optimizer.state.0.weight.exp_avg" in paths
    assert "user.random.cpu" not in paths  # nothing draws


def test_who_wrote_a_parameter_is_told(task: Task) -> None:
    step = step_of(task)
    recorder = Recorder(Loop(step), handlers=True)
    recorder.loop.run(task.batches, user=step.init())
    said = str(blame(recorder.entries, "user.parameters.0.weight"))
    assert "iteration 2" in said


def test_a_recorder_shares_what_has_not_changed() -> None:
    task = Task.of("frozen", "SGD")
    step = step_of(task)
    recorder = Recorder(Loop(step))
    recorder.loop.run(task.batches, user=step.init(), max_epochs=2)
    states = [entry.state.user for entry in recorder.entries]
    assert len({id(one.parameters["0.weight"]) for one in states}) == 1
    assert len({id(one.parameters["3.weight"]) for one in states}) == 5


def test_a_training_is_plain_data_and_read_again(task: Task) -> None:
    step = step_of(task)
    loop = Loop(step)
    state = loop.run(task.batches, user=step.init())
    plain = state.to_dict()
    assert list(plain["user"]["parameters"])[:2] == ["0.weight", "0.bias"]
    assert State.from_dict(plain, user=TrainState).user == state.user
    snapshot = loop.snapshot(state)
    assert not snapshot.external
    read = loop.read(pickle.loads(pickle.dumps(snapshot.to_dict())), user=TrainState)
    more = state.with_limits(max_epochs=2)
    again = attrs.evolve(read, state=read.state.with_limits(max_epochs=2))
    assert loop.resume(again, task.batches) == loop.resume(more, task.batches)


def test_a_training_in_a_part_leaves_the_record_free(task: Task) -> None:
    step = step_of(task)
    key = Part("training", step.init())
    loop = Loop(step.at(key))
    assert list(loop.parts) == ["training"]
    with_record = loop.on(
        Events.EPOCH_COMPLETED, lambda state: state.evolve(user=[*state.user, state.epoch])
    )
    final = with_record.run(task.batches, user=[], max_epochs=2)
    assert final.user == [1, 2]
    alone = Loop(step).run(task.batches, user=step.init(), max_epochs=2)
    assert final.part(key) == alone.user
    read = loop.read(loop.snapshot(loop.run(task.batches)).to_dict())
    assert read.state.part(key) == Loop(step).run(task.batches, user=step.init()).user
    with pytest.raises(ValueError, match="two have the part 'training'"):
        loop | (lambda one: one.with_part(Part("training", 0)))
    with pytest.raises(TypeError, match=re.escape("Part('training', step.init())")):
        step.at(Part("training", 0))


def test_the_step_is_pure(task: Task) -> None:
    step = step_of(task)
    batch = task.batches[0]
    done = Events.ITERATION_COMPLETED
    states: list[AnyState] = [
        State(iteration=1, epoch=1, event=done, batch=batch, user=step.init(seed=seed))
        for seed in (1, 2)
    ]
    assert_pure(step, states)


def test_another_seed_is_another_chance() -> None:
    task = Task.of("network", "SGD")
    step = step_of(task)
    own = torch.get_rng_state()
    one, two = step.init(seed=1), step.init(seed=2)
    assert torch.equal(torch.get_rng_state(), own)
    finals = [Loop(step).run(task.batches, user=start).user for start in (one, two, one)]
    assert finals[0] != finals[1]
    assert finals[0] == finals[2]
    torch.manual_seed(1)
    assert step.init() == one
    with pytest.raises(ValueError, match="seed=-1"):
        step.init(seed=-1)


# The learning rate.


def test_a_rate_is_changed_in_the_state_at_any_event(task: Task) -> None:
    def slower(state: AnyState, payload: object = None) -> AnyState:
        return state.evolve(user=state.user.with_learning_rate(0.5 * state.user.learning_rates[0]))

    step = step_of(task)
    for event in (Events.EPOCH_STARTED, Backprop.STARTED, Backprop.COMPLETED, Update.COMPLETED):
        loop = Loop(step).on(event, slower)

        def build(loop: Any = loop) -> Any:
            return loop, task.batches, {"user": step.init()}

        assert_resume_exact(build)
        number = 1 if event is Events.EPOCH_STARTED else 2
        final = loop.run(task.batches, user=step.init())
        assert final.user.learning_rates == (0.01 * 0.5**number,)


def test_a_rate_that_is_none_is_refused(task: Task) -> None:
    start = step_of(task).init()
    with pytest.raises(ValueError, match="2 learning rates are given for 1 group"):
        start.with_learning_rate([0.1, 0.2])
    for rate in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="not a finite number from 0 on"):
            start.with_learning_rate(rate)
    with pytest.raises(TypeError, match="'fast' of type str"):
        start.with_learning_rate(["fast"])
    step = step_of(task, learning_rate=lambda state: -1.0)
    with pytest.raises(ValueError, match=r"the learning rate is -1\.0"):
        Loop(step).run(task.batches, user=step.init())


def test_settings_that_somebody_else_changes_are_an_error_and_not_ignored(task: Task) -> None:
    step = step_of(task)
    scheduler = optim.lr_scheduler.ExponentialLR(task.optimizer, 0.5)
    start = step.init()
    loop = Loop(step).on(Events.EPOCH_COMPLETED, tap(lambda state: scheduler.step()))
    with pytest.raises(RuntimeError, match=r"lr of group 0 is 0\.005 there, and was 0\.01"):
        loop.run(task.batches, user=start, max_epochs=2)
    with pytest.raises(RuntimeError, match="somebody else has changed the settings"):
        Loop(step).run(task.batches, user=start)
    again = step.init()
    assert again.learning_rates == (0.005,)
    final = Loop(step).run(task.batches, user=again)
    restore(task.model, task.optimizer, final.user.with_learning_rate(0.25))
    assert task.optimizer.param_groups[0]["lr"] == 0.25
    Loop(step).run(task.batches, user=start)  # what we have written ourselves is no change


def test_a_value_with_the_settings_of_the_optimizer_ignores_nothing(task: Task) -> None:
    step = step_of(task)
    start = step.init().with_learning_rate(0.25)
    task.optimizer.param_groups[0]["lr"] = 0.25
    Loop(step).run(task.batches, user=start)


# In use.


def test_a_model_in_use_is_refused_and_free_after(task: Task) -> None:
    step = step_of(task)
    start = step.init()
    run = Loop(step).iterate(task.batches, user=start)
    held_out = Loop(functional_evaluation_step(task.model))
    in_step = next(moment for moment in run if moment.event is Backprop.STARTED)
    another = functional_step(task.model, task.optimizer, loss_fn)
    for use in (
        lambda: Loop(step).run(task.batches, user=start),
        lambda: Loop(another).run(task.batches, user=start),
        lambda: held_out.run(task.batches, user=start),
        step.init,
        lambda: restore(task.model, task.optimizer, start),
    ):
        with pytest.raises(RuntimeError, match="is in use"):
            use()
    assert in_step.state.user is start
    run.close()
    Loop(step).run(task.batches, user=start)
    held_out.run(task.batches, user=start)


def test_a_run_goes_on_after_another_was_refused(task: Task) -> None:
    step = step_of(task)
    start = step.init()
    expected = Loop(step).run(task.batches, user=start)

    def disturb(state: AnyState, forward: ForwardPass) -> AnyState:
        with pytest.raises(RuntimeError, match="is in use"):
            Loop(step).run(task.batches, user=start)
        return state

    final = Loop(step).on(Backprop.COMPLETED, disturb).run(task.batches, user=start)
    assert final == expected


def test_another_thread_is_refused(task: Task) -> None:
    step = step_of(task)
    start, met, waiting, errors = step.init(), threading.Event(), threading.Event(), []

    def wait(state: AnyState, forward: ForwardPass) -> AnyState:
        met.set()
        assert waiting.wait(60)
        return state

    def run() -> None:
        Loop(step).on(Backprop.STARTED, wait).run(task.batches, user=start)

    thread = threading.Thread(target=run)
    thread.start()
    assert met.wait(60)
    try:
        Loop(step).run(task.batches, user=start)
    except RuntimeError as error:
        errors.append(str(error))
    waiting.set()
    thread.join()
    assert "or another thread" in errors[0]
    Loop(step).run(task.batches, user=start)


def test_a_failure_within_the_step_gives_the_model_back(task: Task) -> None:
    before = copy.deepcopy(task.bits())
    step = step_of(task)
    start = step.init()

    class Oops(Exception):
        pass

    def fail(state: AnyState, payload: object) -> AnyState:
        raise Oops

    for event in (Backprop.STARTED, Backprop.COMPLETED):
        with pytest.raises(Oops) as raised:
            Loop(step).on(event, fail).run(task.batches, user=start)
        assert same(task.bits(), before)
        assert last_state(raised.value).user is start
    with pytest.raises(RuntimeError):
        Loop(step).run([(torch.zeros(1), torch.zeros(1))], user=start)
    assert same(task.bits(), before)
    assert all(one.grad is None for one in task.model.parameters())


def test_gradients_of_the_model_are_as_before(task: Task) -> None:
    parameter = next(task.model.parameters())
    parameter.grad = torch.ones_like(parameter)
    step = step_of(task)
    Loop(step).run(task.batches, user=step.init())
    assert parameter.grad is not None
    assert bool((parameter.grad == 1).all())


def test_a_training_changed_within_the_step_is_refused(task: Task) -> None:
    step = step_of(task)
    start = step.init()

    def change(state: AnyState, payload: object) -> AnyState:
        return state.evolve(user=attrs.evolve(state.user, updates=7))

    with pytest.raises(RuntimeError, match=r"Change all else at Update\.COMPLETED"):
        Loop(step).on(Backprop.COMPLETED, change).run(task.batches, user=start)
    final = Loop(step).on(Update.COMPLETED, change).run(task.batches, user=start)
    assert final.user.updates == 7


# What models and optimizers may do.


def test_an_optimizer_with_a_closure_trains_as_by_hand() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    other = copy.deepcopy(model)
    data = [(torch.randn(8, 3), torch.randn(8, 1)) for _ in range(2)]
    step = functional_step(model, optim.LBFGS(model.parameters(), 0.1, max_iter=3), mse_loss)
    assert list(step.events) == [Update.COMPLETED]

    def build() -> Any:
        return Loop(step), data, {"user": step.init(), "max_epochs": 2}

    assert_resume_exact(build)
    final = Loop(step).run(data, user=step.init(), max_epochs=2)
    by_hand = optim.LBFGS(other.parameters(), 0.1, max_iter=3)
    loss = torch.zeros(())
    for _ in range(2):
        for x, y in data:

            def closure(x: Tensor = x, y: Tensor = y) -> Tensor:
                by_hand.zero_grad()
                found = mse_loss(other(x), y)
                torch.autograd.backward(found)
                return found

            stepping: Any = by_hand
            loss = stepping.step(closure)
    assert same({**final.user.parameters}, dict(other.state_dict()))
    assert torch.equal(final.output, loss.detach())
    windowed = functional_step(model, optim.LBFGS(model.parameters(), 0.1), mse_loss)
    of_windows: Loop[Window[Pair], Tensor, TrainState] = Loop(windowed)
    assert of_windows.run(windows(data, 2), user=windowed.init()).user.updates == 1
    with pytest.raises(ValueError, match="a scaler cannot follow"):
        functional_step(
            model, optim.LBFGS(model.parameters()), mse_loss, scaler=torch.amp.GradScaler("cpu")
        )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_precision_with_a_scaler_is_as_in_place(dtype: torch.dtype) -> None:
    task = Task.of("network", "AdamW", 3)
    (x, y), *rest = task.batches
    data: list[Pair] = [(x, y), (x * torch.inf, y), *rest]
    in_place = task.copied()
    scalers = [torch.amp.GradScaler("cpu", init_scale=256.0, growth_interval=2) for _ in "ab"]
    torch.manual_seed(3)
    step = functional_step(
        task.model, task.optimizer, cross_entropy, autocast=dtype, scaler=scalers[0]
    )
    own = copy.deepcopy(scalers[0].state_dict())
    seen: list[bool] = []

    def look(state: AnyState, updated: Updated) -> AnyState:
        seen.append(updated.stepped)
        return state

    loop = Loop(step).on(Update.COMPLETED, look)
    final = loop.run(data, user=step.init(), max_epochs=2)
    assert scalers[0].state_dict() == own
    torch.manual_seed(3)
    training = training_step(
        in_place.model, in_place.optimizer, cross_entropy, autocast=dtype, scaler=scalers[1]
    )
    Loop(training).run(data, max_epochs=2)
    assert same(in_place.bits(), task.bits(final.user))
    assert dict(final.user.scaler) == scalers[1].state_dict()
    assert seen == [True, False, True, True] * 2
    assert final.user.updates == 6
    restore(task.model, task.optimizer, final.user, scaler=scalers[0])
    assert scalers[0].state_dict() == scalers[1].state_dict()

    def build() -> Any:
        return Loop(step), data, {"user": final.user}

    assert_resume_exact(build)


def halve(parameter: Tensor) -> None:
    assert parameter.grad is not None
    parameter.grad.mul_(0.5)


def test_hooks_see_what_is_lent() -> None:
    task = Task.of("network", "SGD")
    in_place = task.copied()
    for one in (task, in_place):
        for parameter in one.model.parameters():
            hooked: Any = parameter
            hooked.register_post_accumulate_grad_hook(halve)
    torch.manual_seed(3)
    step = step_of(task)
    final = Loop(step).run(task.batches, user=step.init())
    torch.manual_seed(3)
    Loop(training_step(in_place.model, in_place.optimizer, loss_fn)).run(task.batches)
    assert same({**final.user.parameters}, dict(in_place.model.state_dict()))


def test_what_a_handler_draws_is_of_the_training_within_the_step() -> None:
    task = Task.of("network", "SGD")

    def disturb(state: AnyState, forward: ForwardPass) -> AnyState:
        for parameter in task.model.parameters():
            assert parameter.grad is not None
            parameter.grad += torch.randn_like(parameter)
        return state

    def build() -> Any:
        step = step_of(task)
        loop = Loop(step).on(Backprop.COMPLETED, disturb)
        return loop, task.batches, {"user": step.init(seed=1)}

    assert_resume_exact(build)


def test_state_in_attributes_of_python_is_found() -> None:
    class Counting(nn.Linear):
        calls = 0

        @override
        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return super().forward(x) * self.calls

    torch.manual_seed(0)
    data = [(torch.randn(4, 5), torch.randint(3, (4,))) for _ in range(2)]

    def build() -> Any:
        torch.manual_seed(0)
        model = Counting(5, 3)
        step = functional_step(model, optim.SGD(model.parameters(), 0.1), cross_entropy)
        return Loop(step), data, {"user": step.init()}

    with pytest.raises(AssertionError, match="the run is not the one that was not stopped"):
        assert_resume_exact(build)


def test_a_frozen_parameter_that_is_changed_in_place_is_an_error() -> None:
    class Sloppy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(5, 3)
            self.count = nn.Parameter(torch.zeros(()), requires_grad=False)

        @override
        def forward(self, x: Tensor) -> Tensor:
            self.count.add_(1)
            found: Tensor = self.linear(x)
            return found

    model = Sloppy()
    data = [(torch.randn(4, 5), torch.randint(3, (4,)))]
    step = functional_step(model, optim.SGD(model.parameters(), 0.1), cross_entropy)
    with pytest.raises(RuntimeError, match="has changed the parameter count in place"):
        Loop(step).run(data, user=step.init())
    held_out = Loop(functional_evaluation_step(model))
    with pytest.raises(RuntimeError, match="has changed its parameter count in place"):
        held_out.run(data, user=step.init())
    assert float(model.count) == 0


def test_buffers_that_modules_share_stay_shared() -> None:
    class Sharing(nn.Module):
        seen: Tensor
        also: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(5, 3)
            self.register_buffer("seen", torch.zeros(()))
            self.register_buffer("also", self.seen)

        @override
        def forward(self, x: Tensor) -> Tensor:
            self.seen += 1
            assert self.also is self.seen
            found: Tensor = self.linear(x)
            return found

    model = Sharing()
    step = functional_step(model, optim.SGD(model.parameters(), 0.1), cross_entropy)
    data = [(torch.randn(4, 5), torch.randint(3, (4,)))] * 3
    final = Loop(step).run(data, user=step.init())
    assert {**final.user.buffers} == {"seen": torch.tensor(3.0)}
    assert float(model.seen) == 0


def test_what_cannot_be_a_value_is_refused_by_name() -> None:
    model, other = nn.Linear(2, 2), nn.Linear(2, 2)
    both = optim.SGD([*model.parameters(), *other.parameters()], 0.1)
    with pytest.raises(ValueError, match="holds 2 parameters in group 0 that the Linear does not"):
        functional_step(model, both, cross_entropy)
    lazy = nn.LazyLinear(2)
    with pytest.raises(ValueError, match="call the model once with a batch"):
        functional_step(lazy, optim.SGD(lazy.parameters(), 0.1), cross_entropy)
    with pytest.raises(TypeError, match=re.escape("functional_step(model, optimizer, loss_fn)")):
        functional_step(model, nn.Linear(1, 1), cross_entropy)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="donate=1"):
        functional_step(  # type: ignore[call-overload]
            model, optim.SGD(model.parameters(), 0.1), cross_entropy, donate=1
        )


def test_a_model_with_other_parameters_than_before_is_refused() -> None:
    model = nn.Sequential(nn.Linear(5, 3))
    step = functional_step(model, optim.SGD(model.parameters(), 0.1), cross_entropy)
    start = step.init()
    model[0] = nn.Linear(5, 3)
    data = [(torch.randn(4, 5), torch.randint(3, (4,)))]
    for use in (step.init, lambda: Loop(step).run(data, user=start)):
        with pytest.raises(ValueError, match="make the optimizer last") as raised:
            use()
        assert "other parameters when the step was made" in raised.value.__notes__[0]
    grown = nn.Sequential(nn.Linear(5, 3))
    step = functional_step(grown, optim.SGD(grown.parameters(), 0.1), cross_entropy)
    grown.append(nn.Linear(3, 3))
    with pytest.raises(ValueError, match="make the step last"):
        step.init()


def test_a_training_of_another_model_is_refused_before_anything_is_lent(task: Task) -> None:
    other = Task.of("network", "AdamW")
    step, others = step_of(task), step_of(other)
    start = others.init()
    before = copy.deepcopy(task.bits())
    with pytest.raises(ValueError, match="the value is of a model with other parameters"):
        Loop(step).run(task.batches, user=start)
    with pytest.raises(ValueError, match="the value is of a model with other parameters"):
        restore(task.model, task.optimizer, start)
    with pytest.raises(ValueError, match="the value is of a model with other parameters"):
        Loop(functional_evaluation_step(task.model)).run(task.batches, user=start)
    wide = nn.Linear(5, 4)
    narrow = nn.Linear(5, 3)
    of_wide = functional_step(wide, optim.SGD(wide.parameters(), 0.1), loss_fn)
    with pytest.raises(ValueError, match=r"weight is of shape \(3, 5\), torch.float32"):
        restore(narrow, optim.SGD(narrow.parameters(), 0.1), of_wide.init())
    groups: list[dict[str, Any]] = [{"params": [wide.weight]}, {"params": [wide.bias]}]
    grouped = functional_step(wide, optim.SGD(groups, 0.1), loss_fn)
    data = [(torch.randn(4, 5), torch.randint(4, (4,)))]
    with pytest.raises(ValueError, match="which hold others"):
        Loop(of_wide).run(data, user=grouped.init())
    assert same(task.bits(), before)


def test_a_training_goes_on_with_a_copy_of_the_model(task: Task) -> None:
    other = task.copied()
    step, another = step_of(task), step_of(other)
    start = pickle.loads(pickle.dumps(step.init()))
    one = Loop(step).run(task.batches, user=start, max_epochs=2)
    two = Loop(another).run(task.batches, user=start, max_epochs=2)
    assert one == two
    assert Loop(another).run(task.batches, user=one.user) == Loop(step).run(
        task.batches, user=two.user
    )


def test_a_loop_is_a_value_that_pickles(task: Task) -> None:
    step = step_of(task)
    assert Loop(step) == Loop(step)
    assert hash(Loop(step)) == hash(Loop(step))
    assert step_of(task) == step
    again = pickle.loads(pickle.dumps(Loop(step)))
    start = step.init()
    final = Loop(step).run(task.batches, user=start)
    assert again.run(task.batches, user=start) == final
    model, optimizer = "Sequential of 87 parameters", "AdamW of 87 parameters"
    assert repr(step) == f"functional_step({model}, {optimizer}, {loss_fn.__name__})"
    assert "functional_step(Sequential" in str(Loop(step))


def test_a_step_is_called_by_hand(task: Task) -> None:
    step = step_of(task)
    start = step.init()
    state = step(State(batch=task.batches[0], user=start))
    assert state.event is Events.ITERATION_COMPLETED
    assert state.user == Loop(step).run(task.batches[:1], user=start).user


def test_own_losses_and_batches_are_taken() -> None:
    model = nn.Linear(2, 1)

    def loss(model: nn.Linear, batch: dict[str, Tensor]) -> Tensor:
        found: Tensor = model(batch["x"])
        return found.square().mean()

    step = functional_step(model, optim.SGD(model.parameters(), 0.1), loss=loss)
    data = [{"x": torch.ones(2, 2)}]
    final = Loop(step).run(data, user=step.init())
    assert final.user.updates == 1
    assert "loss=" in repr(step)


def test_what_the_step_changes_and_runs_within_may_be_named(task: Task) -> None:
    entered: list[str] = []

    class Context:
        def __enter__(self) -> None:
            entered.append("in")

        def __exit__(self, *error: object) -> None:
            entered.append("out")

    other = nn.Linear(1, 1)
    step = step_of(task).changing(other=other).within(Context)
    assert list(step.external) == ["other"]
    key = Part("training", step.init())
    Loop(step.at(key)).run(task.batches)
    assert entered == ["in", "out"]
    assert list(Loop(step.at(key)).external) == ["other"]


def test_a_donated_training_is_used_up(task: Task) -> None:
    step = step_of(task, donate=True)
    start = step.init()
    slower = start.with_learning_rate(0.001)
    final = Loop(step).run(task.batches, user=start)
    for used in (start, slower):
        assert repr(used) == "TrainState(<donated parameters>, updates=0)"
        for read in (
            lambda: used.parameters["0.weight"],  # noqa: B023
            lambda: list(used.buffers),  # noqa: B023
            lambda: pickle.dumps(used),  # noqa: B023
            lambda: Loop(step).run(task.batches, user=used),  # noqa: B023
            lambda: restore(task.model, task.optimizer, used),  # noqa: B023
        ):
            with pytest.raises(Donated, match="used up"):
                read()
    assert final.user.updates == 2


def test_the_program_draws_on_as_if_there_were_no_run() -> None:
    task = Task.of("network", "SGD")
    step = step_of(task)
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    start = step.init()
    drawn = [torch.rand(1)]
    Loop(step).run(task.batches, user=start)
    drawn.append(torch.rand(1))
    assert torch.equal(torch.cat(drawn), expected)


def test_modes_are_as_in_place() -> None:
    task = Task.of("network", "SGD")
    step = step_of(task)
    start = step.init(seed=1)
    task.model.eval()
    final = Loop(step).run(task.batches, user=start)
    assert not task.model.training
    task.model.train()
    assert Loop(step).run(task.batches, user=start) == final


def test_an_event_of_ones_own_in_a_loop_with_the_step(task: Task) -> None:
    fired = Event("fired")
    step = step_of(task)
    loop = Loop(step).register(fired)
    assert fired in loop.registry
    assert loop.plan(epoch_length=2).never() == ()
    assert json.dumps([event.name for event in step.events]) == json.dumps(
        ["backprop_started", "backprop_completed", "update_completed"]
    )


def test_a_loan_that_nobody_holds_is_over(task: Task) -> None:
    before = copy.deepcopy(task.bits())
    step = step_of(task)
    start = step.init()
    loan = Loan(step.recipe.lender)
    loan.__enter__()  # and a signal comes before the context was entered
    loan.lend(start)
    with pytest.raises(RuntimeError, match="is in use"):
        step.init()
    del loan
    assert same(task.bits(), before)
    assert step.init() == start
