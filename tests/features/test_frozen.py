"""`frozen` keeps parts of a model as they are, by epoch, exactly also where a run goes on."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fengine import Loop, NameTaken, diff
from fengine.features import frozen
from fengine.testing import assert_resume_exact
from fengine.training import TensorBatches, training_step

X = torch.randn(24, 3, generator=torch.Generator().manual_seed(0))
Y = (X.sum(dim=1) > 0).long()
DATA = TensorBatches(X, Y, batch_size=8)
KINDS: dict[str, Any] = {
    "sgd": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, 0.1, weight_decay=0.1),
}


def make() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2))


def by_hand(kind: str, epochs: int) -> dict[str, Tensor]:
    model = make()
    optimizer = KINDS[kind](model.parameters())
    for epoch in range(1, epochs + 1):
        model[0].requires_grad_(epoch > 2)
        model[2].requires_grad_(epoch > 1)
        for x, y in DATA:
            optimizer.zero_grad()
            loss = cross_entropy(model(x), y)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return dict(model.state_dict())


def build(kind: str) -> tuple[Any, Any]:
    model = make()
    loop: Any = Loop(training_step(model, KINDS[kind](model.parameters()), cross_entropy))
    loop = loop | frozen(model[0], until=2, name="first") | frozen(model[2], until=1)
    return model, loop


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("epochs", [1, 2, 3, 4])
def test_weights_are_those_of_a_loop_by_hand(kind: str, epochs: int) -> None:
    model, loop = build(kind)
    loop.run(DATA, max_epochs=epochs)
    assert not diff(by_hand(kind, epochs), dict(model.state_dict()))


def test_frozen_parts_stay_and_have_no_gradient() -> None:
    model, loop = build("adamw")
    before = copy.deepcopy(model.state_dict())
    loop.run(DATA, max_epochs=2)
    assert torch.equal(before["0.weight"], model[0].weight)
    assert model[0].weight.grad is None
    assert not torch.equal(before["2.weight"], model[2].weight)
    assert [part.weight.requires_grad for part in (model[0], model[2], model[4])] == [0, 1, 1]


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_goes_on_has_the_same_parts_frozen(kind: str) -> None:
    assert_resume_exact(lambda: (build(kind)[1], DATA, {"max_epochs": 3}))


def test_without_an_epoch_it_is_frozen_for_the_run() -> None:
    model = make()
    loop: Any = Loop(training_step(model, KINDS["sgd"](model.parameters()), cross_entropy))
    loop = loop | frozen(model[0].parameters())
    before = model[0].weight.clone()
    loop.run(DATA, max_epochs=5)
    assert torch.equal(before, model[0].weight)


def test_two_parts_need_two_names() -> None:
    model, loop = build("sgd")
    with pytest.raises(NameTaken, match="frozen"):
        loop | frozen(model[4])


@pytest.mark.parametrize(
    ("part", "until", "said"),
    [
        (nn.Tanh(), 1, "no parameter"),
        ([], 1, "no parameter"),
        (nn.Linear, 1, "neither a module"),
        (3, 1, "neither a module"),
        ([torch.ones(1)], 1, "no parameter"),
        (nn.Linear(1, 1), 0, "until=0"),
        (nn.Linear(1, 1), 1.5, "until"),
        (nn.Linear(1, 1), True, "until"),
    ],
)
def test_what_freezes_nothing_is_refused(part: Any, until: Any, said: str) -> None:
    with pytest.raises((TypeError, ValueError), match=said):
        frozen(part, until=until)


def test_the_same_parts_are_frozen_in_a_finetuning_of_lightning() -> None:
    finetuning: Any = pytest.importorskip("lightning.pytorch.callbacks").BaseFinetuning
    model = make()
    finetuning.freeze(model[0], train_bn=False)
    other = make()
    loop: Any = Loop(training_step(other, KINDS["sgd"](other.parameters()), cross_entropy))
    (loop | frozen(other[0])).run(DATA)
    flags = [[one.requires_grad for one in net.parameters()] for net in (model, other)]
    assert flags[0] == flags[1]
