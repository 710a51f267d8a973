"""The progress bar draws on terminals alone, what the state says, and never disturbs a run."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from typing_extensions import override

from fengine import Events, Loop, State, outputs
from fengine.handlers import progress


class Terminal(io.StringIO):
    """Keep what is drawn, as a terminal would show it."""

    @override
    def isatty(self) -> bool:
        return True

    @property
    def screens(self) -> list[str]:
        return [screen.strip() for screen in self.getvalue().split("\r")]


class BrokenTerminal(Terminal):
    @override
    def write(self, text: str) -> int:
        raise BrokenPipeError


def unsized() -> Iterator[int]:
    yield from (1, 2, 3)


def invert(batch: int) -> int:
    return 6 // batch


def test_each_epoch_has_its_bar_and_leaves_nothing_behind() -> None:
    terminal = Terminal()
    progress(Loop(outputs(invert)), file=terminal).run([1, 2, 3], max_epochs=2)
    begun = [screen for screen in terminal.screens if "0/3" in screen]
    assert [screen.partition(":")[0] for screen in begun] == ["epoch 1/2", "epoch 2/2"]
    assert terminal.screens[-2:] == ["", ""]
    assert "\n" not in terminal.getvalue()


def test_the_bar_is_gone_when_later_handlers_print() -> None:
    terminal = Terminal()

    def say(state: State[int, int]) -> State[int, int]:
        terminal.write(f"line {state.epoch}\n")
        return state

    loop = progress(Loop(outputs(invert)), file=terminal).on(Events.EPOCH_COMPLETED, say)
    loop.run([1, 2, 3], max_epochs=2)
    assert [screen for screen in terminal.screens if "line" in screen] == ["line 1", "line 2"]


def test_the_bar_goes_away_with_an_exception() -> None:
    terminal = Terminal()
    with pytest.raises(ZeroDivisionError):
        progress(Loop(outputs(invert)), file=terminal).run([1, 0])
    assert terminal.screens[-2:] == ["", ""]


def test_it_shows_the_place_of_a_resumed_run() -> None:
    loop, terminal = Loop(outputs(invert)), Terminal()
    half = next(m.state for m in loop.iterate([1, 2, 3]) if m.state.batches == 2)
    progress(loop, file=terminal).resume(half, [1, 2, 3])
    assert any("epoch 1/1" in screen for screen in terminal.screens)


def test_data_of_unknown_length_is_counted() -> None:
    terminal = Terminal()
    progress(Loop(outputs(invert)), file=terminal).run(unsized())
    assert "epoch 1/1: 0 batches [00:00, ? batches/s]" in terminal.screens


def test_nothing_is_drawn_where_there_is_no_terminal() -> None:
    paper = io.StringIO()
    progress(Loop(outputs(invert)), file=paper).run([1, 2])
    assert paper.getvalue() == ""
    paper.close()
    assert progress(Loop(outputs(invert)), file=paper).run([1, 2]).output == 3


def test_without_a_standard_error_stream_nothing_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    assert progress(Loop(outputs(invert))).run([1, 2]).output == 3


def test_a_terminal_that_goes_away_does_not_end_the_run() -> None:
    assert progress(Loop(outputs(invert)), file=BrokenTerminal()).run([1, 2]).output == 3


def test_no_thread_is_left_behind() -> None:
    before = set(threading.enumerate())
    progress(Loop(outputs(invert)), file=Terminal()).run([1, 2])
    assert set(threading.enumerate()) == before


def test_without_tqdm_the_error_names_the_extra() -> None:
    program = """
import sys
sys.modules["tqdm"] = None
from fengine import Loop, outputs
from fengine.handlers import progress
try:
    progress(Loop(outputs(abs)))
except ModuleNotFoundError as error:
    print(error)
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "pip install 'fengine[progress]'" in done.stdout
