"""Optimizers of torch on stacked parameters: those that treat each number by itself.

Of such a class one instance updates all members at once, bitwise as it would each of them alone.
There is one learning rate and one count of updates for all of them. Other classes would mix the
members, silently: Adafactor factors the stack as one matrix. So there is a list.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from torch import Tensor, optim
from torch.optim import Optimizer

from fengine.training.functional.copying import copies_of
from fengine.training.functional.values import Values

ELEMENTWISE: Final[tuple[type[Optimizer], ...]] = (
    optim.SGD,
    optim.Adam,
    optim.AdamW,
    optim.RMSprop,
    optim.Adagrad,
    optim.NAdam,
    optim.RAdam,
    optim.Adamax,
    optim.Adadelta,
    optim.ASGD,
    optim.Rprop,
)
# What these classes remember once for a whole parameter.
_ONCE: Final = frozenset({"step", "mu_product", "eta", "mu"})


def require_elementwise(optimizer: Optimizer) -> None:
    """Refuse an optimizer that would mix the members.

    Raises:
        ValueError: its class is not in the list.

    >>> import torch
    >>> require_elementwise(optim.Adafactor([torch.ones(2, 2)]))
    Traceback (most recent call last):
    ValueError: an Adafactor does not treat each number of a parameter by itself, as far as is ...
    """
    if type(optimizer) in ELEMENTWISE:
        return
    kind = type(optimizer).__name__
    article = "an" if kind[:1] in "AEIOU" else "a"
    known = ", ".join(one.__name__ for one in ELEMENTWISE)
    raise ValueError(
        f"{article} {kind} does not treat each number of a parameter by itself, as far as is "
        "known, so on stacked parameters it would mix the members, and nobody would notice. Known "
        f"to do so are {known}, and sgd, adam and adamw of fengine.training. method='loop' trains "
        "the members one after the other, with any optimizer"
    )


def update_stacked(
    kind: type[Optimizer],
    groups: Sequence[Values[Any]],
    parameters: Sequence[Sequence[Tensor]],
    gradients: Sequence[Sequence[Tensor | None]],
    memories: Sequence[Sequence[Values[Tensor]]],
    row: int,
) -> list[tuple[Tensor, dict[str, Tensor]]]:
    """Return stacked parameters after an update, each with what is remembered of it then.

    Args:
        kind: the class of the optimizer.
        groups: the settings of each group of parameters.
        parameters: the parameters of each group.
        gradients: their gradients; None: it stays as it is.
        memories: what is remembered of each.
        row: a row that is trained, whose count of updates counts.
    """
    lent = [copies_of(one) for one in parameters]
    make: Any = kind
    made: Optimizer = make(
        [
            {**{name: one for name, one in group.items() if name != "params"}, "params": list(one)}
            for group, one in zip(groups, lent, strict=True)
        ]
    )
    flat = [one for group in lent for one in group]
    for one, gradient, memory in zip(
        flat,
        (one for group in gradients for one in group),
        (one for group in memories for one in group),
        strict=True,
    ):
        one.grad = gradient
        if memory.known.names:
            made.state[one] = {
                name: (held[row] if name in _ONCE else held).clone()
                for name, held in memory.named()
            }
    made.step()
    found = []
    for one in flat:
        one.grad = None
        memory_now = {
            name: held.expand(len(one)).clone() if name in _ONCE else held
            for name, held in made.state.get(one, {}).items()
        }
        found.append((one, memory_now))
    return found


def require_counted_alike(memories: Sequence[Values[Tensor]], rows: Sequence[int]) -> None:
    """Refuse rows that have been updated differently often.

    Raises:
        ValueError: they have.
    """
    for memory in memories:
        for name, held in memory.named():
            if name in _ONCE and len({float(held[row]) for row in rows}) > 1:
                counts = sorted({float(held[row]) for row in rows})
                raise ValueError(
                    f"the optimizer remembers one {name} for all members, and those of this "
                    f"ensemble have {counts}; members that have been trained differently long go "
                    "together with sgd, adam or adamw of fengine.training, or with method='loop'"
                )
