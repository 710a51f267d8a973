"""Events: the points of a training step that handlers can listen to, and what is told there."""

from __future__ import annotations

from typing import Final, NamedTuple, final

from torch import Tensor

from fengine import PayloadEvent


class ForwardPass(NamedTuple):  # one is made at each iteration, and a tuple is made fastest
    """Hold one batch with what the model and the loss function made of it.

    Of a window of batches it holds the last one, and the loss of the whole window. A step that was
    made with `loss=` tells the batch as `x`, and None for `y` and `y_pred`.

    Args:
        x: the inputs, as `prepare_batch` gave them.
        y: the targets, as `prepare_batch` gave them.
        y_pred: what the model made of `x`.
        loss: what the loss function made of `y_pred` and `y`; a scalar with its graph.

    >>> import torch
    >>> ForwardPass(x=None, y=None, y_pred=None, loss=torch.tensor(0.5)).loss.item()
    0.5
    """

    x: object
    y: object
    y_pred: object
    loss: Tensor


class Updated(NamedTuple):
    """Hold what an update of the weights was made of.

    Args:
        loss: the loss, detached; a scalar on its device.
        stepped: whether the weights were updated; False where a scaler has found a gradient that
            is not finite, and has left the update out.

    >>> import torch
    >>> Updated(torch.tensor(0.5), stepped=True).stepped
    True
    """

    loss: Tensor
    stepped: bool


@final
class Backprop:
    """Name the two sides of backward; the payload of both is the `ForwardPass`.

    At STARTED the gradients are empty, or those of the window but its last batch; at COMPLETED they
    are there and not yet used, which is the place to clip or log them. A scaler has unscaled them
    by then. Filters number both by the iteration.

    >>> Backprop.COMPLETED(every=100)
    Backprop.COMPLETED(every(100))
    """

    STARTED: Final[PayloadEvent[ForwardPass]] = PayloadEvent("backprop_started", attr="iteration")
    COMPLETED: Final[PayloadEvent[ForwardPass]] = PayloadEvent(
        "backprop_completed", attr="iteration"
    )


@final
class Update:
    """Name the point after the update of the weights; the payload is `Updated`.

    It is the place for what follows the weights step by step, such as a schedule or a moving
    average, before any handler of ITERATION_COMPLETED. Filters number it by the iteration.

    >>> Update.COMPLETED
    Update.COMPLETED
    """

    COMPLETED: Final[PayloadEvent[Updated]] = PayloadEvent("update_completed", attr="iteration")
