"""The training with fengine."""

from __future__ import annotations

import torch
from torch import Tensor

from fengine import Loop, State, stages
from fengine.features import seeded
from fengine.metrics import mean
from fengine.training import TensorBatches
from tests.trainings.gan.task import EPOCHS, judge, models, points


def train() -> list[Tensor]:
    generator, critic = models()
    of_generator = torch.optim.Adam(generator.parameters(), lr=0.01)
    of_critic = torch.optim.Adam(critic.parameters(), lr=0.01)

    def criticize(state: State[tuple[Tensor], Tensor]) -> Tensor:
        (real,) = state.batch
        fake: Tensor = generator(torch.randn(len(real), 4))
        of_critic.zero_grad()
        torch.autograd.backward(judge(critic(real), True) + judge(critic(fake.detach()), False))
        of_critic.step()
        return fake

    def generate(fake: Tensor) -> Tensor:
        loss = judge(critic(fake), True)
        of_generator.zero_grad()
        torch.autograd.backward(loss)
        of_generator.step()
        return loss.detach()

    step = stages(criticize).then(generate).changing(generator=generator, critic=critic)
    step = step.changing(of_generator=of_generator, of_critic=of_critic)
    loop = Loop(step) | seeded(1) | mean("loss")
    final = loop.run(TensorBatches(points(), batch_size=32, seed=0), max_epochs=EPOCHS)
    assert final.metrics["loss"] > 0
    return [*generator.parameters(), *critic.parameters()]
