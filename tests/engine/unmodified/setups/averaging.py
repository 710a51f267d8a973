"""The moving average of a model's weights, with each way to treat buffers."""

from __future__ import annotations

from typing import Any, Literal

import torch
from ignite.engine import Events, create_supervised_trainer
from ignite.handlers import EMAHandler
from torch.nn.functional import mse_loss

from tests.engine.unmodified.setups import setup
from tests.engine.unmodified.setups.common import plain, training


def averaged(buffers: Literal["copy", "update", "ema_train"], event: Any, **options: Any) -> Any:
    parts = training()
    model = torch.nn.Sequential(torch.nn.BatchNorm1d(2), parts.model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer: Any = create_supervised_trainer(model, optimizer, mse_loss)
    handler = EMAHandler(model, momentum=0.2, handle_buffers=buffers, **options)
    handler.attach(trainer, name="ema_momentum", event=event)
    momenta: list[Any] = []
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda: momenta.append(trainer.state.ema_momentum)
    )
    trainer.run(parts.data, max_epochs=2)
    return [momenta, plain(handler.ema_model.state_dict()), plain(model.state_dict())]


@setup("handlers/ema_handler.py")
def averaged_weights() -> Any:
    return averaged("copy", Events.ITERATION_COMPLETED)


@setup("handlers/ema_handler.py")
def averaged_weights_and_buffers() -> Any:
    return averaged("update", Events.ITERATION_COMPLETED(every=2) | Events.COMPLETED)


@setup("handlers/ema_handler.py")
def averaged_weights_after_a_warm_up() -> Any:
    return averaged("ema_train", Events.ITERATION_COMPLETED, momentum_warmup=0.9, warmup_iters=4)
