"""The Engine against pytorch-ignite 0.5.5, on generated programs; see `differential`."""

from __future__ import annotations

from collections import Counter
from typing import get_args

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from fengine import DOCUMENTED, IGNITE_0_5_5
from tests.engine.differential import (
    CUSTOM,
    LOOP_EVENTS,
    PROCESS,
    Act,
    Answer,
    Data,
    Deed,
    Give,
    IgniteSide,
    Kind,
    Program,
    Put,
    Run,
    Stop,
    Throw,
    compare,
    play,
    programs,
)


@given(programs())
def test_the_engine_of_0_5_5_runs_like_pytorch_ignite(program: Program) -> None:
    compare(program, IGNITE_0_5_5)


@given(programs())
def test_the_documented_engine_runs_like_pytorch_ignite(program: Program) -> None:
    compare(program, DOCUMENTED)


def test_the_programs_reach_everything() -> None:
    deeds: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    kinds: Counter[str] = Counter()

    @settings(
        max_examples=400,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(programs())
    def collect(program: Program) -> None:
        result = play(program, IgniteSide())
        deeds.update(result.deeds.keys())
        seen.update({one.what for one in result.seen})
        kinds.update({run.data.kind for run in program.runs})
        paused = [number for number, one in enumerate(result.seen) if one.last_event == "interrupt"]
        if paused and any(one.what == PROCESS for one in result.seen[paused[0] :]):
            seen["went on"] += 1

    collect()
    assert kinds.keys() == set(get_args(Kind))
    assert {*LOOP_EVENTS, CUSTOM, PROCESS, "returned", "raised", "went on"} <= seen.keys()
    # Each event and the process function has acted, and each kind of deed and answer occurred.
    assert {*LOOP_EVENTS, CUSTOM, PROCESS} <= deeds.keys()
    assert {kind.__name__ for kind in get_args(Deed)} <= deeds.keys()
    assert {f"answer {answer}" for answer in get_args(Answer)} <= deeds.keys()
    stops = {f"{method} {skip}" for method in ("terminate", "terminate_epoch") for skip in (0, 1)}
    assert {stop.replace(" 0", " False").replace(" 1", " True") for stop in stops} <= deeds.keys()
    assert {f"throw {kind}" for kind in ("error", "keyboard", "exit", "stop")} <= deeds.keys()
    # What is rare by nature is still met often enough to be worth anything.
    often = {"interrupt": 30, "exception_raised": 30, "warning": 5, "went on": 4, "raised": 100}
    assert {name: seen[name] for name in often if seen[name] < often[name]} == {}


# Where the comparison finds what it must: each is a difference that stands, by its row.


@pytest.mark.parametrize(
    ("row", "program"),
    [
        ("Q-30", Program((Run(Data("iterator", 3), max_iters=9, epoch_length=4),))),
        ("Q-08", Program((Run(Data("unsized", 0), max_iters=1),))),
        (
            "R-21",
            Program(
                (Run(Data("none"), max_iters=5, epoch_length=4),),
                (Act("iteration_completed", 2, Put("max_iters", 1)),),
            ),
        ),
    ],
    ids=["Q-30", "Q-08", "R-21"],
)
def test_a_difference_that_stands_is_met_by_its_row(row: str, program: Program) -> None:
    ours, theirs = compare(program, IGNITE_0_5_5)
    assert row in theirs.rows
    assert ours.seen != theirs.seen
    assert not ours.endless


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
