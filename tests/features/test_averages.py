"""An average of the weights follows each update, bitwise as torch's own does in a loop by hand."""

from __future__ import annotations

import copy
import io
import math
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from fengine import Events, Loop, NameTaken, State, outputs, stages
from fengine.features import ema, evaluation
from fengine.metrics import mean_loss
from fengine.testing import assert_resume_exact
from fengine.training import (
    Backprop,
    ForwardPass,
    TensorBatches,
    Update,
    Updated,
    Window,
    evaluation_step,
    training_step,
    windows,
)
from tests.features.digests import digest
from tests.features.peers import fit_with_lightning, ignite_trainer

Pair = tuple[Tensor, Tensor]


def make() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    layers = nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 1)
    model = nn.Sequential(*layers)
    return model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


def batches(count: int = 5) -> list[Pair]:
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(6, 4, generator=generator), torch.randn(6, 1, generator=generator))
        for _ in range(count)
    ]


def data() -> TensorBatches[Tensor, Tensor]:
    x, y = (torch.cat(one) for one in zip(*batches(), strict=True))
    return TensorBatches(x, y, batch_size=6, seed=0)


def training(
    model: nn.Module, optimizer: torch.optim.Optimizer, **options: Any
) -> Loop[Pair, Tensor, None]:
    return Loop(training_step(model, optimizer, mse_loss, **options))


def train_by_hand(decay: float, epochs: int = 2) -> AveragedModel:
    """Train as a user without any engine would."""
    model, optimizer = make()
    take: Any = get_ema_multi_avg_fn
    averaged = AveragedModel(model, multi_avg_fn=take(decay), use_buffers=True)
    torch.manual_seed(7)
    for _ in range(epochs):
        for x, y in batches():
            optimizer.zero_grad()
            mse_loss(model(x), y).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            averaged.update_parameters(model)
    return averaged


@pytest.mark.parametrize("decay", [0.001, 0.5, 0.999])
def test_it_is_bitwise_the_average_of_a_loop_by_hand(decay: float) -> None:
    model, optimizer = make()
    averaged = ema(model, decay)
    torch.manual_seed(7)
    (training(model, optimizer) | averaged).run(batches(), max_epochs=2)
    assert digest(averaged.averaged) == digest(train_by_hand(decay))
    assert digest(averaged.model) != digest(model)


def test_windows_have_one_update_each() -> None:
    model, optimizer = make()
    averaged = ema(model, 0.5)
    step = training_step(model, optimizer, mse_loss)
    (Loop[Window[Pair], Tensor](step) | averaged).run(windows(batches(), 2))
    assert averaged.averaged.n_averaged == 3


def test_an_update_that_a_scaler_leaves_out_moves_nothing() -> None:
    model, optimizer = make()
    averaged, seen = ema(model, 0.5), list[bool]()

    def note(state: State[Pair, Tensor], updated: Updated) -> State[Pair, Tensor]:
        seen.append(updated.stepped)
        return state

    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    loop = training(model, optimizer, scaler=scaler) | averaged
    loop.on(Update.COMPLETED, note).run(batches())
    assert False in seen
    assert averaged.averaged.n_averaged == sum(seen)


def test_it_is_evaluated_beside_the_model() -> None:
    model, optimizer = make()
    averaged = ema(model, 0.9)
    loop = training(model, optimizer) | averaged
    for prefix, judged in (("val_", model), ("ema_", averaged.model)):
        inner = Loop(evaluation_step(judged)) | mean_loss(mse_loss)
        loop = loop | evaluation(inner, batches(), prefix=prefix)
    final = loop.run(batches(), max_epochs=2)
    averaged.model.eval()
    with torch.no_grad():
        losses = [float(mse_loss(averaged.model(x), y)) for x, y in batches()]
    assert final.metrics["ema_loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-6)
    assert final.metrics["ema_loss"] != final.metrics["val_loss"]


def test_it_goes_on_exactly_from_every_moment() -> None:
    def remake() -> Any:
        model, optimizer = make()
        averaged = ema(model, 0.9)
        inner = Loop(evaluation_step(averaged.model)) | mean_loss(mse_loss)
        loop = training(model, optimizer) | averaged | evaluation(inner, batches(2))
        return loop, data(), {"max_epochs": 2}

    assert_resume_exact(remake)


def test_a_file_holds_it() -> None:
    model, optimizer = make()
    averaged = ema(model, 0.9)
    loop = training(model, optimizer) | averaged
    file = io.BytesIO()
    torch.save(loop.snapshot(loop.run(data(), max_epochs=1)).to_dict(), file)
    loop.resume(loop.read(torch.load(io.BytesIO(file.getvalue()))).state, data(), restored=True)

    anew, optimizer = make()
    again = ema(anew, 0.9)
    other = training(anew, optimizer) | again
    other.restore(other.read(torch.load(io.BytesIO(file.getvalue()))))
    assert digest(again.averaged, anew) == digest(averaged.averaged, model)
    assert again.averaged.n_averaged == 5


# Beside other libraries.


def test_it_is_the_average_of_pytorch_ignite_with_the_first_weights_counted() -> None:
    from ignite.engine import Events as IgniteEvents
    from ignite.handlers import EMAHandler

    model, optimizer = make()
    averaged = ema(model, 0.9)
    # There the weights before the first update count as the first ones, and momentum is 1 - decay.
    averaged.averaged.n_averaged.fill_(1)
    torch.manual_seed(7)
    (training(model, optimizer) | averaged).run(batches(), max_epochs=2)

    theirs, their_optimizer = make()
    engine = ignite_trainer(theirs, their_optimizer)
    handler = EMAHandler(theirs, momentum=0.1, handle_buffers="update")
    handler.attach(engine, event=IgniteEvents.ITERATION_COMPLETED)
    torch.manual_seed(7)
    engine.run(batches(), max_epochs=2)
    their_state = handler.ema_model.state_dict()
    for name, one in averaged.model.state_dict().items():
        if one.is_floating_point():
            torch.testing.assert_close(one, their_state[name], rtol=1e-5, atol=1e-6)


def test_it_is_the_average_of_lightning() -> None:
    callbacks: Any = pytest.importorskip("lightning.pytorch.callbacks")
    model, optimizer = make()
    averaged = ema(model, 0.9)
    torch.manual_seed(7)
    (training(model, optimizer) | averaged).run(batches(), max_epochs=2)

    theirs, their_optimizer = make()
    average = callbacks.EMAWeightAveraging(decay=0.9)
    torch.manual_seed(7)
    fit_with_lightning(
        theirs, their_optimizer, batches(), average, epochs=2, enable_checkpointing=False
    )
    # In the end its model has the averaged weights.
    for name, one in averaged.model.state_dict().items():
        if one.is_floating_point():
            torch.testing.assert_close(one, theirs.state_dict()[name], rtol=1e-5, atol=1e-6)


# Models of other kinds.


def test_a_model_that_is_compiled_is_averaged_by_either_name() -> None:
    expected = train_by_hand(0.5, epochs=1)
    for names_inner in (False, True):
        model, optimizer = make()
        compiled: Any = torch.compile(model, backend="eager")
        averaged = ema(model if names_inner else compiled, 0.5)
        torch.manual_seed(7)
        (training(compiled, optimizer) | averaged).run(batches())
        for ours, its in zip(averaged.model.parameters(), expected.parameters(), strict=True):
            torch.testing.assert_close(ours, its)


def test_a_part_of_the_model_can_be_averaged() -> None:
    model, optimizer = make()
    averaged = ema(model.get_submodule("3"), 0.5)
    (training(model, optimizer) | averaged).run(batches())
    assert averaged.averaged.n_averaged == 5
    assert digest(averaged.model) != digest(model.get_submodule("3"))


def test_stages_of_ones_own_that_tell_of_their_updates_are_averaged_too() -> None:
    model, optimizer = make()

    def train(state: State[Pair, Tensor]) -> Updated:
        optimizer.zero_grad()
        loss = mse_loss(model(state.batch[0]), state.batch[1])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return Updated(loss.detach(), stepped=True)

    def loss_of(updated: Updated) -> Tensor:
        return updated.loss

    averaged = ema(model, 0.5)
    torch.manual_seed(7)
    loop = Loop(stages(train).emit(Update.COMPLETED).then(loss_of))
    (loop | averaged).run(batches(), max_epochs=2)
    assert digest(averaged.averaged) == digest(train_by_hand(0.5))


# Names, equality and refusals.


def test_two_averages_have_two_names() -> None:
    model, optimizer = make()
    loop = training(model, optimizer) | ema(model, 0.9)
    with pytest.raises(NameTaken, match="two have the thing outside the state 'ema'"):
        loop | ema(model, 0.99)
    slow = ema(model, 0.99, name="slow")
    assert (loop | slow).external["slow"] is slow.averaged


def test_it_compares_by_the_average_and_prints_as_it_was_made() -> None:
    model, optimizer = make()
    averaged = ema(model, 0.9)
    assert averaged == copy.copy(averaged)
    assert hash(averaged) == hash(copy.copy(averaged))
    assert averaged != ema(model, 0.9)
    assert repr(averaged) == "ema(Sequential of 65 parameters, 0.9)"
    assert (
        repr(ema(model, 0.9, name="slow")) == "ema(Sequential of 65 parameters, 0.9, name='slow')"
    )
    loop = training(model, optimizer)
    assert loop | averaged == loop | copy.copy(averaged)
    assert "1. ema(Sequential of 65 parameters, 0.9)" in str(loop | averaged)


def test_a_pickle_of_it_averages_on() -> None:
    model, optimizer = make()
    averaged = ema(model, 0.9)
    loop = training(model, optimizer) | averaged
    loop.run(batches())
    copied, again = pickle.loads(pickle.dumps((loop, averaged)))
    for one in (loop, copied):
        torch.manual_seed(7)
        one.run(batches())
    assert digest(again.averaged) == digest(averaged.averaged)
    assert again.model is again.averaged.module


def test_the_same_average_twice_is_refused() -> None:
    model, optimizer = make()
    averaged = ema(model, 0.9)
    with pytest.raises(
        ValueError, match=r"ema\(Sequential of 65 parameters, 0.9\) is in the loop already"
    ):
        training(model, optimizer) | averaged | averaged


def test_the_average_of_a_model_that_is_not_trained_is_refused() -> None:
    model, optimizer = make()
    said = r"averages a model that this loop does not train.*it trains \['model'\]"
    with pytest.raises(ValueError, match=said):
        training(model, optimizer) | ema(make()[0], 0.9)


def test_a_step_that_does_not_tell_of_its_updates_is_refused() -> None:
    model, _ = make()

    def forward(state: State[Pair, Tensor]) -> ForwardPass:
        return ForwardPass(None, None, None, torch.zeros(()))

    def loss_of(made: ForwardPass) -> Tensor:
        return made.loss

    others: list[Loop[Any, Any, Any]] = [
        Loop(outputs(abs)),
        Loop(),
        Loop(stages(forward).emit(Backprop.COMPLETED).then(loss_of)),
    ]
    for loop in others:
        with pytest.raises(ValueError, match=r"acts at Update\.COMPLETED, which the step of this"):
            loop | ema(model, 0.9)


def test_wrong_arguments_are_refused() -> None:
    model, optimizer = make()
    for decay in (0, 0.0, -0.5, math.nan):
        with pytest.raises(ValueError, match=r"decay=.* is not above 0"):
            ema(model, decay)
    for decay in (1, 1.0, 1.5, math.inf):
        with pytest.raises(ValueError, match=r"decay=.* is not below 1, so the average would"):
            ema(model, decay)
    for other in (True, "0.9", None):
        with pytest.raises(TypeError, match=r"decay=.* is not a number"):
            ema(model, other)  # type: ignore[arg-type]
    for no_model in (optimizer, nn.Linear, None):
        with pytest.raises(TypeError, match="give an instance of"):
            ema(no_model, 0.9)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="this loop"):
        Loop(outputs(abs)).on(Events.STARTED, State.terminate) | ema(model, 0.9)
