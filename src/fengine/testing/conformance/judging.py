"""Judging: play generated programs on an Engine, and give a verdict for each rule.

All rules look at the same programs. For a rule that is broken, the programs are generated once
more, in the same order, and the first that breaks it is made as simple as Hypothesis can.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, final

import attrs
from hypothesis import HealthCheck, Phase, Verbosity, given, settings
from hypothesis import seed as seeded
from typing_extensions import override

from fengine.core.semantics import Semantics
from fengine.testing.conformance.player import MakeEngine, Played, play
from fengine.testing.conformance.programs import EngineProgram, engine_programs
from fengine.testing.conformance.rules import RULES, Rule


@final
@attrs.frozen
class Counterexample:
    """Hold a program that breaks a rule.

    Args:
        program: the program, to be read.
        reason: which of its runs breaks the rule, and how.

    >>> Counterexample("engine.run([0])", "run 1: it returned None").reason
    'run 1: it returned None'
    """

    program: str
    reason: str


@final
@attrs.frozen
class Verdict:
    """Say whether an Engine keeps a rule.

    Args:
        rule: the name of the rule.
        holds: what must hold, in words.
        played: how many programs were played until it was broken, or in all.
        broken_by: the simplest program found that breaks it; None if none does.

    >>> verdict = Verdict("ends", "a run ends", played=200)
    >>> print(verdict)
    ends      passed 200 programs        a run ends
    """

    rule: str
    holds: str
    played: int
    broken_by: Counterexample | None = None

    @property
    def passed(self) -> bool:
        """Whether no program broke the rule."""
        return self.broken_by is None

    @override
    def __str__(self) -> str:
        """Show the verdict, and what breaks the rule, for a terminal."""
        found = "passed" if self.passed else "FAILED after"
        line = f"{self.rule:<8}  {f'{found} {self.played} programs':<25}  {self.holds}"
        if self.broken_by is None:
            return line
        shown = [*self.broken_by.program.splitlines(), *f"# {self.broken_by.reason}".splitlines()]
        return "\n".join([line, *(f"    {text}" for text in shown)])


def check_engine(
    engine: MakeEngine,
    events: Any,
    *,
    semantics: Semantics | None = None,
    programs: int = 300,
    seed: int = 0,
) -> tuple[Verdict, ...]:
    """Play generated programs on an Engine, and judge it by rules that hold for every Engine.

    Nothing is measured in time: a run that does not end is left after some hundred events.

    Args:
        engine: makes an engine of a process function; the class of the Engine does.
        events: the class of its events.
        semantics: when stops have to act; None: either way will do.
        programs: how many programs to play.
        seed: chooses the programs; the same number, the same programs.

    Returns:
        A verdict for each rule.

    Raises:
        ValueError: there are no programs to play.

    >>> from fengine.engine import Engine, Events
    >>> all(verdict.passed for verdict in check_engine(Engine, Events, programs=20))
    True
    """
    if programs < 1:
        raise ValueError(f"programs={programs}: give 1 or more; nothing is judged otherwise")

    def played(program: EngineProgram) -> Played:
        return play(program, engine, events, semantics)

    broken: dict[str, tuple[int, Counterexample]] = {}
    count = 0

    def judge(program: EngineProgram) -> None:
        nonlocal count
        count += 1
        seen = played(program)
        for rule in RULES:
            found = None if rule.name in broken else _counterexample(rule, seen)
            if found is not None:
                broken[rule.name] = count, found

    every = settings(_SETTINGS, max_examples=programs)
    every(seeded(seed)(given(engine_programs())(judge)))()
    verdicts = []
    for rule in RULES:
        after, example = broken.get(rule.name, (count, None))
        if example is not None:
            example = _simplest(rule, example, played, every, seed)
        verdicts.append(Verdict(rule.name, rule.holds, after, example))
    return tuple(verdicts)


def _simplest(
    rule: Rule,
    first: Counterexample,
    played: Callable[[EngineProgram], Played],
    every: settings,
    seed: int,
) -> Counterexample:
    """Make the first counterexample to a rule as simple as possible."""
    found = first

    def keep(program: EngineProgram) -> None:
        nonlocal found
        simpler = _counterexample(rule, played(program))
        if simpler is not None:
            found = simpler
            raise _BrokenError

    try:
        shrinking = settings(every, phases=[Phase.generate, Phase.shrink])
        shrinking(seeded(seed)(given(engine_programs())(keep)))()
    except _BrokenError:
        pass
    return found


def _counterexample(rule: Rule, played: Played) -> Counterexample | None:
    for number, ran in enumerate(played.runs, start=1):
        if wrong := rule.wrong(ran, played):
            calls = [str(one.call) for one in played.runs[:number]]
            program = "\n".join([str(played.program), *calls])
            return Counterexample(program, f"run {number}: {wrong}")
    return None


class _BrokenError(Exception):
    """Tell Hypothesis that a program breaks a rule."""


_SETTINGS: Final = settings(
    database=None,
    deadline=None,
    phases=[Phase.generate],
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
    verbosity=Verbosity.quiet,
)
