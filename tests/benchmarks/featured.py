"""Trainings and evaluations with one feature each: in a Loop, pytorch-ignite and the Trainer.

In each system a feature is used as its guide shows. What is not ready-made there is a handler or a
line of the user's own.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast, final

import attrs
import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import StepLR
from typing_extensions import override

from fengine import Event, Events, Loop, State
from tests.benchmarks.by_hand import LossFunction, Pairs, Run
from tests.benchmarks.lightning_peers import quiet_trainer
from tests.benchmarks.systems import IGNITE, LOOP, TRAINER

if TYPE_CHECKING:
    from ignite.engine import Engine
    from lightning.pytorch import LightningModule

    from fengine.training import ForwardPass

PLAIN: Final = "without a feature"
OWN_STEP: Final = "without a feature, in a step of the user's own"

UNFUSED: Final = "the step, unfused"
CLIP: Final = "clip_grad_norm"
SCHEDULE: Final = "lr_schedule, StepLR"
RATE: Final = "learning_rate"
MEAN: Final = "mean of the loss"
NO_TERMINAL: Final = "progress, to no terminal"
TERMINAL: Final = "progress, to a terminal"
THROUGHPUT: Final = "throughput"
PROFILED: Final = "profiled, handlers"
LOG_OF_EPOCHS: Final = "learning_rate, logged at each epoch"
LOG_OF_ITERATIONS: Final = "learning_rate, logged at each iteration"

ACCURACY: Final = "accuracy"
MEAN_LOSS: Final = "mean_loss"
TORCH_METRIC: Final = "torch_metric"

CLASSES: Final = 3
MAX_NORM: Final = 1.0

Pair: TypeAlias = tuple[Tensor, Tensor]


@final
@attrs.frozen
class Sink:
    """Be a file that swallows the output.

    Args:
        terminal: whether it says that it is a terminal.
    """

    terminal: bool

    def isatty(self) -> bool:
        """Tell whether it is a terminal."""
        return self.terminal

    def write(self, text: str) -> int:
        """Swallow a text."""
        return len(text)

    def flush(self) -> None:
        """Hold nothing back."""


@final
@attrs.frozen
class Trained:
    """Hold what a training is made of."""

    model: nn.Module
    optimizer: Optimizer
    loss_fn: LossFunction

    @staticmethod
    def new() -> Trained:
        """Make a model whose weights are always the same, and its optimizer."""
        torch.manual_seed(0)
        model = nn.Linear(8, 1)
        return Trained(model, SGD(model.parameters(), lr=0.01), nn.MSELoss())

    def scheduler(self) -> StepLR:
        """Make a scheduler that multiplies at each step, and changes nothing."""
        return StepLR(self.optimizer, step_size=1, gamma=1.0)


def new_folder() -> Path:
    """Make a folder for a log, which is there as long as this process."""
    folder = Path(tempfile.mkdtemp(prefix="fengine-benchmark-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def new_classifier() -> nn.Module:
    """Make a model to evaluate."""
    torch.manual_seed(0)
    return nn.Linear(8, CLASSES)


# The Loop.


def _training_loop(own: Trained) -> Loop[Pair, Tensor]:
    from fengine.training import training_step

    return Loop(training_step(own.model, own.optimizer, own.loss_fn))


def _evaluation_loop(model: nn.Module) -> Loop[Pair, Any]:
    from fengine.training import evaluation_step

    return Loop(evaluation_step(model))


def _loop_unfused(own: Trained) -> Run:
    from fengine.training import Backprop

    def handler(
        state: State[Pair, Tensor, None], forward: ForwardPass
    ) -> State[Pair, Tensor, None]:
        return state

    return _training_loop(own).on(Backprop.COMPLETED, handler).run


def _loop_clipping(own: Trained) -> Run:
    from fengine.features import clip_grad_norm

    return (_training_loop(own) | clip_grad_norm(own.model, MAX_NORM)).run


def _loop_scheduling(own: Trained) -> Run:
    from fengine.features import lr_schedule

    return (_training_loop(own) | lr_schedule(own.scheduler())).run


def _loop_telling_rate(own: Trained) -> Run:
    from fengine.features import learning_rate

    return (_training_loop(own) | learning_rate(own.optimizer, at=Events.ITERATION_COMPLETED)).run


def _loop_averaging(own: Trained) -> Run:
    from fengine.metrics import mean

    return (_training_loop(own) | mean("loss")).run


def _loop_showing(own: Trained, terminal: bool) -> Run:
    from fengine.features import progress

    return (_training_loop(own) | progress(file=Sink(terminal))).run


def _loop_counting(own: Trained) -> Run:
    from fengine.features import throughput

    return (_training_loop(own) | throughput()).run


def _loop_profiling(own: Trained) -> Run:
    from fengine.features import profiled

    return (_training_loop(own) | profiled(file=Sink(False))).run


def _loop_logging(own: Trained, at: Event) -> Run:
    from fengine.features import learning_rate, log_to
    from fengine.writers import jsonl

    loop = _training_loop(own) | learning_rate(own.optimizer, at=at)
    return (loop | log_to(jsonl(new_folder() / "log.jsonl"), at=at)).run


def _loop_accuracy(model: nn.Module) -> Run:
    from fengine.metrics import accuracy

    return (_evaluation_loop(model) | accuracy()).run


def _loop_mean_loss(model: nn.Module) -> Run:
    from fengine.metrics import mean_loss

    return (_evaluation_loop(model) | mean_loss(nn.CrossEntropyLoss())).run


def _loop_torch_metric(model: nn.Module) -> Run:
    from torchmetrics.classification import MulticlassAccuracy

    from fengine.metrics import torch_metric

    return (_evaluation_loop(model) | torch_metric(MulticlassAccuracy(CLASSES))).run


# pytorch-ignite.


def _ignite_trainer(own: Trained) -> Engine:
    from ignite.engine import create_supervised_trainer

    return create_supervised_trainer(own.model, own.optimizer, own.loss_fn)


def _ignite_own_step(own: Trained, clips: bool) -> Run:
    from ignite.engine import Engine

    backward: Callable[[Tensor], object] = Tensor.backward

    def step(engine: Engine, batch: Pair) -> float:
        own.model.train()
        own.optimizer.zero_grad()
        x, y = batch
        loss = own.loss_fn(own.model(x), y)
        backward(loss)
        if clips:
            nn.utils.clip_grad_norm_(own.model.parameters(), MAX_NORM)
        own.optimizer.step()
        return loss.item()

    return Engine(step).run


def _ignite_scheduling(own: Trained) -> Run:
    from ignite.engine import Events as Moments
    from ignite.handlers import LRScheduler

    trainer = _ignite_trainer(own)
    trainer.add_event_handler(Moments.ITERATION_COMPLETED, LRScheduler(own.scheduler()))
    return trainer.run


def _ignite_telling_rate(own: Trained) -> Run:
    from ignite.engine import Events as Moments

    def tell(engine: Engine) -> None:
        engine.state.metrics["lr"] = own.optimizer.param_groups[0]["lr"]

    trainer = _ignite_trainer(own)
    trainer.add_event_handler(Moments.ITERATION_COMPLETED, tell)
    return trainer.run


def _ignite_averaging(own: Trained) -> Run:
    from ignite.metrics import Average

    trainer = _ignite_trainer(own)
    Average().attach(trainer, "loss")
    return trainer.run


def _ignite_showing(own: Trained, terminal: bool) -> Run:
    from ignite.handlers import ProgressBar

    trainer = _ignite_trainer(own)
    ProgressBar(file=Sink(terminal)).attach(trainer)
    return trainer.run


def _ignite_profiling(own: Trained) -> Run:
    from ignite.handlers import BasicTimeProfiler

    trainer = _ignite_trainer(own)
    BasicTimeProfiler().attach(trainer)
    return trainer.run


def _ignite_evaluation(model: nn.Module) -> Run:
    from ignite.engine import create_supervised_evaluator

    return create_supervised_evaluator(model).run


def _ignite_accuracy(model: nn.Module) -> Run:
    from ignite.engine import create_supervised_evaluator
    from ignite.metrics import Accuracy

    return create_supervised_evaluator(model, metrics={"accuracy": Accuracy()}).run


def _ignite_mean_loss(model: nn.Module) -> Run:
    from ignite.engine import create_supervised_evaluator
    from ignite.metrics import Loss

    return create_supervised_evaluator(model, metrics={"loss": Loss(nn.CrossEntropyLoss())}).run


def _ignite_torch_metric(model: nn.Module) -> Run:
    from ignite.engine import Events as Moments
    from ignite.engine import create_supervised_evaluator
    from torchmetrics.classification import MulticlassAccuracy

    metric = MulticlassAccuracy(CLASSES)

    def begin(engine: Engine) -> None:
        metric.reset()

    def count(engine: Engine) -> None:
        metric.update(*cast("Pair", engine.state.output))

    def report(engine: Engine) -> None:
        engine.state.metrics["accuracy"] = metric.compute().item()

    evaluator = create_supervised_evaluator(model)
    evaluator.add_event_handler(Moments.EPOCH_STARTED, begin)
    evaluator.add_event_handler(Moments.ITERATION_COMPLETED, count)
    evaluator.add_event_handler(Moments.EPOCH_COMPLETED, report)
    return evaluator.run


# The Lightning Trainer. Its modules of one system differ by what they log.

_QUIET: Final[Mapping[str, object]] = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
}
Told: TypeAlias = Callable[["LightningModule", Tensor], object]


def _tell_nothing(module: LightningModule, loss: Tensor) -> None:
    """Log nothing."""


def _tell_mean(module: LightningModule, loss: Tensor) -> None:
    module.log("loss", loss, on_step=False, on_epoch=True)


def _trainer_training(
    own: Trained,
    tell: Told = _tell_nothing,
    scheduler: StepLR | None = None,
    terminal: bool | None = None,
    **options: object,
) -> Run:
    from lightning.pytorch import LightningModule

    class Module(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = own.model

        def training_step(self, batch: Pair, number: int) -> Tensor:
            x, y = batch
            loss = own.loss_fn(self.model(x), y)
            tell(self, loss)
            return loss

        @override
        def configure_optimizers(self) -> Optimizer | Mapping[str, object]:
            if scheduler is None:
                return own.optimizer
            stepped = {"scheduler": scheduler, "interval": "step"}
            return {"optimizer": own.optimizer, "lr_scheduler": stepped}

    module = Module()

    def run(data: Pairs) -> None:
        shows = terminal is not None
        told = {**_QUIET, "enable_progress_bar": shows, **options}
        quiet_trainer(**told).fit(module, data)

    if terminal is None:
        return run
    sink = Sink(terminal)

    def run_showing(data: Pairs) -> None:
        with redirect_stdout(cast("Any", sink)):
            run(data)

    return run_showing


def _trainer_clipping(own: Trained) -> Run:
    return _trainer_training(own, gradient_clip_val=MAX_NORM)


def _trainer_scheduling(own: Trained) -> Run:
    return _trainer_training(own, scheduler=own.scheduler())


def _trainer_telling_rate(own: Trained) -> Run:
    groups = own.optimizer.param_groups

    def tell(module: LightningModule, loss: Tensor) -> None:
        module.log("lr", groups[0]["lr"], on_step=True, on_epoch=False)

    return _trainer_training(own, tell)


def _trainer_logging(own: Trained, each_step: bool) -> Run:
    from lightning.pytorch.loggers import CSVLogger

    groups = own.optimizer.param_groups

    def tell(module: LightningModule, loss: Tensor) -> None:
        module.log("lr", groups[0]["lr"], on_step=each_step, on_epoch=not each_step)

    logger = CSVLogger(new_folder(), version=0)
    return _trainer_training(own, tell, logger=logger, log_every_n_steps=1)


def _trainer_averaging(own: Trained) -> Run:
    return _trainer_training(own, _tell_mean)


def _trainer_profiling(own: Trained) -> Run:
    return _trainer_training(own, profiler="simple")


def _trainer_counting(own: Trained) -> Run:
    callbacks: Any = import_module("lightning.pytorch.callbacks")

    def samples(batch: Pair) -> int:
        return len(batch[0])

    return _trainer_training(own, callbacks=[callbacks.ThroughputMonitor(samples)])


def _trainer_showing(own: Trained, terminal: bool) -> Run:
    return _trainer_training(own, terminal=terminal)


Measured: TypeAlias = Callable[["LightningModule", Tensor, Tensor], object]


def _measure_nothing(module: LightningModule, y_pred: Tensor, y: Tensor) -> None:
    """Log nothing."""


def _measure_loss(module: LightningModule, y_pred: Tensor, y: Tensor) -> None:
    loss = nn.functional.cross_entropy(y_pred, y)
    module.log("loss", loss, on_step=False, on_epoch=True)


def _trainer_evaluation(
    model: nn.Module, measure: Measured = _measure_nothing, metric: Any = None
) -> Run:
    from lightning.pytorch import LightningModule

    class Module(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = model
            self.metric = metric

        def validation_step(self, batch: Pair, number: int) -> None:
            x, y = batch
            measure(self, self.model(x), y)

    module = Module()

    def run(data: Pairs) -> None:
        trainer = quiet_trainer(**_QUIET, enable_progress_bar=False)
        trainer.validate(module, data, verbose=False)

    return run


def _trainer_mean_loss(model: nn.Module) -> Run:
    return _trainer_evaluation(model, _measure_loss)


def _trainer_measuring(model: nn.Module, metric: Any) -> Run:
    def measure(module: LightningModule, y_pred: Tensor, y: Tensor) -> None:
        metric.update(y_pred, y)
        module.log("accuracy", metric, on_step=False, on_epoch=True)

    return _trainer_evaluation(model, measure, metric)


def _trainer_accuracy(model: nn.Module) -> Run:
    from torchmetrics import Accuracy

    return _trainer_measuring(model, Accuracy(task="multiclass", num_classes=CLASSES))


def _trainer_torch_metric(model: nn.Module) -> Run:
    from torchmetrics.classification import MulticlassAccuracy

    return _trainer_measuring(model, MulticlassAccuracy(CLASSES))


# All of them, by the system and the feature.

Key: TypeAlias = tuple[str, str]

_PACKAGES: Final = {IGNITE: "ignite", TRAINER: "lightning"}
# What comes with Lightning: torchmetrics and tqdm.
_OF_LIGHTNING: Final = frozenset({NO_TERMINAL, TERMINAL, TORCH_METRIC})

_TRAININGS: Final[Mapping[Key, Callable[[Trained], Run]]] = {
    (LOOP, PLAIN): lambda own: _training_loop(own).run,
    (LOOP, UNFUSED): _loop_unfused,
    (LOOP, CLIP): _loop_clipping,
    (LOOP, SCHEDULE): _loop_scheduling,
    (LOOP, RATE): _loop_telling_rate,
    (LOOP, MEAN): _loop_averaging,
    (LOOP, NO_TERMINAL): lambda own: _loop_showing(own, False),
    (LOOP, TERMINAL): lambda own: _loop_showing(own, True),
    (LOOP, THROUGHPUT): _loop_counting,
    (LOOP, PROFILED): _loop_profiling,
    (LOOP, LOG_OF_EPOCHS): lambda own: _loop_logging(own, Events.EPOCH_COMPLETED),
    (LOOP, LOG_OF_ITERATIONS): lambda own: _loop_logging(own, Events.ITERATION_COMPLETED),
    (IGNITE, PLAIN): lambda own: _ignite_trainer(own).run,
    (IGNITE, OWN_STEP): lambda own: _ignite_own_step(own, clips=False),
    (IGNITE, CLIP): lambda own: _ignite_own_step(own, clips=True),
    (IGNITE, SCHEDULE): _ignite_scheduling,
    (IGNITE, RATE): _ignite_telling_rate,
    (IGNITE, MEAN): _ignite_averaging,
    (IGNITE, NO_TERMINAL): lambda own: _ignite_showing(own, False),
    (IGNITE, TERMINAL): lambda own: _ignite_showing(own, True),
    (IGNITE, PROFILED): _ignite_profiling,
    (TRAINER, PLAIN): _trainer_training,
    (TRAINER, CLIP): _trainer_clipping,
    (TRAINER, SCHEDULE): _trainer_scheduling,
    (TRAINER, RATE): _trainer_telling_rate,
    (TRAINER, MEAN): _trainer_averaging,
    (TRAINER, THROUGHPUT): _trainer_counting,
    (TRAINER, PROFILED): _trainer_profiling,
    (TRAINER, NO_TERMINAL): lambda own: _trainer_showing(own, False),
    (TRAINER, TERMINAL): lambda own: _trainer_showing(own, True),
    (TRAINER, LOG_OF_EPOCHS): lambda own: _trainer_logging(own, each_step=False),
    (TRAINER, LOG_OF_ITERATIONS): lambda own: _trainer_logging(own, each_step=True),
}
_EVALUATIONS: Final[Mapping[Key, Callable[[nn.Module], Run]]] = {
    (LOOP, PLAIN): lambda model: _evaluation_loop(model).run,
    (LOOP, ACCURACY): _loop_accuracy,
    (LOOP, MEAN_LOSS): _loop_mean_loss,
    (LOOP, TORCH_METRIC): _loop_torch_metric,
    (IGNITE, PLAIN): _ignite_evaluation,
    (IGNITE, ACCURACY): _ignite_accuracy,
    (IGNITE, MEAN_LOSS): _ignite_mean_loss,
    (IGNITE, TORCH_METRIC): _ignite_torch_metric,
    (TRAINER, PLAIN): _trainer_evaluation,
    (TRAINER, ACCURACY): _trainer_accuracy,
    (TRAINER, MEAN_LOSS): _trainer_mean_loss,
    (TRAINER, TORCH_METRIC): _trainer_torch_metric,
}


def systems_with_features(have: frozenset[str]) -> list[str]:
    """Name the systems that are here."""
    return [LOOP, *(name for name, package in _PACKAGES.items() if package in have)]


def trainings(have: frozenset[str]) -> Mapping[Key, Run]:
    """Make the trainings that can be made here, each with a model of its own."""
    return {key: make(Trained.new()) for key, make in _TRAININGS.items() if _can_be_made(key, have)}


def evaluations(have: frozenset[str]) -> Mapping[Key, Run]:
    """Make the evaluations that can be made here, each with a model of its own."""
    return {
        key: make(new_classifier()) for key, make in _EVALUATIONS.items() if _can_be_made(key, have)
    }


def _can_be_made(key: Key, have: frozenset[str]) -> bool:
    system, feature = key
    return system in systems_with_features(have) and (
        feature not in _OF_LIGHTNING or "lightning" in have
    )
