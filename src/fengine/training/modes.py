"""Modes: whether the modules of a model are in training mode, switched together and put back.

`model.train()` writes the flag of every module through an attribute hook, though mostly nothing
changes. Here every module is visited too, since any may have been added or switched, but a flag is
written only where it is another one, and directly. A model with a module that overrides `train` or
how attributes are set is never gone round: its own methods are called.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, final

import attrs
from torch import nn

_TRAIN: Final = nn.Module.train
_EVAL: Final = nn.Module.eval
_SET: Final[object] = nn.Module.__setattr__


def is_settled(model: nn.Module, training: bool) -> bool:
    """Tell whether every module has this flag, and setting it again would do nothing.

    False where that is not known, as of a model that is no Module. It answers what `Modes` could,
    but is asked at each batch.

    Law: `train` or `eval`, called where it is false, do what they do called always.

    >>> model = nn.Sequential(nn.Dropout(0.5).eval())
    >>> is_settled(model, True), is_settled(model.train(), True)
    (False, True)
    """
    known: object = model
    if not isinstance(known, nn.Module):
        return False
    if not training and ("eval" in model.__dict__ or type(model).eval is not _EVAL):
        return False
    modules = [model]
    plain: set[type[nn.Module]] = set()
    for module in modules:  # it grows meanwhile
        own, kind = module.__dict__, type(module)
        if own.get("training") is not training or "train" in own:
            return False
        if kind not in plain:
            if kind.train is not _TRAIN or kind.__setattr__ is not _SET:
                return False
            plain.add(kind)
        if own["_modules"]:
            modules += [part for part in own["_modules"].values() if part is not None]
    return True


@final
@attrs.frozen(eq=False)
class Modes:
    """Hold in which mode each module of a model was, the model first.

    >>> model = nn.Sequential(nn.Dropout(0.5), nn.Dropout(0.5).eval())
    >>> modes = Modes.of(model)
    >>> modes.switch(False)
    >>> model[0].training
    False
    >>> modes.put_back()
    >>> model[0].training, model[1].training
    (True, False)
    """

    modules: Sequence[nn.Module]
    training: Sequence[bool]
    is_plain: bool

    @staticmethod
    def of(model: nn.Module) -> Modes:
        """Note the modes of a model."""
        modules, training, plain = [model], [], "eval" not in model.__dict__
        for module in modules:  # it grows meanwhile
            own = module.__dict__
            if "training" not in own or "train" in own:  # it may be a property, or a script's
                plain = False
            # The modules of a frozen ScriptModule have no flag, and need none.
            training.append(getattr(module, "training", False))
            if module._modules:
                modules += [part for part in module._modules.values() if part is not None]
        # At each batch of an evaluation: not asked where there is nothing to switch off.
        return Modes(modules, training, plain and True in training and _have_plain_kinds(modules))

    def switch(self, training: bool) -> None:
        """Put the whole model into one mode."""
        if self.is_plain:
            for module in self.modules:
                module.__dict__["training"] = training
        else:
            _ask(self.modules[0], training)

    def put_back(self) -> None:
        """Put each module into the mode it was in."""
        if self.is_plain:
            for module, training in zip(self.modules, self.training, strict=True):
                module.__dict__["training"] = training
            return
        self.modules[0].train(self.training[0])  # a module may do more there than write its flag
        for module, training in zip(self.modules, self.training, strict=True):
            if module.training != training:
                module.training = training


@final
@attrs.frozen
class Mode:
    """Make contexts with a model in one mode, and behind them each module as it was.

    A model that is in training mode already keeps the modes of its parts there.

    >>> model = nn.Dropout(0.5).eval()
    >>> with Mode(model, training=True)():
    ...     model.training
    True
    >>> model.training
    False
    """

    model: nn.Module
    training: bool

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Make a context."""
        if self.training and self.model.training:
            yield
            return
        modes = Modes.of(self.model)
        if not self.training and True not in modes.training:
            yield
            return
        modes.switch(self.training)
        try:
            yield
        finally:
            modes.put_back()


def _ask(model: nn.Module, training: bool) -> None:
    if training:
        model.train()
    else:
        model.eval()


def _have_plain_kinds(modules: Sequence[nn.Module]) -> bool:
    for kind in {type(module) for module in modules}:
        if kind.train is not _TRAIN or kind.eval is not _EVAL or kind.__setattr__ is not _SET:
            return False
    return True
