"""Loggers: what they are given to write at which step, and what lies on the disk afterwards."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, EventEnum, Events
from ignite.handlers import FBResearchLogger, TensorboardLogger, global_step_from_engine
from ignite.handlers.base_logger import (
    BaseLogger,
    BaseOptimizerParamsHandler,
    BaseOutputHandler,
    BaseWeightsScalarHandler,
)
from ignite.handlers.tensorboard_logger import (
    GradsHistHandler,
    GradsScalarHandler,
    WeightsHistHandler,
    WeightsScalarHandler,
)
from ignite.metrics import MeanSquaredError, RunningAverage
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from typing_extensions import override

from tests.engine.unmodified.setups import setup
from tests.engine.unmodified.setups.common import Training, echo, plain, training


class Chunks(EventEnum):
    CHUNK_COMPLETED = "chunk_completed"
    UNCOUNTED = "uncounted"


class Lines(BaseLogger):
    """Keep what handlers log, in a list."""

    def __init__(self) -> None:
        self.lines: list[Any] = []

    @override
    def _create_output_handler(self, *args: Any, **kwargs: Any) -> Output:
        return Output(*args, **kwargs)

    @override
    def _create_opt_params_handler(self, *args: Any, **kwargs: Any) -> Rates:
        return Rates(*args, **kwargs)


class Output(BaseOutputHandler):
    @override
    def __call__(self, engine: Engine, logger: Lines, event_name: Any) -> None:
        values = self._setup_output_metrics_state_attrs(engine, key_tuple=False)
        step = self.global_step_transform(engine, event_name)
        logger.lines.append([event_name.name, step, plain(values)])


class Rates(BaseOptimizerParamsHandler):
    @override
    def __call__(self, engine: Engine, logger: Lines, event_name: Any) -> None:
        step = engine.state.get_event_attrib_value(event_name)
        values = [group[self.param_name] for group in self.optimizer.param_groups]
        logger.lines.append([event_name.name, step, plain(values)])


class Norms(BaseWeightsScalarHandler):
    @override
    def __call__(self, engine: Engine, logger: Lines, event_name: Any) -> None:
        norms = [[name, plain(self.reduction(weight))] for name, weight in self.weights]
        logger.lines.append([event_name.name, norms])


def measured(parts: Training) -> Training:
    """Have metrics and an evaluation in each epoch."""
    RunningAverage(output_transform=lambda output: output).attach(parts.trainer, "loss")
    MeanSquaredError().attach(parts.evaluator, "mse")
    parts.trainer.state.alpha = 0.5
    parts.trainer.add_event_handler(
        Events.EPOCH_COMPLETED, lambda: parts.evaluator.run(parts.data[:2])
    )
    return parts


@setup("handlers/base_logger.py")
def logger_of_ones_own() -> Any:
    parts, logger = measured(training()), Lines()
    step = global_step_from_engine(parts.trainer)
    logger.attach_output_handler(
        parts.trainer,
        Events.ITERATION_COMPLETED(every=2) | Events.COMPLETED,
        tag="training",
        metric_names="all",
        output_transform=lambda output: {"nested": {"out": [output, torch.tensor(output)]}},
        state_attributes=["alpha", "missing"],
    )
    logger.attach_output_handler(
        parts.evaluator,
        Events.COMPLETED,
        tag="evaluation",
        metric_names=["mse", "absent"],
        global_step_transform=step,
    )
    handle = logger.attach_opt_params_handler(
        parts.trainer, Events.EPOCH_STARTED | Events.EPOCH_COMPLETED, parts.optimizer
    )
    logger.attach(parts.trainer, Norms(parts.model), Events.EPOCH_COMPLETED(once=2))
    with logger:
        parts.trainer.run(parts.data, max_epochs=2)
        handle.remove()
        parts.trainer.run(parts.data, max_epochs=3)
    return [logger.lines, parts.result()]


@setup("handlers/base_logger.py")
def logger_of_custom_events() -> Any:
    def process(engine: Any, batch: Any) -> Any:
        engine.state.chunk += 2
        engine.fire_event(Chunks.CHUNK_COMPLETED)
        return batch

    engine: Any = Engine(process)
    logger, refused = Lines(), []
    engine.register_events(*Chunks, event_to_attr={Chunks.CHUNK_COMPLETED: "chunk"})
    logger.attach_output_handler(
        engine, Chunks.CHUNK_COMPLETED(every=4), tag="chunks", output_transform=lambda output: 1
    )
    for event in (Chunks.UNCOUNTED, Events.TERMINATE, Events.STARTED | Chunks.UNCOUNTED):
        try:
            logger.attach_output_handler(engine, event, tag="t", metric_names="all")
        except RuntimeError as error:
            refused.append(type(error).__name__)
    engine.run([0, 1, 2], max_epochs=2)
    return [logger.lines, refused, engine.state.chunk]


def written(folder: str) -> Any:
    """Read what TensorBoard would show."""
    events = EventAccumulator(folder).Reload()
    tags = events.Tags()
    scalars = {
        tag: [[event.step, event.value] for event in events.Scalars(tag)]
        for tag in sorted(tags["scalars"])
    }
    histograms = {
        tag: [[event.step, event.histogram_value.sum] for event in events.Histograms(tag)]
        for tag in sorted(tags["histograms"])
    }
    return [plain(scalars), plain(histograms)]


@setup("handlers/tensorboard_logger.py")
def tensorboard() -> Any:
    parts = measured(training())
    with TensorboardLogger(log_dir="board") as logger:
        logger.attach_output_handler(
            parts.trainer,
            Events.ITERATION_COMPLETED(every=3),
            tag="training",
            metric_names="all",
            output_transform=lambda output: {"now": output},
            state_attributes=["alpha"],
        )
        logger.attach_output_handler(
            parts.evaluator,
            Events.EPOCH_COMPLETED,
            tag="evaluation",
            metric_names=["mse"],
            global_step_transform=global_step_from_engine(parts.trainer),
        )
        logger.attach_opt_params_handler(parts.trainer, Events.ITERATION_STARTED, parts.optimizer)
        for weights in (WeightsScalarHandler, WeightsHistHandler):
            logger.attach(parts.trainer, weights(parts.model), Events.EPOCH_COMPLETED)
        for gradients in (GradsScalarHandler, GradsHistHandler):
            logger.attach(
                parts.trainer,
                gradients(parts.model, tag="g", whitelist=["weight"]),
                Events.ITERATION_COMPLETED(every=5),
            )
        parts.trainer.run(parts.data, max_epochs=2)
    files = [path.name.split(".")[:3] for path in Path("board").iterdir()]
    return [written("board"), files, parts.result()]


@setup("handlers/fbresearch_logger.py")
def text_log() -> Any:
    lines: list[str] = []

    class Keep(logging.Handler):
        @override
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    log = logging.Logger("text")
    log.addHandler(Keep())
    parts = training()
    parts.trainer.state.alpha = 0.5
    FBResearchLogger(log, show_output=True).attach(
        parts.trainer,
        "Train",
        every=2,
        optimizer=parts.optimizer,
        output_transform=lambda output: {"loss": output},
        state_attributes=["alpha", "missing"],
    )
    FBResearchLogger(log).attach(parts.evaluator, "Evaluate", every=2)
    parts.trainer.run(parts.data, max_epochs=2)
    parts.evaluator.run(parts.data)
    return [re.sub(r"\d+:\d\d:\d\d|\d+\.\d+(?= s)", "time", line) for line in lines]


@setup("handlers/base_logger.py")
def logger_attached_to_two_engines() -> Any:
    logger, engines = Lines(), [Engine(echo), Engine(echo)]
    for number, engine in enumerate(engines):
        logger.attach_output_handler(
            engine,
            Events.ITERATION_COMPLETED(every=number + 1),
            tag=str(number),
            output_transform=lambda output: output,
        )
    for engine in engines:
        engine.run([1, 2, 3])
    return logger.lines
