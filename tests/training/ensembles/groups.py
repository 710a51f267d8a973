"""Members, optimizers and data of which the laws on ensembles hold, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias, final

import attrs
import torch
from torch import Tensor, nn, optim
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer
from typing_extensions import override

from fengine.training import (
    EnsembleState,
    EnsembleStep,
    OwnOptimizer,
    TrainState,
    adam,
    adamw,
    ensemble_step,
    sgd,
)

Pair: TypeAlias = tuple[Tensor, Tensor]

CLASSES: Final = 3
SAMPLES: Final = 4
loss_fn = cross_entropy


class Tied(nn.Module):
    """Have one weight twice, a parameter without use, and one that is a number."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(5, 5), nn.Linear(5, 5)
        self.second.weight = self.first.weight
        self.unused = nn.Parameter(torch.ones(2))
        self.scale = nn.Parameter(torch.ones(()))

    @override
    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.scale * self.second(torch.tanh(self.first(x)))
        return y[:, :CLASSES]


class Remembering(nn.Module):
    """Assign one buffer, and change another in place, as it goes forward."""

    calls: Tensor
    average: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(5, CLASSES)
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))
        self.register_buffer("average", torch.zeros(()))

    @override
    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.average = 0.5 * self.average + self.linear.weight.mean().detach()
        y: Tensor = self.linear(x) + self.average * x[:, :CLASSES]
        return y


class Recurrent(nn.Module):
    """Be an LSTM, which vmap refuses."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(2, 3, batch_first=True)
        self.last = nn.Linear(3, CLASSES)

    @override
    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(self.lstm(x)[0][:, -1])
        return y


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, CLASSES))


def dropping() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 16), nn.Dropout(0.5), nn.Linear(16, CLASSES))


def frozen() -> nn.Module:
    model = network()
    next(model.children()).requires_grad_(False)
    return model


def convolutions() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 2, 3),
        nn.BatchNorm2d(2),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(2 * 9, CLASSES),
    )


def vectors() -> Tensor:
    return torch.randn(SAMPLES, 5)


MODELS: Final[dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor]]]] = {
    "network": (network, vectors),
    "frozen": (frozen, vectors),
    "tied": (Tied, vectors),
    "remembering": (Remembering, vectors),
    "convolutions": (convolutions, lambda: torch.randn(SAMPLES, 1, 5, 5)),
}
OWN: Final[dict[str, OwnOptimizer]] = {
    "sgd": sgd(0.1),
    "momentum": sgd(0.1, momentum=0.9, dampening=0.1, weight_decay=0.01),
    "nesterov": sgd(0.1, momentum=0.9, nesterov=True),
    "adam": adam(0.01, weight_decay=0.01),
    "adamw": adamw(0.01, betas=(0.8, 0.99), eps=1e-6),
}
OF_TORCH: Final[dict[str, Callable[..., Optimizer]]] = {
    "SGD": lambda found: optim.SGD(found, 0.1, momentum=0.9, weight_decay=0.01),
    "Adam": lambda found: optim.Adam(found, 0.01, amsgrad=True),
    "AdamW": lambda found: optim.AdamW(found, 0.01, foreach=True),
    "RMSprop": lambda found: optim.RMSprop(found, 0.01, momentum=0.5, centered=True),
    "Adagrad": lambda found: optim.Adagrad(found, 0.01),
    "NAdam": lambda found: optim.NAdam(found, 0.01),
    "RAdam": lambda found: optim.RAdam(found, 0.01),
    "Adamax": lambda found: optim.Adamax(found, 0.01),
    "Adadelta": optim.Adadelta,
    "ASGD": lambda found: optim.ASGD(found, 0.01),
    "Rprop": lambda found: optim.Rprop(found, 0.01),
}


def in_double(make: Callable[[], nn.Module], number: int) -> list[nn.Module]:
    """Make models in float64, which differ."""
    found = []
    for seed in range(number):
        torch.manual_seed(seed)
        model = make().double()
        for one in model.buffers():
            if one.is_floating_point():
                one.add_(0.1 * seed)
        found.append(model)
    return found


@final
@attrs.frozen(eq=False)
class Group:
    """Hold several models of one kind, an optimizer for them, and data."""

    models: list[nn.Module]
    optimizer: OwnOptimizer | Callable[..., Optimizer]
    batches: list[Pair]

    @staticmethod
    def of(model: str, optimizer: str, size: int = 3, batches: int = 2) -> Group:
        """Make a group, always the same."""
        make, inputs = MODELS[model]
        torch.manual_seed(7)
        data = [(inputs().double(), torch.randint(CLASSES, (SAMPLES,))) for _ in range(batches)]
        known: dict[str, Any] = {**OWN, **OF_TORCH}
        return Group(in_double(make, size), known[optimizer], data)

    def step(self, **options: Any) -> EnsembleStep[Pair]:
        """Make a step."""
        model, optimizer = self.models[0], self.optimizer
        is_own = hasattr(optimizer, "update")
        made: Any = optimizer if is_own else optimizer(model.parameters())
        return ensemble_step(model, made, loss_fn, **options)

    def start(self, **options: Any) -> EnsembleState:
        """Make what a run begins with, each member with its own seed."""
        return self.step(**options).init(self.models, seeds=range(len(self.models)))


def furthest(one: TrainState, other: TrainState) -> float:
    """Return the largest difference of parameters, buffers and what the optimizer remembers."""
    pairs = [(one.parameters, other.parameters), (one.buffers, other.buffers)]
    states = one.optimizer.state, other.optimizer.state
    assert list(states[0]) == list(states[1])
    pairs += [(states[0][name], states[1][name]) for name in states[0]]
    worst = 0.0
    for a, b in pairs:
        assert dict(a).keys() == dict(b).keys()
        for name in a:
            assert a[name].shape == b[name].shape
            assert a[name].dtype == b[name].dtype
            if a[name].numel():
                worst = max(worst, float((a[name].double() - b[name].double()).abs().max()))
    return worst
