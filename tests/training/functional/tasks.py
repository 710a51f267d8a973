"""Models, optimizers and data of which the laws on functional steps hold."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeAlias, final

import attrs
import torch
from torch import Tensor, nn, optim
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer
from typing_extensions import override

from fengine.training import TrainState, restore

Pair: TypeAlias = tuple[Tensor, Tensor]
Parameters: TypeAlias = Iterable[nn.Parameter]

CLASSES: Final = 3
SAMPLES: Final = 4


class Tied(nn.Module):
    """Be a small transformer whose embedding is its last layer, too."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(CLASSES, 4)
        layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.1, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.last = nn.Linear(4, CLASSES, bias=False)
        self.last.weight = self.embedding.weight

    @override
    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(self.layers(self.embedding(x))).mean(1)
        return y


class Recurrent(nn.Module):
    """Be an LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(2, 3, batch_first=True)
        self.last = nn.Linear(3, CLASSES)

    @override
    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(self.lstm(x)[0][:, -1])
        return y


class Remembering(nn.Module):
    """Assign its buffers, and change them in place, as it goes forward."""

    calls: Tensor
    average: Tensor
    unset: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(5, CLASSES)
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))
        self.register_buffer("average", torch.zeros(()))
        self.register_buffer("unset", None)

    @override
    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.average = 0.5 * self.average + self.linear.weight.mean()
        self.unset = torch.ones(2) * int(self.calls)
        y: Tensor = self.linear(x) + self.average.detach()
        return y


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 4), nn.Dropout(0.2), nn.Tanh(), nn.Linear(4, CLASSES))


def convolutions() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 2, 3),
        nn.BatchNorm2d(2),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(2 * 9, CLASSES),
        nn.BatchNorm1d(CLASSES, momentum=None),
    )


def parametrized() -> nn.Module:
    normed = nn.utils.parametrizations
    first = normed.spectral_norm(nn.Linear(5, 4))
    return nn.Sequential(first, nn.Tanh(), normed.weight_norm(nn.Linear(4, CLASSES)))


def frozen() -> nn.Module:
    model = network()
    next(model.children()).requires_grad_(False)
    return model


def vectors() -> Tensor:
    return torch.randn(SAMPLES, 5)


MODELS: Final[dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor]]]] = {
    "network": (network, vectors),
    "frozen": (frozen, vectors),
    "remembering": (Remembering, vectors),
    "parametrized": (parametrized, vectors),
    "convolutions": (convolutions, lambda: torch.randn(SAMPLES, 1, 5, 5)),
    "recurrent": (Recurrent, lambda: torch.randn(SAMPLES, 3, 2)),
    "tied": (Tied, lambda: torch.randint(CLASSES, (SAMPLES, 3))),
}


def two_groups(parameters: Parameters) -> Optimizer:
    first, *others = parameters
    groups: list[dict[str, Any]] = [{"params": [first], "lr": 0.1}, {"params": others}]
    return optim.SGD(groups, 0.01, momentum=0.5)


OPTIMIZERS: Final[dict[str, Callable[[Parameters], Optimizer]]] = {
    "SGD": lambda found: optim.SGD(found, 0.1),
    "Nesterov": lambda found: optim.SGD(found, 0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "two groups": two_groups,
    "Adam": lambda found: optim.Adam(found, 0.01),
    "AdamW": lambda found: optim.AdamW(found, 0.01, amsgrad=True),
    "AdamW, foreach": lambda found: optim.AdamW(found, 0.01, foreach=True),
    "AdamW, fused": lambda found: optim.AdamW(found, 0.01, fused=True),
    "Adam, tensor": lambda found: optim.Adam(found, torch.tensor(0.01), foreach=False),
    "RMSprop": lambda found: optim.RMSprop(found, 0.01, momentum=0.5, centered=True),
    "Adagrad": lambda found: optim.Adagrad(found, 0.01),
    "Rprop": lambda found: optim.Rprop(found, 0.01),
    "ASGD": lambda found: optim.ASGD(found, 0.01),
    "NAdam": lambda found: optim.NAdam(found, 0.01),
    "RAdam": lambda found: optim.RAdam(found, 0.01),
    "Adadelta": optim.Adadelta,
    "Adamax": optim.Adamax,
    "Adafactor": optim.Adafactor,
}


@final
@attrs.frozen(eq=False)
class Task:
    """Hold a model with its optimizer, and data for it."""

    model: nn.Module
    optimizer: Optimizer
    batches: list[Pair]
    new_optimizer: Callable[[Parameters], Optimizer]

    @staticmethod
    def of(model: str, optimizer: str, batches: int = 2, seed: int = 0) -> Task:
        """Make a task, always the same."""
        torch.manual_seed(seed)
        make, inputs = MODELS[model]
        made = make()
        data = [(inputs(), torch.randint(CLASSES, (SAMPLES,))) for _ in range(batches)]
        new_optimizer = OPTIMIZERS[optimizer]
        return Task(made, new_optimizer(made.parameters()), data, new_optimizer)

    def copied(self) -> Task:
        """Return the same with a model and an optimizer of its own."""
        model = copy.deepcopy(self.model)
        optimizer = self.new_optimizer(model.parameters())
        optimizer.load_state_dict(copy.deepcopy(self.optimizer.state_dict()))
        return attrs.evolve(self, model=model, optimizer=optimizer)

    def bits(self, train_state: TrainState | None = None) -> list[object]:
        """Return all that is trained; of a training, what is restored from it."""
        if train_state is None:
            return [self.model.state_dict(), self.optimizer.state_dict()]
        other = self.copied()
        restore(other.model, other.optimizer, train_state)
        return other.bits()


loss_fn = cross_entropy
