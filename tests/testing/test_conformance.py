"""The conformance suite finds by itself what is wrong with pytorch-ignite, and nothing here.

Generated programs depend on what else is imported, so those for pytorch-ignite are played in a
process of their own.
"""

from __future__ import annotations

import functools
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from typing import Any

import ignite.engine
import pytest
from typing_extensions import override

import fengine.engine
from fengine import DOCUMENTED, IGNITE_0_5_5, Limits, Semantics, State
from fengine.testing import Act, Ask, Data, Fail, check_engine
from fengine.testing.conformance.__main__ import main
from fengine.testing.conformance.player import play
from fengine.testing.conformance.programs import Call, EngineProgram
from fengine.testing.conformance.rules import RULES

NAMES = [rule.name for rule in RULES]


def test_pytorch_ignite_breaks_rules_and_the_report_shows_short_programs() -> None:
    suite = [sys.executable, "-m", "fengine.testing.conformance"]
    command = [*suite, "ignite.engine:Engine", "--programs", "500"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 1, run.stderr
    verdicts = dict(re.findall(r"^(\w+) +(passed|FAILED)", run.stdout, re.MULTILINE))
    assert list(verdicts) == NAMES
    # What breaks others of them is too rare to be found in every choice of programs.
    broken = {name for name in NAMES if verdicts[name] == "FAILED"}
    assert broken >= {"returns", "raises", "limits", "ends"}
    shown = {block.split()[0]: block for block in re.split(r"\n(?=\w)", run.stdout)}
    assert re.search(
        r"    engine = Engine\(step\)\n    at .*: raise Fault\n    engine\.run\(.*\)\n"
        r"    engine\.run\(.*\)\n    # run \d: it returned None, and 0 events had fired$",
        shown["returns"],
    )
    assert "with engine.add_event_handler(Events.EXCEPTION_RAISED, print): pass" in shown["raises"]
    assert re.search(r"# run \d: max_epochs is \d+ and max_iters is \d+ at", shown["limits"])
    assert re.search(r"max_iters=.*\n    # run \d: after 300 events it is", shown["ends"])


def test_our_engine_keeps_every_rule(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["fengine.engine:Engine", "--semantics", "documented", "--programs", "200"]
    assert main(arguments) == 0
    report = capsys.readouterr().out
    assert report.splitlines()[0] == "fengine.engine:Engine, 200 programs of seed 0"
    assert re.findall(r"^(\w+) +passed 200 programs", report, re.MULTILINE) == NAMES
    assert report.endswith("0 of 13 rules broken: none\n")


def test_our_engine_keeps_every_rule_with_the_other_semantics_too() -> None:
    verdicts = check_engine(
        functools.partial(fengine.engine.Engine, semantics=IGNITE_0_5_5),
        fengine.engine.Events,
        semantics=IGNITE_0_5_5,
        programs=200,
    )
    assert [str(verdict) for verdict in verdicts if not verdict.passed] == []


def test_the_wrong_semantics_are_told_apart() -> None:
    verdicts = check_engine(
        fengine.engine.Engine, fengine.engine.Events, semantics=IGNITE_0_5_5, programs=200
    )
    assert [verdict.rule for verdict in verdicts if not verdict.passed] == ["fires"]


@pytest.mark.parametrize(
    "target",
    [
        "ignite.engine",
        "ignite.engine:Motor",
        "no_such_module:Engine",
        "fengine.engine:Events",
        "fengine.engine:State",
    ],
)
def test_what_is_no_engine_is_refused(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main([target])
    assert left.value.code == 2
    assert f"{target}: " in capsys.readouterr().err


def test_no_programs_are_no_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["fengine.engine:Engine", "--programs", "0"])
    assert left.value.code == 2
    assert "--programs 0: give 1 or more" in capsys.readouterr().err
    with pytest.raises(ValueError, match="programs=0: give 1 or more"):
        check_engine(fengine.engine.Engine, fengine.engine.Events, programs=0)


# Every rule can be broken: by what, and on which engine.


class Reversed(fengine.engine.Engine):
    """Feeds batches in the wrong order."""

    @override
    def run(self, data: Iterable[Any] | None = None, *args: Any, **kwargs: Any) -> Any:
        return super().run(None if data is None else list(data)[::-1], *args, **kwargs)


class Deaf(fengine.engine.Engine):
    """Does not stop when it is asked to."""

    @override
    def terminate(self, *args: Any, **kwargs: Any) -> None:
        pass


class Restarting(fengine.engine.Engine):
    """Begins again where it was given more epochs."""

    @override
    def run(self, *args: Any, **kwargs: Any) -> Any:
        self.state.max_epochs = self.state.epoch_length = None
        self.state.epoch = self.state.iteration = 0
        return super().run(*args, **kwargs)


class Silent(fengine.engine.Engine):
    """Loses what the step returns."""

    def __init__(self, step: Callable[[Any, Any], Any]) -> None:
        super().__init__(lambda engine, batch: (step(engine, batch), None)[1])


TAKE: Any = "takes"
RAISE: Any = "raises"
REMOVED: Any = "removed"
ONE = Call(Data("list", 1), Limits(max_epochs=1))
UNSIZED = Call(Data("unsized", 1), Limits(max_iters=2))
FAILS = (Act("step", 1, Fail()),)
PAUSE = Ask(State().interrupt().requests)
END_EPOCH = Ask(State().terminate_epoch().requests)


class Refusing(fengine.engine.Engine):
    """Runs nothing."""

    @override
    def run(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("not today")


BROKEN: dict[str, tuple[Callable[..., Any], EngineProgram]] = {
    "ends": (
        ignite.engine.Engine,
        EngineProgram((Call(Data("iterator", 1), Limits(max_iters=2, epoch_length=1)),)),
    ),
    "starts": (Refusing, EngineProgram((ONE,))),
    "returns": (ignite.engine.Engine, EngineProgram((ONE, ONE), FAILS)),
    "raises": (ignite.engine.Engine, EngineProgram((ONE,), FAILS, REMOVED)),
    "once": (ignite.engine.Engine, EngineProgram((ONE,), FAILS, RAISE)),
    "fires": (
        Deaf,
        EngineProgram(
            (Call(Data("list", 1), Limits(max_epochs=2)),),
            (Act("iteration_completed", 1, Ask(State().terminate().requests)),),
        ),
    ),
    "limits": (ignite.engine.Engine, EngineProgram((UNSIZED,))),
    "again": (ignite.engine.Engine, EngineProgram((UNSIZED, UNSIZED))),
    "refusal": (
        ignite.engine.Engine,
        EngineProgram(
            (
                Call(Data("list", 2), Limits(max_iters=1)),
                Call(Data("list", 1), Limits(max_iters=2, epoch_length=1)),
            )
        ),
    ),
    "reaches": (
        ignite.engine.Engine,
        EngineProgram(
            (
                Call(Data("unsized", 2), Limits(max_epochs=1)),
                Call(Data("unsized", 1), Limits(max_epochs=1)),
            )
        ),
    ),
    "begins": (Restarting, EngineProgram((ONE, Call(Data("list", 1), Limits(max_epochs=2))))),
    "output": (Silent, EngineProgram((ONE,))),
    "batches": (Reversed, EngineProgram((Call(Data("list", 2), Limits(max_epochs=1)),))),
}


def broken_rules(
    program: EngineProgram, engine: Callable[..., Any], semantics: Semantics | None = None
) -> set[str]:
    events = ignite.engine.Events if engine is ignite.engine.Engine else fengine.engine.Events
    played = play(program, engine, events, semantics)
    return {rule.name for rule in RULES for ran in played.runs if rule.wrong(ran, played)}


@pytest.mark.parametrize("name", NAMES)
def test_each_rule_can_be_broken_and_is_not_by_our_engine(name: str) -> None:
    engine, program = BROKEN[name]
    assert name in broken_rules(program, engine)
    for semantics in (DOCUMENTED, IGNITE_0_5_5):
        ours = functools.partial(fengine.engine.Engine, semantics=semantics)
        assert broken_rules(program, ours, semantics) == set()


class CrashesAtTheEnd(fengine.engine.Engine):
    """Raises an error of its own where a run was to return."""

    @override
    def run(self, *args: Any, **kwargs: Any) -> Any:
        super().run(*args, **kwargs)
        raise RuntimeError("the end")


class LosesABatch(fengine.engine.Engine):
    """Loses a batch where a paused run goes on."""

    @override
    def run(self, data: Any = None, *args: Any, **kwargs: Any) -> Any:
        if self._dataloader_iter is not None:
            next(self._dataloader_iter, None)
        return super().run(data, *args, **kwargs)


class CountsAgain(fengine.engine.Engine):
    """Forgets its iterations where a paused run goes on."""

    @override
    def run(self, *args: Any, **kwargs: Any) -> Any:
        self.state.iteration = 0
        return super().run(*args, **kwargs)


class FailsEarly(fengine.engine.Engine):
    """Fires nothing but an exception of its own."""

    @override
    def run(self, *args: Any, **kwargs: Any) -> Any:
        error = RuntimeError("early")
        self._fire_event(fengine.engine.Events.EXCEPTION_RAISED, error)
        raise error


class FailsLater(Deaf):
    """Overhears a stop of an epoch, and raises an error of its own later on."""

    @override
    def terminate_epoch(self, *args: Any, **kwargs: Any) -> None:
        pass

    @override
    def _fire_event(self, event_name: Any, *args: Any, **kwargs: Any) -> None:
        super()._fire_event(event_name, *args, **kwargs)
        if event_name is fengine.engine.Events.ITERATION_COMPLETED:
            raise RuntimeError("later")


TWO = Call(Data("list", 3), Limits(max_epochs=2))


@pytest.mark.parametrize(
    ("engine", "rule", "program"),
    [
        (CrashesAtTheEnd, "raises", EngineProgram((ONE,))),
        (CrashesAtTheEnd, "raises", EngineProgram((ONE,), (), TAKE)),
        (FailsLater, "raises", EngineProgram((ONE,), (Act("epoch_started", 1, END_EPOCH),))),
        (FailsEarly, "raises", EngineProgram((ONE,), (), TAKE)),
        (LosesABatch, "batches", EngineProgram((TWO,), (Act("iteration_completed", 1, PAUSE),))),
        (CountsAgain, "begins", EngineProgram((TWO,), (Act("epoch_completed", 1, PAUSE),))),
    ],
)
def test_wrong_engines_are_found(
    engine: type[fengine.engine.Engine], rule: str, program: EngineProgram
) -> None:
    assert rule in broken_rules(program, engine)
    assert broken_rules(program, fengine.engine.Engine) == set()


def test_an_exception_behind_a_pause_is_taken_as_if_there_were_none() -> None:
    program = EngineProgram((ONE,), (Act("iteration_started", 1, PAUSE), *FAILS), TAKE)
    assert broken_rules(program, fengine.engine.Engine) == set()


def test_only_a_stop_that_acts_at_once_may_be_an_error() -> None:
    program = EngineProgram((ONE,), (Act("epoch_started", 1, END_EPOCH),))
    at_once = functools.partial(fengine.engine.Engine, semantics=IGNITE_0_5_5)
    for semantics in (IGNITE_0_5_5, None):
        assert broken_rules(program, at_once, semantics) == set()
    assert "raises" in broken_rules(program, at_once, DOCUMENTED)


def test_the_fetch_that_was_paused_may_be_announced_again() -> None:
    program = EngineProgram(
        (Call(Data("list", 1), Limits(max_epochs=1, epoch_length=2)),),
        (Act("dataloader_stop_iteration", 1, PAUSE),),
    )
    assert "fires" not in broken_rules(program, ignite.engine.Engine)
    assert broken_rules(program, fengine.engine.Engine) == set()


def test_an_exception_that_is_taken_is_no_breach() -> None:
    assert broken_rules(EngineProgram((ONE, ONE), FAILS, TAKE), fengine.engine.Engine) == set()


def test_a_program_is_shown_as_one_would_write_it() -> None:
    everything: State[Any, Any, Any] = State()
    everything = everything.terminate(skip_completed=True).terminate_epoch(
        skip_epoch_completed=True
    )
    program = EngineProgram(
        (ONE,),
        (
            Act("step", 2, Fail()),
            Act("epoch_started", 1, Ask(everything.interrupt().requests)),
            Act("completed", 1, Ask(State().terminate().terminate_epoch().requests)),
        ),
        TAKE,
    )
    assert str(program).splitlines() == [
        "engine = Engine(step)",
        "at EXCEPTION_RAISED: pass",
        "at step, firing 2: raise Fault",
        "at EPOCH_STARTED, firing 1: engine.terminate(skip_completed=True)",
        "at EPOCH_STARTED, firing 1: engine.terminate_epoch(skip_epoch_completed=True)",
        "at EPOCH_STARTED, firing 1: engine.interrupt()",
        "at COMPLETED, firing 1: engine.terminate()",
        "at COMPLETED, firing 1: engine.terminate_epoch()",
    ]
    assert str(ONE) == "engine.run([0], max_epochs=1)"
    for kind, shown in {
        "iterator": "iter([0, 1])",
        "generator": "(batch for batch in [0, 1])",
        "sized": "Sized([0, 1])",
        "unsized": "Unsized([0, 1])",
        "none": "None",
    }.items():
        given: Any = kind
        call = Call(Data(given, 2), Limits(max_iters=3, epoch_length=2))
        assert str(call) == f"engine.run({shown}, max_iters=3, epoch_length=2)"
