"""The task: what is trained on what, the same for every way to train it.

The images are the real scans that scikit-learn brings along: 8 x 8 pixels, ten classes. All that is
drawn at random follows from the seed: which images are held out, the first weights, the order of
the batches, and the units that dropout leaves out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import attrs
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from fengine.distributed import Alone, Ranks
from fengine.examples.digits.options import Options
from fengine.training import Shuffled

Pair: TypeAlias = tuple[Tensor, Tensor]

HELD_OUT = 360  # images, a fifth of all


@attrs.frozen
class Epoch:
    """Hold what an epoch came to.

    Args:
        loss: mean over the images trained on, each as the weights were when it was seen.
        accuracy: part of the held-out images that is classified right, from 0 to 1.
    """

    loss: float
    accuracy: float


@attrs.frozen
class Reached:
    """Hold how far a training came.

    Args:
        history: the completed epochs.
        epoch: number of epochs begun.
        iteration: number of iterations begun.
        interrupted: whether Ctrl-C ended it.
    """

    history: tuple[Epoch, ...]
    epoch: int
    iteration: int
    interrupted: bool = False


@attrs.frozen(eq=False)
class Task:
    """Hold everything that a training works on.

    Args:
        model: gives ten scores for each image.
        optimizer: updates the weights of `model`.
        loss_fn: of scores and classes.
        batches: pairs of images, of shape (batch, 1, 8, 8) with values from 0 to 1, and classes, of
            shape (batch,), in a new order at each iteration over them.
        held_out: such pairs, in a fixed order.
        sizes: number of images in `batches`, and in `held_out`.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    loss_fn: Callable[[Tensor, Tensor], Tensor]
    batches: DataLoader[tuple[Tensor, ...]]
    held_out: tuple[Pair, ...]
    sizes: tuple[int, int]


def make_task(options: Options, ranks: Ranks = Alone()) -> Task:  # noqa: B008  # a frozen record
    """Make a task afresh; equal options give equal tasks. Several processes share each batch."""
    from sklearn.datasets import load_digits

    pixels, classes = load_digits(return_X_y=True)
    images = torch.tensor(pixels, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    targets = torch.tensor(classes)

    torch.manual_seed(options.seed)
    held_out, training = torch.randperm(len(images)).tensor_split([HELD_OUT])
    model = new_model()
    batches = DataLoader(
        TensorDataset(images[training], targets[training]),
        batch_size=options.batch_size // ranks.size,
        sampler=Shuffled(len(training), seed=options.seed, ranks=ranks),
    )
    return Task(
        model,
        torch.optim.AdamW(model.parameters(), lr=options.learning_rate),
        cross_entropy,
        batches,
        tuple(
            (x[ranks.rank :: ranks.size], y[ranks.rank :: ranks.size])
            for x, y in zip(images[held_out].chunk(3), targets[held_out].chunk(3), strict=True)
        ),
        (len(training), len(held_out)),
    )


def new_model() -> nn.Module:
    """Make the network, with weights that are drawn now."""
    return nn.Sequential(
        nn.Conv2d(1, 16, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.25),
        nn.Linear(32 * 4 * 4, 10),
    )


def best_epoch(history: tuple[Epoch, ...]) -> int:
    """Give the number of the first epoch of the highest accuracy, from 1; 0 where there is none.

    >>> best_epoch((Epoch(0.9, accuracy=0.8), Epoch(0.5, accuracy=0.9), Epoch(0.4, accuracy=0.9)))
    2
    """
    accuracies = [epoch.accuracy for epoch in history]
    return 1 + accuracies.index(max(accuracies)) if accuracies else 0
