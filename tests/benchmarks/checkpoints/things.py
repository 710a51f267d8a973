"""Things: the model and the optimizer that are saved, with a mark that tells one save from another.

The mark is in the last parameter, so a checkpoint that reads as step 7 holds what was there at 7.
"""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor, nn
from typing_extensions import override

BLOCKS = 24
BYTES_OF_ONE = 4  # of a float32


class Model(nn.Module):
    """Linear layers with norms between them, and a mark of two numbers.

    Args:
        parameters: about how many there are.
    """

    def __init__(self, parameters: int) -> None:
        super().__init__()
        width = max(1, round((parameters / BLOCKS) ** 0.5))
        self.body = nn.Sequential(
            *(
                layer
                for _ in range(BLOCKS)
                for layer in (nn.Linear(width, width), nn.LayerNorm(width))
            )
        )
        self.mark = nn.Parameter(torch.zeros(2))

    @override
    def forward(self, x: Tensor) -> Tensor:
        """Return a loss of which no gradient is large."""
        return self.mark.sum() * 0 + x.sum() * 0


@final
class Things:
    """Hold a model and its AdamW.

    Args:
        parameters: about how many the model has.
        stepped: whether the optimizer has made a step, and so has a state.
    """

    def __init__(self, parameters: int, *, stepped: bool) -> None:
        torch.manual_seed(0)
        self.model = Model(parameters)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3)
        if stepped:
            for parameter in self.model.parameters():
                parameter.grad = parameter.detach() * 0.01
            self.optimizer.step()
            self.optimizer.zero_grad()

    @property
    def bytes_of_optimizer(self) -> int:
        """How much memory the state of the optimizer takes, which a new one has not."""
        return 2 * BYTES_OF_ONE * sum(one.numel() for one in self.model.parameters())

    def state_dicts(self) -> dict[str, Any]:
        """Return the states of both, by the names that most systems save them by."""
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load(self, states: dict[str, Any]) -> None:
        """Take up states as `state_dicts` returned them."""
        self.model.load_state_dict(states["model"])
        self.optimizer.load_state_dict(states["optimizer"])

    @torch.no_grad()
    def put_mark(self, step: int) -> None:
        """Mark the model with a step."""
        self.model.mark.fill_(step)


def step_of(mark: Tensor) -> int:
    """Return the step that a model is marked with.

    Raises:
        ValueError: its numbers differ, as of a file that was written halfway.

    >>> step_of(torch.full((2,), 7.0))
    7
    """
    first, second = mark.tolist()
    if first != second:
        raise ValueError(f"a mark has two numbers that are equal, not {first} and {second}")
    return int(first)
