"""Layouts: which parameters, buffers and groups a model and an optimizer have, by name.

A layout is made once. It tells whether a value fits a model before anything of it is lent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, TypeAlias, cast, final

import attrs
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from fengine.training.functional.copying import copies_of
from fengine.training.functional.train_state import TrainState
from fengine.training.functional.values import Names, Values

# Where a module keeps a buffer, and under which name.
Slot: TypeAlias = tuple[dict[str, Tensor | None], str]

_MOST_NAMED: Final = 3


@final
@attrs.frozen(eq=False)
class Layout:
    """Hold the parts of a model and its optimizer that a value is lent to.

    Args:
        names: the names of the parameters; one that several modules share is named once.
        parameters: the parameters, in their order.
        held: the names of those that the optimizer holds, in its order.
        held_places: which of the parameters those are.
        groups: the names of the parameters of each group.
        buffer_names: the names of the buffers that are there or may be set.
        slots: where the modules keep each of them; several places where they share one.
        devices: where parameters and buffers are.
    """

    names: Names
    parameters: tuple[nn.Parameter, ...]
    held: Names
    held_places: tuple[int, ...]
    groups: tuple[tuple[str, ...], ...]
    buffer_names: Names
    slots: tuple[tuple[Slot, ...], ...]
    devices: tuple[torch.device, ...]

    @staticmethod
    def of(model: nn.Module, optimizer: Optimizer | None = None) -> Layout:
        """Find the layout of a model, and of an optimizer if there is one.

        Raises:
            ValueError: a parameter has no shape yet, or the optimizer holds one that is none of the
                model's, for which there is no name.
        """
        named = dict(model.named_parameters())
        # It says of what is not lazy that it never is.
        lazy = [name for name, one in named.items() if is_lazy(cast("Tensor", one))]
        if lazy:
            raise ValueError(
                f"the parameters {_some(lazy)} of the {type(model).__name__} have no shape yet; "
                "call the model once with a batch before a step is made of it"
            )
        places = {id(one): place for place, one in enumerate(named.values())}
        names = tuple(named)
        groups = []
        for number, group in enumerate([] if optimizer is None else optimizer.param_groups):
            foreign = sum(id(one) not in places for one in group["params"])
            if foreign:
                raise ValueError(
                    f"the {type(optimizer).__name__} holds {foreign} parameters in group {number} "
                    f"that the {type(model).__name__} does not have, and the state names all "
                    "parameters by the model; put everything that is trained into one nn.Module, "
                    f"and make the optimizer last: {type(optimizer).__name__}(model.parameters(), "
                    "...)"
                )
            groups.append(tuple(names[places[id(one)]] for one in group["params"]))
        held = tuple(name for group in groups for name in group)
        by_name = {name: place for place, name in enumerate(names)}
        slots = dict(_buffers(model))
        forms = tuple((one.shape, one.dtype, one.device) for one in named.values())
        return Layout(
            Names(names, forms),
            tuple(named.values()),
            Names(held),
            tuple(by_name[name] for name in held),
            tuple(groups),
            Names(tuple(slots)),
            tuple(map(tuple, slots.values())),
            tuple(dict.fromkeys(one.device for one in (*named.values(), *model.buffers()))),
        )

    def require_unchanged(self, model: nn.Module, optimizer: Optimizer) -> None:
        """Refuse a model or an optimizer whose parameters are others than when this was made.

        Raises:
            ValueError: there are others.
        """
        try:
            now = Layout.of(model, optimizer)
        except ValueError as error:
            error.add_note("the model has had other parameters when the step was made of it")
            raise
        same = (
            now.names.names == self.names.names
            and all(a is b for a, b in zip(now.parameters, self.parameters, strict=True))
            and now.groups == self.groups
            and now.devices == self.devices
            and now.buffer_names.names == self.buffer_names.names
            and all(
                a[0] is b[0]
                for ours, others in zip(now.slots, self.slots, strict=True)
                for a, b in zip(ours, others, strict=False)
            )
        )
        if not same:
            raise ValueError(
                f"the {type(model).__name__} or the {type(optimizer).__name__} has other "
                "parameters or buffers than when the step was made of them, or is on another "
                "device; make the step last"
            )

    def buffers_at_home(self) -> list[list[Tensor | None]]:
        """Return what is in the place of each buffer now."""
        return [[held[key] for held, key in slots] for slots in self.slots]

    def lend_buffers(self, buffers: Values[Tensor]) -> None:
        """Put copies of buffers into their places; places of others are empty then."""
        if not self.slots:
            return
        copies = dict(zip(buffers.known.names, copies_of(buffers.whole()), strict=True))
        lent = map(copies.get, self.buffer_names.names)
        self.put_buffers([one] * len(slots) for one, slots in zip(lent, self.slots, strict=True))

    def put_buffers(self, buffers: Iterable[list[Tensor | None]]) -> None:
        """Put something into the place of each buffer."""
        for slots, ones in zip(self.slots, buffers, strict=True):
            for (held, key), one in zip(slots, ones, strict=True):
                held[key] = one

    def fits(self, value: TrainState) -> bool:
        """Tell whether a value is known to fit, as one is that was taken with this layout."""
        return value.parameters.fits(self.names) and value.optimizer.state.fits(self.held)

    def require_fitting(self, value: TrainState) -> None:
        """Refuse a value of another model or optimizer.

        Raises:
            ValueError: names, shapes, dtypes or groups are others.
        """
        self.require_fitting_model(value)
        self.require_groups(value.optimizer.param_groups)
        _require_names("parameters of the optimizer", self.held.names, value.optimizer.state)

    def require_fitting_model(self, value: TrainState) -> None:
        """Refuse a value of another model.

        Raises:
            ValueError: names, shapes or dtypes are others.
        """
        _require_names("parameters", self.names.names, value.parameters)
        for name, parameter in zip(self.names.names, self.parameters, strict=True):
            _require_alike(name, value.parameters[name], parameter)
        unknown = sorted(set(value.buffers) - set(self.buffer_names.names))
        missing = [
            name
            for name, ((held, key), *_) in zip(self.buffer_names.names, self.slots, strict=True)
            if held[key] is not None and name not in value.buffers
        ]
        if unknown or missing:
            raise ValueError(_other("buffers", missing, unknown))

    def require_groups(self, groups: tuple[Values[Any], ...]) -> None:
        """Refuse settings of other groups of parameters.

        Raises:
            ValueError: the groups hold others.
        """
        given = tuple(group.get("params") for group in groups)
        if given != self.groups:
            raise ValueError(
                f"the value has {len(given)} groups of parameters, and the optimizer has "
                f"{len(self.groups)}, which hold others; a training goes on with an optimizer that "
                "was made as its own"
            )


def _buffers(model: nn.Module) -> Iterator[tuple[str, list[Slot]]]:
    """Give the places of each buffer by its first name; a shared one has several."""
    found: dict[str, list[Slot]] = {}
    by_tensor: dict[int, str] = {}
    for path, module in model.named_modules():
        for key, buffer in module._buffers.items():
            name = f"{path}.{key}" if path else key
            first = name if buffer is None else by_tensor.setdefault(id(buffer), name)
            found.setdefault(first, []).append((module._buffers, key))
    yield from found.items()


def _require_names(what: str, wanted: tuple[str, ...], given: Mapping[str, object]) -> None:
    known = set(wanted)
    if known != set(given):
        missing = [name for name in wanted if name not in given]
        raise ValueError(_other(what, missing, [name for name in given if name not in known]))


def _require_alike(name: str, given: object, own: Tensor) -> None:
    if not isinstance(given, Tensor):
        raise ValueError(f"the parameter {name} of the value is {given!r}, and not a tensor")
    ours, its = ((one.shape, one.dtype, one.device) for one in (own, given))
    if ours != its:
        raise ValueError(
            f"the parameter {name} is of shape {tuple(own.shape)}, {own.dtype} on {own.device} in "
            f"the model, and of shape {tuple(given.shape)}, {given.dtype} on {given.device} in the "
            "value; give a value of this very model"
        )


def _other(what: str, missing: list[str], unknown: list[str]) -> str:
    lacks = f", lacks {_some(missing)}" if missing else ""
    more = f", has {_some(unknown)} beside" if unknown else ""
    return f"the value is of a model with other {what}: it{lacks}{more}".replace("it,", "it", 1)


def _some(names: list[str]) -> str:
    more = ", ..." if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more
