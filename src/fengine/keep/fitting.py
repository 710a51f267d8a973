"""Fitting: whether the saved states of things outside the state fit the things that are there.

An optimizer takes up the state of another one without a word, and fails in the next step, when the
model has changed already. So all that can be told beforehand is told here, before anything is
written: of which class a thing was, which tensors a module holds, how the parameters of an
optimizer are grouped, and the dtype and shape of all these, and of what an optimizer keeps for each
parameter. What else a thing refuses, it says itself, and then all of them are put back.

Nothing here imports torch; its classes are known by their names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from immutables import Map

from fengine.core.stateful import Stateful

_MODULE: Final = "torch.nn.modules.module.Module"
_MODULES: Final = "torch.nn."
_OPTIMIZERS: Final = "torch.optim"
_SHARDING: Final = "torch.distributed.fsdp."
_EXTRA: Final = "_extra_state"
# What optimizers of torch keep for each parameter in its own dtype and shape.
_LIKE_PARAMETERS: Final = (
    "exp_avg",
    "exp_avg_sq",
    "max_exp_avg_sq",
    "exp_inf",
    "momentum_buffer",
    "square_avg",
    "grad_avg",
    "acc_delta",
    "sum",
    "prev",
)


def class_names(external: Mapping[str, Stateful]) -> Map[str, str]:
    """Return the class of each thing that is no module; a wrapped module is the same one.

    >>> class Counter:
    ...     def state_dict(self): return {}
    ...     def load_state_dict(self, state_dict): pass
    >>> class_names({"counter": Counter()})
    immutables.Map({'counter': 'Counter'})
    """
    return Map(
        {name: type(thing).__name__ for name, thing in external.items() if not is_module(thing)}
    )


def require_fitting(
    external: Mapping[str, Stateful], states: Mapping[str, object], classes: Mapping[str, str]
) -> None:
    """Refuse states that do not fit the things which are to take them up.

    Args:
        external: the things, with the names of the states.
        states: what was saved.
        classes: of which classes the things were; those of an older snapshot are not known.

    Raises:
        ValueError: they do not fit; the message names all differences.
    """
    found: list[str] = []
    for name in sorted(states):
        found += (
            f"external[{name!r}]{one}"
            for one in _misfits(external[name], states[name], classes.get(name))
        )
    if found:
        raise ValueError(
            "the snapshot does not fit what the loop names in external, so nothing is restored:\n  "
            + "\n  ".join(found)
            + "\nGo on with things that are made as they were when the snapshot was taken"
        )


def _misfits(thing: Any, state: Any, saved_class: str | None) -> Iterator[str]:
    here = type(thing).__name__
    if is_module(thing):
        yield from _misfits_of_module(thing, state)
    elif saved_class is not None and saved_class != here:
        yield f" was a {saved_class}, and is a {here} here"
    elif _loads_as_optimizers_do(thing):
        yield from _misfits_of_optimizer(thing, state, is_known=saved_class is not None)


def _misfits_of_module(module: Any, state: Any) -> Iterator[str]:
    own = module.state_dict() if loads_as_modules_do(module) else dict(module.named_parameters())
    if not isinstance(state, Mapping):
        return
    for name, tensor in own.items():
        if name in state and not _is_extra(name):
            yield from _misfit(f".{name}", state[name], tensor)
    if loads_as_modules_do(module):
        yield from (f".{name} is not in the snapshot" for name in own if name not in state)
        yield from (f".{name} is in the snapshot alone" for name in state if name not in own)


def _is_extra(name: str) -> bool:
    """Tell whether a module of the user's reads this itself: it may be of any shape."""
    return name.rpartition(".")[2] == _EXTRA


def _misfits_of_optimizer(optimizer: Any, state: Any, *, is_known: bool) -> Iterator[str]:
    groups, here = state["param_groups"], optimizer.param_groups
    sizes, sizes_here = ([len(group["params"]) for group in some] for some in (groups, here))
    if sizes != sizes_here:
        yield f" had groups of {sizes} parameters, and has {sizes_here} here"
        return
    for place, (group, own) in enumerate(zip(groups, here, strict=True)):
        lacking, more = own.keys() - group.keys(), group.keys() - own.keys() - {"initial_lr"}
        # Another version of torch may know more of them, but not fewer and more at once.
        if not is_known and lacking and more:
            yield f".param_groups[{place}] had {sorted(more)}, and has {sorted(lacking)} here"
        if not type(optimizer).__module__.startswith(_OPTIMIZERS):
            continue
        for number, parameter in zip(group["params"], own["params"], strict=True):
            for name in _LIKE_PARAMETERS:
                kept = state["state"].get(number, {}).get(name)
                yield from _misfit(f".state[{number}].{name}", kept, parameter)


def _misfit(path: str, saved: Any, here: Any) -> Iterator[str]:
    """Compare a saved tensor with a parameter, where both are tensors that have a shape."""
    was, is_now = _layout(saved), _layout(here)
    if was is not None and is_now is not None and was != is_now:
        yield f"{path} was {was}, and is {is_now} here"


def _layout(tensor: Any) -> str | None:
    try:
        return f"{str(tensor.dtype).removeprefix('torch.')} of shape {tuple(tensor.shape)}"
    except (AttributeError, RuntimeError):
        return None  # no tensor, or a parameter that has no shape yet


def is_trained(thing: object) -> bool:
    """Tell whether a thing is a module or an optimizer of torch, which only a step changes."""
    own = type(thing).__module__.startswith(_OPTIMIZERS)
    return is_module(thing) or (own and _loads_as_optimizers_do(thing))


def loads_as_modules_do(thing: Any) -> bool:
    """Tell whether a thing takes up just the tensors of its own state, each as it is."""
    return (
        is_module(thing)
        and _is_of_torch(type(thing).load_state_dict)
        and all(
            _is_of_torch(type(one)._load_from_state_dict)
            and not has_own_hooks(one._load_state_dict_pre_hooks)
            for one in thing.modules()
        )
    )


def has_own_hooks(hooks: Mapping[Any, Any]) -> bool:
    """Tell whether hooks of a module do more than to keep a sharded one in order."""
    return any(
        not str(getattr(getattr(one, "hook", one), "__module__", None)).startswith(_SHARDING)
        for one in hooks.values()
    )


def _is_of_torch(method: Any) -> bool:
    return str(getattr(method, "__module__", None)).startswith(_MODULES)


def is_module(thing: object) -> bool:
    """Tell whether a thing is a module of torch."""
    return any(f"{kind.__module__}.{kind.__qualname__}" == _MODULE for kind in type(thing).__mro__)


def _loads_as_optimizers_do(thing: Any) -> bool:
    """Tell whether a thing takes up a state as the optimizers of torch do: unasked."""
    method = getattr(type(thing), "load_state_dict", None)
    return getattr(method, "__module__", None) == f"{_OPTIMIZERS}.optimizer"
