"""The data and the model of the training: characters of the help of Python, and a transformer."""

from __future__ import annotations

import hashlib
import pydoc_data.topics as topics  # type: ignore[import-untyped,unused-ignore]

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from typing_extensions import override

from fengine.training import Shuffled

CONTEXT, ITERATIONS, EVERY, WINDOW, HELD_OUT = 32, 24, 6, 4, 2
TEXT: str = "\n".join(topics.topics.values())[:60_000]
CHARACTERS = sorted(set(TEXT))
_NUMBERS = {character: number for number, character in enumerate(CHARACTERS)}
_ALL = torch.tensor([_NUMBERS[character] for character in TEXT])


class Blocks(Dataset[tuple[Tensor, Tensor]]):
    """Give blocks of characters, each with the characters that follow."""

    def __init__(self, numbers: Tensor) -> None:
        self.numbers = numbers

    def __len__(self) -> int:
        return (len(self.numbers) - 1) // CONTEXT

    @override
    def __getitem__(self, place: int) -> tuple[Tensor, Tensor]:
        start = place * CONTEXT
        end = start + CONTEXT
        return self.numbers[start:end], self.numbers[start + 1 : end + 1]


def loaders() -> tuple[DataLoader[tuple[Tensor, Tensor]], DataLoader[tuple[Tensor, Tensor]]]:
    """Return batches to train on, in an order that follows from the pass, and held-out ones.

    So many of the held-out ones are evaluated with as HELD_OUT says.
    """
    cut = len(_ALL) * 19 // 20
    training, held_out = Blocks(_ALL[:cut]), Blocks(_ALL[cut:])
    sampler = Shuffled(training, seed=0)
    return DataLoader(training, 16, sampler=sampler), DataLoader(held_out, 32)


class Transformer(nn.Module):
    """Predict the next character at each place."""

    mask: Tensor

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(width, 2, 64, 0.1, batch_first=True, norm_first=True)
        self.embedding = nn.Embedding(len(CHARACTERS), width)
        self.places = nn.Parameter(torch.zeros(CONTEXT, width))
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.scores = nn.Linear(width, len(CHARACTERS))
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(CONTEXT))

    @override
    def forward(self, x: Tensor) -> Tensor:
        hidden = self.layers(self.embedding(x) + self.places, mask=self.mask, is_causal=True)
        scores: Tensor = self.scores(hidden)
        return scores


def network() -> Transformer:
    """Return a network with first weights that are always the same."""
    torch.manual_seed(0)
    return Transformer()


def loss_fn(y_pred: Tensor, y: Tensor) -> Tensor:
    """Return the mean over all characters."""
    return nn.functional.cross_entropy(y_pred.flatten(0, 1), y.flatten())


def digest(model: nn.Module) -> str:
    """Return a text that is equal where all weights are, to the bit."""
    weights = b"".join(one.detach().numpy().tobytes() for one in model.parameters())
    return hashlib.sha256(weights).hexdigest()[:16]
