"""Judge an Engine from the command line.

    python -m fengine.testing.conformance ignite.engine:Engine

The exit status is 1 if a rule is broken.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Any, Final

from fengine.core.semantics import DOCUMENTED, IGNITE_0_5_5
from fengine.testing.conformance.judging import check_engine

_SEMANTICS: Final = {"documented": DOCUMENTED, "ignite_0_5_5": IGNITE_0_5_5, "either": None}


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge the Engine that is named, print a report, and give the exit status.

    >>> main(["fengine.engine:Engine", "--programs", "5"])
    fengine.engine:Engine, 5 programs of seed 0
    ...
    0 of 12 rules broken: none
    0
    """
    parser = argparse.ArgumentParser(
        prog="python -m fengine.testing.conformance",
        description="Play generated programs on an Engine, and judge it rule by rule.",
    )
    parser.add_argument("engine", help="such as ignite.engine:Engine; Events stands beside it")
    parser.add_argument("--programs", type=int, default=300, help="how many (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="which ones (default: %(default)s)")
    parser.add_argument(
        "--semantics",
        choices=_SEMANTICS,
        default="either",
        help="when a stop has to act (default: %(default)s)",
    )
    given = parser.parse_args(arguments)
    if given.programs < 1:
        parser.error(f"--programs {given.programs}: give 1 or more; nothing is judged otherwise")
    try:
        engine, events = _found(given.engine)
    except (AttributeError, ImportError, ValueError) as error:
        parser.error(f"{given.engine}: {error}; give it as module:Engine")
    verdicts = check_engine(
        engine,
        events,
        semantics=_SEMANTICS[given.semantics],
        programs=given.programs,
        seed=given.seed,
    )
    failed = [verdict.rule for verdict in verdicts if not verdict.passed]
    report = [
        f"{given.engine}, {given.programs} programs of seed {given.seed}",
        "",
        *map(str, verdicts),
        "",
        f"{len(failed)} of {len(verdicts)} rules broken: {', '.join(failed) or 'none'}",
    ]
    sys.stdout.write("\n".join(report) + "\n")
    return 1 if failed else 0


def _found(target: str) -> tuple[Any, Any]:
    """Import what `module:Engine` names, and the events beside it."""
    module_name, _, name = target.partition(":")
    module = importlib.import_module(module_name)
    engine = getattr(module, name)
    if not isinstance(engine, type) or not hasattr(engine, "add_event_handler"):
        raise ValueError("it is no class of an Engine")
    return engine, module.Events


if __name__ == "__main__":
    sys.exit(main())
