"""What the errors of checkpoints say: what happened, the value, and the way to mend it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from torch import nn

from fengine import Events, Loop, Part, outputs
from fengine.checkpoints import CheckpointError, Checkpoints
from fengine.engine import Engine
from fengine.testing import assert_resume_exact

LOOP: Any = Loop(outputs(abs))


class Plain:
    """An object of which nobody says how it is written."""


@attrs.frozen
class Record:
    count: int = 1


@attrs.frozen
class Another:
    count: int
    name: str


@attrs.frozen
class Holding:
    held: Any = None


class Odd:
    def __init__(self, state: object) -> None:
        self.state = state

    def state_dict(self) -> dict[str, object]:
        return {"f": self.state}

    def load_state_dict(self, state_dict: object) -> None:
        pass


class Data:
    def __iter__(self) -> Iterator[int]:
        return iter([1, 2])

    def get_state(self) -> object:
        return {"f": Plain()}

    def set_state(self, state: object) -> None:
        pass


@pytest.mark.parametrize(
    ("user", "path"), [(Plain(), "state.user"), (Holding(Plain()), "state.user.held")]
)
def test_a_record_that_cannot_be_kept_is_told_how_it_could_be(
    tmp_path: Path, user: object, path: str
) -> None:
    with pytest.raises(CheckpointError) as caught:
        Checkpoints(tmp_path).run(LOOP, [1], user=user)
    said = str(caught.value)
    assert f"{path} is a {__name__}.Plain" in said
    assert "make the record an attrs or data class, or a dict, of numbers" in said
    assert "state_dict()" not in said


def test_each_holder_of_a_value_is_named(tmp_path: Path) -> None:
    part: Part[Any] = Part("mine", Plain())
    setting = LOOP.with_part(part).on(
        Events.EPOCH_COMPLETED, lambda state: state.with_part(part, Plain())
    )
    with pytest.raises(CheckpointError, match="have the part 'mine' of the state hold"):
        Checkpoints(tmp_path / "part").run(setting, [1])
    with pytest.raises(CheckpointError, match=r"have the state_dict\(\) of 'odd' return numbers"):
        Checkpoints(tmp_path / "thing").run(LOOP.with_external(odd=Odd(len)), [1])
    with pytest.raises(CheckpointError, match=r"have get_state\(\) or state_dict\(\) of the data"):
        Checkpoints(tmp_path / "data").run(LOOP, Data())
    engine = Engine(lambda engine, batch: None)
    engine.state_dict_user_keys.append("mine")
    engine.state.mine = Plain()
    Checkpoints(tmp_path / "engine").attach(engine, {})
    with pytest.raises(CheckpointError, match="what state_dict_user_keys of the engine names hold"):
        engine.run([1])


@pytest.mark.parametrize(
    ("kept", "given", "said"),
    [
        (Record(), None, "has the record {'count': 1}; give user= one of its type"),
        (None, Record(), "has no record, and user= is Record(count=1); leave it out"),
        (
            Record(),
            Another(1, "a"),
            "written as {'count': 1}, which is not read as the type of user=, Another "
            "(user.name: name is missing); give user= a record as the run had it",
        ),
        (1, "a", "which is not read as the type of user=, str (user: 1 of type int is not a str)"),
        ([1], {"a": 1}, "written as [1], which is not read as the type of user=, dict; give user="),
    ],
)
def test_a_record_of_another_type_is_told_apart_in_words(
    tmp_path: Path, kept: Any, given: Any, said: str
) -> None:
    Checkpoints(tmp_path).run(LOOP, [1], user=kept)
    with pytest.raises(CheckpointError) as caught:
        Checkpoints(tmp_path).run(LOOP, [1], user=given, max_epochs=2)
    assert said in str(caught.value)
    for internal in ("reader_of", "going_on", "_as_it_is", "not iterable"):
        assert internal not in str(caught.value)


def test_a_record_that_becomes_another_type_has_no_internal_name(tmp_path: Path) -> None:
    def build() -> Any:
        loop = LOOP.on(Events.STARTED, lambda state: state.evolve(user=[1]))
        return loop, [1, 2], {"max_epochs": 1}

    assert_resume_exact(build)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.run(build()[0], [1])
    with pytest.raises(CheckpointError, match=r"has the record \[1\]; give user= one of its type"):
        checkpoints.load(LOOP, checkpoints.kept()[0])


def test_checkpoints_of_an_engine_and_of_a_loop_are_told_apart(tmp_path: Path) -> None:
    engine = Engine(lambda engine, batch: None)
    things: Any = {"model": nn.Linear(1, 1)}
    Checkpoints(tmp_path / "engine").attach(engine, things)
    engine.run([1])
    with pytest.raises(CheckpointError, match=r"kept by an Engine.*use Checkpoints\.restore"):
        Checkpoints(tmp_path / "engine").run(LOOP.with_external(**things), [1], max_epochs=2)
    Checkpoints(tmp_path / "loop").run(LOOP.with_external(**things), [1])
    with pytest.raises(CheckpointError, match=r"kept by a Loop.*use Checkpoints\.run"):
        Checkpoints(tmp_path / "loop").restore(engine, things)
    wrong: Any = engine
    with pytest.raises(TypeError, match=r"is no Loop; the runs of an Engine are saved by attach"):
        Checkpoints(tmp_path / "none").run(wrong, [1])
