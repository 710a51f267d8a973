"""Viewing: a value in a model for as long as it predicts, and nothing of it changed.

The parameters are lent as they are, since nothing is trained; that nothing changes them is checked.
Buffers are lent as copies, and what a model does to them while it predicts is dropped.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, final

import attrs
import torch
from torch import Tensor, nn
from typing_extensions import override

from fengine.training.functional.generators import generators_of
from fengine.training.functional.in_use import Use
from fengine.training.functional.layout import Layout
from fengine.training.functional.train_state import TrainState


@final
@attrs.frozen(repr=False)
class Viewer:
    """Hold a model that predicts with values.

    >>> Viewer(nn.Linear(1, 1)).layout.names.names
    ('weight', 'bias')
    """

    model: nn.Module
    layout: Layout = attrs.field(init=False, eq=False)
    generators: dict[str, torch.Generator] = attrs.field(init=False, eq=False)
    ids: frozenset[int] = attrs.field(init=False, eq=False)

    def __attrs_post_init__(self) -> None:
        layout = Layout.of(self.model)
        tensors = (*self.model.parameters(), *self.model.buffers())
        object.__setattr__(self, "layout", layout)
        object.__setattr__(self, "generators", generators_of(tensors))
        object.__setattr__(self, "ids", frozenset({id(self.model), *map(id, layout.parameters)}))

    @override
    def __reduce__(self) -> tuple[Any, ...]:
        """Return what `copy` and `pickle` make it of."""
        return Viewer, (self.model,)


@final
@attrs.frozen(eq=False)
class _Home:
    """Hold what a model had before it was lent a value, and the random state of the program."""

    data: list[Tensor]
    buffers: list[list[Tensor | None]]
    random: list[Tensor]


@final
class View:
    """Lend a value to a model that predicts; a context, in which the model is nobody else's.

    Args:
        viewer: has the model.
        value: what is lent.

    Raises:
        ValueError: the value is of another model.
        RuntimeError: the model is in use, or has changed a parameter in place.

    >>> from fengine.training.functional.values import Values
    >>> model = nn.Linear(1, 1, bias=False)
    >>> value = TrainState(Values({"weight": torch.full((1, 1), 3.0)}))
    >>> with View(Viewer(model), value), torch.no_grad():
    ...     model(torch.ones(1))
    tensor([3.])
    >>> model.weight.item() == 3.0
    False
    """

    __slots__ = ("_home", "_use", "_value", "_versions", "_viewer")

    def __init__(self, viewer: Viewer, value: TrainState) -> None:
        self._viewer, self._value = viewer, value
        self._use = Use(viewer.ids, viewer.model)
        self._home: _Home | None = None
        self._versions: list[int] = []

    def __enter__(self) -> None:
        layout, value = self._viewer.layout, self._value
        if not value.parameters.fits(layout.names):
            layout.require_fitting_model(value)
        self._use.begin()
        try:
            self._lend()
        except BaseException:
            self._give_back()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        layout = self._viewer.layout
        versions = [one._version for one in layout.parameters]
        try:
            self._give_back()
        except BaseException:  # which may be a signal that came while it was given back
            self._give_back()
            raise
        if versions != self._versions and error is None:
            name = next(
                name
                for name, now, before in zip(
                    layout.names.names, versions, self._versions, strict=True
                )
                if now != before
            )
            raise RuntimeError(
                f"the {type(self._viewer.model).__name__} has changed its parameter {name} in "
                "place while it predicted, so that the value in the state is damaged; keep what "
                "changes there in a buffer"
            )

    def _lend(self) -> None:
        viewer, layout, value = self._viewer, self._viewer.layout, self._value
        self._home = _Home(
            [one.data for one in layout.parameters],
            layout.buffers_at_home(),
            [one.get_state() for one in viewer.generators.values()],
        )
        tensors = value.parameters.in_order(layout.names)
        for parameter, tensor in zip(layout.parameters, tensors, strict=True):
            parameter.data = tensor
        layout.lend_buffers(value.buffers)
        for device, generator in viewer.generators.items():
            if device in value.random:
                generator.set_state(value.random[device])
        self._versions = [one._version for one in layout.parameters]

    def _give_back(self) -> None:
        viewer, layout, home = self._viewer, self._viewer.layout, self._home
        if home is not None:
            for parameter, tensor in zip(layout.parameters, home.data, strict=True):
                parameter.data = tensor
            layout.put_buffers(home.buffers)
            for generator, state in zip(viewer.generators.values(), home.random, strict=True):
                generator.set_state(state)
        self._use.end()
