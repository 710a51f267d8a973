"""Forward and backward with all members at once, by `vmap` over their stacked tensors.

Nothing is changed in place: what is stacked stays as it is, and so does the model, which is called
with it. Buffers that a model changes or assigns are taken from what it was called with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, Literal, TypeAlias, final

import attrs
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

Randomness: TypeAlias = Literal["different", "same", "error"]
Named: TypeAlias = dict[str, Tensor]
# The losses, the gradients and the buffers.
Found: TypeAlias = tuple[Tensor, Named, Named]

_NO_GRADIENT: Final = (
    "the loss does not depend on a parameter that requires a gradient; look for a frozen model, a "
    "detach() or no_grad() in the model or the loss function"
)


@final
@attrs.frozen(eq=False)
class Forward:
    """Make the loss of each member, with its gradients and the buffers after it.

    >>> model = nn.Linear(1, 1, bias=False)
    >>> forward = Forward(model, nn.functional.mse_loss, "different", None)
    >>> weights = {"weight": torch.tensor([[[1.0]], [[3.0]]])}
    >>> x, y = torch.ones(2, 1), torch.zeros(2, 1)
    >>> losses, gradients, _ = forward.gradients(weights, ["weight"], {}, x, y)
    >>> losses, gradients["weight"].flatten()
    (tensor([1., 9.]), tensor([2., 6.]))
    """

    model: nn.Module
    loss_fn: Callable[..., Tensor]
    randomness: Randomness
    clip: float | None

    def gradients(
        self, parameters: Named, trained: Sequence[str], buffers: Named, x: object, y: object
    ) -> Found:
        """Return the losses, the gradients of what the losses depend on, and the buffers.

        Args:
            parameters: the stacked parameters by name.
            trained: the names of those that may have a gradient.
            buffers: the stacked buffers by name, which may be changed.
            x: the inputs, which all members get.
            y: the targets.

        Raises:
            ValueError: the loss function makes no scalar, or the losses depend on no parameter.
            RuntimeError: the model has changed a parameter in place.
        """
        leaves = {name: parameters[name].detach().requires_grad_() for name in trained}
        versions = [one._version for one in leaves.values()]
        losses, after = self._all({**parameters, **leaves}, buffers, x, y)
        if not losses.requires_grad:
            raise ValueError(_NO_GRADIENT)
        if versions != [one._version for one in leaves.values()]:
            raise RuntimeError(
                f"the {type(self.model).__name__} has changed a parameter in place while it went "
                "forward, so that the ensemble in the state is damaged; keep what changes there in "
                "a buffer, or train with method='loop'"
            )
        found: tuple[Tensor | None, ...] = torch.autograd.grad(
            losses.sum(), tuple(leaves.values()), allow_unused=True
        )
        pairs = zip(leaves, found, strict=True)
        return losses.detach(), self._clipped({n: g for n, g in pairs if g is not None}), after

    def traced_gradients(
        self, parameters: Named, trained: Sequence[str], buffers: Named, x: object, y: object
    ) -> Found:
        """Do what `gradients` does in a form that can be compiled; all that is trained is used."""

        def total(leaves: Named) -> tuple[Tensor, tuple[Tensor, Named]]:
            copies = {name: one.clone() for name, one in buffers.items()}
            losses, after = self._all({**parameters, **leaves}, copies, x, y)
            return losses.sum(), (losses, after)

        chosen = {name: parameters[name] for name in trained}
        gradients, (losses, after) = torch.func.grad(total, has_aux=True)(chosen)
        return losses, self._clipped(gradients), after

    def _all(self, parameters: Named, buffers: Named, x: object, y: object) -> tuple[Tensor, Named]:
        many = vmap(self._one, in_dims=(0, 0, None, None), randomness=self.randomness)
        losses: Tensor
        losses, after = many(parameters, buffers, x, y)
        if losses.ndim != 1:
            raise ValueError(
                f"the loss function returned a tensor of shape {tuple(losses.shape[1:])} for each "
                "member; backward begins at one number, so give the mean or the sum"
            )
        return losses, after

    def _clipped(self, gradients: Named) -> Named:
        return gradients if self.clip is None else clipped(gradients, self.clip)

    def _one(self, parameters: Named, buffers: Named, x: object, y: object) -> tuple[Tensor, Named]:
        held = {**parameters, **buffers}
        loss = self.loss_fn(functional_call(self.model, held, (x,)), y)
        return loss, {name: held[name] for name in buffers}


def clipped(gradients: Named, most: float) -> Named:
    """Return gradients whose norm, of each row by itself, is not above a number.

    >>> gradients = {"weight": torch.tensor([[3.0, 4.0], [0.3, 0.4]])}
    >>> clipped(gradients, 1.0)["weight"]
    tensor([[0.6000, 0.8000],
            [0.3000, 0.4000]])
    """
    rows = [one.reshape(len(one), -1) for one in gradients.values()]
    norms = [torch.linalg.vector_norm(one, dim=1) for one in rows]
    norm = torch.linalg.vector_norm(torch.stack(norms), dim=0)
    # What torch.nn.utils.clip_grad_norm_ multiplies with.
    factor = (most / (norm + 1e-6)).clamp(max=1.0)
    return {
        name: one * factor.view(-1, *[1] * (one.ndim - 1)).to(one.dtype)
        for name, one in gradients.items()
    }


@contextmanager
def buffers_put_back(model: nn.Module) -> Iterator[None]:
    """Put back what the modules of a model hold as buffers, and refuse one that was None before.

    Raises:
        RuntimeError: there is one, in which `vmap` has left what only it can read.
    """
    unset = [
        (module._buffers, key, f"{path}.{key}" if path else key)
        for path, module in model.named_modules()
        for key, one in module._buffers.items()
        if one is None
    ]
    try:
        yield
        for held, key, name in unset:
            if held[key] is not None:
                raise RuntimeError(
                    f"the {type(model).__name__} has set its buffer {name}, which was None. All "
                    "members have to have it from the start: register it with a tensor, or train "
                    "with method='loop'"
                )
    finally:
        for held, key, _ in unset:
            held[key] = None


@contextmanager
def explained(model: nn.Module, call: str) -> Iterator[None]:
    """Add a note to whatever a model raises under `vmap`, which may be that vmap refuses it."""
    try:
        yield
    except Exception as error:
        error.add_note(
            f"this came while vmap called the {type(model).__name__} for all members at once. If "
            f"vmap refuses the model or the loss function, {call} takes the members one after the "
            "other"
        )
        raise


def all_of(tensors: Mapping[str, Tensor], names: Sequence[str]) -> tuple[Tensor, ...]:
    """Return tensors in the order of some names."""
    return tuple([tensors[name] for name in names])
