"""Run a script in the place of the main module; every process of it calls `install` first.

A process that multiprocessing spawns begins by making its own main module. It takes the name from
the spec of its parent's main module. That is the name of this module, so that an engine in the new
process is one of ours too.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Final

from fengine.engine.ignite.replacement import install

_NAME: Final = "fengine.engine.ignite.main_module"  # a spawned process imports it under another one
_SCRIPT: Final = "FENGINE_SCRIPT"  # the variable that tells a spawned process which script it is


def run(script: Path, arguments: list[str]) -> None:
    """Run a script as `python SCRIPT ARGS` does, in this process, which belongs to it from now on.

    Args:
        script: a file.
        arguments: what the script finds in `sys.argv` after its own name.

    Raises:
        BaseException: whatever the script raised.

    >>> import subprocess, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     script = Path(folder) / "script.py"
    ...     size = script.write_text("import sys; print(__name__, sys.argv[1:])")
    ...     command = [sys.executable, "-m", "fengine.engine", str(script), "-h"]
    ...     print(subprocess.run(command, capture_output=True, text=True).stdout, end="")
    __main__ ['-h']
    """
    sys.argv = [str(script), *arguments]
    if not sys.flags.safe_path:
        sys.path[0] = str(script.resolve().parent)
    os.environ[_SCRIPT] = str(script.absolute())
    main = ModuleType("__main__")
    main.__spec__ = ModuleSpec(_NAME, None)
    main.__package__ = ""
    sys.modules["__main__"] = main
    _execute(main.__dict__)


def _execute(namespace: dict[str, object]) -> None:
    script = os.environ[_SCRIPT]
    namespace["__file__"] = script
    exec(compile(Path(script).read_bytes(), script, "exec", dont_inherit=True), namespace)


if __name__ == "__mp_main__":
    install()
    _execute(globals())
