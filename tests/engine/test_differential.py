"""The Engine against pytorch-ignite 0.5.5, on generated programs; see `differential`."""

from __future__ import annotations

from collections import Counter
from typing import Final, Literal, get_args

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from fengine import DOCUMENTED, IGNITE_0_5_5
from tests.engine.differential.batches import Data, Kind
from tests.engine.differential.comparing import compare
from tests.engine.differential.deeds import Deed, Give, Stop, Throw
from tests.engine.differential.player import play
from tests.engine.differential.program import EVENTS, PROCESS, Act, Answer, Program, Run
from tests.engine.differential.rows import MENDED, STAND, Difference
from tests.engine.differential.sides import IgniteSide, MendedSide
from tests.engine.differential.strategies import programs

MANY: Final = settings(max_examples=max(1000, settings().max_examples))


@MANY
@given(programs())
def test_the_engine_of_0_5_5_runs_like_pytorch_ignite(program: Program) -> None:
    compare(program, IGNITE_0_5_5)


@MANY
@given(programs())
def test_the_documented_engine_runs_like_pytorch_ignite(program: Program) -> None:
    compare(program, DOCUMENTED)


def test_the_programs_reach_everything() -> None:
    done: Counter[object] = Counter()
    acts: set[tuple[str, object]] = set()
    seen: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    filters: set[str] = set()

    @settings(
        max_examples=600,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(programs())
    def collect(program: Program) -> None:
        result = play(program, MendedSide(IGNITE_0_5_5))
        done.update(result.done.keys())
        acts.update((act.place, act.deed) for act in program.acts if act.deed in result.done)
        seen.update({one.what for one in result.seen})
        kinds.update({run.data.kind for run in program.runs})
        filters.update(name for listener in program.listeners for name, _ in listener.filter)
        paused = [number for number, one in enumerate(result.seen) if one.last_event == "interrupt"]
        if paused and any(one.what == PROCESS for one in result.seen[paused[0] :]):
            seen["went on"] += 1

    collect()
    assert kinds.keys() == set(get_args(Kind))
    assert filters == {"every", "once", "before", "after", "event_filter"}
    others = {"returned", "raised", "refused", "warning", "went on", "saved", "asked", "filter"}
    assert {*EVENTS, PROCESS, *others, "listener 0", "listener 1"} <= seen.keys()
    # Each event and the process function has acted, and each kind of deed and answer occurred.
    assert {*EVENTS, PROCESS} <= {place for place, _ in acts}
    assert set(get_args(Deed)) <= {type(deed) for deed in done}
    assert set(get_args(Answer)) <= done.keys()
    methods: tuple[Literal["terminate", "terminate_epoch"], ...] = ("terminate", "terminate_epoch")
    assert {Stop(method, skip) for method in methods for skip in (False, True)} <= done.keys()
    assert {Throw("error"), Throw("keyboard"), Throw("exit"), Throw("stop")} <= done.keys()
    # What is rare by nature is still met often enough to be worth anything.
    often = {"interrupt": 30, "exception_raised": 30, "warning": 5, "went on": 4, "raised": 100}
    assert {name: seen[name] for name in often if seen[name] < often[name]} == {}


def named(difference: Difference) -> str:
    return difference.row


@pytest.mark.parametrize("difference", STAND, ids=named)
def test_a_difference_that_stands_is_met_by_its_row(difference: Difference) -> None:
    here, there = compare(difference.program, difference.semantics)
    assert there.rows.keys() == {difference.row}
    assert here.seen != there.seen
    assert not here.endless


@pytest.mark.parametrize("difference", MENDED, ids=named)
def test_a_difference_that_is_mended_is_one(difference: Difference) -> None:
    here, mended = compare(difference.program, difference.semantics)
    assert mended.rows == {}
    assert here.seen != play(difference.program, IgniteSide()).seen
    assert not here.endless


@pytest.mark.parametrize(
    "program",
    [
        Program((Run(max_epochs=2),), (Act("started", 1, Stop()),)),
        Program((Run(max_epochs=2),), (Act("epoch_completed", 1, Stop("terminate_epoch")),)),
        Program((Run(max_epochs=2), Run()), (Act(PROCESS, 2, Throw("stop")),)),
        Program((Run(Data("iterator", 3)), Run(Data("unsized", 4)), Run(Data("iterator", 2)))),
        Program(
            (Run(max_epochs=3),),
            (Act("dataloader_stop_iteration", 1, Give(Data("unsized", 1))),),
        ),
        Program((Run(), Run()), (Act(PROCESS, 1, Throw()),), answers=("raise",)),
    ],
)
def test_what_once_went_wrong_is_equal(program: Program) -> None:
    for semantics in (DOCUMENTED, IGNITE_0_5_5):
        compare(program, semantics)
