"""Samples are counted in pairs, mappings, nests and windows, and refused where tensors disagree."""

from __future__ import annotations

from collections import OrderedDict, namedtuple

import pytest
import torch

from fengine import Loop
from fengine.metrics import mean
from fengine.training import Window, count_samples, training_step, windows

Triple = namedtuple("Triple", ["image", "mask", "target"])

ROWS = torch.ones(4, 2)


@pytest.mark.parametrize(
    ("batch", "number"),
    [
        ((torch.ones(3, 2), torch.ones(3)), 3),
        ([torch.ones(3, 2), torch.ones(3)], 3),
        ((torch.ones(3, 2), torch.ones(5)), 5),  # of a pair the targets alone are counted
        ((None, torch.ones(5)), 5),
        (ROWS, 4),
        ({"x": ROWS, "y": torch.ones(4)}, 4),
        (OrderedDict(x=ROWS, name="words", number=3), 4),
        ({"x": {"left": ROWS, "right": [ROWS, ROWS]}, "scale": torch.tensor(2.0)}, 4),
        ((ROWS, ROWS, torch.ones(4)), 4),
        (Triple(ROWS, ROWS, torch.ones(4)), 4),
        ((ROWS,), 4),
        (Window(((ROWS, ROWS), (ROWS, torch.ones(2)))), 6),
        (Window(({"x": ROWS}, {"x": torch.ones(1)})), 5),
    ],
    ids=repr,
)
def test_what_can_be_counted_is(batch: object, number: int) -> None:
    assert count_samples(batch) == number


@pytest.mark.parametrize(
    ("batch", "named"),
    [
        ({"x": ROWS, "y": torch.ones(3)}, "dict"),
        ((ROWS, ROWS, torch.ones(3)), "tuple"),
        ({"x": torch.tensor(1.0)}, "dict"),
        ({}, "dict"),
        ((ROWS, torch.tensor(1.0)), "tuple"),
        ((ROWS, [1, 2, 3, 4]), "tuple"),
        (torch.tensor(1.0), "Tensor"),
        ("words", "str"),
        (Window(((ROWS, ROWS), (ROWS, None))), "tuple"),
    ],
    ids=repr,
)
def test_what_cannot_be_counted_is_refused_with_what_to_do(batch: object, named: str) -> None:
    said = rf"the samples of a {named} cannot be counted.*give the step weight=function\(batch\)"
    with pytest.raises(TypeError, match=said):
        count_samples(batch)


def test_a_mean_counts_the_samples_of_windows_of_mappings() -> None:
    model = torch.nn.Linear(2, 1)

    def loss(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        predicted: torch.Tensor = model(batch["x"])
        return (predicted * 0).mean() + batch["x"].mean()

    sgd = torch.optim.SGD(model.parameters(), 0.1)
    step = training_step(model, sgd, loss=loss)
    loop = Loop[Window[dict[str, torch.Tensor]], torch.Tensor, None](step) | mean("loss")
    data = [{"x": torch.full((rows, 2), value)} for rows, value in ((3, 1.0), (1, 5.0), (4, 2.0))]
    final = loop.run(windows(data, 2))
    assert final.metrics["loss"] == pytest.approx((3 * 1 + 1 * 5 + 4 * 2) / 8)
