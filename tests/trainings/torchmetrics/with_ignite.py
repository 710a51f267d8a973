"""The evaluation with pytorch-ignite, which calls torchmetrics by handlers."""

# mypy: ignore-errors
from __future__ import annotations

from ignite.engine import Events, create_supervised_evaluator

from tests.trainings.torchmetrics.task import loader, metrics, network


def train():
    evaluator = create_supervised_evaluator(network())
    several = metrics()
    evaluator.add_event_handler(Events.STARTED, several.reset)

    @evaluator.on(Events.ITERATION_COMPLETED)
    def update(engine):
        several.update(*engine.state.output)

    @evaluator.on(Events.COMPLETED)
    def compute(engine):
        engine.state.metrics.update(several.compute())

    evaluator.run(loader())
    return {name: float(value) for name, value in evaluator.state.metrics.items()}
