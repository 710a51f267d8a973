"""Loading weights: those of a state dict that fit a model, and a record of those that do not.

Names are compared as they are written: nothing is guessed. The record says what would be guessed.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any, Final, final

import attrs
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from typing_extensions import override

from fengine.core.describe import typed
from fengine.training.training_step import require_module

_MOST_SHOWN: Final = 8
_EXTRA: Final = "_extra_state"  # as torch names what a module saves beside its tensors


@final
@attrs.frozen
class Matched:
    """Hold the names that `load_matching` has met, each of them in one of four sorted tuples.

    Args:
        loaded: in both, and of one shape: the model has these weights now.
        missing: in the model only.
        unexpected: in the state dict only.
        misfit: in both, but of other shapes.
        shapes: for each misfit, in words, what shape was given, and what the model has.

    >>> print(Matched(("a",), (), ("b",), ()))
    loaded 1 of 1
    unexpected 1: b
    """

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misfit: tuple[str, ...]
    shapes: tuple[str, ...] = attrs.field(default=(), kw_only=True, repr=False, eq=False)

    @override
    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        wanted = len(self.loaded) + len(self.missing) + len(self.misfit)
        yield f"loaded {len(self.loaded)} of {wanted}"
        for kind in ("missing", "unexpected"):
            names: tuple[str, ...] = getattr(self, kind)
            if names:
                begin = _common_beginning(names)
                remark = f", which all begin with {begin!r}" if begin else ""
                yield f"{kind} {len(names)}{remark}: {_listed(names)}"
        if self.misfit:
            yield f"misfit {len(self.misfit)}: {_listed(self.shapes or self.misfit)}"


def load_matching(model: nn.Module, state_dict: Mapping[str, object]) -> Matched:
    """Load what fits a model by name and shape, and list the rest.

    So a network with another last layer begins with the weights of one that was trained. Names are
    not guessed: where all have a beginning too many, such as the "module." of a DataParallel,
    `print` says so; leave it out of the names, and load again.

    Laws: `loaded`, `missing` and `misfit` are together the names of the model, and `loaded`,
    `unexpected` and `misfit` those of the state dict. If loading raises, the weights of the model
    are as before.

    Args:
        model: its weights are overwritten in place, so its optimizer still holds them. While they
            are loaded there is a copy of those that are overwritten.
        state_dict: what `state_dict()` of a model returned, or `torch.load` has read of it.

    Raises:
        TypeError: `model` is not a module, or `state_dict` is not a mapping from names.
        BaseException: whatever the model raises as it loads them.

    >>> trained = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 10))
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2), nn.PReLU())
    >>> print(load_matching(model, trained.state_dict()))
    loaded 2 of 5
    missing 1: 2.weight
    misfit 2: 1.bias (10,) instead of (2,), 1.weight (10, 8) instead of (2, 8)
    """
    require_module(model)
    _require_named(state_dict)
    own: dict[str, Any] = model.state_dict()
    shared = own.keys() & state_dict.keys()
    fitting = {name for name in shared if _fits(state_dict[name], own[name])}
    _load(model, own, {name: state_dict[name] for name in sorted(fitting)})
    misfit = sorted(shared - fitting)
    return Matched(
        loaded=tuple(sorted(fitting)),
        missing=tuple(sorted(own.keys() - shared)),
        unexpected=tuple(sorted(state_dict.keys() - shared)),
        misfit=tuple(misfit),
        shapes=tuple(
            f"{name} {_shape(state_dict[name])} instead of {_shape(own[name])}" for name in misfit
        ),
    )


def _load(model: nn.Module, own: Mapping[str, Any], given: Mapping[str, object]) -> None:
    """Load weights into a model, or leave it as it was."""
    before = {name: _copied(own[name]) for name in given}
    try:
        model.load_state_dict(given, strict=False)
    except BaseException:
        for name, value in before.items():
            if isinstance(value, Tensor):
                with torch.no_grad():
                    own[name].copy_(value)  # it is the model's own memory
            elif name.endswith(_EXTRA):
                where = name.removesuffix(_EXTRA).removesuffix(".")
                model.get_submodule(where).set_extra_state(value)
        raise


def _copied(value: object) -> object:
    if isinstance(value, Tensor):
        return None if is_lazy(value) else value.detach().clone()
    return copy.deepcopy(value)


def _fits(given: object, wanted: object) -> bool:
    if not isinstance(wanted, Tensor) or not isinstance(given, Tensor):
        return isinstance(wanted, Tensor) == isinstance(given, Tensor)
    return is_lazy(wanted) or (not is_lazy(given) and given.shape == wanted.shape)


def _shape(value: object) -> str:
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    return "no shape yet" if is_lazy(value) else str(tuple(value.shape))


def _require_named(state_dict: object) -> None:
    if isinstance(state_dict, nn.Module):
        raise TypeError(
            f"state_dict is a {type(state_dict).__name__}; give its state_dict(), or what "
            "torch.load has read of one"
        )
    if not isinstance(state_dict, Mapping):
        raise TypeError(
            f"state_dict is of type {type(state_dict).__name__}, not a mapping from names to "
            "tensors; give what torch.load has read, not where it lies"
        )
    for name in state_dict:
        if not isinstance(name, str):
            raise TypeError(
                f"state_dict has the key {typed(name)}, and a model has "
                "names only; give the state_dict() of a model"
            )


def _common_beginning(names: tuple[str, ...]) -> str:
    """Return what several names begin with, up to a dot; nothing of a single name."""
    if len(names) < 2:
        return ""
    begin = ""
    for parts in zip(*(name.split(".")[:-1] for name in names), strict=False):
        if len(set(parts)) > 1:
            break
        begin += f"{parts[0]}."
    return begin


def _listed(names: tuple[str, ...]) -> str:
    more = len(names) - _MOST_SHOWN
    return ", ".join(names[:_MOST_SHOWN]) + (f", and {more} more" if more > 0 else "")
