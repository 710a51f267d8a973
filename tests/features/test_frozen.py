"""`frozen` keeps parts of a model as they are, by epoch, exactly also where a run goes on."""

from __future__ import annotations

import copy
import pickle
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from fengine import Events, Loop, NameTaken, State, diff
from fengine.features import evaluation, frozen
from fengine.metrics import accuracy
from fengine.testing import assert_resume_exact
from fengine.training import TensorBatches, evaluation_step, training_step

X = torch.randn(24, 3, generator=torch.Generator().manual_seed(0))
Y = (X.sum(dim=1) > 0).long()
DATA = TensorBatches(X, Y, batch_size=8)
SHORT = TensorBatches(X[:8], Y[:8], batch_size=8)
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


def test_a_run_that_goes_on_has_the_same_parts_frozen() -> None:
    assert_resume_exact(lambda: (build("adamw")[1], SHORT, {"max_epochs": 3}))


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
        (nn.Linear(1, 1).weight, 1, "neither a module"),
        (nn.Linear(1, 1).named_parameters(), 1, "named_parameters"),
        ("model", 1, "neither a module"),
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


def test_a_parameter_is_frozen_as_long_as_one_feature_says_so() -> None:
    model = make()
    step = training_step(model, KINDS["sgd"](model.parameters()), cross_entropy)
    for order in (1, -1):
        whole = frozen(nn.ModuleList([model[0], model[2]]), until=1, name="whole")
        features = [whole, frozen(model[0], until=3, name="first")][::order]
        loop: Any = Loop(step) | features[0] | features[1]
        seen = [
            (moment.state.epoch, model[0].weight.requires_grad, model[2].weight.requires_grad)
            for moment in loop.iterate(DATA, max_epochs=4)
            if moment.event is Events.EPOCH_COMPLETED
        ]
        assert seen == [
            (1, False, False),
            (2, False, True),
            (3, False, True),
            (4, True, True),
        ]


def test_after_a_failure_the_flags_are_those_of_the_epoch() -> None:
    model, loop = build("sgd")

    def fail(state: Any) -> Any:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        loop.on(Events.ITERATION_COMPLETED(once=5), fail).run(DATA, max_epochs=4)
    assert [part.weight.requires_grad for part in (model[0], model[2], model[4])] == [0, 1, 1]


def normalized() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout()),
        nn.Tanh(),
        nn.Linear(4, 2),
    )


@pytest.mark.parametrize("begins_in_training", [True, False])
def test_a_frozen_part_in_evaluation_mode_keeps_its_statistics(begins_in_training: bool) -> None:
    model, hand = normalized().train(begins_in_training), normalized()
    optimizer = KINDS["adamw"](model.parameters())
    judging = Loop(evaluation_step(model)) | accuracy()
    loop: Any = (
        Loop(training_step(model, optimizer, cross_entropy))
        | frozen(model[0], until=2, eval_mode=True)
        | evaluation(judging, DATA)
    )
    torch.manual_seed(1)
    loop.run(DATA, max_epochs=3)
    assert model[0][1].num_batches_tracked == 3
    assert [one.training for one in model.modules()] == [begins_in_training] * 7
    optimizer = KINDS["adamw"](hand.parameters())
    torch.manual_seed(1)
    for epoch in (1, 2, 3):
        hand[0].requires_grad_(epoch > 2).train(epoch > 2)
        for x, y in DATA:
            optimizer.zero_grad()
            cross_entropy(hand(x), y).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    assert not diff(dict(hand.state_dict()), dict(model.state_dict()))


def test_a_run_that_goes_on_has_the_same_modes() -> None:
    def build() -> Any:
        model = normalized().eval()
        step = training_step(model, KINDS["sgd"](model.parameters()), cross_entropy)
        loop: Any = Loop(step) | frozen(model[0], until=1, eval_mode=True)
        return loop, SHORT, {"max_epochs": 2}

    assert_resume_exact(build)


@pytest.mark.parametrize("paused_in", [2, 5])
def test_a_pause_within_an_epoch_forgets_no_mode(paused_in: int) -> None:
    ends = []
    for pauses in (False, True):
        model = normalized().eval()
        step = training_step(model, KINDS["sgd"](model.parameters()), cross_entropy)
        loop: Any = Loop(step) | frozen(model[0], until=1, eval_mode=True)
        torch.manual_seed(1)
        pausing = loop.on(Events.ITERATION_COMPLETED(once=paused_in), State.interrupt)
        state = (pausing if pauses else loop).run(DATA, max_epochs=2)
        if pauses:
            loop.resume(loop.snapshot(state), DATA)
        ends.append(copy.deepcopy(model.state_dict()))
    assert not diff(dict(ends[0]), dict(ends[1]))


def test_parts_that_share_modules_are_not_both_in_evaluation_mode() -> None:
    model = normalized()
    step = training_step(model, KINDS["sgd"](model.parameters()), cross_entropy)
    loop: Any = Loop(step) | frozen(model[0], until=1, eval_mode=True)
    with pytest.raises(ValueError, match="share no module"):
        loop | frozen(model[0][0], until=2, eval_mode=True, name="inner")
    loop | frozen(model[0][0], until=2, name="inner")


def test_an_optimizer_without_what_is_trained_later_is_refused() -> None:
    model = make()
    optimizer = KINDS["sgd"]([*model[2].parameters(), *model[4].parameters()])
    loop: Any = Loop(training_step(model, optimizer, cross_entropy))
    with pytest.raises(ValueError, match=r"model\.0\.bias, model\.0\.weight\. Give the optimizer"):
        loop | frozen(model[0], until=2)
    (loop | frozen(model[0])).run(DATA)
    assert not model[0].weight.requires_grad


def test_a_part_of_another_model_is_refused() -> None:
    model = make()
    loop: Any = Loop(training_step(model, KINDS["sgd"](model.parameters()), cross_entropy))
    with pytest.raises(ValueError, match="no module and no optimizer of this loop has"):
        loop | frozen(make()[0])


def test_a_model_that_is_frozen_as_a_whole_says_why_there_is_no_gradient() -> None:
    model = make()
    loop: Any = Loop(training_step(model, KINDS["sgd"](model.parameters()), cross_entropy))
    with pytest.raises(RuntimeError) as raised:
        (loop | frozen(model, until=1)).run(DATA)
    assert "look for a frozen model" in " ".join(raised.value.__notes__)


def test_what_has_no_gradient_is_left_alone() -> None:
    numbers = nn.Parameter(torch.ones(2, dtype=torch.int64), requires_grad=False)
    with pytest.raises(ValueError, match="no parameter to freeze"):
        frozen([numbers])
    part = nn.Linear(1, 1)
    part.register_parameter("numbers", numbers)
    assert len(frozen(part).flags.parameters) == 2


def test_features_compare_print_and_pickle() -> None:
    model = make()
    assert frozen(model[0], until=2) == frozen(model[0], until=2)
    assert frozen(model[0], until=2) != frozen(model[2], until=2)
    assert repr(frozen(model[0], until=2, eval_mode=True, name="a")) == (
        "frozen(Linear, until=2, eval_mode=True, name='a')"
    )
    assert repr(frozen(model[0].parameters())) == "frozen(2 parameters)"
    again = pickle.loads(pickle.dumps(frozen(model[0], until=2)))
    assert torch.equal(again.flags.parameters[0], model[0].weight)


def test_it_says_of_how_many_parameters_it_takes_up_the_flags() -> None:
    with pytest.raises(ValueError, match="of 1 parameters whether they are frozen, and here are 2"):
        frozen(nn.Linear(1, 1)).flags.load_state_dict({"frozen": [True]})


def test_weights_are_those_of_a_finetuning_of_lightning() -> None:
    lightning: Any = pytest.importorskip("lightning.pytorch")
    callbacks: Any = pytest.importorskip("lightning.pytorch.callbacks")

    class Module(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = make()

        def training_step(self, batch: Any, number: int) -> Tensor:
            return cross_entropy(self.model(batch[0]), batch[1])

        def configure_optimizers(self) -> Any:
            # Adam keeps no state of a parameter that it has not updated.
            return torch.optim.Adam(filter(lambda one: one.requires_grad, self.parameters()), 0.1)

    class Unfreezing(callbacks.BaseFinetuning):  # type: ignore[misc]
        def freeze_before_training(self, module: Any) -> None:
            self.freeze(module.model[0])

        def finetune_function(self, module: Any, epoch: int, optimizer: Any) -> None:
            if epoch == 2:
                self.unfreeze_and_add_param_group(
                    module.model[0], optimizer, lr=0.1, initial_denom_lr=1
                )

    theirs = Module()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quiet = dict.fromkeys(
            ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"),
            False,
        )
        trainer = lightning.Trainer(
            accelerator="cpu", max_epochs=4, callbacks=[Unfreezing()], **quiet
        )
        pairs: Any = list(DATA)
        trainer.fit(theirs, DataLoader(pairs, batch_size=None))
    model = make()
    optimizer = torch.optim.Adam(model.parameters(), 0.1)
    loop: Any = Loop(training_step(model, optimizer, cross_entropy)) | frozen(model[0], until=2)
    loop.run(DATA, max_epochs=4)
    assert not diff(dict(theirs.model.state_dict()), dict(model.state_dict()))
