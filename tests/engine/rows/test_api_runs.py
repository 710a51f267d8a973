"""Rows A-099 to A-105: running, stopping, saving and loading."""

from __future__ import annotations

import copy
import inspect
from operator import methodcaller
from typing import Any

import pytest

from fengine.engine import Engine
from tests.engine.rows.sides import IGNITE, Side, Tale, everywhere, here, interrupt, terminate
from tests.engine.rows.sides import terminate_epoch as end_epoch
from tests.engine.rows.table import Check, Rows

rows = Rows()


@rows("A-099")
def interrupt_suspends_a_run_and_the_next_one_goes_on_there() -> None:
    def program(side: Side) -> object:
        tale = Tale(side, {"IC1": interrupt, "EC1": interrupt})
        words = [tale.run() for _ in range(3)]
        assert tale.engine.run([0, 1], max_epochs=2) is tale.engine.state
        return words, tale.batches[:4]

    first, second = "S ES BS BC IS IC IN", "BS BC IS IC EC IN"
    rest = "ES BS DS BC IS IC BS BC IS IC EC C"
    everywhere(program, ([first, second, rest], [0, 1, 0, 1]))


@rows("A-100")
def terminate_ends_the_run_with_completed_or_without() -> None:
    def program(side: Side) -> object:
        deeds = (terminate, methodcaller("terminate", skip_completed=True))
        return [Tale(side, {"IC1": deed}).run() for deed in deeds]

    everywhere(program, ["S ES BS BC IS IC T C", "S ES BS BC IS IC T"])


@rows("A-101")
def terminate_epoch_ends_the_epoch_with_epoch_completed_or_without() -> None:
    def program(side: Side) -> object:
        deeds = (end_epoch, methodcaller("terminate_epoch", skip_epoch_completed=True))
        tales = [Tale(side, {"IC1": deed}) for deed in deeds]
        return [(tale.run(), tale.batches) for tale in tales]

    begin, again = "S ES BS BC IS IC TE", "ES BS BC IS IC BS BC IS IC EC C"
    batches = [0, 0, 1]  # the data is started again
    everywhere(program, [(f"{begin} EC {again}", batches), (f"{begin} {again}", batches)])


@rows("A-102")
def a_state_dict_has_the_progress_the_limit_and_the_user_keys_in_order() -> None:
    def program(side: Side) -> object:
        engine, other = side.engine(), side.engine()
        engine.state_dict_user_keys.append("rate")
        engine.state.rate = 0.1
        engine.run([1, 2], max_epochs=3)
        other.run([1, 2], max_iters=3)
        saved = [side.engine().state_dict(), engine.state_dict(), other.state_dict()]
        assert {type(one).__name__ for one in saved} == {"OrderedDict"}
        return [list(one.items()) for one in saved]

    new = [("epoch_length", None), ("iteration", 0), ("max_epochs", None)]
    epochs = [("epoch_length", 2), ("iteration", 6), ("max_epochs", 3), ("rate", 0.1)]
    everywhere(program, [new, epochs, [("epoch_length", 2), ("iteration", 3), ("max_iters", 3)]])


@rows("A-103")
def loading_a_state_dict_derives_the_other_counter_and_unsets_the_other_limit() -> None:
    dicts: list[dict[str, Any]] = [
        {"iteration": 5, "epoch_length": 3, "max_epochs": 4},
        {"epoch": 2, "epoch_length": 3, "max_iters": 100},
        {"iteration": 0, "epoch_length": None, "max_epochs": None},
    ]

    def program(side: Side) -> object:
        loaded = []
        for state_dict in copy.deepcopy(dicts):
            engine = side.engine()
            engine.state_dict_user_keys.append("rate")
            engine.state.kept = engine
            engine.state.max_iters = engine.state.max_epochs = 1
            engine.load_state_dict({**state_dict, "rate": 0.1})
            state = engine.state
            assert (state.rate, state.kept) == (0.1, engine)
            limits = state.max_epochs, state.max_iters
            loaded.append((state.epoch, state.iteration, state.epoch_length, *limits))
        return loaded

    everywhere(program, [(1, 5, 3, 4, None), (2, 6, 3, None, 100), (0, 0, None, None, None)])

    def unchanged(side: Side) -> object:
        given = copy.deepcopy(dicts)
        for state_dict in given:
            side.engine().load_state_dict(state_dict)
        return given

    everywhere(unchanged, dicts)


@rows("A-104")
def set_data_replaces_the_data_at_once_and_keeps_the_place() -> None:
    def program(side: Side) -> object:
        tale = Tale(side, {"IC1": methodcaller("set_data", [7, 8, 9])})
        words = tale.run([0, 1, 2], 1)
        assert tale.engine.state.dataloader == [7, 8, 9]
        before = Tale(side)
        before.engine.set_data("ab")
        before.run("xyz", 1, epoch_length=2)
        return words.count("IC"), tale.batches, before.batches

    everywhere(program, (3, [0, 7, 8], ["a", "b"]))


@rows("A-105")
def run_takes_data_and_limits() -> None:
    def program(side: Side) -> object:
        engines = [side.engine() for _ in range(6)]
        engines[0].run([1, 2])
        engines[1].run([1, 2], 3)
        engines[2].run(data=[1, 2], max_epochs=2, epoch_length=1)
        engines[3].run([1, 2], max_iters=3)
        engines[4].run(epoch_length=4)
        engines[5].run(iter([1, 2, 3]))
        engines[1].run([1, 2], 4)  # goes on
        engines[0].run([1, 2])  # starts again
        return [(engine.state.epoch, engine.state.iteration) for engine in engines]

    everywhere(program, [(1, 2), (4, 8), (2, 2), (2, 3), (1, 4), (1, 3)])

    # Fixed here: a limit was put in before `epoch_length`, so these are named.
    def by_position(side: Side) -> list[str]:
        parameters = inspect.signature(side.package.Engine.run).parameters.values()
        return [one.name for one in parameters if one.kind is not one.KEYWORD_ONLY]

    assert by_position(IGNITE)[1:] == ["data", "max_epochs", "max_iters", "epoch_length"]
    here(by_position, ["self", "data", "max_epochs"])
    assert set(inspect.signature(Engine.run).parameters) == set(by_position(IGNITE))


@pytest.mark.parametrize("check", rows.params())
def test_row(check: Check) -> None:
    check()
