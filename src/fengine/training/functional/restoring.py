"""Restoring: a value written into a model and its optimizer, the one place that does so."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from fengine.training.functional.copying import copies_of_states
from fengine.training.functional.lender import Lender
from fengine.training.functional.settings import copied, put
from fengine.training.functional.train_state import TrainState
from fengine.training.training_step import require_module, require_optimizer


def restore(
    model: nn.Module,
    optimizer: Optimizer,
    train_state: TrainState,
    *,
    scaler: torch.amp.GradScaler | None = None,
) -> None:
    """Write a training into a model and its optimizer, to be used or trained on in place.

    All is written, or nothing. The value stays as it is, and shares nothing with the model after.
    The random generators of the program stay as they are; for the random state of the value, call
    `torch.set_rng_state(train_state.random["cpu"])`.

    Law: `restore(model, optimizer, step.init())` changes nothing.

    Args:
        model: a model of the same parameters, on the same device.
        optimizer: an optimizer of them, in the same groups.
        train_state: the training.
        scaler: gets the state of the scaler.

    Raises:
        TypeError: an argument is of the wrong kind.
        ValueError: the training is one of another model or optimizer.
        RuntimeError: the model is lent to an iteration, or the training is used up.

    >>> from fengine import Loop
    >>> from fengine.training import functional_step
    >>> model = nn.Linear(1, 1)
    >>> sgd = torch.optim.SGD(model.parameters(), 0.1)
    >>> step = functional_step(model, sgd, nn.MSELoss())
    >>> final = Loop(step).run([(torch.ones(4, 1), torch.zeros(4, 1))], user=step.init())
    >>> restore(model, sgd, final.user)
    >>> bool(model.weight == final.user.parameters["weight"])
    True
    """
    require_module(model)
    require_optimizer(optimizer, "restore")
    known: object = train_state
    if not isinstance(known, TrainState):
        raise TypeError(
            f"restore takes a TrainState, such as final.user, and not {known!r} of type "
            f"{type(known).__name__}"
        )
    lender = Lender(model, optimizer, scaler)
    layout = lender.layout
    layout.require_fitting(train_state)
    if scaler is not None and not train_state.scaler:
        raise ValueError("the training has no state of a scaler; leave scaler= out")
    use = lender.use()
    use.begin()
    try:
        if scaler is not None:
            scaler.load_state_dict(dict(train_state.scaler))
        with torch.no_grad():
            for name, parameter in zip(layout.names.names, layout.parameters, strict=True):
                parameter.copy_(train_state.parameters[name])
            for name, slots in zip(layout.buffer_names.names, layout.slots, strict=True):
                _write_buffer(slots, train_state.buffers.get(name))
        states = copies_of_states(train_state.optimizer.state.in_order(layout.held))
        optimizer.state.clear()
        for place, entries in zip(layout.held_places, states, strict=True):
            if entries.known.names:
                optimizer.state[layout.parameters[place]] = dict(entries)
        put(optimizer, [copied(group.items()) for group in train_state.optimizer.param_groups])
        lender.known.note(optimizer)
    finally:
        use.end()


def _write_buffer(slots: Any, value: torch.Tensor | None) -> None:
    """Write a buffer in place where it has the shape, so that it stays the tensor that it is."""
    held, key = slots[0]
    own = held[key]
    if own is not None and value is not None and _are_alike(own, value):
        own.copy_(value)
        return
    made = None if value is None else value.clone()
    for held, key in slots:
        held[key] = made


def _are_alike(one: torch.Tensor, other: torch.Tensor) -> bool:
    return (one.shape, one.dtype, one.device) == (other.shape, other.dtype, other.device)
