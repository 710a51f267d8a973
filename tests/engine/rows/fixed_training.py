"""Defects of the deterministic and supervised engines of pytorch-ignite that ours do not have."""

from __future__ import annotations

import random
import warnings
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.utils.data import DataLoader
from typing_extensions import override

from tests.engine.reproduced import Play, batches, rest, shuffled
from tests.engine.rows.records import fixed
from tests.engine.rows.sides import Side, outcome

FIXED: Final = fixed()

# Deterministic engines


@FIXED(
    "D11",
    "a DeterministicEngine that goes on within an epoch of shuffled data, by its `state_dict()`",
    ("sees some batches again, and misses others", False),
    ("sees the rest of the epoch", True),
)
def rest_of_an_epoch(side: Side) -> object:
    play = Play(side.package)
    whole = play.run(shuffled(), max_epochs=2)
    return batches(rest(shuffled(), play.saved[3], side.package)) == batches(whole[3:])


class Named(DataLoader[Any]):
    """Have an argument and an attribute that a DataLoader does not have."""

    def __init__(self, name: str, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.name = name
        self.passes = 0


@FIXED(
    "D12",
    "a DataLoader of your own in a DeterministicEngine, with an attribute that is no argument",
    ("raises TypeError", "TypeError"),
    ("is made again by its arguments", ("Named", "train", 3)),
)
def own_loader(side: Side) -> object:
    engine = side.package.DeterministicEngine(lambda engine, batch: None)
    data = Named("train", dataset=range(6), batch_size=2)

    def run() -> object:
        state = engine.run(data)
        return type(state.dataloader).__name__, state.dataloader.name, state.iteration

    return outcome(run)


@FIXED(
    "C16 E-51",
    "`terminate_epoch()` in front of the first batch of an epoch of a DeterministicEngine",
    ("raises ValueError", "ValueError"),
    ("ends that epoch", 3),
)
def cut_before_its_first_batch(side: Side) -> object:
    engine = Play(side.package).engine
    engine.add_event_handler(
        side.events.GET_BATCH_STARTED(once=6), lambda engine: engine.terminate_epoch()
    )
    torch.manual_seed(12)
    return outcome(lambda: engine.run(shuffled(), max_epochs=3).epoch)


@FIXED(
    "Q-20",
    "a function under `keep_random_state`",
    ("returns None; if it raises, the random states are those it left", (None, False)),
    ("returns its value; if it raises, the random states are restored", (7, True)),
)
def kept_states(side: Side) -> object:
    keep_random_state = side.package.deterministic.keep_random_state
    before = random.getstate()
    outcome(keep_random_state(lambda: random.random() / 0))
    return keep_random_state(lambda: 7)(), random.getstate() == before


# Supervised engines

X, Y = torch.ones(2, 3), torch.zeros(2, 1)


def trained(side: Side, kind: type[torch.optim.Optimizer] = torch.optim.SGD, **options: Any) -> Any:
    """Give the state after one step of a trainer with these options."""
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    optimizer = kind(model.parameters(), lr=0.1)  # type: ignore[call-arg]  # all of them take it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is no CUDA
        trainer = side.package.create_supervised_trainer(model, optimizer, mse_loss, **options)
        return trainer.run([(X, Y)])


def give_dtype(x: Tensor, y: Tensor, y_pred: Tensor, loss: Tensor) -> str:
    return str(y_pred.dtype)


@FIXED(
    "E6 Q-19",
    "`amp_mode='amp'` on a CPU",
    ("computes in float32", "torch.float32"),
    ("computes in mixed precision", "torch.bfloat16"),
)
def mixed_precision_on_the_cpu(side: Side) -> object:
    return trained(side, amp_mode="amp", output_transform=give_dtype).output


@FIXED(
    "E7 Q-19",
    "an unknown `amp_mode`",
    ("computes in float32", "torch.float32"),
    ("raises ValueError", "ValueError"),
)
def unknown_mode(side: Side) -> object:
    return outcome(lambda: trained(side, amp_mode="bf16", output_transform=give_dtype).output)


@FIXED(
    "E8",
    "`state.scaler`, where a scaler is given to the trainer",
    ("is not there, so nothing saves it", False),
    ("is the scaler", True),
)
def given_scaler(side: Side) -> object:
    scaler = torch.amp.GradScaler("cpu")
    return getattr(trained(side, amp_mode="amp", scaler=scaler), "scaler", None) is scaler


@FIXED(
    "E10",
    "a loss that `output_transform` returns",
    ("keeps its graph alive in `state.output`", True),
    ("is detached", False),
)
def loss_in_the_output(side: Side) -> object:
    return trained(side, output_transform=lambda x, y, y_pred, loss: loss).output.requires_grad


@FIXED(
    "E14",
    "an optimizer whose `step` requires a closure, such as LBFGS",
    ("raises TypeError", "TypeError"),
    ("trains", "float"),
)
def closures(side: Side) -> object:
    return outcome(lambda: type(trained(side, torch.optim.LBFGS).output).__name__)


@FIXED(
    "Q-19",
    "`device=0` of a supervised engine",
    ("raises TypeError", "TypeError"),
    ("is the first accelerator", 0),
)
def device_by_index(side: Side) -> object:
    given: list[Any] = []

    class Fixed(nn.Identity):
        @override
        def to(self, *args: Any, **kwargs: Any) -> Any:
            return self

    def prepare_batch(batch: Any, device: Any, non_blocking: bool) -> Any:
        given.append(device)
        return batch

    def run() -> object:
        options = {"device": 0, "prepare_batch": prepare_batch}
        side.package.create_supervised_evaluator(Fixed(), **options).run([(X, Y)])
        return given[0]

    return outcome(run)
