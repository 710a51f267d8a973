"""Checks that need a process of their own: all run in one program, and are told of one by one."""

from __future__ import annotations

import json
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[3]

PROGRAM = """
import fengine.engine
fengine.engine.install()
from tests.engine.unmodified.reporting import report
from {module} import {checks}
report({checks})
"""


def report(checks: Mapping[str, Callable[[], None]]) -> None:
    """Run checks, and print what went wrong in each: nothing, or a traceback."""
    wrong = dict.fromkeys(checks, "")
    for name, check in checks.items():
        try:
            check()
        except Exception:
            wrong[name] = traceback.format_exc()
    print(json.dumps(wrong))  # noqa: T201


def reported(module: str, checks: str) -> dict[str, str]:
    """Run the checks that a module has in a program after `install`; give what went wrong."""
    program = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(module=module, checks=checks)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert program.returncode == 0, program.stderr
    return dict(json.loads(program.stdout.splitlines()[-1]))
