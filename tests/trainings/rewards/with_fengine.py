"""The training with fengine."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from fengine import Events, Loop, State, stages
from fengine.features import early_stopping, seeded
from fengine.metrics import mean
from tests.trainings.rewards.task import policy, walk


def train() -> tuple[int, list[Tensor]]:
    model = policy()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)

    def episode(state: State[None, float]) -> float:
        chances, reward = walk(model)
        optimizer.zero_grad()
        torch.autograd.backward(-(reward + 12) * chances.sum())
        optimizer.step()
        return reward

    loop = (
        Loop(stages(episode).changing(policy=model, optimizer=optimizer))
        | seeded(1)
        | mean("reward", over=Events.ITERATION_COMPLETED(every=10))
        | early_stopping("reward", mode="max", patience=3)
    )
    final = loop.run(itertools.repeat(None), max_iters=300)
    assert final.metrics["reward"] > -9
    return final.iteration, list(model.parameters())
