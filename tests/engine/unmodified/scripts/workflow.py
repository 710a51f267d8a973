"""Train through a subclass of Engine that has events within an iteration, and its own `run`."""

# mypy: ignore-errors

import logging

import torch
from ignite.engine import Engine, EventEnum, Events, State
from ignite.handlers import EpochOutputStore
from ignite.metrics import MeanSquaredError
from torch import nn


class Steps(EventEnum):
    FORWARD_COMPLETED = "forward_completed"
    LOSS_COMPLETED = "loss_completed"
    BACKWARD_COMPLETED = "backward_completed"
    STEP_COMPLETED = "step_completed"


COUNTERS = dict.fromkeys(Steps, "step")


class Workflow(Engine):
    """Be an engine that knows its data and how long to run."""

    def __init__(self, data, epochs, name):
        super().__init__(self._iteration)
        self.data = data
        self.state = State(epochs_wanted=epochs, best_metric=-1, name=name)
        self.logger = logging.getLogger(name)
        self.register_events(*Steps, event_to_attr=COUNTERS)

        @self.on(Events.ITERATION_STARTED)
        def count(engine):
            engine.state.step += 1

    def run(self):
        state = self.state
        self.logger.info("%s starts after iteration %d", state.name, state.iteration)
        return super().run(data=self.data, max_epochs=state.epochs_wanted)

    def _iteration(self, engine, batch):
        raise NotImplementedError


class Trainer(Workflow):
    def __init__(self, model, optimizer, data, epochs):
        super().__init__(data, epochs, "trainer")
        self.model, self.optimizer = model, optimizer

    def _iteration(self, engine, batch):
        engine.state.output = {"image": batch[0], "label": batch[1]}
        self.optimizer.zero_grad()
        engine.state.output["pred"] = self.model(engine.state.output["image"])
        engine.fire_event(Steps.FORWARD_COMPLETED)
        loss = nn.functional.mse_loss(engine.state.output["pred"], engine.state.output["label"])
        engine.state.output["loss"] = loss
        engine.fire_event(Steps.LOSS_COMPLETED)
        engine.state.output["loss"].backward()
        engine.fire_event(Steps.BACKWARD_COMPLETED)
        self.optimizer.step()
        engine.fire_event(Steps.STEP_COMPLETED)
        return engine.state.output


class Evaluator(Workflow):
    def __init__(self, model, data):
        super().__init__(data, 1, "evaluator")
        self.model = model

    def run(self):
        state = self.state
        state.max_epochs, state.epoch, state.iteration = None, 0, 0
        return super().run()

    def _iteration(self, engine, batch):
        with torch.no_grad():
            return {"y_pred": self.model(batch[0]), "y": batch[1]}


def main():
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    torch.manual_seed(3)
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    inputs = torch.randn(8, 5, 2)
    data = [(x, x.sum(dim=1, keepdim=True)) for x in inputs]
    trainer = Trainer(model, optimizer, data[:6], epochs=3)
    evaluator = Evaluator(model, data[6:])
    MeanSquaredError().attach(evaluator, "mse")
    EpochOutputStore(output_transform=lambda output: output["loss"].item()).attach(
        trainer, "losses"
    )

    @trainer.on(Events.GET_BATCH_COMPLETED)
    def normalize(engine):
        image, label = engine.state.batch
        engine.state.batch = (image.clamp(-2, 2), label)

    @trainer.on(Steps.LOSS_COMPLETED(every=3))
    def weigh(engine):
        engine.state.output["loss"] = engine.state.output["loss"] * 0.5

    @trainer.on(Steps.BACKWARD_COMPLETED)
    def clip(engine):
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        engine.state.norm = norm.item()

    @trainer.on(Steps.STEP_COMPLETED(every=4) | Steps.FORWARD_COMPLETED(once=1))
    def tell(engine):
        state = engine.state
        print(
            engine.last_event_name, state.epoch, state.iteration, state.step, state.batch[1].sum()
        )

    @trainer.on(Events.EPOCH_COMPLETED)
    def evaluate(engine):
        error = evaluator.run().metrics["mse"]
        print(f"epoch {engine.state.epoch}: {engine.state.losses} norm {engine.state.norm} {error}")
        if engine.state.best_metric < 0 or error < engine.state.best_metric:
            engine.state.best_metric = error

    @trainer.on(Events.EXCEPTION_RAISED)
    def tell_error(engine, error):
        print("stopped by", repr(error))
        raise error

    final = trainer.run()
    print(final.best_metric, final.step, final.epoch, model.weight.tolist())

    @trainer.on(Events.EPOCH_COMPLETED)
    def fail(engine):
        raise ArithmeticError("no loss today")

    trainer.state.epochs_wanted = 4
    try:
        trainer.run()
    except ArithmeticError:
        print("after it:", trainer.state.epoch, trainer.state.iteration, trainer.state.step)


if __name__ == "__main__":
    main()
