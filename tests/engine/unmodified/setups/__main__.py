"""Run all set-ups and print what they give, as JSON; see the package."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import traceback
import warnings
from contextlib import chdir
from importlib import import_module
from pathlib import Path
from typing import Any

import fengine.engine
from tests.engine.unmodified.setups import SETUPS, Setup


def outcome(setup: Setup, package: Path) -> dict[str, Any]:
    """Run a set-up; tell what it gave or why it failed, and whose code of pytorch-ignite it ran."""
    files: set[str] = set()
    sys.setprofile(lambda frame, event, argument: files.add(frame.f_code.co_filename))
    result, error = None, ""
    try:
        with tempfile.TemporaryDirectory() as folder, chdir(folder):
            result = setup.run()
    except Exception:
        error = traceback.format_exc()
    finally:
        sys.setprofile(None)
    paths = [Path(file) for file in files]
    ran = [str(path.relative_to(package)) for path in paths if path.is_relative_to(package)]
    return {"result": result, "error": error, "files": sorted(ran)}


def main() -> None:
    """Print what each set-up came to, and whether it was on the Engine of this package."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--fengine", action="store_true")
    if parser.parse_args().fengine:
        fengine.engine.install()
    warnings.simplefilter("ignore")
    import_module("tests.engine.unmodified.setups.every")
    ignite = import_module("ignite")
    package = Path(ignite.__file__ or "").parent
    results = {name: outcome(setup, package) for name, setup in SETUPS.items()}
    ours = issubclass(ignite.engine.Engine, fengine.engine.Engine)
    json.dump({"fengine": ours, "results": results}, sys.stdout)


if __name__ == "__main__":
    main()
