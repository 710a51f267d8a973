"""All members at once: what an iteration does with stacked tensors, and with one update for all.

Members that are no longer trained are computed, too, and what comes of it is dropped: so they stay
as they are, bit by bit, and cost as much as the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeAlias, final

import attrs
import torch
from torch import Tensor
from torch.optim import Optimizer
from typing_extensions import override

from fengine.training.ensembles.by_row import Rate
from fengine.training.ensembles.common_draws import drawing
from fengine.training.ensembles.ensemble_state import EnsembleState
from fengine.training.ensembles.own_optimizers import OwnOptimizer
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
        with self._drawing(ensemble) as drawn:
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

    def _drawing(self, ensemble: EnsembleState) -> AbstractContextManager[list[Values[Tensor]]]:
        lender = self.lender
        generators = dict(zip(lender.devices.names, lender.generators, strict=True))
        return drawing(lender.use(), generators, ensemble)

    def _made(self, settled: Settled, x: object, y: object) -> Made:
        ensemble, optimizer, model = settled.ensemble, self.optimizer, self.forward.model
        parameters, buffers = dict(ensemble.parameters.named()), _copied(ensemble.buffers)
        layout = self.lender.layout
        pairs = zip(layout.names.names, layout.parameters, strict=True)
        trained = [name for name, one in pairs if one.requires_grad]
        memories = {name: dict(one.named()) for name, one in ensemble.optimizer.named()}
        with buffers_put_back(model), explained(model, "ensemble_step(..., method='loop')"):
            if self.is_compiled and not isinstance(optimizer, Optimizer):
                compiled = self._compiled_for(
                    optimizer, parameters, trained, ensemble.buffers, x, y
                )
                _begin(memories, optimizer, parameters)
                return compiled(parameters, buffers, memories, settled.rate_of_rows(), x, y)
            losses, gradients, buffers = self.forward.gradients(parameters, trained, buffers, x, y)
        if isinstance(optimizer, Optimizer):
            after, remembered = self._by_torch(ensemble, parameters, gradients)
        else:
            rate = settled.rate()
            after, remembered = updated(optimizer, parameters, gradients, memories, rate)
        return losses, after, remembered, buffers

    def _compiled_for(
        self,
        optimizer: OwnOptimizer,
        parameters: Named,
        trained: list[str],
        buffers: Values[Tensor],
        x: object,
        y: object,
    ) -> Callable[..., Made]:
        """Return the compiled call, which is made once, for what gets a gradient of a batch."""
        if not self._compiled:
            with torch.random.fork_rng():
                _, found, _ = self.forward.gradients(parameters, trained, _copied(buffers), x, y)
            used = [name for name in trained if name in found]
            traced = Traced(self.forward, optimizer, used)
            self._compiled.append(torch.compile(traced, fullgraph=True))
        return self._compiled[0]

    def _by_torch(
        self, ensemble: EnsembleState, parameters: Named, gradients: Named
    ) -> tuple[Named, dict[str, Named]]:
        """Update with an optimizer of torch."""
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
        pairs = dict(zip(layout.held.names, found, strict=True))
        after = {**parameters, **{name: one for name, (one, _) in pairs.items()}}
        return after, {name: memory for name, (_, memory) in pairs.items()}

    def _memory(self, after: Named | None, before: Values[Tensor]) -> Values[Tensor]:
        if not after:
            return before
        names = tuple(after)
        known = self._names.get(names)
        if known is None:
            known = self._names[names] = Names(names)
        return values_of(known, tuple(after.values()))


@final
@attrs.frozen(eq=False)
class Traced:
    """Go forward and backward with all members, and update them: what is compiled.

    Args:
        forward: makes the losses and the gradients.
        optimizer: updates the members.
        used: the names of the parameters that get a gradient.
    """

    forward: Forward
    optimizer: OwnOptimizer
    used: list[str]

    def __call__(
        self,
        parameters: Named,
        buffers: Named,
        memories: dict[str, Named],
        rates: Tensor,
        x: object,
        y: object,
    ) -> Made:
        """Return what an iteration makes of the members."""
        found = self.forward.traced_gradients(parameters, self.used, buffers, x, y)
        losses, gradients, after = found
        now, remembered = updated(self.optimizer, parameters, gradients, memories, rates)
        return losses, now, remembered, after


def updated(
    optimizer: OwnOptimizer,
    parameters: Named,
    gradients: Named,
    memories: dict[str, Named],
    rate: Rate,
) -> tuple[Named, dict[str, Named]]:
    """Return parameters after an update, and what is remembered of those that are held.

    >>> from fengine.training import sgd
    >>> updated(sgd(), {"w": torch.ones(1, 1)}, {"w": torch.ones(1, 1)}, {"w": {}}, 0.5)
    ({'w': tensor([[0.5000]])}, {'w': {}})
    """
    alike: dict[tuple[str, ...], list[str]] = {}
    for name, memory in memories.items():
        if name in gradients:
            alike.setdefault(tuple(memory), []).append(name)
    now, remembered = {**parameters}, {**memories}
    for known, names in alike.items():
        columns = {key: [memories[name][key] for name in names] for key in known}
        after, made = optimizer.update(
            all_of(parameters, names), all_of(gradients, names), columns, rate
        )
        now.update(zip(names, after, strict=True))
        for place, name in enumerate(names):
            remembered[name] = {key: column[place] for key, column in made.items()}
    return now, remembered


def _begin(memories: dict[str, Named], optimizer: OwnOptimizer, parameters: Named) -> None:
    """Put in what is remembered before the first update, so that one form is compiled."""
    for name, memory in memories.items():
        if not memory:
            begun = optimizer.begin([parameters[name]])
            memories[name] = {key: one for key, (one,) in begun.items()}


def _copied(values: Values[Tensor]) -> Named:
    return dict(zip(values.known.names, copies_of(values.whole()), strict=True))


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
