"""Values by name, which never change: what a training consists of, generation after generation.

The names are the same in all generations of a training, so they are held once, in a layout. Whoever
has made the layout knows by it that a value fits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Generic, NoReturn, TypeVar, cast, final

from typing_extensions import override

V = TypeVar("V")
W = TypeVar("W")


@final
class Names:
    """Hold names, and the place of each; two of them are the same only if they are one object.

    >>> Names(["weight", "bias"]).places
    {'weight': 0, 'bias': 1}
    """

    __slots__ = ("names", "places")

    def __init__(self, names: Iterator[str] | tuple[str, ...] | list[str]) -> None:
        self.names = tuple(names)
        self.places = {name: place for place, name in enumerate(self.names)}


@final
class Donated(RuntimeError):
    """Tell that a value is read which a step with `donate=True` has used up."""

    def __init__(self) -> None:
        super().__init__(
            "this value was donated to a step, which has trained its tensors in place, so it is "
            "used up; read what the step returned, or leave donate=True out to keep earlier values"
        )

    @override
    def __reduce__(self) -> tuple[type[Donated], tuple[()]]:
        """Return what `copy` and `pickle` make it of."""
        return Donated, ()


@final
class Values(Mapping[str, V], Generic[V]):
    """Be a mapping from names to values that never changes, and keeps its order.

    Compare two with `fengine.diff`, or within a state; so do tensors.

    Args:
        values: what it holds.

    >>> values = Values({"weight": 0.5, "bias": 0.0})
    >>> values["bias"], list(values), values
    (0.0, ['weight', 'bias'], Values({'weight': 0.5, 'bias': 0.0}))
    >>> values == Values({"weight": 0.5, "bias": 0.0})
    True
    """

    __slots__ = ("_known", "_values")

    _known: Names
    _values: tuple[V, ...] | None

    def __init__(self, values: Mapping[str, V] | None = None) -> None:
        held = {} if values is None else values
        object.__setattr__(self, "_known", Names(list(held)))
        object.__setattr__(self, "_values", tuple(held.values()))

    @override
    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{name} cannot be set: these values never change")

    @override
    def __getitem__(self, name: str) -> V:
        return self.whole()[self._known.places[name]]

    @override
    def __iter__(self) -> Iterator[str]:
        self.whole()
        return iter(self._known.names)

    @override
    def __len__(self) -> int:
        return len(self.whole())

    @override
    def __eq__(self, other: object) -> bool:
        """Compare names and values, tensors by their content. Always a bool."""
        from fengine.core.equality import same

        return isinstance(other, Values) and same(self, other)

    __hash__ = None  # type: ignore[assignment]  # tensors compare by content

    @override
    def __repr__(self) -> str:
        return "Values(donated)" if self._values is None else f"Values({dict(self.named())!r})"

    @override
    def __reduce__(self) -> tuple[Any, ...]:
        """Return what `copy` and `pickle` make it of."""
        return Values, (dict(self.named()),)

    def whole(self) -> tuple[V, ...]:
        """Return the values in the order of the names.

        Raises:
            Donated: they are used up.
        """
        if self._values is None:
            raise Donated
        return self._values

    @property
    def known(self) -> Names:
        """The names."""
        return self._known

    @property
    def is_donated(self) -> bool:
        """Whether they are used up, so that reading raises."""
        return self._values is None

    def replacing(self, name: str, value: V) -> Values[V]:
        """Return these values with one of them replaced.

        Raises:
            KeyError: there is none of that name.

        >>> Values({"lr": 0.5}).replacing("lr", 0.25)
        Values({'lr': 0.25})
        """
        held, place = self.whole(), self._known.places[name]
        return values_of(self._known, (*held[:place], value, *held[place + 1 :]))

    def fits(self, known: Names) -> bool:
        """Tell whether these values have been made with these very names."""
        return self._known is known

    def named(self) -> Iterator[tuple[str, V]]:
        """Give the names with the values, at less cost than `items`."""
        return zip(self._known.names, self.whole(), strict=True)

    def in_order(self, known: Names) -> tuple[V, ...]:
        """Return the values in the order of some names."""
        return self.whole() if self._known is known else tuple(self[name] for name in known.names)

    def give_up(self) -> None:
        """Be used up from now on: reading raises."""
        object.__setattr__(self, "_values", None)


def values_of(known: Names, values: tuple[W, ...]) -> Values[W]:
    """Make values with names that are known already."""
    made = cast("Values[W]", object.__new__(Values))
    object.__setattr__(made, "_known", known)
    object.__setattr__(made, "_values", values)
    return made
