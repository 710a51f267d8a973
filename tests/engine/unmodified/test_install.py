"""What `install` does in a process of its own, and `python -m fengine.engine` for a script."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

from fengine.engine.ignite import command_line
from tests.engine.unmodified.installed import CHECKS
from tests.engine.unmodified.reporting import reported

IMPORTED_FIRST = """
import importlib, os, sys
import fengine.engine
fengine.engine.install()
for name in sys.argv[1:]:
    if (process := os.fork()) == 0:
        importlib.import_module(name)
        from ignite.engine import Engine
        from ignite.handlers import timing
        from ignite.metrics import metric
        assert Engine is timing.Engine is metric.Engine
        assert issubclass(Engine, fengine.engine.Engine)
        os._exit(0)
    assert os.waitpid(process, 0)[1] == 0, name
"""

REFUSED = """
import importlib.util, sys
import fengine.engine.ignite.stand_in
assert "ignite" not in sys.modules
find = importlib.util.find_spec
importlib.util.find_spec = lambda name: None if name == "ignite" else find(name)
try:
    fengine.engine.install()
except ModuleNotFoundError as error:
    print(error.name, error)
importlib.util.find_spec = find
import ignite.metrics
try:
    fengine.engine.install()
except RuntimeError as error:
    print(error)
from ignite.engine import Engine
assert not issubclass(Engine, fengine.engine.Engine)
"""


@pytest.fixture(scope="module")
def wrong() -> dict[str, str]:
    return reported("tests.engine.unmodified.installed", "CHECKS")


@pytest.mark.parametrize("name", CHECKS)
def test_installed(name: str, wrong: dict[str, str]) -> None:
    assert wrong[name] == ""


def run(*arguments: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )


def test_any_module_can_be_imported_first() -> None:
    names = ("ignite.engine.events", "ignite.engine.utils", "ignite.handlers.timing", "ignite.base")
    program = run("-c", IMPORTED_FIRST, *names)
    assert program.returncode == 0, program.stderr


def test_install_says_what_to_do_where_it_cannot() -> None:
    program = run("-c", REFUSED)
    assert program.returncode == 0, program.stderr
    absent, late = program.stdout.splitlines()
    assert absent.startswith("ignite pytorch-ignite is not installed")
    assert "pip install pytorch-ignite" in absent
    assert "imported already (ignite, " in late
    assert "call fengine.engine.install() before" in late


# python -m fengine.engine SCRIPT

SCRIPT = '''
"""Tell everything about oneself."""
import atexit, pickle, sys
import neighbour
from ignite.engine import Engine

class Mine:
    pass

def annotated(x: int): ...

if __name__ == "__main__":
    print(sys.argv, sys.path[0], __file__, __name__, __doc__, neighbour.VALUE)
    print(type(pickle.loads(pickle.dumps(Mine()))) is sys.modules["__main__"].Mine is Mine)
    print(annotated.__annotations__, Engine(lambda engine, batch: batch).run([1, 2]).output)
    atexit.register(lambda: print("at the exit", Mine.__name__))
    raise LookupError("on purpose")
'''


def test_a_script_runs_as_by_plain_python(tmp_path: Path) -> None:
    folder = tmp_path / "there"
    folder.mkdir()
    folder.joinpath("neighbour.py").write_text("VALUE = 5", encoding="utf-8")
    folder.joinpath("script.py").write_text(SCRIPT, encoding="utf-8")
    command = ("there/script.py", "--flag", "-h", "--", "value")
    plain = run(*command, folder=tmp_path)
    ours = run("-m", "fengine.engine", *command, folder=tmp_path)
    assert "'-h'" in plain.stdout
    assert ours.stdout == plain.stdout
    assert (plain.returncode, ours.returncode) == (1, 1)
    last = plain.stderr.splitlines()[-3:]
    assert "on purpose" in last[-1]
    assert ours.stderr.splitlines()[-3:] == last


WORKERS = """
import multiprocessing
import ignite.engine
import fengine.engine
from torch.utils.data import DataLoader

class Ours:
    def __len__(self):
        return 1

    def __getitem__(self, index):
        return issubclass(ignite.engine.Engine, fengine.engine.Engine)

def train(queue):
    queue.put(ignite.engine.Engine(lambda engine, batch: batch).run([1, 2]).output)
    queue.put(Ours()[0])

if __name__ == "__main__":
    for method in ("fork", "spawn"):
        loader = DataLoader(Ours(), num_workers=1, multiprocessing_context=method)
        print(method, ignite.engine.Engine(lambda engine, batch: batch).run(loader).output)
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    process = context.Process(target=train, args=(queue,))
    process.start()
    process.join()
    print(process.exitcode, queue.get(), queue.get())
"""


def test_processes_of_a_script_have_the_engine_too(tmp_path: Path) -> None:
    script = tmp_path / "workers.py"
    script.write_text(WORKERS, encoding="utf-8")
    ours = run("-m", "fengine.engine", str(script))
    assert ours.returncode == 0, ours.stderr
    assert ours.stdout == "fork tensor([True])\nspawn tensor([True])\n0 2 True\n"


def test_the_command_line_is_refused_with_a_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def absent() -> NoReturn:
        raise ModuleNotFoundError("pytorch-ignite is not installed")

    script = tmp_path / "script.py"
    script.touch()
    for arguments, install, reason in (
        ([], absent, "required: SCRIPT"),
        (["nowhere.py"], absent, "there is no file 'nowhere.py'"),
        ([str(tmp_path)], absent, "there is no file"),
        ([str(script), "-h"], absent, "pytorch-ignite is not installed"),
    ):
        monkeypatch.setattr(sys, "argv", ["fengine.engine", *arguments])
        monkeypatch.setattr(command_line, "install", install)
        with pytest.raises(SystemExit) as left:
            command_line.main()
        assert left.value.code == 2
        assert reason in capsys.readouterr().err
