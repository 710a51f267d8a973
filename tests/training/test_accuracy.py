"""Accuracy counts over batches of any size, on the device of the predictions."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from fengine import Events, Loop, State, evaluate
from fengine.training import (
    Accuracy,
    Prediction,
    count_correct,
    report_accuracy,
    supervised_evaluation,
)

Pair = tuple[Tensor, Tensor]


def test_it_is_that_of_all_batches_together() -> None:
    scores, targets = torch.randn(10, 3), torch.randint(3, (10,))
    validation = (
        Loop[Pair, Prediction[Tensor, Tensor], Accuracy](supervised_evaluation(nn.Identity()))
        .on(Events.ITERATION_COMPLETED, count_correct)
        .on(Events.COMPLETED, report_accuracy)
    )
    data = list(zip(scores.split([4, 6]), targets.split([4, 6]), strict=True))  # type: ignore[no-untyped-call]
    before: State[None, None] = State()
    state = evaluate(validation, batches=data, user=Accuracy(), prefix="held_out_")(before)
    expected = (scores.argmax(dim=1) == targets).double().mean().item()
    assert state.metrics["held_out_accuracy"] == expected


def test_the_count_stays_on_its_device() -> None:
    output = Prediction(torch.ones(2, 3, device="meta"), torch.ones(2, device="meta"))
    before: State[None, Prediction[Tensor, Tensor], Accuracy]
    before = State(output=output, user=Accuracy())
    state = count_correct(before)
    assert isinstance(state.user.correct, Tensor)
    assert state.user.correct.is_meta


def test_nothing_predicted_is_not_a_number() -> None:
    assert math.isnan(Accuracy().value)
