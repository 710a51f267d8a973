"""Batches: what is a pair, and what a move to a device does to a nest of tensors."""

from __future__ import annotations

from collections import OrderedDict, UserList, defaultdict
from collections.abc import Callable
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence
from torch.utils._python_dispatch import TorchDispatchMode
from typing_extensions import override

from fengine import Loop
from fengine.engine import create_supervised_evaluator, create_supervised_trainer
from fengine.training import (
    evaluation_step,
    moved,
    prepare_batch,
    training_step,
    windows,
)


class Point(NamedTuple):
    x: Tensor
    y: Tensor


ONE = torch.ones(1)


def test_without_a_device_the_very_parts_come_back() -> None:
    x, y = [ONE], {"a": object()}
    prepared = prepare_batch((x, y))
    assert prepared[0] is x
    assert prepared[1] is y


def test_a_list_of_two_is_a_pair_too() -> None:
    assert prepare_batch([ONE, ONE]) == (ONE, ONE)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("batch", "said"),
    [
        (torch.ones(2, 3), r"one Tensor of shape \(2, 3\)"),
        ({"image": ONE, "label": ONE}, "a dict with the keys 'image', 'label'"),
        ((ONE, ONE, ONE), "a tuple of 3"),
        (None, "a NoneType"),
    ],
)
def test_what_is_no_pair_is_refused(batch: object, said: str) -> None:
    with pytest.raises(TypeError, match=f"the data gave {said}; give prepare_batch"):
        prepare_batch(batch)  # type: ignore[arg-type]


def test_a_nest_keeps_its_types_keys_and_order() -> None:
    nest = {
        "b": (ONE, [ONE, None]),
        "a": Point(ONE, ONE),
        "c": OrderedDict(z=ONE, y="text"),
        "d": defaultdict(float, n=1.5),
        "e": MappingProxyType({"f": ONE}),
        "g": UserList([ONE]),
    }
    result = moved(nest, "meta")
    assert list(result) == ["b", "a", "c", "d", "e", "g"]
    assert all(type(result[key]) is type(nest[key]) for key in nest)
    assert str(result).count("device='meta'") == 7
    assert not str(nest).count("meta")


def test_a_packed_sequence_keeps_its_lengths_where_they_must_be() -> None:
    packed = moved(pack_sequence([torch.ones(2), ONE]), "meta")
    assert isinstance(packed, PackedSequence)
    assert packed.data.is_meta
    assert packed.batch_sizes.device.type == "cpu"


def test_what_cannot_be_moved_is_named() -> None:
    with pytest.raises(TypeError, match="cannot move a set to meta"):
        moved([{ONE}], "meta")


class Recording(Tensor):
    """Stand for a tensor in pinned memory or not, and note how copies of it are asked for."""

    pinned: bool
    asked: list[tuple[object, object]]

    @override
    def is_pinned(self, device: object = None) -> bool:
        return self.pinned

    @override
    def to(self, device: object, non_blocking: object = "not said") -> Any:  # type: ignore[override]
        self.asked.append((device, non_blocking))
        return self.as_subclass(Tensor)


def recording(pinned: bool) -> Recording:
    tensor = torch.ones(2, 1).as_subclass(Recording)
    tensor.pinned, tensor.asked = pinned, []
    return tensor


@pytest.mark.parametrize("pinned", [True, False])
@pytest.mark.parametrize(
    ("device", "accelerated"),
    [("cuda", True), (torch.device("cuda", 1), True), (0, True), ("cpu", False), ("meta", False)],
)
def test_what_is_pinned_goes_to_an_accelerator_in_the_background(
    device: Any, accelerated: bool, pinned: bool
) -> None:
    x, y = recording(pinned), recording(not pinned)
    prepare_batch((x, {"y": [y]}), device)
    assert x.asked == [(device, pinned and accelerated)]
    assert y.asked == [(device, not pinned and accelerated)]


@pytest.mark.parametrize("said", [True, False])
def test_what_is_said_of_the_background_is_done(said: bool) -> None:
    tensors = [recording(pinned) for pinned in (True, False)]
    moved(tensors, "cuda", said)
    assert [tensor.asked for tensor in tensors] == [[("cuda", said)]] * 2


LOSS = nn.MSELoss()


def train(model: nn.Module, sgd: torch.optim.Optimizer, data: Any, **given: Any) -> None:
    Loop(training_step(model, sgd, LOSS, **given)).run(data)


def accumulate(model: nn.Module, sgd: torch.optim.Optimizer, data: Any, **given: Any) -> None:
    step = training_step(model, sgd, LOSS, **given, weight=lambda batch: 1)
    Loop(step).run(windows(data, 1))


def evaluate(model: nn.Module, sgd: torch.optim.Optimizer, data: Any, **given: Any) -> None:
    Loop(evaluation_step(model, **given)).run(data)


def train_as_documented(
    model: nn.Module, sgd: torch.optim.Optimizer, data: Any, **given: Any
) -> None:
    create_supervised_trainer(model, sgd, LOSS, **given).run(data)


def evaluate_as_documented(
    model: nn.Module, sgd: torch.optim.Optimizer, data: Any, **given: Any
) -> None:
    create_supervised_evaluator(model, **given).run(data)


FUNCTIONAL: list[Callable[..., None]] = [train, accumulate, evaluate]
COMPATIBLE: list[Callable[..., None]] = [train_as_documented, evaluate_as_documented]


def asked_by(run: Callable[..., object], **given: object) -> list[object]:
    """Run over one batch of a pinned tensor, to a device of which the model is told nothing."""
    model = nn.Linear(1, 1)
    vars(model)["to"] = lambda device: model
    x, y = recording(pinned=True), recording(pinned=True)
    run(model, torch.optim.SGD(model.parameters()), [(x, y)], device="cuda", **given)
    return [asked for _, asked in x.asked + y.asked]


@pytest.mark.parametrize("run", FUNCTIONAL)
def test_the_functional_steps_copy_pinned_batches_in_the_background(
    run: Callable[..., object],
) -> None:
    assert asked_by(run) == [True, True]
    assert asked_by(run, non_blocking=False) == [False, False]


@pytest.mark.parametrize("run", COMPATIBLE)
def test_the_documented_factories_do_so_where_they_are_told_to(run: Callable[..., object]) -> None:
    assert asked_by(run) == [False, False]
    assert asked_by(run, non_blocking=True) == [True, True]


@pytest.mark.parametrize("run", FUNCTIONAL)
def test_a_function_of_the_users_is_handed_a_bool(run: Callable[..., object]) -> None:
    handed: list[object] = []

    def prepare(
        batch: tuple[Tensor, Tensor], device: object, non_blocking: bool
    ) -> tuple[Tensor, Tensor]:
        handed.append(non_blocking)
        return batch

    model = nn.Linear(1, 1)
    data = [(torch.ones(2, 1), torch.ones(2, 1))]
    for given in ({}, {"non_blocking": True}):
        sgd = torch.optim.SGD(model.parameters())
        run(model, sgd, data, prepare_batch=prepare, **given)
    assert handed == [False, True]


class Waiting(TorchDispatchMode):  # type: ignore[no-untyped-call]  # so it is in torch
    """Count what waits for a device: the read of a value."""

    count = 0

    @override
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **kwargs or {})


@pytest.mark.parametrize(
    ("run", "waits"),
    [(train, 0), (accumulate, 0), (evaluate, 0), (train_as_documented, 3)],
)
def test_a_functional_step_waits_for_no_value(run: Callable[..., object], waits: int) -> None:
    model = nn.Linear(1, 1)
    data = [(torch.ones(2, 1), torch.ones(2, 1))] * 3
    with Waiting() as waiting:  # type: ignore[no-untyped-call]
        run(model, torch.optim.SGD(model.parameters()), data)
    assert waiting.count == waits
