"""The Engine against pytorch-ignite 0.5.5, on generated programs; see `differential`."""

from __future__ import annotations

from collections import Counter
from typing import Final, Literal, get_args

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from fengine import DOCUMENTED, IGNITE_0_5_5, Semantics
from tests.engine.differential.batches import Data, Kind
from tests.engine.differential.comparing import compare
from tests.engine.differential.deeds import (
    Deed,
    Give,
    Load,
    Pause,
    Put,
    Save,
    Stop,
    Throw,
    Tick,
)
from tests.engine.differential.player import play
from tests.engine.differential.program import EVENTS, PROCESS, Act, Answer, Program, Run
from tests.engine.differential.rows import MENDED, STAND, Difference
from tests.engine.differential.sides import IgniteSide, MendedSide
from tests.engine.differential.strategies import programs

# So many reach everything, as a test below shows.
ENOUGH: Final = 1000
MANY: Final = settings(max_examples=max(ENOUGH, settings().max_examples))


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
        max_examples=ENOUGH,
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


RUN_TWICE: Final = (Run(), Run())
TWO_EPOCHS: Final = (Run(max_epochs=2),)
ERROR: Final = Act(PROCESS, 1, Throw())
ONCE_WRONG: Final = {
    "a stop in STARTED": Program(TWO_EPOCHS, (Act("started", 1, Stop()),)),
    "a stop of an epoch that is over": Program(
        TWO_EPOCHS, (Act("epoch_completed", 1, Stop("terminate_epoch")),)
    ),
    "a StopIteration": Program((*TWO_EPOCHS, Run()), (Act(PROCESS, 2, Throw("stop")),)),
    "lengths that are found out": Program(
        (Run(Data("iterator", 3)), Run(Data("unsized", 4)), Run(Data("iterator", 2)))
    ),
    "a length that is written, and not found out": Program(
        (Run(Data("unsized", 3)), Run(Data("unsized", 3))),
        (Act(PROCESS, 2, Put("epoch_length", 2)),),
    ),
    "a length that is taken away": Program(
        (Run(Data("none"), max_epochs=2, epoch_length=2),),
        (Act("started", 1, Put("epoch_length", None)),),
    ),
    "other data at the end of the data": Program(
        (Run(max_epochs=3),), (Act("dataloader_stop_iteration", 1, Give(Data("unsized", 1))),)
    ),
    "no data any more": Program(
        (Run(Data("sized", 3, fails=1), epoch_length=3),),
        (Act("iteration_completed", 1, Put("dataloader", None)),),
    ),
    "an error that is raised again": Program(RUN_TWICE, (ERROR,), answers=("raise",)),
    "a failing handler of INTERRUPT": Program(
        (*TWO_EPOCHS, Run()),
        (Act(PROCESS, 1, Pause()), Act("interrupt", 1, Throw())),
        answers=("take",),
    ),
    "a refused request": Program(
        (*TWO_EPOCHS, Run()),
        (Act("epoch_started", 1, Stop("terminate_epoch")),),
        answers=("take",),
    ),
    "another event at the end of the data": Program(
        TWO_EPOCHS, (Act("dataloader_stop_iteration", 1, Tick()),)
    ),
    "a pause at the end of the data": Program(
        (*TWO_EPOCHS, Run()), (Act("dataloader_stop_iteration", 1, Pause()),)
    ),
    "stops and pauses between epochs": Program(
        (Run(max_epochs=3), Run(before=(Stop("terminate_epoch"), Pause())), Run()),
        (Act("epoch_completed", 1, Pause()),),
    ),
    "progress loaded after an error": Program(
        (Run(), Run(before=(Load(done=2), Save()))), (ERROR,)
    ),
    "progress loaded in a run": Program(
        (Run(max_epochs=3),), (Act("iteration_completed", 1, Load(done=2)),)
    ),
    "progress loaded after data": Program(
        (Run(before=(Give(Data("sized", 4), "set_data"), Load(done=2))),)
    ),
}


@pytest.mark.parametrize("program", ONCE_WRONG.values(), ids=ONCE_WRONG)
@pytest.mark.parametrize("semantics", [DOCUMENTED, IGNITE_0_5_5], ids=["documented", "0.5.5"])
def test_what_once_went_wrong_is_equal(program: Program, semantics: Semantics) -> None:
    ours, theirs = compare(program, semantics)
    assert ours.seen
    assert theirs.rows == {}
