"""Lenders: a model and its optimizer as a template, which is read here as a value."""

from __future__ import annotations

from typing import Any, Final, final
from weakref import ref

import attrs
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from typing_extensions import override

from fengine.training.functional.copying import NOTHING, copies_of, copies_of_states
from fengine.training.functional.generators import generators_of, seeded_states, states_of
from fengine.training.functional.in_use import Use
from fengine.training.functional.layout import Layout
from fengine.training.functional.settings import Known, copied, settings_of
from fengine.training.functional.train_state import OptimizerState, TrainState
from fengine.training.functional.values import Names, Values, values_of

_NO_BUFFERS: Final[Values[Tensor]] = Values()


@final
@attrs.frozen(repr=False)
class Lender:
    """Hold a model, its optimizer and a scaler, to be lent values.

    Args:
        model: what values are lent to.
        optimizer: holds parameters of it.
        scaler: is lent its own state too; None: there is none.
        donate: lend the tensors of a value themselves, which uses it up as the update begins.

    Attributes:
        loans: the loan that is given now, or none; it is not held here.
        home: what the parameters had when they were lent last, so that it is not looked up again.
        nothing: what an optimizer remembers that has not updated anything.

    >>> model = nn.Linear(1, 1)
    >>> list(Lender(model, torch.optim.SGD(model.parameters(), 0.5)).capture(None).parameters)
    ['weight', 'bias']
    """

    model: nn.Module
    optimizer: Optimizer
    scaler: torch.amp.GradScaler | None = None
    donate: bool = False
    layout: Layout = attrs.field(init=False, eq=False)
    known: Known = attrs.field(init=False, eq=False)
    generators: tuple[torch.Generator, ...] = attrs.field(init=False, eq=False)
    devices: Names = attrs.field(init=False, eq=False)
    ids: frozenset[int] = attrs.field(init=False, eq=False)
    loans: list[ref[Any]] = attrs.field(init=False, eq=False, factory=list)
    home: list[Tensor] = attrs.field(init=False, eq=False, factory=list)
    nothing: tuple[Values[Any], ...] = attrs.field(init=False, eq=False)
    _names: dict[tuple[str, ...], Names] = attrs.field(init=False, eq=False, factory=dict)

    def __attrs_post_init__(self) -> None:
        layout = Layout.of(self.model, self.optimizer)
        generators = generators_of((*self.model.parameters(), *self.model.buffers()))
        known = Known.of(self.optimizer)
        known.note(self.optimizer)
        for name, made in (
            ("layout", layout),
            ("known", known),
            ("generators", tuple(generators.values())),
            ("devices", Names(tuple(generators))),
            ("ids", frozenset({id(self.model), *map(id, layout.parameters)})),
            ("nothing", (NOTHING,) * len(layout.held_places)),
        ):
            object.__setattr__(self, name, made)

    @override
    def __reduce__(self) -> tuple[Any, ...]:
        """Return what `copy` and `pickle` make it of."""
        return Lender, (self.model, self.optimizer, self.scaler, self.donate)

    def use(self) -> Use:
        """Return what has the model to oneself."""
        return Use(self.ids, self.model)

    def capture(self, seed: int | None) -> TrainState:
        """Return copies of what the model and the optimizer have now.

        Args:
            seed: what the random state begins with; None: the one that the program has now.

        Raises:
            ValueError: their parameters are others than when this was made.
            RuntimeError: the model is lent.
        """
        use = self.use()
        use.begin()
        try:
            layout = self.layout
            layout.require_unchanged(self.model, self.optimizer)
            self.known.note(self.optimizer)
            settings = self.settings()
            self.known.groups = settings
            if seed is None:
                random = states_of(self.devices, self.generators)
            else:
                random = seeded_states(self.devices, self.generators, seed)
            buffers = self.buffers()
            optimizer = OptimizerState(
                settings, values_of(layout.held, copies_of_states(self.states()))
            )
            return TrainState(
                values_of(layout.names, copies_of([one.detach() for one in layout.parameters])),
                values_of(buffers.known, copies_of(buffers.whole())),
                optimizer,
                random,
                self.scaler_state(),
            )
        finally:
            use.end()

    def at_home(self) -> list[Tensor]:
        """Return what the parameters have now."""
        parameters = self.layout.parameters
        if not self.home or not all(map(Tensor.is_set_to, parameters, self.home)):
            self.home[:] = [one.data for one in parameters]
        return self.home

    def buffers(self) -> Values[Tensor]:
        """Return the buffers that the model has now."""
        layout = self.layout
        if not layout.slots:
            return _NO_BUFFERS
        held = [slots[0][0][slots[0][1]] for slots in layout.slots]
        found = [one for one in held if one is not None]
        there = tuple([one.detach() if one.requires_grad else one for one in found])
        known = layout.buffer_names
        if len(there) < len(held):
            pairs = zip(known.names, held, strict=True)
            known = self._known(tuple(name for name, one in pairs if one is not None))
        return values_of(known, there)

    def states(self) -> tuple[Values[Any], ...]:
        """Return what the optimizer remembers now of each parameter that it holds."""
        states, parameters = self.optimizer.state, self.layout.parameters
        if not states:
            return self.nothing
        found = []
        for place in self.layout.held_places:
            entries: dict[str, Any] | None = states.get(parameters[place])
            if entries:
                known = self._known(tuple(entries))
                found.append(values_of(known, tuple(entries.values())))
            else:
                found.append(NOTHING)
        return tuple(found)

    def settings(self) -> tuple[Values[Any], ...]:
        """Return the settings of the optimizer now."""
        return tuple(
            Values({"params": names, **copied(settings.items())})
            for names, settings in zip(self.layout.groups, settings_of(self.optimizer), strict=True)
        )

    def scaler_state(self) -> Values[Any]:
        """Return the state of the scaler now; nothing without one."""
        return NOTHING if self.scaler is None else Values(self.scaler.state_dict())

    def _known(self, names: tuple[str, ...]) -> Names:
        known = self._names.get(names)
        if known is None:
            known = self._names[names] = Names(names)
        return known
