"""All members at once: what an iteration does with stacked tensors, and with one update for all.

Members that are no longer trained are computed, too, and what comes of it is dropped: so they stay
as they are, bit by bit, and cost as much as the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, final

import attrs
import torch
from torch import Tensor
from torch.optim import Optimizer
from typing_extensions import override

from fengine.training.ensembles.common_draws import drawing
from fengine.training.ensembles.ensemble_state import EnsembleState
from fengine.training.ensembles.own_optimizers import OwnOptimizer, Rate
from fengine.training.ensembles.settling import Settled
from fengine.training.ensembles.stacked_gradients import (
    Forward,
    Named,
    all_of,
    buffers_put_back,
    explained,
)
from fengine.training.ensembles.stacked_optimizers import require_counted_alike, update_stacked
from fengine.training.functional.copying import copies_of
from fengine.training.functional.lender import Lender
from fengine.training.functional.values import Names, Values, values_of

# The losses, the parameters, what is remembered of those that are held, and the buffers.
Made: TypeAlias = tuple[Tensor, Named, dict[str, Named], Named]


@final
@attrs.frozen(eq=False)
class AllAtOnce:
    """Train the members of an ensemble at once.

    Args:
        lender: has the model, its layout and the generators; nothing is lent here.
        forward: makes the losses and the gradients.
        optimizer: updates the members.
        is_compiled: whether forward, backward and update are one compiled call.
    """

    lender: Lender
    forward: Forward
    optimizer: OwnOptimizer | Optimizer
    is_compiled: bool
    _compiled: list[Callable[..., Made]] = attrs.field(init=False, factory=list)
    _names: dict[tuple[str, ...], Names] = attrs.field(init=False, factory=dict)

    @override
    def __reduce__(self) -> tuple[Any, ...]:
        """Return what `copy` and `pickle` make it of; what is compiled is compiled again."""
        return AllAtOnce, (self.lender, self.forward, self.optimizer, self.is_compiled)

    def __call__(self, settled: Settled, x: object, y: object) -> tuple[EnsembleState, Tensor]:
        """Return the ensemble after an update, and the loss of each of its rows.

        Raises:
            ValueError: the loss function makes no scalar.
            Exception: what the model or vmap raised, with a note.
        """
        layout, ensemble = self.lender.layout, settled.ensemble
        lender = self.lender
        generators = dict(zip(lender.devices.names, lender.generators, strict=True))
        with drawing(lender.use(), generators, ensemble) as drawn:
            losses, parameters, memories, buffers = self._made(settled, x, y)
        held, own = ensemble.optimizer.in_order(layout.held), ensemble.buffers
        after = attrs.evolve(
            ensemble,
            parameters=values_of(layout.names, all_of(parameters, layout.names.names)),
            buffers=values_of(own.known, all_of(buffers, own.known.names)),
            optimizer=values_of(
                layout.held,
                tuple(
                    self._memory(memories.get(name), before)
                    for name, before in zip(layout.held.names, held, strict=True)
                ),
            ),
            random=tuple(drawn) * len(ensemble.random) or ensemble.random,
            updates=tuple([number + 1 for number in ensemble.updates]),
        )
        return (after if all(ensemble.is_training) else _masked(after, ensemble)), losses

    def _made(self, settled: Settled, x: object, y: object) -> Made:
        ensemble = settled.ensemble
        parameters = dict(ensemble.parameters.named())
        copies = copies_of(ensemble.buffers.whole())
        buffers = dict(zip(ensemble.buffers.known.names, copies, strict=True))
        model = self.forward.model
        with buffers_put_back(model), explained(model, "ensemble_step(..., method='loop')"):
            if isinstance(self.optimizer, Optimizer):
                return self._by_torch(ensemble, parameters, buffers, x, y)
            memories = {name: dict(one.named()) for name, one in ensemble.optimizer.named()}
            if not self.is_compiled:
                return self._advance(parameters, buffers, memories, settled.rate(), x, y)
            rates = settled.rate_of_rows()
            return self._in_one_call(parameters, buffers, memories, rates, x, y)

    def _advance(
        self,
        parameters: Named,
        buffers: Named,
        memories: dict[str, Named],
        rate: Rate,
        x: object,
        y: object,
    ) -> Made:
        """Go forward and backward, and update with an optimizer of ours."""
        assert not isinstance(self.optimizer, Optimizer), "those of torch are called elsewhere"
        losses, gradients, buffers = self.forward.gradients(parameters, buffers, x, y)
        alike: dict[tuple[str, ...], list[str]] = {}
        for name, memory in memories.items():
            if name in gradients:
                alike.setdefault(tuple(memory), []).append(name)
        parameters, memories = {**parameters}, {**memories}
        for known, names in alike.items():
            columns = {key: [memories[name][key] for name in names] for key in known}
            after, made = self.optimizer.update(
                all_of(parameters, names), all_of(gradients, names), columns, rate
            )
            parameters.update(zip(names, after, strict=True))
            for place, name in enumerate(names):
                memories[name] = {key: column[place] for key, column in made.items()}
        return losses, parameters, memories, buffers

    def _in_one_call(
        self,
        parameters: Named,
        buffers: Named,
        memories: dict[str, Named],
        rates: Tensor,
        x: object,
        y: object,
    ) -> Made:
        assert not isinstance(self.optimizer, Optimizer), "those of torch are not compiled"
        if not self._compiled:
            self._compiled.append(torch.compile(self._advance))
        for name, memory in memories.items():
            if not memory:  # so that all iterations are of one form, and compiled once
                begun = self.optimizer.begin([parameters[name]])
                memories[name] = {key: one for key, (one,) in begun.items()}
        return self._compiled[0](parameters, buffers, memories, rates, x, y)

    def _by_torch(
        self, ensemble: EnsembleState, parameters: Named, buffers: Named, x: object, y: object
    ) -> Made:
        """Go forward and backward, and update with an optimizer of torch."""
        losses, gradients, buffers = self.forward.gradients(parameters, buffers, x, y)
        layout, held = self.lender.layout, ensemble.optimizer
        rows = [row for row, is_training in enumerate(ensemble.is_training) if is_training]
        require_counted_alike(held.whole(), rows)
        found = update_stacked(
            type(self.lender.optimizer),
            ensemble.param_groups[rows[0]],
            [all_of(parameters, names) for names in layout.groups],
            [[gradients.get(name) for name in names] for names in layout.groups],
            [[held[name] for name in names] for names in layout.groups],
            rows[0],
        )
        pairs = list(zip(layout.held.names, found, strict=True))
        parameters = {**parameters, **{name: one for name, (one, _) in pairs}}
        return losses, parameters, {name: memory for name, (_, memory) in pairs}, buffers

    def _memory(self, after: Named | None, before: Values[Tensor]) -> Values[Tensor]:
        if not after:
            return before
        names = tuple(after)
        known = self._names.get(names)
        if known is None:
            known = self._names[names] = Names(names)
        return values_of(known, tuple(after.values()))


def _masked(after: EnsembleState, before: EnsembleState) -> EnsembleState:
    """Return an ensemble whose members that are not trained are as before."""
    is_training = before.is_training
    mask = torch.tensor(is_training)

    def kept(now: Values[Tensor], then: Values[Tensor]) -> Values[Tensor]:
        pairs = zip(now.whole(), then.in_order(now.known), strict=True)
        return values_of(now.known, tuple([_where(mask, one, own) for one, own in pairs]))

    def chosen(now: Sequence[Any], then: Sequence[Any]) -> tuple[Any, ...]:
        rows = zip(is_training, now, then, strict=True)
        return tuple([one if on else own for on, one, own in rows])

    states = after.optimizer
    pairs = zip(states.whole(), before.optimizer.in_order(states.known), strict=True)
    return attrs.evolve(
        after,
        parameters=kept(after.parameters, before.parameters),
        buffers=kept(after.buffers, before.buffers),
        optimizer=values_of(states.known, tuple([kept(now, then) for now, then in pairs])),
        random=chosen(after.random, before.random),
        updates=chosen(after.updates, before.updates),
    )


def _where(mask: Tensor, now: Tensor, then: Tensor) -> Tensor:
    if now is then:
        return now
    return torch.where(mask.to(now.device).view(-1, *[1] * (now.ndim - 1)), now, then)
