"""A snapshot whose things do not fit is refused, with all that differs, and nothing is written."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import attrs
import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW
from torch.optim.lr_scheduler import ExponentialLR, StepLR

from fengine import Loop, Snapshot, SnapshotError
from fengine.training import training_step

DATA = [(torch.ones(4, 2), torch.zeros(4, 1))] * 2


def loop_of(model: nn.Module, optimizer: Any, **more: Any) -> Any:
    step: Any = training_step(model, optimizer, nn.functional.mse_loss)
    return Loop(step).with_external(model=model, optimizer=optimizer, **more)


def made(optimizer: Callable[[Any], Any], *, width: int = 2, dtype: Any = None) -> Any:
    torch.manual_seed(0)
    model = nn.Linear(width, 1, dtype=dtype)
    return loop_of(model, optimizer(model.parameters()))


def sgd(parameters: Any) -> Any:
    return SGD(parameters, 0.1, momentum=0.9)


def paused(loop: Any, data: Any = DATA) -> Any:
    for moment in loop.iterate(data, max_epochs=2):
        if moment.event.name == "epoch_completed":
            return loop.snapshot(moment.state)
    raise AssertionError


def refusal(loop: Any, snapshot: Any) -> str:
    """Return what is said, by every way to go on, with nothing written."""
    before = copy.deepcopy({name: thing.state_dict() for name, thing in loop.external.items()})
    said = set()
    for going_on in (loop.resume, lambda after, data: list(loop.iterate(data, after=after))):
        with pytest.raises(ValueError, match=r"does not fit.*nothing is restored") as caught:
            going_on(snapshot, DATA)
        said.add(str(caught.value))
    for name, thing in loop.external.items():
        assert Snapshot(snapshot.state, {"it": before[name]}) == Snapshot(
            snapshot.state, {"it": thing.state_dict()}
        )
    (text,) = said
    return text


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        (lambda p: SGD(p, 0.1), AdamW, "was a SGD, and is a AdamW here"),
        (Adam, sgd, "was a Adam, and is a SGD here"),
        (Adam, AdamW, "was a Adam, and is a AdamW here"),
    ],
    ids=["SGD", "Adam", "alike"],
)
def test_the_state_of_another_optimizer_is_refused(one: Any, other: Any, said: str) -> None:
    assert f"external['optimizer'] {said}" in refusal(made(other), paused(made(one)))


def test_so_it_is_of_an_older_snapshot_which_says_no_class() -> None:
    for one, other in ((lambda p: SGD(p, 0.1), AdamW), (Adam, sgd)):
        older = attrs.evolve(paused(made(one)), classes={})
        text = refusal(made(other), older)
        assert "external['optimizer'].param_groups[0] had [" in text
        assert "'momentum'" in text
        assert "'betas'" in text


def test_another_dtype_is_refused_with_all_differences() -> None:
    text = refusal(made(Adam, dtype=torch.bfloat16), paused(made(Adam)))
    for line in (
        "external['model'].weight was float32 of shape (1, 2), and is bfloat16 of shape (1, 2)",
        "external['model'].bias was float32 of shape (1,), and is bfloat16 of shape (1,) here",
        "external['optimizer'].state[0].exp_avg was float32",
        "external['optimizer'].state[1].exp_avg_sq was float32",
    ):
        assert line in text


def test_another_shape_is_refused() -> None:
    text = refusal(made(sgd, width=3), paused(made(sgd)))
    assert (
        "external['model'].weight was float32 of shape (1, 2), and is float32 of shape (1, 3)"
        in text
    )
    assert "external['optimizer'].state[0].momentum_buffer" in text
    assert "state[1]" not in text


def test_other_groups_are_refused() -> None:
    def in_groups(parameters: Any) -> Any:
        return SGD([{"params": [parameter]} for parameter in parameters], 0.1, momentum=0.9)

    text = refusal(made(in_groups), paused(made(sgd)))
    assert "external['optimizer'] had groups of [2] parameters, and has [1, 1] here" in text


def test_another_scheduler_is_refused_and_all_is_said_at_once() -> None:
    def scheduled(kind: Any, optimizer: Any, **options: Any) -> Any:
        model = nn.Linear(2, 1)
        made_of = optimizer(model.parameters())
        return loop_of(model, made_of, scheduler=kind(made_of, **options))

    snapshot = paused(scheduled(StepLR, Adam, step_size=1))
    text = refusal(scheduled(ExponentialLR, sgd, gamma=0.5), snapshot)
    assert "external['optimizer'] was a Adam, and is a SGD here" in text
    assert "external['scheduler'] was a StepLR, and is a ExponentialLR here" in text
    assert scheduled(StepLR, Adam, step_size=1).resume(snapshot, DATA).epoch == 2


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda p: SGD(p, 0.1),
        sgd,
        Adam,
        lambda p: Adam(p, amsgrad=True),
        AdamW,
        torch.optim.NAdam,
        torch.optim.RAdam,
        torch.optim.Adamax,
        torch.optim.Adagrad,
        torch.optim.Adadelta,
        torch.optim.Adafactor,
        torch.optim.ASGD,
        torch.optim.RMSprop,
        torch.optim.Rprop,
    ],
    ids=range(14),
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_what_fits_goes_on_exactly(optimizer: Any, dtype: Any) -> None:
    data = [(x.to(dtype), y.to(dtype)) for x, y in DATA]

    snapshot = paused(made(optimizer, dtype=dtype), data)
    whole = made(optimizer, dtype=dtype).run(data, max_epochs=2)
    for one in (snapshot, attrs.evolve(snapshot, classes={}), pickle.loads(pickle.dumps(snapshot))):
        assert made(optimizer, dtype=dtype).resume(one, data) == whole


def test_a_model_that_is_wrapped_is_no_other_model() -> None:
    class Wrapped(nn.Linear):
        pass

    snapshot = paused(made(sgd))
    assert dict(snapshot.classes) == {"optimizer": "SGD", "random": "RandomState"}
    model = Wrapped(2, 1)
    assert loop_of(model, sgd(model.parameters())).resume(snapshot, DATA).epoch == 2


class Buffer:
    """Hold as many numbers as have come, as a thing of the user's may."""

    def __init__(self, size: int) -> None:
        self.held = torch.zeros(size)

    def state_dict(self) -> Any:
        return {"held": self.held}

    def load_state_dict(self, state: Any) -> None:
        self.held = state["held"]


def test_what_a_thing_of_ones_own_holds_is_its_own_matter() -> None:
    model = nn.Linear(2, 1)
    optimizer = sgd(model.parameters())
    snapshot = paused(loop_of(model, optimizer, buffer=Buffer(3)))
    other = Buffer(0)
    loop_of(model, optimizer, buffer=other).resume(snapshot, DATA)
    assert len(other.held) == 3


def test_a_parameter_that_has_no_shape_yet_takes_one_up() -> None:
    def lazy() -> Any:
        model = nn.LazyLinear(1)
        return loop_of(model, sgd(model.parameters()))

    snapshot = paused(lazy())
    assert lazy().resume(snapshot, DATA).epoch == 2


def test_classes_are_in_plain_data_and_need_not_be() -> None:
    snapshot = paused(made(sgd))
    plain = snapshot.to_dict(batch=tuple)
    assert plain["classes"] == {"optimizer": "SGD", "random": "RandomState"}
    assert Snapshot.from_dict(plain) == snapshot
    del plain["classes"]
    assert Snapshot.from_dict(plain) == attrs.evolve(snapshot, classes={})
    with pytest.raises(SnapshotError, match=r"classes\.optimizer: 3 of type int is not a string"):
        Snapshot.from_dict({**plain, "classes": {"optimizer": 3}})
