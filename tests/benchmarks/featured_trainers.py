"""Trainings and evaluations with one feature each, in the Lightning Trainer.

Its modules differ by what they log.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import StepLR
from typing_extensions import override

from tests.benchmarks.by_hand import Pairs, Run
from tests.benchmarks.featured_things import (
    CLASSES,
    DAY,
    DECAY,
    MAX_NORM,
    Pair,
    Sink,
    Trained,
    new_folder,
)
from tests.benchmarks.lightning_peers import quiet_trainer

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule


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


def training(
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


def clipping(own: Trained) -> Run:
    return training(own, gradient_clip_val=MAX_NORM)


def scheduling(own: Trained) -> Run:
    return training(own, scheduler=own.scheduler())


def telling_rate(own: Trained) -> Run:
    groups = own.optimizer.param_groups

    def tell(module: LightningModule, loss: Tensor) -> None:
        module.log("lr", groups[0]["lr"], on_step=True, on_epoch=False)

    return training(own, tell)


def logging(own: Trained, each_step: bool) -> Run:
    from lightning.pytorch.loggers import CSVLogger

    groups = own.optimizer.param_groups

    def tell(module: LightningModule, loss: Tensor) -> None:
        module.log("lr", groups[0]["lr"], on_step=each_step, on_epoch=not each_step)

    logger = CSVLogger(new_folder(), version=0)
    return training(own, tell, logger=logger, log_every_n_steps=1)


def averaging(own: Trained) -> Run:
    return training(own, _tell_mean)


def profiling(own: Trained) -> Run:
    return training(own, profiler="simple")


def counting(own: Trained) -> Run:
    callbacks: Any = import_module("lightning.pytorch.callbacks")

    def samples(batch: Pair) -> int:
        return len(batch[0])

    return training(own, callbacks=[callbacks.ThroughputMonitor(samples)])


def showing(own: Trained, terminal: bool) -> Run:
    return training(own, terminal=terminal)


Measured: TypeAlias = Callable[["LightningModule", Tensor, Tensor], object]


def _measure_nothing(module: LightningModule, y_pred: Tensor, y: Tensor) -> None:
    """Log nothing."""


def _measure_loss(module: LightningModule, y_pred: Tensor, y: Tensor) -> None:
    loss = nn.functional.cross_entropy(y_pred, y)
    module.log("loss", loss, on_step=False, on_epoch=True)


def evaluation(model: nn.Module, measure: Measured = _measure_nothing, metric: Any = None) -> Run:
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


def mean_loss(model: nn.Module) -> Run:
    return evaluation(model, _measure_loss)


def measuring(model: nn.Module, metric: Any) -> Run:
    def measure(module: LightningModule, y_pred: Tensor, y: Tensor) -> None:
        metric.update(y_pred, y)
        module.log("accuracy", metric, on_step=False, on_epoch=True)

    return evaluation(model, measure, metric)


def accuracy(model: nn.Module) -> Run:
    from torchmetrics import Accuracy

    return measuring(model, Accuracy(task="multiclass", num_classes=CLASSES))


def torch_metric(model: nn.Module) -> Run:
    from torchmetrics.classification import MulticlassAccuracy

    return measuring(model, MulticlassAccuracy(CLASSES))


def averaging_weights(own: Trained) -> Run:
    from lightning.pytorch.callbacks import EMAWeightAveraging

    return training(own, callbacks=[EMAWeightAveraging(decay=DECAY)])


def guarding(own: Trained) -> Run:
    def judge(module: LightningModule, loss: Tensor) -> None:
        if not math.isfinite(loss.item()):
            raise FloatingPointError(f"the loss is {loss.item()}")

    return training(own, judge)


def limiting_time(own: Trained) -> Run:
    from lightning.pytorch.callbacks import Timer

    return training(own, callbacks=[Timer({"seconds": DAY}, verbose=False)])


def keeping_best(own: Trained) -> Run:
    kept: dict[str, object] = {}

    def keep(module: LightningModule, loss: Tensor) -> None:
        kept.update(copy.deepcopy(own.model.state_dict()))

    return training(own, keep)


def freezing(own: Trained) -> Run:
    from lightning.pytorch.callbacks import BaseFinetuning

    class Freezing(BaseFinetuning):
        @override
        def freeze_before_training(self, pl_module: LightningModule) -> None:
            own.model.bias.requires_grad_(False)

        @override
        def finetune_function(
            self, pl_module: LightningModule, epoch: int, optimizer: Optimizer
        ) -> None:
            """Train nothing that was frozen."""

    return training(own, callbacks=[Freezing()])
