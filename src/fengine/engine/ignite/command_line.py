"""The command `python -m fengine.engine SCRIPT [ARGS]`: read it, or refuse it with a reason."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fengine.engine.ignite.main_module import run
from fengine.engine.ignite.replacement import install


def main() -> None:
    """Run the script that the command line names, after `install`."""
    parser = argparse.ArgumentParser(
        prog="python -m fengine.engine",
        usage="%(prog)s [-h] SCRIPT [ARGS ...]",
        description="Run a script for pytorch-ignite, unchanged, with the Engine of fengine.",
    )
    parser.add_argument("script", metavar="SCRIPT", type=Path, help="what follows it is its own")
    script: Path = parser.parse_args(sys.argv[1:2]).script
    if not script.is_file():
        parser.error(f"there is no file {str(script)!r}")
    try:
        install()
    except ModuleNotFoundError as error:
        parser.error(str(error))
    run(script, sys.argv[2:])
