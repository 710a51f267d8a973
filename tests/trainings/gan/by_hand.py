"""The training as a loop by hand."""

from __future__ import annotations

import torch
from torch import Tensor

from fengine.training import TensorBatches
from tests.trainings.gan.task import EPOCHS, judge, models, points


def train() -> list[Tensor]:
    generator, critic = models()
    of_generator = torch.optim.Adam(generator.parameters(), lr=0.01)
    of_critic = torch.optim.Adam(critic.parameters(), lr=0.01)
    data = TensorBatches(points(), batch_size=32, seed=0)
    torch.manual_seed(1)
    for epoch in range(EPOCHS):
        data.set_epoch(epoch)
        for (real,) in data:
            fake = generator(torch.randn(len(real), 4))
            of_critic.zero_grad()
            torch.autograd.backward(judge(critic(real), True) + judge(critic(fake.detach()), False))
            of_critic.step()
            of_generator.zero_grad()
            torch.autograd.backward(judge(critic(fake), True))
            of_generator.step()
    return [*generator.parameters(), *critic.parameters()]
