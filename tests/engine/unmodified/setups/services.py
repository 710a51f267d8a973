"""Loggers of services whose packages are absent: the calls that stand-ins of the packages take."""

from __future__ import annotations

from typing import Any

from ignite.engine import Events
from ignite.handlers import (
    Checkpoint,
    ClearMLLogger,
    MLflowLogger,
    NeptuneLogger,
    PolyaxonLogger,
    VisdomLogger,
    WandBLogger,
    clearml_logger,
    global_step_from_engine,
    logger_utils,
    neptune_logger,
    visdom_logger,
)

from tests.engine.unmodified.setups import setup
from tests.engine.unmodified.setups.common import calls, stand_in, training
from tests.engine.unmodified.setups.loggers import measured, written

CLEARML = ("clearml", "binding.frameworks.tensorflow_bind")
MLFLOW = ("mlflow", "utils.validation")
NEPTUNE = ("neptune", "new.types")
POLYAXON = ("polyaxon", "tracking")


def logged(logger: Any, *weights: Any, saver: Any = None) -> Any:
    """Train with a logger and all that it has handlers for."""
    parts = measured(training())
    with logger:
        logger.attach_output_handler(
            parts.trainer,
            Events.ITERATION_COMPLETED,
            tag="training",
            metric_names="all",
            output_transform=lambda output: {"now": output},
            state_attributes=["alpha"],
        )
        logger.attach_output_handler(
            parts.evaluator,
            Events.COMPLETED,
            tag="evaluation",
            metric_names=["mse"],
            global_step_transform=global_step_from_engine(parts.trainer),
        )
        logger.attach_opt_params_handler(
            parts.trainer, Events.ITERATION_STARTED(every=2), parts.optimizer
        )
        for handler in weights:
            logger.attach(parts.trainer, handler(parts.model), Events.EPOCH_COMPLETED)
        if saver is not None:
            handler = Checkpoint({"model": parts.model}, saver, n_saved=1)
            parts.trainer.add_event_handler(Events.EPOCH_COMPLETED, handler)
        parts.trainer.run(parts.data, max_epochs=2)
    return parts.result()


@setup("handlers/clearml_logger.py")
def clearml() -> Any:
    with stand_in(*CLEARML) as package:
        logger = ClearMLLogger(project_name="project", task_name="task")
        handlers = (
            clearml_logger.WeightsScalarHandler,
            clearml_logger.WeightsHistHandler,
            clearml_logger.GradsScalarHandler,
            clearml_logger.GradsHistHandler,
        )
        saver = clearml_logger.ClearMLSaver(logger, dirname="saved")
        return [logged(logger, *handlers, saver=saver), calls(package)]


@setup("handlers/mlflow_logger.py")
def mlflow() -> Any:
    with stand_in(*MLFLOW) as package:
        return [logged(MLflowLogger(tracking_uri="here")), calls(package)]


@setup("handlers/neptune_logger.py")
def neptune() -> Any:
    with stand_in(*NEPTUNE) as package:
        logger = NeptuneLogger(project="project")
        handlers = (neptune_logger.WeightsScalarHandler, neptune_logger.GradsScalarHandler)
        saver = neptune_logger.NeptuneSaver(logger)
        return [logged(logger, *handlers, saver=saver), calls(package)]


@setup("handlers/polyaxon_logger.py")
def polyaxon() -> Any:
    with stand_in(*POLYAXON) as package:
        return [logged(PolyaxonLogger(project="project")), calls(package)]


@setup("handlers/visdom_logger.py")
def visdom() -> Any:
    with stand_in("visdom") as package:
        logger = VisdomLogger(num_workers=0)
        handlers = (visdom_logger.WeightsScalarHandler, visdom_logger.GradsScalarHandler)
        return [logged(logger, *handlers), calls(package)]


@setup("handlers/wandb_logger.py")
def wandb() -> Any:
    with stand_in("wandb") as package:
        return [logged(WandBLogger(project="project")), calls(package)]


@setup("handlers/logger_utils.py")
def loggers_set_up_at_once() -> Any:
    results = []
    for kind, package in (
        ("clearml", CLEARML),
        ("mlflow", MLFLOW),
        ("neptune", NEPTUNE),
        ("plx", POLYAXON),
        ("trains", CLEARML),
        ("visdom", ("visdom",)),
        ("wandb", ("wandb",)),
    ):
        parts = measured(training())
        with stand_in(*package) as module:
            options = {"num_workers": 0} if kind == "visdom" else {}
            make = getattr(logger_utils, f"setup_{kind}_logging")
            with make(
                parts.trainer, parts.optimizer, parts.evaluator, log_every_iters=1, **options
            ):
                parts.trainer.run(parts.data, max_epochs=2)
            results.append([kind, calls(module)])
    return results


@setup("handlers/logger_utils.py")
def tensorboard_set_up_at_once() -> Any:
    parts = measured(training())
    with logger_utils.setup_tb_logging(
        "board",
        parts.trainer,
        optimizers={"sgd": parts.optimizer},
        evaluators={"held out": parts.evaluator},
        log_every_iters=2,
        trainer_metric_names=["loss"],
    ):
        parts.trainer.run(parts.data, max_epochs=2)
    return [written("board"), parts.result()]


@setup("handlers/logger_utils.py")
def set_up_wants_engines() -> Any:
    parts, refused = training(), []
    for options in ({"optimizers": 1}, {"evaluators": 1}):
        try:
            logger_utils.setup_tb_logging("board", parts.trainer, **options)  # type: ignore[arg-type]
        except TypeError as error:
            refused.append(type(error).__name__)
    return refused
