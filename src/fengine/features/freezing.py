"""Freezing: parts of a model that are not trained in the first epochs, or at all.

A frozen parameter needs no gradient, so backward does not reach it, and optimizers leave it as it
is. Which parts are frozen follows from the epoch. It is named outside the state, so that a run that
goes on from a snapshot within an epoch has the same parts frozen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, SupportsIndex, TypeVar, final

import attrs
from torch import Tensor, nn
from torch.optim import Optimizer
from typing_extensions import override

from fengine import Events, Loop, State
from fengine.core.describe import Words, call_in_words, typed
from fengine.core.steps import require_not_lent
from fengine.features.outside import modules_of
from fengine.training.shuffling import integer

B = TypeVar("B")
O = TypeVar("O")  # noqa: E741  # the output, beside the batch and the user
U = TypeVar("U")

_MOST_NAMED: Final = 3


def _identities(parameters: tuple[nn.Parameter, ...]) -> tuple[int, ...]:
    return tuple(map(id, parameters))


@final
@attrs.frozen
class Flags:
    """Say of parameters whether they are frozen, and take that up again.

    Args:
        parameters: the parameters; they compare by identity.
        module: is in evaluation mode while they are frozen; None: no mode is changed.

    >>> flags = Flags(tuple(nn.Linear(1, 1).parameters()))
    >>> flags.freeze(True)
    >>> flags.state_dict()
    {'frozen': [True, True]}
    """

    parameters: tuple[nn.Parameter, ...] = attrs.field(repr=False, eq=_identities)
    module: nn.Module | None = attrs.field(default=None, repr=False, eq=id)

    def freeze(self, frozen: bool) -> None:
        """Freeze the parameters, and let go of their gradients; or train them again."""
        self.load_state_dict({"frozen": [frozen] * len(self.parameters)})

    def state_dict(self) -> dict[str, Any]:
        """Return which are frozen."""
        return {"frozen": [not parameter.requires_grad for parameter in self.parameters]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Freeze those that were frozen, and no others.

        Raises:
            ValueError: there were more of them, or fewer.
        """
        known = state_dict["frozen"]
        if len(known) != len(self.parameters):
            raise ValueError(
                f"it was known of {len(known)} parameters whether they are frozen, and here are "
                f"{len(self.parameters)}; give frozen the same part"
            )
        for parameter, frozen in zip(self.parameters, known, strict=True):
            parameter.requires_grad_(not frozen)
            if frozen:
                parameter.grad = None
        if self.module is not None:
            self.module.train(not all(known))


@final
@attrs.frozen(repr=False)
class Frozen:
    """Freeze parameters; made by `frozen`.

    >>> frozen(nn.Linear(1, 1), until=2).until
    2
    """

    words: str
    flags: Flags
    until: int | None
    name: str

    @override
    def __repr__(self) -> str:
        shown: dict[str, object] = {} if self.until is None else {"until": self.until}
        if self.flags.module is not None:
            shown["eval_mode"] = True
        if self.name != "frozen":
            shown["name"] = self.name
        return call_in_words("frozen", Words(self.words), **shown)

    def __call__(self, loop: Loop[B, O, U], /) -> Loop[B, O, U]:
        """Return the loop with what freezes.

        Raises:
            ValueError: the name stands for something else already; the loop does not train the
                part, or its optimizer does not hold what is trained later; another feature has
                modules of the part in evaluation mode too; or the step keeps the training in the
                state.
        """
        require_not_lent(loop.step, self.flags, self._way, repr(self))
        self._require_trained(loop)
        self._require_own_modes(loop)
        others: Any = tuple(
            one.handler for one in loop.table.registrations if isinstance(one.handler, _Freezing)
        )
        # What several features freeze is trained where all of them let go of it.
        thawed = loop.with_external(**{self.name: self.flags}).on(
            Events.EPOCH_STARTED, _Thawing(self), runs_before=others
        )
        return thawed.on(Events.EPOCH_STARTED, _Freezing(self))

    def is_frozen_in(self, epoch: int) -> bool:
        """Tell whether the part is frozen in an epoch.

        >>> [frozen(nn.Linear(1, 1), until=2).is_frozen_in(epoch) for epoch in (1, 2, 3)]
        [True, True, False]
        """
        return self.until is None or epoch <= self.until

    @property
    def _way(self) -> str:
        if self.until is None:
            return "freeze the part before the run begins: part.requires_grad_(False)"
        return (
            f"train in two runs: part.requires_grad_(False) before the first, of {self.until} "
            "epochs, and part.requires_grad_(True) before the second, with user=first.user"
        )

    def _require_trained(self, loop: Loop[Any, Any, Any]) -> None:
        held = set(map(id, _held(loop)))
        names = dict(_names(loop))
        own = set(_identities(self.flags.parameters))
        if (held or names) and own.isdisjoint(held | names.keys()):
            raise ValueError(
                f"{self!r} freezes parameters that no module and no optimizer of this loop has, so "
                f"it would change nothing; the loop names {sorted(loop.external)}. Give it a part "
                "of the model that the step has"
            )
        missing = [names.get(one, "one without a name") for one in own - held]
        if self.until is not None and held and missing:
            more = ", ..." if len(missing) > _MOST_NAMED else ""
            raise ValueError(
                f"{self!r} has {len(missing)} parameters trained from epoch {self.until + 1} on, "
                f"which no optimizer of this loop holds: "
                f"{', '.join(sorted(missing)[:_MOST_NAMED])}{more}. Give the optimizer all "
                "parameters from the start, as in SGD(model.parameters(), ...), since it passes "
                "over those that are frozen; or leave out of the part what is never trained"
            )

    def _require_own_modes(self, loop: Loop[Any, Any, Any]) -> None:
        own = set(_modules(self.flags))
        for name, thing in loop.external.items():
            if isinstance(thing, Flags) and not own.isdisjoint(_modules(thing)):
                raise ValueError(
                    f"{self!r} has modules in evaluation mode that frozen(..., name={name!r}) has "
                    "too, so their mode is unknown where only one of them is over; give eval_mode "
                    "to parts that share no module"
                )


def _modules(flags: Flags) -> Iterator[int]:
    return map(id, () if flags.module is None else flags.module.modules())


def _held(loop: Loop[Any, Any, Any]) -> Iterator[Tensor]:
    for thing in loop.external.values():
        if isinstance(thing, Optimizer):
            for group in thing.param_groups:
                yield from group["params"]


def _names(loop: Loop[Any, Any, Any]) -> Iterator[tuple[int, str]]:
    for prefix, module in modules_of(loop).items():
        for name, parameter in module.named_parameters(prefix):
            yield id(parameter), name


@final
@attrs.frozen(repr=False)
class _Thawing:
    feature: Frozen

    @override
    def __repr__(self) -> str:
        return f"{self.feature!r}, training again"

    def __call__(self, state: State[B, O, U]) -> State[B, O, U]:
        if not self.feature.is_frozen_in(state.epoch):
            self.feature.flags.freeze(False)
        return state


@final
@attrs.frozen(repr=False)
class _Freezing:
    feature: Frozen

    @override
    def __repr__(self) -> str:
        return repr(self.feature)

    def __call__(self, state: State[B, O, U]) -> State[B, O, U]:
        if self.feature.is_frozen_in(state.epoch):
            self.feature.flags.freeze(True)
        return state


def frozen(
    part: nn.Module | Iterable[Tensor],
    *,
    until: SupportsIndex | None = None,
    eval_mode: bool = False,
    name: str = "frozen",
) -> Frozen:
    """Make a feature that freezes a part of a model, up to the end of an epoch or for the run.

    A frozen parameter has `requires_grad` False and no gradient. From the epoch after `until` on,
    the whole part is trained. What several features freeze is frozen as long as one of them says
    so: for gradual unfreezing use one for each part, with names of their own. After a run, and
    where it has failed, the flags are those of its last epoch.

    Give the optimizer all parameters from the start: it passes over those that are frozen, weight
    decay and momentum included.

    Law: the weights are bitwise those of a loop by hand that sets `requires_grad`, and the mode of
    the part if that is asked for, at the beginning of each epoch.

    Args:
        part: a module, or some parameters. Those of whole numbers have no gradient anyway, and are
            left alone.
        until: the last epoch in which it is frozen; None: all of them.
        eval_mode: have the module in evaluation mode while it is frozen, so that its batch norm
            keeps its statistics, and its dropout drops nothing, and in training mode from then on;
            else its modes stay as they are.
        name: the name outside the state; several parts need several names.

    Raises:
        TypeError: `part` is neither, or not a module where `eval_mode` is asked for; `until` is not
            an int, or `eval_mode` not a bool.
        ValueError: there is no parameter, or `until` is below 1.

    >>> from torch import optim
    >>> from fengine.training import training_step
    >>> model = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    >>> step = training_step(model, optim.SGD(model.parameters(), 0.1), nn.MSELoss())
    >>> loop = Loop(step) | frozen(model[0], until=3)
    >>> [one.requires_grad for one in model.parameters()]
    [True, True, True, True]
    >>> import torch
    >>> final = loop.run([(torch.ones(1, 1), torch.ones(1, 1))])
    >>> [one.requires_grad for one in model.parameters()]
    [False, False, True, True]
    """
    if not isinstance(eval_mode, bool):
        raise TypeError(f"eval_mode={typed(eval_mode)} is not a bool")
    epochs = None if until is None else integer("until", until)
    if epochs is not None and epochs < 1:
        raise ValueError(f"until={epochs} freezes nothing; give the last epoch, from 1")
    parameters = _parameters_of(part)
    if isinstance(part, nn.Module):
        words = type(part).__name__
        return Frozen(words, Flags(parameters, part if eval_mode else None), epochs, name)
    if eval_mode:
        raise TypeError("eval_mode=True is for a module, and part is some parameters; give it")
    return Frozen(f"{len(parameters)} parameters", Flags(parameters), epochs, name)


def _parameters_of(part: object) -> tuple[nn.Parameter, ...]:
    """Return each parameter that can have a gradient, once."""
    if isinstance(part, nn.Module):
        given: tuple[object, ...] = tuple(part.parameters())
    elif isinstance(part, Iterable) and not isinstance(part, type | Tensor | str):
        given = tuple(part)
    else:
        raise TypeError(
            f"part={typed(part)} is neither a module nor some parameters; "
            "of one parameter give a list"
        )
    found: dict[int, nn.Parameter] = {}
    for parameter in given:
        if not isinstance(parameter, nn.Parameter):
            pairs = " of named_parameters()" if isinstance(parameter, tuple) else ""
            raise TypeError(
                f"part has a {type(parameter).__name__}{pairs}, which is no parameter; give "
                "module.parameters(), or the module itself"
            )
        if parameter.is_floating_point() or parameter.is_complex():
            found[id(parameter)] = parameter
    if not found:
        kind = type(part).__name__
        raise ValueError(f"the part, a {kind}, has no parameter to freeze")
    return tuple(found.values())
