"""Features: what each brings, which names are taken, and what snapshots hold of them."""

from __future__ import annotations

import copy
import io
import json
import pickle
import re
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from fengine import Events, Loop, NameTaken, Part, State, compose, focus, outputs, tap, when
from fengine.core.equality import same
from fengine.features import (
    clip_grad_norm,
    clip_grad_value,
    early_stopping,
    evaluation,
    learning_rate,
    lr_schedule,
    progress,
    random_state,
)
from fengine.metrics import accuracy, mean, mean_loss, measure, torch_metric
from fengine.testing import assert_resume_exact
from fengine.training import RandomState, TensorBatches, evaluation_step, training_step, windows

X = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
Y = (X.sum(1) > 0).long()
PAPER = io.StringIO()


def number(batch: float) -> float:
    return float(batch)


def length(batch: float) -> float:
    return 1.0


def absolute(batch: float) -> float:
    return abs(batch)


def data() -> Any:
    return TensorBatches(X, Y, batch_size=4, seed=0)


def parts() -> tuple[nn.Module, Any, Any]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 2))
    optimizer = torch.optim.AdamW(model.parameters(), 0.05)
    return model, optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=12)


def training() -> Any:
    model, optimizer, scheduler = parts()
    return (
        Loop(training_step(model, optimizer, cross_entropy))
        | clip_grad_norm(model, 1.0, metric="norm")
        | lr_schedule(scheduler)
        | learning_rate(optimizer)
        | mean("train_loss")
        | evaluation(Loop(evaluation_step(model)) | accuracy() | mean_loss(cross_entropy), data())
        | early_stopping("val_loss", mode="min", patience=9)
        | progress("val_accuracy", file=PAPER)
    )


def test_a_training_in_a_line_a_feature() -> None:
    loop = training()
    final = loop.run(data(), max_epochs=4)
    assert set(final.metrics) == {"norm", "lr", "train_loss", "val_accuracy", "val_loss"}
    assert final.user is None
    assert set(loop.external) == {"model", "optimizer", "random", "scheduler"}
    assert set(loop.parts) == {"train_loss", "early_stopping"}
    assert loop.metrics["val_loss"] is Events.EPOCH_COMPLETED


def test_it_goes_on_exactly_from_every_moment() -> None:
    assert_resume_exact(lambda: (training(), data(), {"max_epochs": 3}))


def test_it_goes_on_exactly_in_windows() -> None:
    assert_resume_exact(lambda: (training(), windows(data(), 2), {"max_epochs": 2}))


def counting() -> Any:
    """Build a loop of features that change nothing outside the state."""
    inner = Loop(outputs(number)) | mean("mean")
    return (
        Loop(outputs(number))
        | mean("loss", over=Events.ITERATION_COMPLETED(every=2))
        | evaluation(inner, [1, 2, 3], at=Events.ITERATION_COMPLETED(every=3))
        | early_stopping("loss", mode="min", patience=3)
        | progress("val_mean", file=PAPER)
    )


def test_features_go_on_through_json_at_every_moment() -> None:
    numbers = [5, 3, 4, 8, 9, 7, 6]
    whole = list(counting().iterate(numbers, max_epochs=3))
    for place, moment in enumerate(whole):
        loop = counting()
        text = json.dumps(loop.snapshot(moment.state).to_dict(batch=float))
        rest = list(loop.iterate(numbers, after=loop.read(json.loads(text), batch=float)))
        assert [one.event for one in rest] == [one.event for one in whole[place + 1 :]]
        assert not rest or rest[-1].state == whole[-1].state


def test_a_snapshot_holds_all_that_changes() -> None:
    loop = training()
    before = loop.snapshot(loop.run(data(), max_epochs=1))
    torch.manual_seed(7)
    wanted = loop.resume(before.state.with_limits(max_epochs=3), data())
    left = loop.snapshot(wanted).external
    again = training()
    kept = pickle.loads(pickle.dumps(before))
    again.restore(kept)
    torch.manual_seed(7)
    found = again.resume(kept.state.with_limits(max_epochs=3), data())
    assert same(again.snapshot(found).external, left)


def summed(batch: torch.Tensor) -> float:
    return float(batch.sum())


FEATURES: list[Any] = [
    lambda: mean("a"),
    lambda: mean("a", abs, weight=len),
    lambda: mean_loss(cross_entropy),
    lambda: accuracy(task="binary", threshold=0.5),
    lambda: early_stopping("a", mode="max", patience=2, at=Events.EPOCH_COMPLETED),
    lambda: early_stopping("a", mode="min", patience=2, min_delta=0.1, name="b"),
    random_state,
    lambda: progress("a"),
    lambda: evaluation(Loop(outputs(absolute)) | mean("a"), [1, 2], max_batches=1),
    lambda: evaluation(Loop(outputs(summed)), [torch.ones(2)], prefix="test_", at=Events.COMPLETED),
]


@pytest.mark.parametrize("make", FEATURES, ids=lambda make: repr(make()))
def test_equal_features_give_equal_loops_that_pickle(make: Any) -> None:
    one, other = make(), make()
    assert one == other
    assert pickle.loads(pickle.dumps(one)) == one
    assert copy.deepcopy(one) == one
    loop: Any = Loop(outputs(absolute)).with_metrics("a", at=Events.EPOCH_COMPLETED)
    if "mean('a'" in repr(one) or "mean_loss" in repr(one) or "accuracy" in repr(one):
        loop = Loop(outputs(absolute))
    assert loop | one == loop | other
    assert pickle.loads(pickle.dumps(loop | one)) == loop | other


def test_features_of_one_model_are_equal() -> None:
    model, optimizer, scheduler = parts()
    for make in (
        lambda: clip_grad_norm(model, 1.0),
        lambda: clip_grad_value(model, 1.0),
        lambda: lr_schedule(scheduler),
        lambda: learning_rate(optimizer),
    ):
        assert make() == make()
        assert hash(make()) == hash(make())
    assert clip_grad_norm(model, 1.0) != clip_grad_norm(nn.Linear(1, 1), 1.0)


def test_features_print_as_they_were_made() -> None:
    model, optimizer, scheduler = parts()
    assert [
        repr(one)
        for one in (
            mean("loss", weight=len),
            mean_loss(cross_entropy, "held", over=Events.COMPLETED),
            accuracy(top_k=2),
            early_stopping("loss", mode="min", patience=3),
            clip_grad_norm(model, 1.0, metric="norm"),
            lr_schedule(scheduler, at=Events.EPOCH_COMPLETED),
            learning_rate(optimizer),
            random_state(),
            progress("loss"),
            evaluation(Loop(outputs(absolute)) | mean("loss"), [1], max_batches=2),
        )
    ] == [
        "mean('loss', weight=len)",
        "mean_loss(cross_entropy, name='held', over=Events.COMPLETED)",
        "accuracy(top_k=2)",
        "early_stopping('loss', mode='min', patience=3)",
        "clip_grad_norm(Sequential of 58 parameters, 1.0, metric='norm')",
        "lr_schedule(OneCycleLR, at=Events.EPOCH_COMPLETED)",
        "learning_rate(AdamW of 58 parameters)",
        "random_state()",
        "progress('loss')",
        "evaluation(Loop of loss, max_batches=2)",
    ]


def test_a_loop_prints_its_features() -> None:
    assert str(counting()) == "\n".join(
        [
            "Loop of outputs(number (test_features.py:38))",
            "  Events.EPOCH_STARTED",
            "    1. progress('val_mean', file=StringIO)",
            "  Events.ITERATION_COMPLETED",
            "    1. mean('loss', over=Events.ITERATION_COMPLETED(every(2))), counting",
            "    2. mean('loss', over=Events.ITERATION_COMPLETED(every(2))), reporting, every(2)",
            "    3. evaluation(Loop of mean, at=Events.ITERATION_COMPLETED(every(3))), every(3)",
            "    4. early_stopping('loss', mode='min', patience=3), every(2)",
            "    5. progress('val_mean', file=StringIO)",
            "  Events.EPOCH_COMPLETED",
            "    1. progress('val_mean', file=StringIO)",
            "  Events.EXITED",
            "    1. progress('val_mean', file=StringIO)",
        ]
    )


# Names.


def taken(kind: str, name: str, first: str, second: str) -> Any:
    what = {"part": "part", "metric": "metric", "external": "thing outside the state"}[kind]
    said = f"two have the {what} {name!r}: {first}, and {second}; give one of them another name"
    return pytest.raises(NameTaken, match=f"^{re.escape(said)}$")


def test_two_features_with_one_name_are_refused_with_both() -> None:
    loop = Loop(outputs(number)) | mean("loss")
    with taken("part", "loss", "mean('loss')", "mean('loss', weight=length)"):
        loop | mean("loss", weight=length)
    stop = early_stopping("loss", mode="min", patience=1)
    other = early_stopping("loss", mode="min", patience=2)
    with taken("part", "early_stopping", repr(stop), repr(other)):
        loop | stop | other
    assert set((loop | stop | early_stopping("loss", mode="min", patience=2, name="b")).parts)
    inner = Loop(outputs(number)) | mean("loss")
    again = evaluation(inner, [1], prefix="")
    with taken("metric", "loss", "mean('loss')", repr(again)):
        loop | again
    with taken("metric", "loss", "mean('loss')", "this call"):
        loop.with_metrics("loss", at=Events.COMPLETED)


def test_a_feature_twice_is_refused() -> None:
    model, optimizer, scheduler = parts()
    loop: Any = Loop(training_step(model, optimizer, cross_entropy))
    with pytest.raises(ValueError, match="the scheduler is in the loop already"):
        loop | lr_schedule(scheduler) | lr_schedule(scheduler)
    for feature in (mean("loss"), learning_rate(optimizer)):
        with pytest.raises(NameTaken):
            loop | feature | feature


def test_two_things_outside_with_one_name_are_refused_with_both() -> None:
    model, optimizer, _ = parts()
    step = training_step(model, optimizer, cross_entropy)
    with taken("external", "model", repr(step), "this call"):
        Loop(step).with_external(model=nn.Linear(1, 1))

    def naming(loop: Any) -> Any:
        return loop.with_external(model=nn.Linear(1, 1))

    with pytest.raises(NameTaken, match=r"training_step\(.*, and .*naming \(test_features.py"):
        Loop(step) | naming
    assert Loop(step).with_external(model=model).external["model"] is model
    assert (Loop(step) | random_state()).external["random"] is RandomState()


def test_joined_loops_keep_their_names() -> None:
    one: Any = Loop(outputs(number)) | mean("a")
    other: Any = Loop().with_part(Part("b", 0)).with_metrics("c", at=Events.COMPLETED)
    assert set((one | other).parts) == {"a", "b"}
    assert set((other | one).metrics) == {"a", "c"}
    with taken("part", "b", "the loop itself", "the loop joined to it"):
        other | other
    with pytest.raises(NameTaken, match=r"mean\('a'\), and mean\('a'\)"):
        one | one


def test_an_error_of_a_taken_name_pickles() -> None:
    error = NameTaken("part", "a", "one", "two")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.first, again.second) == (str(error), "one", "two")


def test_a_reader_acts_where_the_metric_is_set() -> None:
    at = Events.ITERATION_COMPLETED(every=2)
    stop = early_stopping("loss", mode="min", patience=1)
    loop = Loop(outputs(number)) | mean("loss", over=at) | stop
    assert loop.run([1, 1, 2, 2, 3, 3]).iteration == 4


def test_a_reader_of_what_nobody_sets_says_what_to_put_first() -> None:
    loop = Loop(outputs(number)) | mean("train_loss")
    for feature in (early_stopping("val_loss", mode="min", patience=1), progress("val_loss")):
        with pytest.raises(ValueError, match=r"no feature before it sets; set are train_loss.*Put"):
            loop | feature
    with pytest.raises(ValueError, match="Did you mean 'train_loss'"):
        loop | early_stopping("tran_loss", mode="min", patience=1)
    told = early_stopping("own", mode="min", patience=1, at=Events.EPOCH_COMPLETED)

    def own(state: Any) -> Any:
        return state.with_metric("own", 1.0)

    assert (Loop(outputs(number)).on(Events.EPOCH_COMPLETED, own) | told).run(
        [1], max_epochs=9
    ).epoch == 2
    with pytest.raises(LookupError, match=r"reads the metric 'own' at Events.EPOCH_COMPLETED"):
        (Loop(outputs(number)) | told).run([1])


# What is no feature.


@pytest.mark.parametrize(
    "handler",
    [
        tap(print),
        when(lambda state: True, State.terminate),
        compose(State.terminate, State.interrupt),
        focus("a", lambda state: state),
    ],
    ids=repr,
)
def test_a_handler_made_by_a_combinator_is_refused_by_name(handler: Any) -> None:
    said = "is a handler, which takes a State, and was called with a Loop; register it at an event"
    for call in (lambda loop: loop | handler, handler):
        with pytest.raises(TypeError, match=said):
            call(Loop(outputs(absolute)))


def test_a_handler_is_refused_with_a_word_on_what_belongs_there() -> None:
    loop: Any = Loop(outputs(absolute))

    def keep(state: Any) -> Any:
        return state.evolve(user=1)

    with pytest.raises(AttributeError) as caught:
        loop | keep
    assert "A handler is added by loop.on(event, handler)" in caught.value.__notes__[0]
    with pytest.raises(TypeError, match="returned None of type NoneType; a feature takes a loop"):
        loop | (lambda loop: None)
    with pytest.raises(TypeError, match="unsupported operand"):
        loop | 3
    with pytest.raises(TypeError):
        loop | early_stopping


def test_a_metric_of_other_outputs_is_refused_where_it_is_applied() -> None:
    model, optimizer, _ = parts()
    step = training_step(model, optimizer, cross_entropy)
    for feature in (accuracy(), mean_loss(cross_entropy)):
        with pytest.raises(
            TypeError, match=r"takes a Prediction, .* makes a Tensor; .*evaluation_"
        ):
            Loop(step) | feature  # type: ignore[operator]
    with pytest.raises(TypeError, match=r"takes a Tensor, .* makes a Prediction"):
        Loop(evaluation_step(model)) | mean("loss")  # type: ignore[operator]
    with pytest.raises(TypeError, match="accuracy takes a Prediction"):
        (Loop(outputs(absolute)) | accuracy()).run([1])  # type: ignore[operator]
    with pytest.raises(ValueError, match="this loop has none; begin with the step"):
        Loop() | mean("loss")


def test_a_feature_of_a_training_says_what_it_lacks() -> None:
    model, _, scheduler = parts()
    loop: Any = Loop(outputs(absolute))
    with pytest.raises(ValueError, match=r"does not fire; put it after Loop\(training_step"):
        loop | clip_grad_norm(model, 1.0)
    with pytest.raises(ValueError, match=r"say when to step, such as at=Events\."):
        loop | lr_schedule(scheduler)
    scheduler.optimizer.step()
    assert (loop | lr_schedule(scheduler, at=Events.ITERATION_COMPLETED)).run([1]).iteration == 1


# Evaluations.


def test_an_evaluation_can_have_fewer_batches() -> None:
    seen: list[float] = []

    def see(batch: float) -> float:
        seen.append(batch)
        return batch

    loop = Loop(outputs(absolute)) | evaluation(
        Loop(outputs(see)) | mean("m"), [1, 2, 3], max_batches=2
    )
    assert loop.run([0]).metrics["val_m"] == 1.5
    assert seen == [1, 2]
    more = Loop(outputs(absolute)) | evaluation(
        Loop(outputs(see)) | mean("m"), [1, 2], max_batches=9
    )
    assert more.run([0]).metrics["val_m"] == 1.5


def test_each_evaluation_begins_again() -> None:
    loop = Loop(outputs(absolute)) | evaluation(Loop(outputs(number)) | mean("m"), [1, 2])
    assert loop.run([0], max_epochs=3).metrics["val_m"] == 1.5
    assert loop.run([0], max_epochs=3).parts == Loop(outputs(absolute)).run([0]).parts


def test_what_an_evaluation_changes_is_in_snapshots() -> None:
    model = nn.Linear(1, 1)
    inner: Any = Loop(outputs(number)).with_external(model=model)
    loop = Loop(outputs(absolute)) | evaluation(inner, [1])
    assert loop.external["model"] is model
    with pytest.raises(NameTaken):
        Loop(outputs(absolute)).with_external(model=nn.Linear(1, 1)) | evaluation(inner, [1])


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        (lambda: evaluation(abs, [1]), TypeError, "takes a Loop first"),  # type: ignore[call-overload]
        (lambda: evaluation(Loop(), [1]), ValueError, "a step to run"),
        (lambda: evaluation(Loop(outputs(absolute)), 3), TypeError, "not an iterable"),  # type: ignore[call-overload]
        (lambda: evaluation(Loop(outputs(absolute)), [1], max_batches=0), ValueError, "below 1"),
        (lambda: early_stopping("a", mode="maximum", patience=1), ValueError, "mode='maximum'"),  # type: ignore[arg-type]
        (lambda: early_stopping(abs, mode="min", patience=1), TypeError, "name of a metric"),  # type: ignore[arg-type]
        (lambda: early_stopping("a", mode="min", patience=0), ValueError, "patience=0"),
        (lambda: early_stopping("a", mode="min", patience=True), TypeError, "patience=True"),
        (
            lambda: early_stopping("a", mode="min", patience=1, min_delta=-1),
            ValueError,
            "min_delta",
        ),
        (lambda: mean(abs), TypeError, "name of a metric first"),  # type: ignore[call-overload]
        (lambda: mean(""), ValueError, "needs a name"),
        (lambda: mean("a", 3), TypeError, "value of mean"),  # type: ignore[call-overload]
        (lambda: mean("a", weight=3), TypeError, "weight of mean"),  # type: ignore[call-overload]
        (lambda: measure("a", abs), TypeError, "lacks empty, of, merge, compute"),  # type: ignore[arg-type]
        (lambda: torch_metric(nn.Linear), TypeError, "not the class Linear"),
        (lambda: accuracy(task="classes"), ValueError, "task='classes'"),  # type: ignore[arg-type]
        (lambda: accuracy(top_k=2, task="binary"), ValueError, "top_k=2"),
        (lambda: progress(3), TypeError, "progress takes the name"),  # type: ignore[arg-type]
        (lambda: progress(file=3), TypeError, "no write and no flush"),  # type: ignore[arg-type]
    ],
)
def test_bad_arguments_are_refused_where_they_are_given(given: Any, error: Any, said: str) -> None:
    with pytest.raises(error, match=said):
        given()


# Going on from what was read.


def test_a_state_that_was_read_does_not_go_on_without_its_model() -> None:
    loop = training()
    half = loop.run(data(), max_epochs=1).with_limits(max_epochs=2)
    read: Any = State.from_dict(half.to_dict(), parts=loop.parts, events=loop.registry)
    for go_on in (lambda **how: loop.resume(read, data(), **how), lambda **how: list(
        loop.iterate(data(), after=read, **how)
    )):  # fmt: skip
        with pytest.raises(ValueError, match=r"write down loop.snapshot\(state\).*restored=True"):
            go_on()
        assert go_on(restored=True)
    assert loop.resume(half, data()).epoch == 2
    pure = Loop(outputs(absolute))
    assert pure.resume(State.from_dict(pure.run([1]).to_dict()), [1]).epoch == 1


def test_restored_is_for_going_on() -> None:
    with pytest.raises(TypeError, match="restored=True says how to go on"):
        next(training().iterate(data(), restored=True))


def test_a_fork_with_another_learning_rate() -> None:
    loop = training()
    snapshot = loop.snapshot(loop.run(data(), max_epochs=1).with_limits(max_epochs=2))
    loop.resume(snapshot, data())
    loop.restore(snapshot)
    optimizer = loop.external["optimizer"]
    optimizer.param_groups[0]["weight_decay"] = 0.5
    fork = loop.resume(snapshot, data(), restored=True)
    assert optimizer.param_groups[0]["weight_decay"] == 0.5
    assert fork.epoch == 2


def test_all_is_restored_or_nothing() -> None:
    loop = training()
    snapshot = loop.snapshot(loop.run(data(), max_epochs=1))
    with pytest.raises(ValueError, match="the snapshot holds external"):
        Loop(outputs(absolute)).restore(snapshot)
    with pytest.raises(TypeError, match="is not a Snapshot"):
        loop.restore(snapshot.state)


def test_a_part_that_the_loop_does_not_know_is_no_part_of_a_snapshot() -> None:
    loop = Loop(outputs(absolute))
    state = loop.run([1]).with_part(Part("own", 0), 1)
    with pytest.raises(ValueError, match=r"the parts \['own'\], which the loop does not know"):
        loop.snapshot(state)
    assert loop.with_part(Part("own", 0)).snapshot(state).state.parts["own"] == 1
