"""The data and the model of the training: small images of digits, and a network that reads them."""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

EPOCHS = 8


def images() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Return images and classes to train on, and others that are held out."""
    pixels, classes = load_digits(return_X_y=True)
    x = torch.tensor(pixels, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    y = torch.tensor(classes)
    held_out, training = torch.randperm(
        len(x), generator=torch.Generator().manual_seed(0)
    ).tensor_split([360])
    return (x[training], y[training]), (x[held_out], y[held_out])


def loaders() -> tuple[DataLoader[tuple[Tensor, ...]], DataLoader[tuple[Tensor, ...]]]:
    """Return the same as loaders, for those that want them."""
    training, held_out = images()
    generator = torch.Generator().manual_seed(0)
    return (
        DataLoader(TensorDataset(*training), 64, shuffle=True, generator=generator),
        DataLoader(TensorDataset(*held_out), 120),
    )


def network() -> nn.Sequential:
    """Return a network with first weights that are always the same."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.25),
        nn.Linear(512, 10),
    )
