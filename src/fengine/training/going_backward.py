"""Going backward from a loss, and what is said where that does not work.

torch raises errors of its own there, which name neither the loss function nor the model. So a note
is added that does. Nothing here knows an optimizer or a loop.
"""

from __future__ import annotations

import torch
from torch import Tensor


def go_backward(loss: Tensor, scaler: torch.amp.GradScaler | None = None) -> None:
    """Add the gradients of a loss to those that are there; an error says why there are none.

    Args:
        loss: a scalar with its graph.
        scaler: scales the loss before; None: nothing does.

    Raises:
        BaseException: whatever torch raised, with a note that says what is wrong with the loss.

    >>> go_backward(torch.zeros(2, requires_grad=True))
    Traceback (most recent call last):
    RuntimeError: grad can be implicitly created only for scalar outputs
    the loss function returned a tensor of shape (2,); backward begins at one number, ...
    """
    try:
        # torch declares no types of it.
        (loss if scaler is None else scaler.scale(loss)).backward()  # type: ignore[no-untyped-call]
    except Exception as error:
        _explain(error, loss)
        raise


def _explain(error: Exception, loss: object) -> None:
    if (reason := _no_backward(loss)) is not None:
        error.add_note(reason)


def _no_backward(loss: object) -> str | None:
    if not isinstance(loss, Tensor):
        kind = type(loss).__name__
        return f"the loss function returned {loss!r} of type {kind}; it returns a tensor"
    if loss.numel() != 1:
        return (
            f"the loss function returned a tensor of shape {tuple(loss.shape)}; backward begins at "
            "one number, so give the mean or the sum"
        )
    if not loss.requires_grad:
        return (
            "the loss does not depend on a parameter that requires a gradient; look for a frozen "
            "model, a detach() or no_grad() in the model or the loss function"
        )
    return None
