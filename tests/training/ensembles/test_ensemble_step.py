"""What users of ensembles see: values, features, refusals, and what models may do."""

from __future__ import annotations

import math
import pickle
import re
from collections.abc import Callable
from typing import Any

import attrs
import pytest
import torch
from torch import Tensor, nn, optim
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer
from typing_extensions import override

from fengine import Loop, Part, State, diff
from fengine.features import (
    OUTER,
    evaluation,
    stop_members,
)
from fengine.metrics import accuracy, mean, mean_loss, member_values
from fengine.training import (
    EnsembleState,
    Update,
    Updated,
    adam,
    adamw,
    compact,
    ensemble_evaluation_step,
    ensemble_step,
    functional_evaluation_step,
    functional_step,
    members,
    restore,
    sgd,
    stack,
    windows,
)
from fengine.training.ensembles.stacked_optimizers import update_stacked
from fengine.training.functional.values import Values
from tests.training.ensembles.groups import (
    OF_TORCH,
    Group,
    Recurrent,
    furthest,
    in_double,
    loss_fn,
    network,
)

AnyState = State[Any, Any, Any]


@pytest.fixture
def group() -> Group:
    return Group.of("network", "adam")


def held_out_of(group: Group, **options: Any) -> Loop[Any, Any, EnsembleState]:
    return (
        Loop(ensemble_evaluation_step(group.models[0], **options))
        | accuracy()
        | mean_loss(cross_entropy)
    )


# The value.


def test_an_ensemble_is_a_value(group: Group) -> None:
    start = group.start()
    assert start == group.start()
    assert start == pickle.loads(pickle.dumps(start))
    assert repr(start) == "EnsembleState(<3 members of 39 parameters>, training=(0, 1, 2))"
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        start.updates = (1, 2, 3)  # type: ignore[misc]
    final = Loop(group.step()).run(group.batches, user=start)
    assert [one.updates for one in members(final.user)] == [2, 2, 2]
    paths = {one.path for one in diff(start, final.user)}
    assert {"parameters.0.weight", "updates[0]"} <= paths


def test_an_ensemble_is_plain_data_and_read_again(group: Group) -> None:
    step = group.step()
    state = Loop(step).run(group.batches, user=compact(group.start().stopping([1])))
    read: AnyState = State.from_dict(state.to_dict(), user=EnsembleState)
    assert read.user == state.user
    snapshot = Loop(step).snapshot(state)
    assert not snapshot.external
    again = Loop(step).read(pickle.loads(pickle.dumps(snapshot.to_dict())), user=EnsembleState)
    more = state.with_limits(max_epochs=2)
    assert Loop(step).resume(more, group.batches) == Loop(step).resume(
        again.state.with_limits(max_epochs=2), group.batches
    )


def test_a_member_is_restored_and_goes_on_alone(group: Group) -> None:
    final = Loop(group.step()).run(group.batches, user=group.start())
    model = network().double()
    optimizer = optim.Adam(model.parameters(), 0.01, weight_decay=0.01)
    restore(model, optimizer, members(final.user)[1])
    x, _ = group.batches[0]
    predicted = Loop(ensemble_evaluation_step(group.models[0])).run(
        group.batches[:1], user=final.user
    )
    assert torch.allclose(model(x), predicted.output.y_pred[1])
    alone = functional_step(model, optimizer, loss_fn)
    on = Loop(alone).run(group.batches, user=members(final.user)[1]).user
    together = Loop(group.step()).run(group.batches, user=final.user).user
    assert furthest(on, members(together)[1]) < 1e-9


def test_trainings_that_differ_are_not_stacked(group: Group) -> None:
    one, *_ = members(group.start())
    (trained, *_) = members(Loop(group.step()).run(group.batches, user=group.start()).user)
    with pytest.raises(ValueError, match="no trainings to stack"):
        stack([])
    with pytest.raises(TypeError, match=r"number 1 is 3 of type int.*functional_step"):
        stack([one, 3])  # type: ignore[list-item]
    with pytest.raises(ValueError, match=r"remembers of 0\.weight is \[.*in training 1, and \[\]"):
        stack([one, trained])


def test_trainings_with_more_than_tensors_are_not_stacked() -> None:
    model = network()
    scaler = torch.amp.GradScaler("cpu")
    step = functional_step(model, optim.SGD(model.parameters()), loss_fn, scaler=scaler)
    with pytest.raises(ValueError, match="training 0 has a scaler"):
        stack([step.init()])
    lbfgs = functional_step(model, optim.LBFGS(model.parameters()), loss_fn)
    batch = torch.randn(4, 5), torch.randint(3, (4,))
    final = Loop(lbfgs).run([batch], user=lbfgs.init())
    with pytest.raises(ValueError, match="no tensor, so that it cannot be stacked"):
        stack([final.user])


def test_members_are_stopped_by_number() -> None:
    start = Group.of("network", "sgd").start()
    assert start.stopping([2, 0]).training == (1,)
    assert start.stopping([2]).stopping([2, 0]).training == (1,)
    assert compact(start.stopping([2])).stopping([2]).training == (0, 1)
    assert compact(start.stopping([0, 1, 2])).size == 3
    with pytest.raises(ValueError, match="no member 3: they have the numbers 0 to 2"):
        start.stopping([3])
    functions: list[Any] = [members, compact]
    for function in functions:
        with pytest.raises(TypeError, match=r"takes an EnsembleState, such as final\.user"):
            function(State())


def test_where_all_have_stopped_nothing_is_trained(group: Group) -> None:
    for stopped in (group.start().stopping([0, 1, 2]), compact(group.start().stopping([0, 1, 2]))):
        final = Loop(group.step()).run(group.batches, user=stopped)
        assert final.output.isnan().all()
        assert members(final.user) == members(stopped)
        found = held_out_of(group).run(group.batches, user=stopped)
        assert found.metrics == held_out_of(group).run(group.batches, user=group.start()).metrics


# The step.


def test_a_part_keeps_the_ensemble_and_the_record_is_free(group: Group) -> None:
    step = group.step()
    key = Part("ensemble", group.start())
    beside: Any = (
        Loop(step.at(key))
        | mean("loss")
        | evaluation(held_out_of(group), group.batches, user=OUTER.part(key))
        | stop_members("val_loss", mode="min", patience=1)
    )
    final = beside.run(group.batches, user=[1], max_epochs=2)
    assert final.user == [1]
    assert len(member_values(final, "val_accuracy")) == 3
    alone = Loop(step).run(group.batches, user=group.start(), max_epochs=2)
    assert final.part(key).training == (0, 1, 2)
    assert members(final.part(key)) == members(alone.user)
    with pytest.raises(TypeError, match=re.escape("Part('ensemble', step.init(models))")):
        step.at(Part("ensemble", 0))  # type: ignore[arg-type]


def test_the_payload_of_the_update_has_the_losses(group: Group) -> None:
    seen = list[Tensor]()

    def see(state: AnyState, updated: Updated) -> AnyState:
        assert state.user.updates == (state.iteration,) * 3
        seen.append(updated.loss)
        return state

    loop = Loop(group.step())
    final = loop.on(Update.COMPLETED(every=1), see).run(group.batches, user=group.start())
    assert len(seen) == 2
    assert torch.equal(seen[-1], final.output)
    assert final.user == loop.run(group.batches, user=group.start()).user
    assert not final.output.requires_grad


def test_a_run_that_goes_on_at_the_update_calls_no_handler_twice(group: Group) -> None:
    model = group.models[0]
    alone = functional_step(model, optim.SGD(model.parameters()), loss_fn)
    runs: list[tuple[Any, Any]] = [(group.step(), group.start()), (alone, alone.init())]
    for step, start in runs:
        seen = list[int]()

        def see(state: AnyState, updated: Updated, seen: list[int] = seen) -> AnyState:
            seen.append(state.iteration)
            return state

        loop = Loop(step).on(Update.COMPLETED, see)
        moments = loop.iterate(group.batches, user=start)
        first = next(one for one in moments if one.event is Update.COMPLETED)
        moments.close()
        loop.resume(first.state, group.batches)
        assert seen == [1, 2]


def test_rates_are_a_function_of_the_state() -> None:
    def falling(state: AnyState) -> list[float]:
        return [0.1 / state.epoch, 0.2, 0.0]

    group = Group.of("network", "momentum")
    start = group.start()
    final = Loop(group.step(learning_rate=falling)).run(group.batches, user=start, max_epochs=2)
    in_turn = group.step(learning_rate=falling, method="loop")
    other = Loop(in_turn).run(group.batches, user=start, max_epochs=2)
    pairs = zip(members(final.user), members(other.user), strict=True)
    assert max(furthest(one, two) for one, two in pairs) < 1e-9
    assert [one.learning_rates for one in members(final.user)] == [(0.05,), (0.2,), (0.0,)]
    assert members(final.user)[2].parameters == members(start)[2].parameters


def test_one_rate_may_be_said_for_all() -> None:
    group = Group.of("network", "RMSprop")
    step = group.step(learning_rate=0.5)
    assert {one.learning_rates for one in members(step.init(group.models))} == {(0.5,)}


def test_copies_of_several_groups_of_parameters_are_trained() -> None:
    models = in_double(network, 2)
    first, *others = models[0].parameters()
    two: list[dict[str, Any]] = [{"params": [first], "lr": 0.5}, {"params": others}]
    optimizer = optim.SGD(two, 0.1)
    step = ensemble_step(models[0], optimizer, loss_fn)
    in_turn = ensemble_step(models[0], optimizer, loss_fn, method="loop")
    data = Group.of("network", "sgd").batches
    start = step.init(models)
    assert members(start)[1].learning_rates == (0.5, 0.1)
    finals = [Loop(each).run(data, user=start).user for each in (step, in_turn)]
    pairs = zip(*map(members, finals), strict=True)
    assert max(furthest(a, b) for a, b in pairs) < 1e-9


def test_the_modes_are_put_back(group: Group) -> None:
    model = group.models[0].eval()
    Loop(group.step()).run(group.batches, user=group.start())
    assert not model.training
    model.train()
    held_out_of(group).run(group.batches, user=group.start())
    assert model.training


def test_a_step_says_what_it_is() -> None:
    model = network()
    assert repr(ensemble_step(model, adam(0.5), cross_entropy)) == (
        "ensemble_step(Sequential of 39 parameters, adam(0.5), cross_entropy)"
    )
    step = ensemble_step(
        model, optim.SGD(model.parameters()), cross_entropy, clip=1.0, method="loop"
    )
    assert repr(step) == (
        "ensemble_step(Sequential of 39 parameters, SGD of 39 parameters, cross_entropy, clip=1.0, "
        "method='loop')"
    )
    assert repr(adamw(0.1, eps=1e-6)) == "adamw(0.1, eps=1e-06)"
    assert repr(ensemble_evaluation_step(model, method="loop")) == (
        "ensemble_evaluation_step(Sequential of 39 parameters, method='loop')"
    )


def test_a_loop_with_an_ensemble_is_pickled(group: Group) -> None:
    loop = Loop(group.step()) | mean("loss")
    final = loop.run(group.batches, user=group.start())
    again = pickle.loads(pickle.dumps(loop))
    assert again.run(group.batches, user=group.start()) == final


# What models may do.


def test_an_lstm_is_trained_in_turn_and_the_error_names_the_way() -> None:
    models = in_double(Recurrent, 2)
    data = [(torch.randn(4, 3, 2).double(), torch.randint(3, (4,)))]
    step = ensemble_step(models[0], sgd(0.1), loss_fn)
    start = step.init(models)
    with pytest.raises(RuntimeError, match=r"(?s)lstm.*vmap refuses.*method='loop'\) takes"):
        Loop(step).run(data, user=start)
    in_turn = ensemble_step(models[0], sgd(0.1), loss_fn, method="loop")
    final = Loop(in_turn).run(data, user=start)
    with pytest.raises(RuntimeError, match=r"ensemble_evaluation_step\(model, method='loop'\)"):
        Loop(ensemble_evaluation_step(models[0])).run(data, user=final.user)
    predicting = Loop(ensemble_evaluation_step(models[0], method="loop")) | accuracy()
    found = predicting.run(data, user=final.user)
    assert found.output.y_pred.shape == (2, 4, 3)
    alone = Loop(functional_evaluation_step(models[0])) | accuracy()
    accuracies = [alone.run(data, user=one).metrics["accuracy"] for one in members(final.user)]
    assert member_values(found, "accuracy") == tuple(accuracies)


class Setting(nn.Module):
    """Set a buffer that was None."""

    seen: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(5, 3)
        self.register_buffer("seen", None)

    @override
    def forward(self, x: Tensor) -> Tensor:
        self.seen = self.linear.weight.detach() * 2
        y: Tensor = self.linear(x)
        return y


class Shrinking(nn.Module):
    """Change its weight in place."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(5, 3)

    @override
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.linear.weight.mul_(0.5)
        y: Tensor = self.linear(x)
        return y


class Counting(nn.Module):
    """Ask for a number, which vmap refuses."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(5, 3)

    @override
    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear(x)
        return y if float(y.detach().mean()) > 0 else -y


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (Setting, r"has set its buffer seen, which was None.*method='loop'"),
        (Counting, r"(?s)vmap.*\.item\(\).*method='loop'\) takes the members one after"),
    ],
)
def test_what_a_model_may_not_do_at_once_it_does_in_turn(
    make: Callable[[], nn.Module], said: str
) -> None:
    models = in_double(make, 2)
    data = Group.of("network", "sgd").batches
    step = ensemble_step(models[0], sgd(0.1), loss_fn)
    start = step.init(models)
    for _ in range(2):  # the second time, too, since nothing has been left in the model
        with pytest.raises(RuntimeError, match=said):
            Loop(step).run(data, user=start)
    in_turn = ensemble_step(models[0], sgd(0.1), loss_fn, method="loop")
    final = Loop(in_turn).run(data[:1], user=start)
    for number, model in enumerate(models):
        alone = functional_step(model, optim.SGD(model.parameters(), 0.1), loss_fn)
        expected = Loop(alone).run(data[:1], user=alone.init()).user
        assert furthest(members(final.user)[number], expected) == 0


def test_a_model_that_changes_its_weights_in_place_damages_nothing() -> None:
    models = in_double(Shrinking, 2)
    step = ensemble_step(models[0], sgd(0.1), loss_fn)
    start = step.init(models)
    with pytest.raises(RuntimeError, match=r"changed a parameter in place|in-place"):
        Loop(step).run(Group.of("network", "sgd").batches, user=start)


def test_a_loss_that_is_no_number_is_explained(group: Group) -> None:
    def each(y_pred: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(y_pred, y, reduction="none")

    def constant(y_pred: Tensor, y: Tensor) -> Tensor:
        return y_pred.detach().sum()

    for loss, said in (
        (each, r"shape \(4,\) for each member; backward begins at one number"),
        (constant, "does not depend on a parameter that requires a gradient"),
    ):
        step = ensemble_step(group.models[0], adam(0.01), loss)
        with pytest.raises(ValueError, match=said):
            Loop(step).run(group.batches, user=step.init(group.models))


def test_an_error_of_the_model_is_that_of_the_user(group: Group) -> None:
    bad = torch.randn(4, 7).double(), torch.randint(3, (4,))
    start = group.start()
    for method in ("vmap", "loop"):
        loop = Loop(group.step(method=method))
        with pytest.raises(RuntimeError, match=r"shapes|size"):
            loop.run([bad], user=start)
        assert loop.run(group.batches, user=start).user.updates == (2, 2, 2)


def test_a_model_is_used_by_one_run_at_a_time(group: Group) -> None:
    step, model = group.step(), group.models[0]
    inner = functional_step(model, optim.SGD(model.parameters()), loss_fn)

    def nested(y_pred: Tensor, y: Tensor) -> Tensor:
        inner.init()
        return cross_entropy(y_pred, y)

    bad = ensemble_step(model, adam(0.01), nested)
    with pytest.raises(RuntimeError, match="the Sequential is in use"):
        Loop(bad).run(group.batches, user=bad.init(group.models))
    assert Loop(step).run(group.batches, user=group.start()).user.updates == (2, 2, 2)


# Optimizers.


@pytest.mark.parametrize("name", sorted(OF_TORCH))
def test_a_class_of_torch_updates_stacked_parameters_bitwise_as_those_alone(name: str) -> None:
    torch.manual_seed(0)
    rows = [nn.Parameter(torch.randn(3, 2)) for _ in range(4)]
    alone = [OF_TORCH[name]([one]) for one in rows]
    parameters = torch.stack([one.detach() for one in rows])
    memory: Values[Tensor] = Values()
    group = {**alone[0].param_groups[0], "params": ("weight",)}
    for _ in range(4):
        gradients = torch.randn(4, 3, 2)
        for row, optimizer, gradient in zip(rows, alone, gradients, strict=True):
            row.grad = gradient.clone()
            optimizer.step()
        ((parameters, held),) = update_stacked(
            type(alone[0]), [Values(group)], [[parameters]], [[gradients]], [[memory]], 0
        )
        memory = Values(held)
        assert torch.equal(parameters, torch.stack([one.detach() for one in rows]))


@pytest.mark.parametrize(
    "make",
    [
        lambda found: optim.Adafactor(list(found)),
        lambda found: type("Own", (optim.SGD,), {})(list(found), 0.1),
        lambda found: optim.Muon([one for one in found if one.ndim == 2]),
    ],
    ids=["Adafactor", "a class of one's own", "Muon"],
)
def test_an_optimizer_that_would_mix_the_members_is_refused(make: Any) -> None:
    models = in_double(network, 2)
    optimizer: Optimizer = make(models[0].parameters())
    with pytest.raises(ValueError, match=r"(?s)would mix the members.*adamw.*method='loop'"):
        ensemble_step(models[0], optimizer, loss_fn)
    step = ensemble_step(models[0], optimizer, loss_fn, method="loop")
    data = Group.of("network", "sgd").batches
    final = Loop(step).run(data, user=step.init(models)).user
    alone = functional_step(models[1], make(models[1].parameters()), loss_fn)
    expected = Loop(alone).run(data, user=alone.init()).user
    assert members(final)[1].parameters == expected.parameters


def test_one_optimizer_of_torch_has_one_setting_for_all() -> None:
    group = Group.of("network", "Adam")
    model = group.models[0]
    with pytest.raises(ValueError, match="takes one learning rate, and 2 that differ"):
        group.step(learning_rate=[0.1, 0.2])
    start = group.start()
    one, two, three = members(start)
    with pytest.raises(ValueError, match=r"lr is 0\.5 in member 1, and 0\.01 in member 0.*adamw"):
        Loop(group.step()).run(group.batches, user=stack([one, two.with_learning_rate(0.5), three]))
    step = functional_step(model, optim.Adam(model.parameters(), 0.01, amsgrad=True), loss_fn)
    longer, shorter = (
        Loop(step).run(group.batches, user=step.init(), max_epochs=epochs).user for epochs in (1, 2)
    )
    mixed = stack([longer, shorter])
    with pytest.raises(ValueError, match=r"one step for all members.*\[2\.0, 4\.0\]"):
        Loop(group.step()).run(group.batches, user=mixed)
    in_turn = Loop(group.step(method="loop")).run(group.batches, user=mixed).user
    assert [one.updates for one in members(in_turn)] == [4, 6]


def test_members_that_were_trained_differently_long_go_together() -> None:
    group = Group.of("network", "adam")
    start = group.start()
    step = group.step()
    later = Loop(step).run(group.batches, user=start).user
    later_still = Loop(step).run(group.batches, user=later).user
    mixed = stack([members(later)[0], members(later_still)[1]])
    together, in_turn = (
        Loop(group.step(method=one)).run(group.batches, user=mixed).user for one in ("vmap", "loop")
    )
    pairs = zip(members(together), members(in_turn), strict=True)
    assert max(furthest(one, two) for one, two in pairs) < 1e-9


def test_the_settings_of_members_are_those_of_the_step(group: Group) -> None:
    model = group.models[0]
    plain = functional_step(model, optim.Adam(model.parameters(), 0.01), loss_fn)
    with pytest.raises(ValueError, match=r"member 0 has weight_decay=0.*computes with .*=0\.01"):
        Loop(group.step()).run(group.batches, user=stack([plain.init()]))
    other = functional_step(model, optim.SGD(model.parameters(), 0.01), loss_fn)
    with pytest.raises(ValueError, match="member 0 has"):
        Loop(group.step()).run(group.batches, user=stack([other.init()]))


def test_members_of_another_model_are_refused(group: Group) -> None:
    other = nn.Linear(5, 3).double()
    step = ensemble_step(other, adam(0.01), loss_fn)
    with pytest.raises(ValueError, match=r"other parameters"):
        Loop(step).run(group.batches, user=group.start())
    with pytest.raises(ValueError, match=r"model 1, a Linear, has the parameters weight, bias"):
        group.step().init([group.models[0], other])
    with pytest.raises(ValueError, match="other parameters"):
        Loop(ensemble_evaluation_step(other)).run(group.batches, user=group.start())


# Arguments.


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"method": "both"}, ValueError, "method='both' is not one of 'vmap', 'loop'"),
        ({"randomness": "none"}, ValueError, "randomness='none' is not one of"),
        ({"clip": 0}, ValueError, "clip=0 is not above 0"),
        ({"clip": math.nan}, ValueError, "clip=nan is not above 0"),
        ({"clip": "1"}, TypeError, "clip='1' of type str is not a number"),
        ({"compile": 1}, TypeError, "compile=1 of type int is not a bool"),
        ({"compile": True, "method": "loop"}, ValueError, "takes method='vmap'"),
        ({"learning_rate": -1}, ValueError, "a learning rate is -1, and not a finite number"),
        ({"learning_rate": [0.1, math.nan]}, ValueError, "a learning rate is nan"),
        ({"learning_rate": "fast"}, TypeError, "a learning rate is 'fast' of type str"),
        ({"learning_rate": []}, ValueError, "learning_rate is empty"),
        ({"learning_rate": lambda: 0.1}, TypeError, "learning_rate"),
    ],
)
def test_bad_arguments_are_refused(
    options: dict[str, Any], error: type[Exception], said: str, group: Group
) -> None:
    with pytest.raises(error, match=re.escape(said)):
        group.step(**options)


def test_more_bad_arguments_are_refused(group: Group) -> None:
    model = group.models[0]
    made: Any = ensemble_step
    with pytest.raises(TypeError, match=r"give an instance of torch\.nn\.Module"):
        made(nn.Linear, adam(), loss_fn)
    with pytest.raises(TypeError, match=r"ensemble_step\(model, optimizer, loss_fn\)"):
        made(model, loss_fn, adam())
    with pytest.raises(ValueError, match="compile=True"):
        made(model, optim.SGD(model.parameters()), loss_fn, compile=True)
    with pytest.raises(ValueError, match="for real parameters"):
        made(nn.Linear(1, 1, dtype=torch.complex64), adam(), loss_fn)
    with pytest.raises(TypeError, match=r"lr=\[0\.1\] of type list.*learning_rate=rates"):
        adam([0.1])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Invalid"):
        adamw(betas=(0.9, 1.5))
    with pytest.raises(ValueError, match="Nesterov"):
        sgd(nesterov=True)
    with pytest.raises(ValueError, match="2 learning rates are given for 3 members"):
        group.step(learning_rate=[0.1, 0.2]).init(group.models)
    with pytest.raises(ValueError, match="2 learning rates are given for 3 members"):
        Loop(group.step(learning_rate=[0.1, 0.2])).run(group.batches, user=group.start())
    with pytest.raises(ValueError, match="2 seeds are given for 3 models"):
        group.step().init(group.models, seeds=[1, 2])
    with pytest.raises(TypeError, match="model 1 is 3"):
        group.step().init([model, 3])  # type: ignore[list-item]
    with pytest.raises(TypeError, match=r"not an EnsembleState.*step\.init"):
        Loop(made(model, adam(), loss_fn)).run(group.batches, user=None)
    with pytest.raises(TypeError, match="a batch is a pair"):
        Loop(made(model, adam(0.01, weight_decay=0.01), loss_fn)).run(
            windows(group.batches, 2), user=group.start()
        )
