"""Accuracy counts over batches of any size and task, on the device of the predictions."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fengine import Events, Loop, State, last_state, outputs
from fengine.features import evaluation
from fengine.metrics import Accuracy, Count, accuracy
from fengine.training import Prediction, evaluation_step

Pair = tuple[Tensor, Tensor]


def splits(*tensors: Tensor) -> list[tuple[Tensor, ...]]:
    parts = [tensor.split([4, 6]) for tensor in tensors]  # type: ignore[no-untyped-call]
    return list(zip(*parts, strict=True))


def test_it_is_that_of_all_batches_together() -> None:
    scores, targets = torch.randn(10, 3), torch.randint(3, (10,))
    validation = Loop[Pair, Prediction[Tensor, Tensor]](evaluation_step(nn.Identity()))
    data: Any = splits(scores, targets)
    loop: Loop[int, int, None] = Loop(outputs(one))
    loop |= evaluation(validation | accuracy(), data, prefix="held_out_")
    expected = (scores.argmax(dim=1) == targets).double().mean().item()
    assert loop.run([0]).metrics["held_out_accuracy"] == expected


def one(batch: int) -> int:
    return batch


def test_the_count_stays_on_its_device() -> None:
    output = Prediction(torch.ones(2, 3, device="meta"), torch.ones(2, device="meta").long())
    metric = Accuracy()
    count = metric.merge(metric.empty, metric.of(output))
    assert isinstance(count.correct, Tensor)
    assert count.correct.is_meta
    assert count.total == 2


def test_no_count_is_read_before_the_end_of_the_span() -> None:
    """The meta device has no values to be read, so that reading one is an error."""
    right = accuracy()
    loop: Any = Loop(evaluation_step(nn.Identity())) | right
    batch = torch.ones(2, 3, device="meta"), torch.ones(2, device="meta").long()
    with pytest.raises((RuntimeError, NotImplementedError), match=r"item\(\)|meta") as caught:
        loop.run([batch] * 3)
    state: Any = last_state(caught.value)
    assert (state.event, state.iteration) == (Events.EPOCH_COMPLETED, 3)
    assert state.part(right.part).total.total == 6


def test_nothing_predicted_is_not_a_number() -> None:
    assert math.isnan(Accuracy().compute(Accuracy().empty))
    assert Accuracy().empty == Count()


def of(metric: Accuracy, y_pred: Any, y: Any) -> float:
    return metric.compute(metric.of(Prediction(torch.tensor(y_pred), torch.tensor(y))))


def test_each_task_counts_what_it_says() -> None:
    scores = [[0.1, 0.7, 0.2], [0.5, 0.2, 0.3], [0.2, 0.3, 0.5]]
    assert of(Accuracy(), scores, [1, 2, 1]) == pytest.approx(1 / 3)
    assert of(Accuracy(top_k=2), scores, [1, 2, 1]) == 1.0
    assert of(Accuracy(top_k=2), scores, [0, 1, 1]) == pytest.approx(1 / 3)
    assert of(Accuracy("binary"), [1.0, -1.0, 0.0, 2.0], [1, 1, 0, 0]) == 0.5
    assert of(Accuracy("binary", threshold=0.5), [0.6, 0.4, 0.5], [1, 1, 0]) == pytest.approx(2 / 3)
    assert of(Accuracy("binary"), [[1.0], [-1.0]], [[True], [False]]) == 1.0
    labels = [[1.0, -1.0], [1.0, 1.0]]
    assert of(Accuracy("multilabel"), labels, [[1, 0], [0, 1]]) == 0.75


def test_classes_of_pixels_are_counted_one_by_one() -> None:
    scores = torch.randn(2, 3, 4, 5)
    targets = torch.randint(3, (2, 4, 5))
    count = Accuracy().of(Prediction(scores, targets))
    assert count.total == 40
    assert int(count.correct) == int((scores.argmax(1) == targets).sum())


@pytest.mark.parametrize(
    ("metric", "y_pred", "y", "said"),
    [
        (Accuracy(), torch.ones(4), torch.ones(4).long(), "takes scores (n, classes, ...)"),
        (Accuracy(), torch.ones(4, 1), torch.ones(4).long(), "of 2 classes or more"),
        (Accuracy(), torch.ones(4, 3), torch.ones(4, 1).long(), "targets (4, 1)"),
        (Accuracy(), torch.ones(4, 3), torch.ones(4), "whole targets"),
        (Accuracy(top_k=4), torch.ones(4, 3), torch.ones(4).long(), "of 4 classes or more"),
        (Accuracy("binary"), torch.ones(4, 1), torch.ones(4), "scores and targets of one shape"),
        (Accuracy("multilabel"), torch.ones(4), torch.ones(4), "(n, labels, ...)"),
    ],
)
def test_shapes_that_do_not_fit_the_task_are_refused(
    metric: Accuracy, y_pred: Tensor, y: Tensor, said: str
) -> None:
    with pytest.raises(ValueError, match="accuracy of scores") as caught:
        metric.of(Prediction(y_pred, y))
    assert said in str(caught.value)


def test_what_are_no_tensors_is_refused() -> None:
    with pytest.raises(TypeError, match="accuracy takes tensors, not a list and a list"):
        Accuracy().of(Prediction([1.0], [1]))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"accuracy takes a Prediction\(y_pred, y\)"):
        Accuracy().of(torch.ones(3))  # type: ignore[arg-type]


def test_it_can_be_over_other_spans_than_an_epoch() -> None:
    at = Events.ITERATION_COMPLETED(every=2)
    seen: list[float] = []

    def note(state: State[Pair, Prediction[Tensor, Tensor]]) -> Any:
        seen.append(state.metrics["right"])
        return state

    loop = Loop[Pair, Prediction[Tensor, Tensor]](evaluation_step(nn.Identity()))
    scores = torch.tensor([[1.0, 0.0]])
    data = [(scores, torch.tensor([y])) for y in (0, 1, 0, 0)]
    (loop | accuracy("right", over=at)).on(at, note).run(data)
    assert seen == [0.5, 1.0]
