"""Values by name, which never change: what a training consists of, generation after generation.

The names are the same in all generations of a training, so they are held once, in a layout. Whoever
has made the layout knows by it that a value fits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Generic, NoReturn, TypeVar, final

from typing_extensions import override

from fengine.core.equality import same

V = TypeVar("V")
W = TypeVar("W")


@final
class Names:
    """Hold names, and the place of each.

    Args:
        names: the names.
        forms: what is known of the values of whoever holds these names, such as the shapes of
            tensors; None: nothing is.

    >>> Names(["weight", "bias"]).places
    {'weight': 0, 'bias': 1}
    """

    __slots__ = ("forms", "names", "places")

    def __init__(self, names: Iterable[str], forms: object = None) -> None:
        self.names, self.forms = tuple(names), forms
        self.places = {name: place for place, name in enumerate(self.names)}


@final
class Donated(RuntimeError):
    """Tell that a value is read which a step with `donate=True` has used up.

    >>> print(Donated())
    this value was donated to a step, which has trained its tensors in place, so it is used up; ...
    """

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
        _SET_KNOWN(self, Names(list(held)))
        _SET_VALUES(self, tuple(held.values()))

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
        """Tell whether these values are known to be such as names say of theirs."""
        own = self._known
        if own is known:
            return True
        return own.forms is not None and (own.forms, own.names) == (known.forms, known.names)

    def named(self) -> Iterator[tuple[str, V]]:
        """Give the names with the values, at less cost than `items`."""
        return zip(self._known.names, self.whole(), strict=True)

    def in_order(self, known: Names) -> tuple[V, ...]:
        """Return the values in the order of some names."""
        if self._known is known or self._known.names == known.names:
            return self.whole()
        return tuple(self[name] for name in known.names)

    def give_up(self) -> None:
        """Be used up from now on: reading raises."""
        _SET_VALUES(self, None)


def values_of(known: Names, values: tuple[W, ...]) -> Values[W]:
    """Make values with names that are known already."""
    made: Values[W] = _NEW(Values)
    _SET_KNOWN(made, known)
    _SET_VALUES(made, values)
    return made


# A third of the cost of `object.__setattr__`.
_NEW: Final[Any] = object.__new__
_SET_KNOWN: Final[Any] = Values.__dict__["_known"].__set__
_SET_VALUES: Final[Any] = Values.__dict__["_values"].__set__
