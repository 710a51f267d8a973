"""Named: what the features of a loop have named, so that no two of them mean different things.

A feature names the parts it uses, the metrics it sets and the event where it does, and the things
outside the state that it changes. Each name is taken once. Who took it is told, but is no part of
`==`.

A thing outside the state may be named again, as long as the name stands for that same thing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, cast, final

import attrs
from immutables import Map
from typing_extensions import override

from fengine.core.events import Event, EventSet, FilteredPayloadEvent, PayloadEvent
from fengine.core.parts import Part
from fengine.core.stateful import Stateful, identities

When: TypeAlias = Event | EventSet | PayloadEvent[Any] | FilteredPayloadEvent[Any]
"""Where handlers act: an event, filtered or not, or several."""
Kind: TypeAlias = Literal["part", "metric", "external"]
Parts: TypeAlias = Map[str, Part[Any]]

_OURSELVES = "this call"


@final
class NameTaken(ValueError):
    """Tell that a name stands for something else already.

    Args:
        kind: what is named.
        name: the name.
        first: who took it first.
        second: who wants it too.

    >>> print(NameTaken("metric", "loss", "mean('loss')", "evaluation(...)"))
    two have the metric 'loss': mean('loss'), and evaluation(...); give one of them another name
    """

    def __init__(self, kind: Kind, name: str, first: str, second: str = _OURSELVES) -> None:
        self.kind, self.name, self.first, self.second = kind, name, first, second
        what = {"part": "part", "metric": "metric", "external": "thing outside the state"}[kind]
        super().__init__(
            f"two have the {what} {name!r}: {first}, and {second}; give one of them another name"
        )

    @override
    def __reduce__(self) -> tuple[type[NameTaken], tuple[str, ...]]:
        """Return what `copy` and `pickle` make it of."""
        return NameTaken, (self.kind, self.name, self.first, self.second)

    def of(self, second: str) -> NameTaken:
        """Return the error with the one who wants the name, if that is not told yet."""
        wanted = second if self.second == _OURSELVES else self.second
        return NameTaken(self.kind, self.name, self.first, wanted)


@final
@attrs.frozen
class Named:
    """Hold what is named; see the rules of this file.

    Args:
        parts: the keys of parts.
        metrics: where each metric is set.
        external: the things outside the state; they compare by identity.
        owners: who took which name of which kind.

    >>> named = Named().with_parts(Part("seen", 0))
    >>> named.with_parts(Part("seen", 0))
    Traceback (most recent call last):
    fengine.core.named.NameTaken: two have the part 'seen': the loop itself, and this call; give...
    """

    parts: Parts = Map()
    metrics: Map[str, When] = Map()
    external: Map[str, Stateful] = attrs.field(default=Map(), eq=identities)
    owners: Map[tuple[Kind, str], str] = attrs.field(default=Map(), eq=False, repr=False)

    def with_parts(self, *keys: Part[Any]) -> Named:
        """Return this with more parts.

        Raises:
            NameTaken: there is one of that name.
        """
        parts = self.parts
        for key in keys:
            self._require_free("part", key.name, parts)
            parts = parts.set(key.name, key)
        return attrs.evolve(self, parts=parts)

    def with_metrics(self, metrics: Mapping[str, When]) -> Named:
        """Return this with more metrics.

        Raises:
            NameTaken: there is one of that name.
        """
        known = self.metrics
        for name, at in metrics.items():
            self._require_free("metric", name, known)
            known = known.set(name, at)
        return attrs.evolve(self, metrics=known)

    def with_external(self, external: Mapping[str, Stateful]) -> Named:
        """Return this with more things outside the state.

        Raises:
            NameTaken: the name stands for another one.
        """
        known = self.external
        for name, thing in external.items():
            if known.get(name) is not thing:
                self._require_free("external", name, known)
                known = known.set(name, thing)
        return attrs.evolve(self, external=known)

    def by(self, owner: str, before: Named) -> Named:
        """Return this, with an owner for each name that was not there before."""
        owners = self.owners
        for kind, new, old in (
            ("part", self.parts, before.parts),
            ("metric", self.metrics, before.metrics),
            ("external", self.external, before.external),
        ):
            for name in cast("Map[str, object]", new):
                key = cast("Kind", kind), name
                if name not in cast("Map[str, object]", old) and key not in owners:
                    owners = owners.set(key, owner)
        return attrs.evolve(self, owners=owners)

    def joined(self, other: Named) -> Named:
        """Return what both have named.

        Raises:
            NameTaken: both have a name for different things.
        """
        try:
            both = self.with_parts(*other.parts.values()).with_metrics(other.metrics)
            both = both.with_external(other.external)
        except NameTaken as taken:
            second = other.owners.get((taken.kind, taken.name), "the loop joined to it")
            raise taken.of(second) from None
        return attrs.evolve(both, owners=Map({**other.owners, **self.owners}))

    def _require_free(self, kind: Kind, name: str, known: Mapping[str, object]) -> None:
        if name in known:
            raise NameTaken(kind, name, self.owners.get((kind, name), "the loop itself"))
