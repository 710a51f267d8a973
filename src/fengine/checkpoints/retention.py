"""Retention: which checkpoints stay, told from the listing alone.

Nothing is remembered between saves, so a process that died has forgotten nothing. All here is pure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Final, Literal, final

import attrs
from immutables import Map


def _frozen(metrics: Mapping[str, float]) -> Map[str, float]:
    return Map(metrics)


_MODES: Final = ("min", "max")


def require_keep(keep: object, *, name: str = "keep") -> None:
    """Refuse a number of checkpoints of which none would stay; None stands for all.

    Raises:
        TypeError: it is no int.
        ValueError: it is below 1.
    """
    if keep is None:
        return
    if type(keep) is not int:
        raise TypeError(f"{name}={keep!r} of type {type(keep).__name__} is not an int")
    if keep < 1:
        raise ValueError(f"{name}={keep} keeps no checkpoint; give 1 or more")


@final
@attrs.frozen
class Kept:
    """Hold what the manifest of a checkpoint says.

    Args:
        path: the folder of the checkpoint.
        iteration: the iteration of the state.
        epoch: its epoch.
        save: 0 for the first save in that iteration, 1 for the next one, and so on.
        event: the name of the event that the run stood at; None before the first.
        status: of the run.
        metrics: the metrics of the state.
        fresh: the names of the metrics that were set at that event.
        run: which run it is of.
        ranks: how many ranks have written it.
        size: in bytes.
        time: when it was written, in seconds since 1970.

    >>> kept = Kept(PurePath("step-0000000120"), 120, 2)
    >>> kept.path.name, kept.epoch
    ('step-0000000120', 2)
    """

    path: PurePath
    iteration: int
    epoch: int
    save: int = 0
    event: str | None = None
    status: str = "running"
    metrics: Map[str, float] = attrs.field(default=Map(), converter=_frozen)
    fresh: tuple[str, ...] = ()
    run: str = ""
    ranks: int = 1
    size: int = 0
    time: float = 0.0


@final
@attrs.frozen
class Best:
    """Keep the checkpoints where a metric is best.

    Only a checkpoint of an event that sets the metric can be the best. One where the metric is NaN
    or infinite never is. Of equal ones the earliest is the best.

    Args:
        metric: the name of the metric.
        mode: "max" or "min".
        keep: how many of the best stay.

    Raises:
        TypeError: `metric` is no name, or `keep` no int.
        ValueError: `mode` is another word, or none would stay.

    >>> Best("val_accuracy", mode="max")
    Best(metric='val_accuracy', mode='max', keep=1)
    """

    metric: str
    mode: Literal["min", "max"] = attrs.field(kw_only=True)
    keep: int = attrs.field(default=1, kw_only=True)

    def __attrs_post_init__(self) -> None:
        """Refuse what names no metric, or keeps nothing."""
        if not isinstance(self.metric, str):
            raise TypeError(f"metric={self.metric!r} is not the name of a metric")
        if self.mode not in _MODES:
            raise ValueError(f"mode={self.mode!r} is neither 'max' nor 'min'")
        if self.keep is None:
            raise TypeError("keep=None is not an int; to keep all, give Checkpoints(keep=None)")
        require_keep(self.keep)

    def among(self, kept: Iterable[Kept]) -> tuple[Kept, ...]:
        """Return the best, the very best first.

        >>> one = Kept(PurePath("a"), 1, 1, metrics={"loss": 0.5}, fresh=("loss",))
        >>> two = Kept(PurePath("b"), 2, 1, metrics={"loss": 0.25}, fresh=("loss",))
        >>> [found.iteration for found in Best("loss", mode="min").among([one, two])]
        [2]
        """
        found = [
            one
            for one in kept
            if self.metric in one.fresh and math.isfinite(one.metrics.get(self.metric, math.nan))
        ]
        sign = -1 if self.mode == "max" else 1
        found.sort(key=lambda one: (sign * one.metrics[self.metric], one.iteration, one.save))
        return tuple(found[: self.keep])


def retained(kept: Iterable[Kept], keep: int | None, best: Best | None) -> frozenset[Kept]:
    """Return the checkpoints that stay: the newest, and the best.

    Of several saves in one iteration only the last counts among the newest.

    Laws: the newest stays; at most `keep` and `best.keep` stay; the order of the listing does not
    matter; what is retained is retained again.

    >>> steps = [Kept(PurePath(str(number)), number, 1) for number in range(5)]
    >>> sorted(one.iteration for one in retained(steps, 2, None))
    [3, 4]
    """
    every = list(kept)
    last: dict[int, Kept] = {}
    for one in sorted(every, key=lambda one: (one.iteration, one.save)):
        last[one.iteration] = one
    newest = list(last.values())
    stay = newest if keep is None else newest[-keep:]
    return frozenset(stay).union(() if best is None else best.among(every))
