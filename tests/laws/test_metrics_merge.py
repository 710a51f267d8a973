"""Metrics are monoids: however the data is cut, the result is the same."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any, cast

import attrs
import pytest
import torch
import torchmetrics
from hypothesis import given
from hypothesis import strategies as st
from immutables import Map
from torch import Tensor, nn

from fengine import Events, Loop, outputs
from fengine.core.equality import same
from fengine.metrics import Accuracy, Mean, accuracy, mean, mean_loss, measure, torch_metric
from fengine.metrics.torch_metrics import TorchMetric
from fengine.training import Prediction, evaluation_step, training_step, windows

CLASSES = 3
COLLECTION = torchmetrics.MetricCollection(
    {
        "accuracy": torchmetrics.Accuracy(task="multiclass", num_classes=CLASSES),
        "f1": torchmetrics.F1Score(task="multiclass", num_classes=CLASSES, average="macro"),
        "auroc": torchmetrics.AUROC(task="multiclass", num_classes=CLASSES),
        "kappa": torchmetrics.CohenKappa(task="multiclass", num_classes=CLASSES),
        "ece": torchmetrics.CalibrationError(task="multiclass", num_classes=CLASSES),
    }
)


def samples(number: int, seed: int = 0) -> Prediction[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(number, CLASSES, generator=generator)
    return Prediction(scores / scores.sum(1, keepdim=True), torch.arange(number) % CLASSES)


WHOLE = samples(24)
CUTS = st.lists(st.integers(1, 23), max_size=6).map(lambda places: sorted({0, *places, 24}))


def cut(places: list[int]) -> list[Prediction[Tensor, Tensor]]:
    return [Prediction(WHOLE.y_pred[a:b], WHOLE.y[a:b]) for a, b in itertools.pairwise(places)]


METRICS: dict[str, Any] = {
    "accuracy": Accuracy(),
    "top 2": Accuracy(top_k=2),
    "torchmetrics": TorchMetric(COLLECTION),
}


@pytest.mark.parametrize("name", METRICS)
@given(CUTS)
def test_any_cut_of_the_data_has_the_same_result(name: str, places: list[int]) -> None:
    metric = METRICS[name]
    total = metric.empty
    for part in cut(places):
        total = metric.merge(total, metric.of(part))
    assert_close(metric.compute(total), metric.compute(metric.of(WHOLE)))


@pytest.mark.parametrize("name", METRICS)
@given(CUTS)
def test_merge_is_associative_and_empty_is_its_unit(name: str, places: list[int]) -> None:
    metric = METRICS[name]
    counts = [metric.of(part) for part in cut(places)]
    left, right = metric.empty, metric.empty
    for one in counts:
        left = metric.merge(left, one)
    for one in reversed(counts):
        right = metric.merge(one, right)
    assert_close(metric.compute(left), metric.compute(right))
    assert same(metric.merge(metric.empty, counts[0]), counts[0])
    assert same(metric.merge(counts[0], metric.empty), counts[0])


@given(CUTS)
def test_adding_is_merging_one_more(places: list[int]) -> None:
    metric = METRICS["torchmetrics"]
    added = merged = metric.empty
    for part in cut(places):
        added, merged = metric.add(added, part), metric.merge(merged, metric.of(part))
    assert_close(metric.compute(added), metric.compute(merged))


NUMBERS = st.lists(st.tuples(st.integers(-9, 9), st.integers(0, 9)), min_size=1, max_size=8)


@given(NUMBERS, st.booleans())
def test_a_mean_weighs(numbers: list[tuple[int, int]], of_tensors: bool) -> None:
    metric = Mean()
    total = metric.empty
    for number, weight in numbers:
        value: Any = torch.tensor(float(number)) if of_tensors else float(number)
        total = metric.add(total, (value, weight))
    weights = sum(weight for _, weight in numbers)
    if weights:
        wanted = sum(number * weight for number, weight in numbers) / weights
        assert metric.compute(total) == pytest.approx(wanted, rel=1e-5, abs=1e-5)
    else:
        assert math.isnan(metric.compute(total))


def assert_close(one: Any, other: Any) -> None:
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for name in one:
            assert_close(one[name], other[name])
    else:
        assert float(one) == pytest.approx(float(other), rel=1e-5)


def batches(places: list[int]) -> list[tuple[Tensor, Tensor]]:
    return [(part.y_pred, part.y) for part in cut(places)]


@given(CUTS)
def test_an_evaluation_is_that_of_all_samples(places: list[int]) -> None:
    loop = (
        Loop(evaluation_step(nn.Identity()))
        | accuracy()
        | accuracy("top_2", top_k=2)
        | mean_loss(nn.functional.cross_entropy)
        | torch_metric(COLLECTION, "tm")
    )
    found = loop.run(batches(places)).metrics
    wanted = loop.run(batches([0, 24])).metrics
    assert set(found) == set(wanted) == {
        "accuracy", "top_2", "loss", "tm_accuracy", "tm_f1", "tm_auroc", "tm_kappa", "tm_ece"
    }  # fmt: skip
    for name in ("accuracy", "top_2"):
        assert found[name] == wanted[name]  # counted, so to the bit
    for name in wanted:
        assert found[name] == pytest.approx(wanted[name], rel=1e-5)


@given(CUTS, st.integers(1, 4))
def test_the_loss_of_a_training_counts_samples_in_batches_and_windows(
    places: list[int], size: int
) -> None:
    model = nn.Linear(CLASSES, CLASSES)
    step: Any = training_step(
        model, torch.optim.SGD(model.parameters(), 0.0), nn.functional.cross_entropy
    )
    loop: Any = Loop(step) | mean("loss")
    wanted = loop.run(batches([0, 24])).metrics["loss"]
    for data in (batches(places), windows(batches(places), size)):
        assert loop.run(data).metrics["loss"] == pytest.approx(wanted, rel=1e-5)


def test_a_step_that_says_no_weight_counts_iterations() -> None:
    loop = Loop(outputs(float)) | mean("mean")
    assert loop.run([1.0, 2.0, 6.0]).metrics["mean"] == 3.0


@attrs.frozen
class Words:
    """A count that is a record with a map."""

    counts: Map[str, int] = Map()


@attrs.frozen
class Counting:
    empty: Words = Words()

    def of(self, output: str) -> Words:
        return Words(Map({output: 1}))

    def merge(self, total: Words, other: Words) -> Words:
        keys = {*total.counts, *other.counts}
        return Words(Map({k: total.counts.get(k, 0) + other.counts.get(k, 0) for k in keys}))

    def compute(self, total: Words) -> dict[str, object]:
        most = max(total.counts, key=total.counts.__getitem__)
        return {"different": len(total.counts), "most": most}


def test_what_is_not_one_number_stays_in_the_part() -> None:
    words = measure("words", Counting())
    loop = Loop(outputs(str)) | words
    final = loop.run(["a", "b", "a"], max_epochs=2)
    assert dict(final.metrics) == {"words_different": 2.0}
    left = final.part(words.part)
    assert left.ended
    assert left.total == Words(Map({"a": 2, "b": 1}))
    assert left.value == Map({"most": "a"})
    plain = json.loads(json.dumps(loop.snapshot(final).to_dict()))
    assert loop.read(plain).state.parts == final.parts


def test_a_matrix_stays_in_the_part() -> None:
    confusion = torch_metric(torchmetrics.ConfusionMatrix(task="multiclass", num_classes=CLASSES))
    loop = Loop(evaluation_step(nn.Identity())) | confusion
    final = loop.run(batches([0, 10, 24]))
    assert dict(final.metrics) == {}
    value: Any = final.part(confusion.part).value
    assert value.shape == (CLASSES, CLASSES)
    assert value.sum() == len(WHOLE.y)


def test_a_count_is_not_changed_by_what_comes_later() -> None:
    metric = TorchMetric(torchmetrics.ConfusionMatrix(task="multiclass", num_classes=CLASSES))
    first = metric.of(samples(6))
    kept = metric.compute(first)
    metric.add(first, samples(6, seed=1))
    again: Any = metric.compute(first)
    assert torch.equal(again, cast("Tensor", kept))


def test_one_object_serves_two_runs_in_turns() -> None:
    loop = Loop(evaluation_step(nn.Identity())) | torch_metric(COLLECTION)
    good, bad = batches([0, 8, 24]), [(WHOLE.y_pred, (WHOLE.y + 1) % CLASSES)] * 2
    alone = [dict(loop.run(data).metrics) for data in (good, bad)]
    runs = [loop.iterate(data) for data in (good, bad)]
    left: list[Any] = [None, None]
    for moments in zip(*runs, strict=False):
        left = [moment.state for moment in moments]
    rest = [list(run) for run in runs]
    ends = [more[-1].state if more else state for more, state in zip(rest, left, strict=True)]
    assert [dict(state.metrics) for state in ends] == alone


SPANS = [Events.EPOCH_COMPLETED, Events.ITERATION_COMPLETED(every=2), Events.COMPLETED]


@pytest.mark.parametrize("over", SPANS, ids=repr)
def test_a_span_begins_where_the_last_one_ended(over: Any) -> None:
    seen: list[float] = []
    loop = Loop(outputs(float)) | mean("mean", over=over)

    def note(state: Any) -> Any:
        seen.append(state.metrics["mean"])
        return state

    loop.on(over, note).run([1.0, 2.0, 3.0, 4.0], max_epochs=2)
    wanted = {0: [2.5, 2.5], 1: [1.5, 3.5, 1.5, 3.5], 2: [2.5]}
    assert seen == wanted[SPANS.index(over)]


def test_a_span_without_an_output_leaves_the_last_result() -> None:
    over = Events.EPOCH_COMPLETED | Events.COMPLETED
    loop = Loop(outputs(float)) | mean("mean", over=over)
    assert loop.run([1.0, 2.0]).metrics["mean"] == 1.5


KINDS: list[Any] = [
    lambda: torchmetrics.AUROC(task="multiclass", num_classes=CLASSES),
    lambda: torchmetrics.ConfusionMatrix(task="multiclass", num_classes=CLASSES),
    lambda: torchmetrics.ROC(task="multiclass", num_classes=CLASSES),
    lambda: torchmetrics.MetricCollection(
        [torchmetrics.Accuracy(task="multiclass", num_classes=CLASSES)], prefix="p_", postfix="_q"
    ),
]


@pytest.mark.parametrize("make", KINDS, ids=["cat", "matrix", "curves", "collection"])
def test_what_torchmetrics_counts_is_written_down(make: Any, tmp_path: Path) -> None:
    loop: Any = Loop(evaluation_step(nn.Identity())) | torch_metric(make(), "tm")
    moments = list(loop.iterate(batches([0, 10, 24])))
    for moment in moments:
        state = moment.state.evolve(output=None)  # a Prediction is for the user to write
        torch.save(loop.snapshot(state).to_dict(), tmp_path / "run.pt")
        again = loop.read(torch.load(tmp_path / "run.pt")).state
        assert same(again.parts, state.parts)
        assert again.metrics == state.metrics


def test_a_metric_that_holds_others_is_refused() -> None:
    inner = torchmetrics.Accuracy(task="multiclass", num_classes=CLASSES)
    for metric in (torchmetrics.MinMaxMetric(inner), inner + inner):
        with pytest.raises(TypeError, match="holds metrics of its own"):
            torch_metric(metric)
