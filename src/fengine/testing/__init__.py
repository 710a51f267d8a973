"""Help for users' tests: strategies that generate what the loop deals in, and whole programs.

An extra: it needs hypothesis.
"""

try:
    import hypothesis as _hypothesis  # noqa: F401
except ModuleNotFoundError as _missing:
    raise ImportError(
        "fengine.testing needs hypothesis, which is not installed: pip install 'fengine[testing]'"
    ) from _missing

from fengine.testing.batches import Data as Data
from fengine.testing.program import Act as Act
from fengine.testing.program import Ask as Ask
from fengine.testing.program import Fail as Fail
from fengine.testing.program import Fault as Fault
from fengine.testing.program import Program as Program
from fengine.testing.program_strategies import acts as acts
from fengine.testing.program_strategies import data as data
from fengine.testing.program_strategies import programs as programs
from fengine.testing.strategies import filtered as filtered
from fengine.testing.strategies import filters as filters
from fengine.testing.strategies import handlers as handlers
from fengine.testing.strategies import limits as limits
from fengine.testing.strategies import own_events as own_events
from fengine.testing.strategies import requests as requests
from fengine.testing.strategies import states as states

__all__ = [
    "Act",
    "Ask",
    "Data",
    "Fail",
    "Fault",
    "Program",
    "acts",
    "data",
    "filtered",
    "filters",
    "handlers",
    "limits",
    "own_events",
    "programs",
    "requests",
    "states",
]
