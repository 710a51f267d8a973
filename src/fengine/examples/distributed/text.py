"""The data and the model: a small transformer that reads the source of the standard library."""

from __future__ import annotations

import argparse as module_to_read
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn
from typing_extensions import override

CONTEXT: Final = 32
CHARACTERS: Final = 128


class Reader(nn.Module):
    """Predict each next character of a text from those before it.

    Args:
        width: the size of what stands for a character; a multiple of 4.
        depth: the number of layers.
    """

    def __init__(self, width: int = 32, depth: int = 2) -> None:
        super().__init__()
        self.characters = nn.Embedding(CHARACTERS, width)
        self.places = nn.Parameter(0.02 * torch.randn(CONTEXT, width))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, 4, 4 * width, 0.1, batch_first=True, norm_first=True)
            for _ in range(depth)
        )
        self.scores = nn.Linear(width, CHARACTERS)

    @override
    def forward(self, characters: Tensor) -> Tensor:
        """Return the scores of the next characters, of shape (batch, CHARACTERS, CONTEXT).

        Args:
            characters: whole numbers below CHARACTERS, of shape (batch, CONTEXT).
        """
        later = nn.Transformer.generate_square_subsequent_mask(CONTEXT)
        hidden = self.characters(characters) + self.places
        for layer in self.layers:
            hidden = layer(hidden, src_mask=later, is_causal=True)
        scores: Tensor = self.scores(hidden).transpose(1, 2)
        return scores


def passages(number: int) -> tuple[Tensor, Tensor]:
    """Return passages of a module's source, and the same moved on by one character.

    Both have the shape (number, CONTEXT).
    """
    text = Path(module_to_read.__file__).read_text("utf-8")
    codes = torch.tensor([min(ord(one), CHARACTERS - 1) for one in text])
    begins = torch.linspace(0, len(codes) - CONTEXT - 1, number).long()
    windows = codes[begins[:, None] + torch.arange(CONTEXT + 1)]
    return windows[:, :-1], windows[:, 1:]
