"""The evaluation step predicts in evaluation mode, and leaves every flag as it was."""

from __future__ import annotations

import pickle

import pytest
import torch
from torch import Tensor, nn
from typing_extensions import override

from fengine import Events, Loop, State, tap
from fengine.training import Prediction, evaluation_step

Pair = tuple[Tensor, Tensor]
Plain = State[Pair, Prediction[Tensor, Tensor], None]
BATCHES = [(torch.ones(4, 2), torch.arange(4)), (torch.zeros(2, 2), torch.arange(2))]


def flags(model: nn.Module) -> list[bool]:
    return [module.training for module in model.modules()]


def make() -> nn.Sequential:
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Sequential(nn.Dropout(0.9)))
    model[1].eval()
    return model


def test_predictions_are_those_of_evaluation_mode() -> None:
    model = make()
    final = Loop(evaluation_step(model)).run(BATCHES)
    x, y = BATCHES[-1]
    assert torch.equal(final.output.y_pred, model.eval()(x))
    assert final.output.y is y
    assert not final.output.y_pred.requires_grad


def test_every_flag_is_restored() -> None:
    model = make()
    before = flags(model)
    Loop(evaluation_step(model)).run(BATCHES)
    assert flags(model) == before == [True, True, False, True, True]


def test_flags_are_those_of_training_between_two_batches() -> None:
    model = make()
    before = flags(model)
    for moment in Loop(evaluation_step(model)).iterate(BATCHES):
        assert flags(model) == before, moment.event


def test_the_modes_are_switched_once_a_run_and_handlers_see_it() -> None:
    class Counting(nn.Dropout):
        switched = 0

        @override
        def train(self, mode: bool = True) -> Counting:
            self.switched += 1
            return super().train(mode)

    model = nn.Sequential(Counting(0.5), nn.Dropout(0.5).eval())
    seen: list[list[bool]] = []
    loop = Loop(evaluation_step(model))
    loop = loop.on(Events.ITERATION_COMPLETED, tap(lambda state: seen.append(flags(model))))
    final = loop.run([(torch.ones(2), torch.ones(2))] * 5)
    assert seen == [[False, False, False]] * 5
    assert flags(model) == [True, True, False]
    assert model[0].switched == 2
    assert not final.output.y_pred.requires_grad


def test_handlers_of_a_run_see_plain_models_switched_too() -> None:
    model = make()
    before = flags(model)
    seen: list[list[bool]] = []
    loop = Loop(evaluation_step(model))
    loop = loop.on(Events.ITERATION_STARTED, tap(lambda state: seen.append(flags(model))))
    loop.run(BATCHES)
    assert seen == [[False] * 5] * 2
    assert flags(model) == before


def test_a_part_that_a_handler_switches_on_is_off_at_the_next_batch() -> None:
    model = make()
    before = flags(model)

    def switch_on(state: Plain) -> Plain:
        model[2].train()
        return state

    loop = Loop(evaluation_step(model)).on(Events.ITERATION_STARTED, switch_on)
    final = loop.run(BATCHES)
    assert flags(model) == before
    assert torch.equal(final.output.y_pred, model.eval()(BATCHES[-1][0]))


class Failing(nn.Module):
    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.part = nn.Dropout(0.5)
        self.error = error
        self.seen: list[list[bool]] = []

    @override
    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(flags(self))
        raise self.error


@pytest.mark.parametrize("error", [ValueError(), KeyboardInterrupt()])
def test_flags_are_restored_where_the_model_raises(error: BaseException) -> None:
    model = Failing(error)
    with pytest.raises(type(error)):
        Loop(evaluation_step(model)).run(BATCHES)
    assert model.seen == [[False, False]]
    assert flags(model) == [True, True]
    assert torch.is_grad_enabled()


def test_a_part_in_training_mode_is_found_in_a_model_that_is_not() -> None:
    model = make().eval()
    model[2].train()
    before = flags(model)
    final = Loop(evaluation_step(model)).run(BATCHES)
    assert flags(model) == before == [False, False, False, True, True]
    assert torch.equal(final.output.y_pred, model.eval()(BATCHES[-1][0]))


class Merging(nn.Linear):
    """Do more on a change of mode than write a flag."""

    merged = False

    @override
    def train(self, mode: bool = True) -> Merging:
        self.merged = not mode
        return super().train(mode)


def test_what_a_module_does_on_a_change_of_mode_is_undone_by_itself() -> None:
    model = nn.Sequential(Merging(2, 1), nn.Dropout(0.5))
    model[1].eval()
    Loop(evaluation_step(model)).run(BATCHES)
    assert not model[0].merged
    assert flags(model) == [True, True, False]


def test_the_device_applies_to_the_model_and_the_batches() -> None:
    model = nn.Linear(2, 1)
    final = Loop(evaluation_step(model, device="meta")).run(BATCHES)
    assert all(t.is_meta for t in (model.weight, final.output.y_pred, final.output.y))


def test_prepare_batch_makes_the_pair() -> None:
    def swapped(batch: Pair, device: object, non_blocking: bool) -> Pair:
        return batch[1], batch[0]

    loop = Loop[Pair, Prediction[Tensor, Tensor], None](
        evaluation_step(nn.Identity(), prepare_batch=swapped)
    )
    final = loop.run([(torch.ones(1), torch.zeros(1))])
    assert (final.output.y_pred.item(), final.output.y.item()) == (0.0, 1.0)


def test_it_compares_and_pickles() -> None:
    model = make()
    step = evaluation_step(model)
    assert step == evaluation_step(model) != evaluation_step(make())
    loop = pickle.loads(pickle.dumps(Loop(step)))
    assert loop.run(BATCHES).output.y_pred.shape == (2, 3)


def test_wrong_arguments_are_refused_when_the_step_is_made() -> None:
    with pytest.raises(TypeError, match="model is the class Linear"):
        evaluation_step(nn.Linear)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="prepare_batch takes"):
        evaluation_step(make(), prepare_batch=lambda: None)  # type: ignore[arg-type, misc]
    with pytest.raises(TypeError, match="a batch is a pair"):
        Loop(evaluation_step(make())).run([None])  # type: ignore[list-item]
