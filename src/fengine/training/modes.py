"""Modes: whether the modules of a model are in training mode, switched together and put back.

`model.train()` writes the flag of every module through an attribute hook, though mostly nothing
changes. Here every module is visited too, since any may have been added or switched, but flags are
written only where one is another, and directly. A model with a module that overrides `train` or
how attributes are set is never gone round: its own methods are called. A module that several others
hold, or that holds one of those that hold it, is visited once.
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
    if not (training or _has_plain_eval(model)):
        return False
    modules, met = [model], {id(model)}
    plain: set[type[nn.Module]] = set()
    for module in modules:  # it grows meanwhile
        own, kind = module.__dict__, type(module)
        if own.get("training") is not training or "train" in own:
            return False
        if kind not in plain:
            if kind.train is not _TRAIN or kind.__setattr__ is not _SET:  # not `_is_plain`, faster
                return False
            plain.add(kind)
        if own["_modules"]:
            for part in own["_modules"].values():
                if part is not None and id(part) not in met:
                    met.add(id(part))
                    modules.append(part)
    return True


def put_into_mode(model: nn.Module, training: bool) -> None:
    """Do what `train` or `eval` does, also to a model whose parts hold one another.

    >>> model = nn.Sequential(nn.Dropout(0.5))
    >>> put_into_mode(model, False)
    >>> model[0].training
    False
    """
    known: object = model
    if isinstance(known, nn.Module):
        Modes.of(model).switch(training)
    else:
        _ask(model, training)


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
        modules, training, plain = [model], [], _has_plain_eval(model)
        met = {id(model)}
        for module in modules:  # it grows meanwhile
            own = module.__dict__
            if "training" not in own or "train" in own:  # it may be a property, or a script's
                plain = False
            # The modules of a frozen ScriptModule have no flag, and need none.
            training.append(getattr(module, "training", False))
            for part in module._modules.values():
                if part is not None and id(part) not in met:
                    met.add(id(part))
                    modules.append(part)
        plain = plain and all(map(_is_plain, {type(module) for module in modules}))
        return Modes(modules, training, plain)

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
        now = Modes.of(self.modules[0])  # with modules that were added since
        flags = dict(zip(now.modules, now.training, strict=True))
        flags |= dict(zip(self.modules, self.training, strict=True))
        self.modules[0].train(self.training[0])  # a module may do more there than write its flag
        for module, training in flags.items():
            if module.training != training:
                module.training = training


@final
@attrs.frozen
class EvaluationMode:
    """Make contexts with a model in evaluation mode, and each module as it was after them.

    >>> model = nn.Dropout(0.5)
    >>> with EvaluationMode(model)():
    ...     model.training
    False
    >>> model.training
    True
    """

    model: nn.Module

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Make a context."""
        modes = Modes.of(self.model)
        if True not in modes.training:
            yield
            return
        try:
            try:
                _EVALUATED.setdefault(id(self.model), modes)
                modes.switch(False)
                yield
            finally:
                _put_back(self.model, modes)
        except BaseException:  # which may be a signal that came while they were put back
            _put_back(self.model, modes)
            raise


@final
@attrs.frozen
class TrainingMode:
    """Make contexts with a model in training mode, and each module as it was after them.

    A model that is in training mode already keeps the modes of its parts, and one that is being
    evaluated gets those back that they had before.

    >>> model = nn.Sequential(nn.Dropout(0.5), nn.Dropout(0.5).eval())
    >>> with EvaluationMode(model)():
    ...     with TrainingMode(model)():
    ...         model[0].training, model[1].training
    ...     model[0].training
    (True, False)
    False
    """

    model: nn.Module

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Make a context."""
        if self.model.training:
            yield
            return
        modes = Modes.of(self.model)
        before = _EVALUATED.get(id(self.model))
        try:
            try:
                if before is not None and before.training[0]:
                    before.put_back()
                else:
                    modes.switch(True)
                yield
            finally:
                modes.put_back()
        except BaseException:  # which may be a signal that came while they were put back
            modes.put_back()
            raise


# How each model that is within an EvaluationMode was before.
_EVALUATED: Final[dict[int, Modes]] = {}


def _put_back(model: nn.Module, modes: Modes) -> None:
    modes.put_back()
    if _EVALUATED.get(id(model)) is modes:
        del _EVALUATED[id(model)]


def _ask(model: nn.Module, training: bool) -> None:
    if training:
        model.train()
    else:
        model.eval()


def _has_plain_eval(model: nn.Module) -> bool:
    # Of the parts it is never called.
    return "eval" not in model.__dict__ and getattr(type(model), "eval", None) is _EVAL


def _is_plain(kind: type[nn.Module]) -> bool:
    return kind.train is _TRAIN and kind.__setattr__ is _SET
