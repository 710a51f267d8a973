"""The ready-made engines and set-ups of `ignite.contrib`."""

from __future__ import annotations

from typing import Any

import torch
from ignite.contrib.engines import common
from ignite.contrib.engines.tbptt import Tbptt_Events, create_supervised_tbptt_trainer
from ignite.engine import Events
from ignite.handlers import LinearCyclicalScheduler
from ignite.handlers.logger_utils import setup_tb_logging
from ignite.metrics import MeanSquaredError
from torch.nn.functional import mse_loss
from typing_extensions import override

from tests.engine.unmodified.setups import setup
from tests.engine.unmodified.setups.checkpoints import names, to_save
from tests.engine.unmodified.setups.common import plain, trace, training
from tests.engine.unmodified.setups.loggers import written


class Recurrent(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = torch.nn.RNN(2, 3)
        self.head = torch.nn.Linear(3, 1)

    @override
    def forward(self, x: torch.Tensor, hidden: Any = None) -> Any:
        output, hidden = self.cell(x, hidden)
        return self.head(output), hidden


@setup("contrib/engines/tbptt.py")
def truncated_backpropagation() -> Any:
    torch.manual_seed(0)
    model = Recurrent()
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    loss: Any = mse_loss
    trainer = create_supervised_tbptt_trainer(model, sgd, loss, tbtt_step=2)
    noted = trace(trainer)
    losses: list[Any] = []
    trainer.add_event_handler(
        Tbptt_Events.TIME_ITERATION_STARTED, lambda: losses.append(trainer.state.output)
    )

    @trainer.on(Tbptt_Events.TIME_ITERATION_COMPLETED)
    def note_loss(engine: Any) -> None:
        losses.append([engine.last_event_name.name, engine.state.output])

    trainer.run([(torch.randn(6, 1, 2), torch.randn(6, 1, 1)) for _ in range(2)], max_epochs=2)
    return [noted, losses, plain(model.state_dict()), trainer.state.output]


@setup("contrib/engines/common.py")
def common_handlers() -> Any:
    parts = training()
    schedule = LinearCyclicalScheduler(parts.optimizer, "lr", 0.0, 0.2, 6)
    common.setup_common_training_handlers(
        parts.trainer,
        to_save=to_save(parts),
        save_every_iters=3,
        output_path="saved",
        lr_scheduler=schedule,
        output_names=["loss"],
        log_every_iters=2,
        n_saved=2,
    )
    MeanSquaredError().attach(parts.evaluator, "mse")
    parts.trainer.add_event_handler(
        Events.EPOCH_COMPLETED, lambda: parts.evaluator.run(parts.data[:2])
    )
    best = common.save_best_model_by_val_score(
        "best", parts.evaluator, parts.model, "mse", n_saved=1, trainer=parts.trainer, score_sign=-1
    )
    stopper = common.add_early_stopping_by_val_score(
        2, parts.evaluator, parts.trainer, "mse", score_sign=-1
    )
    with setup_tb_logging("board", parts.trainer, parts.optimizer, parts.evaluator, 2):
        parts.trainer.run(parts.data, max_epochs=6)
    saved = [names("saved"), names("best"), str(best.last_checkpoint)]
    return [saved, plain(stopper.state_dict()), written("board"), parts.result()]


@setup("contrib/engines/common.py")
def common_handlers_with_a_schedule_of_torch() -> Any:
    parts = training()
    schedule = torch.optim.lr_scheduler.StepLR(parts.optimizer, 4, 0.5)
    common.setup_common_training_handlers(
        parts.trainer, lr_scheduler=schedule, with_pbars=False, output_names=["loss"]
    )
    noted = trace(parts.trainer)
    parts.trainer.run([*parts.data, (torch.full((3, 2), torch.inf), torch.zeros(3, 1))], 2)
    return [noted, parts.trainer.state.iteration, schedule.state_dict()["_last_lr"]]
