"""Help for users' tests, of handlers, of loops and of engines.

Strategies generate all that a loop deals in, and whole programs; the reference automaton says what
may fire; assertions look at handlers and at runs. An extra: it needs hypothesis.
"""

try:
    import hypothesis as _hypothesis  # noqa: F401
except ModuleNotFoundError as _missing:
    raise ImportError(
        "fengine.testing needs hypothesis, which is not installed: pip install 'fengine[testing]'"
    ) from _missing

from fengine.testing.automaton import AUTOMATON as AUTOMATON
from fengine.testing.automaton import Automaton as Automaton
from fengine.testing.automaton import Move as Move
from fengine.testing.automaton import Standing as Standing
from fengine.testing.batches import Data as Data
from fengine.testing.clock import FakeClock as FakeClock
from fengine.testing.conformance.judging import Counterexample as Counterexample
from fengine.testing.conformance.judging import Verdict as Verdict
from fengine.testing.conformance.judging import check_engine as check_engine
from fengine.testing.drawing import event_diagram as event_diagram
from fengine.testing.drawing import termination_table as termination_table
from fengine.testing.faults import failing as failing
from fengine.testing.machine import HandlerMachine as HandlerMachine
from fengine.testing.program import Act as Act
from fengine.testing.program import Ask as Ask
from fengine.testing.program import Fail as Fail
from fengine.testing.program import Fault as Fault
from fengine.testing.program import Program as Program
from fengine.testing.program_strategies import acts as acts
from fengine.testing.program_strategies import data as data
from fengine.testing.program_strategies import programs as programs
from fengine.testing.purity import assert_pure as assert_pure
from fengine.testing.resuming import assert_resume_exact as assert_resume_exact
from fengine.testing.strategies import filtered as filtered
from fengine.testing.strategies import filters as filters
from fengine.testing.strategies import handlers as handlers
from fengine.testing.strategies import limits as limits
from fengine.testing.strategies import own_events as own_events
from fengine.testing.strategies import requests as requests
from fengine.testing.strategies import states as states
from fengine.testing.threads import ThreadRanks as ThreadRanks
from fengine.testing.threads import in_threads as in_threads
from fengine.testing.traces import Fired as Fired
from fengine.testing.traces import assert_word as assert_word

__all__ = [
    "AUTOMATON",
    "Act",
    "Ask",
    "Automaton",
    "Counterexample",
    "Data",
    "Fail",
    "FakeClock",
    "Fault",
    "Fired",
    "HandlerMachine",
    "Move",
    "Program",
    "Standing",
    "ThreadRanks",
    "Verdict",
    "acts",
    "assert_pure",
    "assert_resume_exact",
    "assert_word",
    "check_engine",
    "data",
    "event_diagram",
    "failing",
    "filtered",
    "filters",
    "handlers",
    "in_threads",
    "limits",
    "own_events",
    "programs",
    "requests",
    "states",
    "termination_table",
]
