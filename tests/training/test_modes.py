"""Modes: switched at less cost, with nothing that `train` and `eval` do left out."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import cast
from unittest.mock import MagicMock

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from typing_extensions import override

from fengine import Loop
from fengine.engine import create_supervised_evaluator, create_supervised_trainer
from fengine.training import evaluation_step, training_step
from fengine.training.modes import (
    EvaluationMode,
    Modes,
    TrainingMode,
    is_settled,
    put_into_mode,
)


def tree(shape: list[int]) -> nn.Module:
    """Make a model whose parts are shared, absent, and as deep as there are numbers."""
    model = nn.Sequential(nn.Dropout(0.5))
    for number in shape:
        model = nn.Sequential(model, *[nn.Dropout(0.5) for _ in range(number)], model[0])
        model.register_module("absent", None)
    return model


def flags(model: nn.Module) -> list[bool]:
    return [module.training for module in model.modules()]


def set_flags(model: nn.Module, values: list[bool]) -> None:
    for module, value in zip(model.modules(), values, strict=False):
        module.training = value


def set_mode(model: nn.Module, training: bool) -> None:
    if not is_settled(model, training):
        model.train() if training else model.eval()


SHAPES = st.lists(st.integers(0, 3), max_size=4)
FLAGS = st.lists(st.booleans(), max_size=12)


@given(SHAPES, FLAGS, st.booleans())
def test_setting_a_mode_is_what_train_does(
    shape: list[int], values: list[bool], training: bool
) -> None:
    model, expected = tree(shape), tree(shape)
    set_flags(model, values)
    set_mode(model, training)
    assert flags(model) == flags(expected.train(training))


@given(SHAPES, FLAGS, st.booleans())
def test_what_is_switched_is_put_back(shape: list[int], values: list[bool], training: bool) -> None:
    model = tree(shape)
    set_flags(model, values)
    before = flags(model)
    modes = Modes.of(model)
    modes.switch(training)
    assert set(flags(model)) == {training}
    modes.put_back()
    assert flags(model) == before


def test_a_module_added_since_is_found() -> None:
    model = nn.Sequential(nn.Dropout(0.5))
    set_mode(model, True)
    model.append(nn.Dropout(0.5).eval())
    set_mode(model, True)
    assert flags(model) == [True, True, True]


class Overriding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[bool] = []

    @override
    def train(self, mode: bool = True) -> Overriding:
        self.calls.append(mode)
        return super().train(mode)


class Noticing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[object] = []

    @override
    def __setattr__(self, name: str, value: Tensor | nn.Module) -> None:
        if name == "training":
            self.calls.append(value)
        super().__setattr__(name, value)


def patched() -> nn.Module:
    """Replace the method of one module, as is done to keep a part frozen."""
    model = nn.Dropout(0.5)
    calls: list[bool] = []

    def train(mode: bool = True) -> nn.Module:
        calls.append(mode)
        model.training = mode
        return model

    vars(model).update(train=train, calls=calls)
    return model


@pytest.mark.parametrize("make", [Overriding, Noticing, patched])
def test_what_a_module_does_itself_on_a_change_is_never_left_out(
    make: Callable[[], nn.Module],
) -> None:
    part = make()
    model = nn.Sequential(nn.Dropout(0.5), part)
    calls: list[bool] = part.calls  # type: ignore[assignment]
    calls.clear()
    for training in (True, True, False, False, True):
        set_mode(model, training)
    assert calls == [True, True, False, False, True]
    calls.clear()
    modes = Modes.of(model)
    modes.switch(False)
    modes.put_back()
    assert calls == [False, True]


def test_an_overridden_eval_is_called() -> None:
    class Refusing(nn.Dropout):
        @override
        def eval(self) -> Refusing:
            raise NotImplementedError

    with pytest.raises(NotImplementedError):
        set_mode(Refusing(0.5), False)
    model = nn.Dropout(0.5).eval()
    called: list[bool] = []
    vars(model)["eval"] = lambda: called.append(True)
    set_mode(model, False)
    assert called == [True]


def test_a_model_that_is_no_module_is_asked() -> None:
    class Duck:
        mode: object = None

        def train(self) -> None:
            self.mode = True

        def eval(self) -> None:
            self.mode = False

    duck = Duck()
    set_mode(duck, True)  # type: ignore[arg-type]
    assert duck.mode is True
    set_mode(duck, False)  # type: ignore[arg-type]
    assert duck.mode is False


def test_a_flag_that_is_a_property_is_set_through_it() -> None:
    class Around(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        @property  # type: ignore[explicit-override]  # of an attribute
        def training(self) -> bool:
            return self.__dict__["_modules"]["inner"].training if self._modules else True

        @training.setter
        def training(self, value: bool) -> None:
            for module in self.__dict__.get("_modules", {}).values():
                module.training = value

    model = Around(nn.Dropout(0.5))
    modes = Modes.of(model)
    modes.switch(False)
    assert flags(model) == [False, False]
    modes.put_back()
    assert flags(model) == [True, True]


def test_the_context_is_a_value() -> None:
    model = nn.Dropout(0.5)
    assert TrainingMode(model) == TrainingMode(model) != TrainingMode(nn.Dropout(0.5))
    context = pickle.loads(pickle.dumps(TrainingMode(model.eval())))
    with context():
        assert context.model.training
    assert not context.model.training


def test_it_is_left_where_something_is_raised() -> None:
    model = nn.Dropout(0.5).eval()

    def fail(x: Tensor) -> None:
        with TrainingMode(model)():
            assert not torch.equal(model(x), x)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail(torch.ones(100))
    assert not model.training


def test_a_training_within_an_evaluation_has_the_modes_from_before_it() -> None:
    model = nn.Sequential(nn.Dropout(0.5), nn.Dropout(0.5).eval())
    before = flags(model)
    with EvaluationMode(model)(), EvaluationMode(model)():
        with TrainingMode(model)():
            assert flags(model) == before == [True, True, False]
        assert flags(model) == [False, False, False]
    assert flags(model) == before
    model.eval()
    with TrainingMode(model)():
        assert flags(model) == [True, True, True]


def test_a_model_that_is_off_gets_no_modes_of_an_evaluation() -> None:
    model = nn.Sequential(nn.Dropout(0.5), nn.Dropout(0.5))
    model.training = False
    with EvaluationMode(model)():
        with TrainingMode(model)():
            assert flags(model) == [True, True, True]
        assert flags(model) == [False, False, False]
    assert flags(model) == [False, True, True]


def test_a_module_that_was_added_meanwhile_keeps_its_mode() -> None:
    model = nn.Sequential(Overriding())
    with EvaluationMode(model)():
        model.append(nn.Dropout(0.5).eval())
    assert flags(model) == [True, True, False]


def test_what_only_looks_like_a_module_is_asked() -> None:
    model = MagicMock(spec=nn.Linear(2, 2))
    set_mode(model, False)
    model.eval.assert_called_once_with()


def test_a_root_with_its_own_eval_is_asked_each_time() -> None:
    class Root(nn.Dropout):
        asked = 0

        @override
        def eval(self) -> Root:
            self.asked += 1
            return super().eval()

    model = Root(0.5)
    set_mode(model, False)
    set_mode(model, False)
    assert model.asked == 2


class Holding(nn.Module):
    """Hold a part, and be held by it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.part = nn.Dropout(0.5)
        self.part.holder = self


def diamond(depth: int) -> nn.Module:
    shared: nn.Module = nn.Linear(1, 1)
    for _ in range(depth):
        shared = nn.Sequential(nn.ModuleDict({"left": shared, "right": shared}))
    return shared


@pytest.mark.parametrize("model", [Holding(), diamond(200)], ids=["parent", "diamond"])
def test_a_module_is_visited_once(model: nn.Module) -> None:
    modules = set(model.modules())
    assert is_settled(model, True)
    modes = Modes.of(model)
    assert set(modes.modules) == modules
    assert len(modes.modules) == len(modules)
    put_into_mode(model, False)
    assert not any(module.training for module in modules)
    assert is_settled(model, False)
    modes.put_back()
    assert all(module.training for module in modules)


class Reading(Holding):
    @override
    def forward(self, x: Tensor) -> Tensor:
        return cast("Tensor", self.layer(self.part(x)))


def test_a_model_that_holds_itself_is_trained_and_evaluated() -> None:
    model = Reading()
    sgd = torch.optim.SGD(model.layer.parameters(), 0.1)
    data = [(torch.ones(2, 1), torch.zeros(2, 1))] * 2
    with EvaluationMode(model)():
        Loop(training_step(model, sgd, nn.functional.mse_loss)).run(data)
    Loop(evaluation_step(model)).run(data)
    trainer = create_supervised_trainer(model, sgd, nn.functional.mse_loss)
    evaluator = create_supervised_evaluator(model)
    evaluator.run(data)
    assert not model.part.training
    trainer.run(data)
    assert model.part.training
