"""Records of users come back as they were, or are refused as they are written."""

from __future__ import annotations

import dataclasses
import enum
import json
from collections.abc import Callable
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import attrs
import numpy as np
import pytest
import torch
from immutables import Map

from fengine import Part, SnapshotError, State
from fengine.core.equality import same

T = TypeVar("T")


class Plain(enum.Enum):
    ONE = 1
    TWO = "two"


class Whole(enum.IntEnum):
    ONE = 1


class Word(enum.StrEnum):
    X = "x"


class Mixed(str, enum.Enum):  # noqa: UP042 - older programs have such
    Q = "q"


class Flags(enum.IntFlag):
    READ = 1
    WRITE = 2


class Pair(NamedTuple):
    number: int = 0
    ratios: tuple[float, ...] = ()


NO_PAIR = Pair()


@dataclasses.dataclass(frozen=True)
class Data:
    pair: Pair = NO_PAIR
    named: dict[str, float] = dataclasses.field(default_factory=dict)
    several: list[int] = dataclasses.field(default_factory=list)


@attrs.frozen(kw_only=True)
class Odd(Generic[T]):
    value: T
    enums: tuple[Plain, Whole, Word, Mixed, Flags] = (
        Plain.TWO,
        Whole.ONE,
        Word.X,
        Mixed.Q,
        Flags.READ | Flags.WRITE,
    )
    _private: int = 3
    computed: int = attrs.field(init=False, default=7)
    maybe: Data | None = None
    inner: Odd[int] | None = None
    literal: Literal[1, "a"] = 1
    distinct: frozenset[int] = frozenset()
    word_or_number: Mixed | int = 1


@attrs.frozen
class Base:
    a: int = 0


@attrs.frozen
class Derived(Base):
    b: str = ""


@attrs.frozen
class Holding:
    base: Base = Base()


@attrs.frozen
class Number:
    x: float = 0.0
    y: int = 0


@attrs.frozen
class Kids:
    kids: tuple[Kids, ...] = ()


@attrs.frozen
class Either:
    numbers: tuple[int, ...] | tuple[str, ...] = ()


def defined_within() -> Any:
    @attrs.frozen
    class Local:
        number: int = 0
        rest: Later | None = None

    @attrs.frozen
    class Later:
        number: int = 0

    return Local()


RECORDS: list[tuple[Any, Any]] = [
    (Pair(1, (2.0,)), Pair),
    (Data(Pair(2, (1.5,)), {"a": 1.0}, [1, 2]), Data),
    (Odd(value=1), Odd[int]),
    (Odd(value=2, maybe=Data(), inner=Odd(value=3), literal="a"), Odd[int]),
    (Odd(value=2, private=4, distinct=frozenset({1, 2}), word_or_number=Mixed.Q), Odd[int]),
    (Derived(1, "x"), Derived),
    (Kids((Kids(), Kids((Kids(),)))), Kids),
    (Number(float("nan"), 1), Number),
    (Number(float("-inf"), 1), Number),
    ((1, 2.5, "x"), tuple[int, float, str]),
    (Map({"a": Number(1.0, 2)}), Map[str, Number]),
    (Plain.ONE, Plain),
    (Either((1, 2)), Either),
]


@pytest.mark.parametrize("place", range(len(RECORDS)))
def test_a_record_comes_back_through_json_as_it_was(place: int) -> None:
    record, kind = RECORDS[place]
    plain = json.loads(json.dumps(State(user=record).to_dict()))
    again: Any = State.from_dict(plain, user=kind).user
    assert type(again) is type(record)
    assert same(again, record)


REFUSED: list[tuple[Callable[[], Any], str]] = [
    (lambda: Holding(Derived(1, "x")), r"user: .* would be read again as Holding\(base=Base"),
    (lambda: Number(np.float32(1.5), 1), r"user.x: .* of type float32 is not a float"),  # type: ignore[arg-type]
    (lambda: Number(True, 1), "user.x: True of type bool is not a float"),
    (lambda: Number(1.0, "3"), "user.y: '3' of type str is not an int"),  # type: ignore[arg-type]
    (lambda: Kids([Kids()]), "user: .* would be read again as"),  # type: ignore[arg-type]
    (lambda: Either(("a",)), "user.numbers"),
    (defined_within, "name 'Later' is not defined. The types of a record are looked up in its mod"),
]


@pytest.mark.parametrize(("make", "said"), REFUSED, ids=[said for _, said in REFUSED])
def test_what_would_come_back_different_is_refused_as_it_is_written(make: Any, said: str) -> None:
    with pytest.raises(SnapshotError, match=said):
        State(user=make()).to_dict()


def test_arrays_and_tensors_are_left_as_they_are() -> None:
    @attrs.frozen
    class Arrays:
        array: np.ndarray[Any, Any]
        tensor: torch.Tensor

    record = Arrays(np.arange(3), torch.arange(3))
    plain = State(user=record).to_dict()
    assert plain["user"]["array"] is record.array
    again: Any = State.from_dict(plain, user=Arrays).user
    assert again.tensor is record.tensor


def test_what_is_no_record_is_left_as_it_is() -> None:
    class Own:
        pass

    own = Own()
    assert State(user=own).to_dict()["user"] is own
    assert State(user={"a": [1]}).to_dict()["user"] == {"a": [1]}


def test_a_part_that_holds_records_without_saying_so_is_refused() -> None:
    values: list[tuple[Any, Any]] = [(Map(), Map({"a": Number()})), ((), (Number(),))]
    for initial, value in values:
        key: Part[Any] = Part("own", initial)
        with pytest.raises(SnapshotError, match=r"parts.own: .* would be read again as"):
            State().with_part(key, value).to_dict()
    plain = State().with_part(Part[Any]("own", Map()), Map({"a": 1})).to_dict()
    assert State.from_dict(plain, parts={"own": Part("own", Map())}).parts["own"] == Map({"a": 1})
