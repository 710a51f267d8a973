"""The help for users' tests: it says what it needs, it is documented, and its programs replay."""

from __future__ import annotations

import doctest
import inspect
import subprocess
import sys

import pytest
from hypothesis import given

from fengine import testing
from fengine.testing import Data, Program, data, programs
from tests.laws.recording import record


def test_without_hypothesis_the_import_names_the_extra() -> None:
    program = "import sys; sys.modules['hypothesis'] = None; import fengine.testing"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert run.returncode == 1
    assert "ImportError: fengine.testing needs hypothesis" in run.stderr
    assert "fengine[testing]" in run.stderr


def test_it_does_not_import_torch() -> None:
    program = "import fengine.testing; import sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("name", testing.__all__)
def test_its_names_are_documented_by_example(name: str) -> None:
    value = getattr(testing, name)
    value = value if inspect.isclass(value) or inspect.isroutine(value) else type(value)
    assert doctest.DocTestParser().get_examples(value.__doc__ or "")


@given(programs())
def test_a_program_replays(program: Program) -> None:
    one, other = record(program.iterate()), record(program.iterate())
    assert one.moments == other.moments
    assert one.fails_like(other)


@given(data())
def test_data_is_made_anew_each_time(described: Data) -> None:
    if described.kind == "none":
        assert described.fresh() is None
        return
    first, second = described.fresh(), described.fresh()
    assert first is not None
    assert second is not None
    assert first is not second
    assert list(first) == list(second) == list(range(described.size))
    assert list(first) == ([*range(described.size)] if described.replays else [])
    assert hasattr(first, "__len__") == (described.kind in ("list", "sized"))
