"""Progress draws what the state says: a bar where one can be drawn, else a line for each epoch.

Whatever happens to the output, the run goes on.
"""

from __future__ import annotations

import copy
import io
import pickle
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from typing_extensions import override

from fengine import Events, Loop, State, outputs
from fengine.features import evaluation, progress
from fengine.metrics import mean


class Terminal(io.StringIO):
    """Keep what is drawn, as a terminal would show it."""

    @override
    def isatty(self) -> bool:
        return True

    @property
    def screens(self) -> list[str]:
        return [screen.strip() for screen in self.getvalue().split("\r")]

    @property
    def left(self) -> list[str]:
        """What is to be seen in the end, without empty lines."""
        rows: list[list[str]] = [[]]
        row = column = 0
        for part in re.findall(r"\x1b\[A|[\r\n]|[^\x1b\r\n]", self.getvalue()):
            if part == "\x1b[A":
                row -= 1
            elif part == "\r":
                column = 0
            elif part == "\n":
                row, column = row + 1, 0
            else:
                rows[row] += [" "] * (column + 1 - len(rows[row]))
                rows[row][column] = part
                column += 1
            if row == len(rows):
                rows.append([])
        return [line for line in ("".join(row).strip() for row in rows) if line]


class BrokenTerminal(Terminal):
    @override
    def write(self, text: str) -> int:
        raise BrokenPipeError


class Bare:
    """Have only what is asked of a stream."""

    def __init__(self) -> None:
        self.text, self.flushed = "", 0

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None:
        self.flushed += 1


class BareTerminal(Bare):
    def isatty(self) -> bool:
        return True


class Notebook(Bare):
    """Be the stream of a notebook, which is no terminal."""

    def isatty(self) -> bool:
        return False


Notebook.__module__ = "ipykernel.iostream"


class OwnNotebook(Notebook):
    """Be derived from it."""


class Failing:
    """Fail in one way or another, whatever is asked."""

    def __init__(self, place: str, error: Exception) -> None:
        self.place, self.error = place, error

    def _fail(self, place: str) -> None:
        if place and self.place.endswith(place):
            raise self.error

    def isatty(self) -> bool:
        self._fail("isatty")
        return self.place.startswith("terminal")

    def write(self, text: str) -> None:
        self._fail("write" if "write" in self.place else "")

    def flush(self) -> None:
        """Do nothing."""


def unsized() -> Iterator[int]:
    yield from (1, 2, 3)


def invert(batch: int) -> int:
    return 6 // batch


def inverting() -> Loop[int, int, None]:
    return Loop(outputs(invert))


def test_each_epoch_has_its_bar_and_leaves_nothing_behind() -> None:
    terminal = Terminal()
    (inverting() | progress(file=terminal)).run([1, 2, 3], max_epochs=2)
    begun = [screen for screen in terminal.screens if "0/3" in screen]
    assert [screen.partition(":")[0] for screen in begun] == ["epoch 1/2", "epoch 2/2"]
    assert terminal.screens[-2:] == ["", ""]
    assert "\n" not in terminal.getvalue()
    assert terminal.left == []


def test_a_line_with_the_metrics_stays_behind_the_bar_of_an_epoch() -> None:
    terminal = Terminal()
    loop = inverting() | mean("loss") | progress("loss", file=terminal)
    loop.run([1, 2, 3], max_epochs=2)
    lines = [line for screen in terminal.screens for line in screen.split("\n") if "loss" in line]
    wanted = [f"epoch {epoch}/2  iteration {3 * epoch}  loss 3.667" for epoch in (1, 2)]
    assert [line for line in lines if "|" not in line] == wanted
    for line in wanted:  # the bar is wiped away before it
        assert f"\r{line}\n" in terminal.getvalue()
    assert terminal.left == wanted


def test_the_bar_shows_the_place_and_the_last_metrics() -> None:
    def slowly(batch: int) -> int:
        time.sleep(0.11)  # a bar is drawn ten times a second at most
        return invert(batch)

    terminal = Terminal()
    loop = Loop(outputs(slowly)) | mean("loss", over=Events.ITERATION_COMPLETED)
    (loop | progress("loss", file=terminal)).run([1, 2, 3])
    for place, loss in ((1, 6), (2, 3), (3, 2)):
        shown = [screen for screen in terminal.screens if f"| {place}/3 [" in screen]
        assert len(shown) == 1
        assert shown[0].endswith(f"loss={loss}]")


def test_the_bar_is_gone_when_later_handlers_print() -> None:
    terminal = Terminal()

    def say(state: State[int, int]) -> State[int, int]:
        terminal.write(f"line {state.epoch}\n")
        return state

    loop = (inverting() | progress(file=terminal)).on(Events.EPOCH_COMPLETED, say)
    loop.run([1, 2, 3], max_epochs=2)
    assert [screen for screen in terminal.screens if "line" in screen] == ["line 1", "line 2"]
    assert terminal.left == ["line 1", "line 2"]


def test_the_bar_goes_away_with_an_exception() -> None:
    terminal = Terminal()
    with pytest.raises(ZeroDivisionError):
        (inverting() | progress(file=terminal)).run([1, 0])
    assert terminal.screens[-2:] == ["", ""]


@pytest.mark.parametrize("ask", [State.interrupt, State.terminate, State.terminate_epoch])
def test_the_bar_goes_away_where_a_run_ends_early(ask: Any) -> None:
    terminal = Terminal()
    loop = (inverting() | progress(file=terminal)).on(Events.ITERATION_COMPLETED(once=2), ask)
    loop.run([1, 2, 3])
    assert terminal.screens[-2:] == ["", ""]


def left_by_a_run_that_is_dropped_and_one_more() -> list[str]:
    terminal = Terminal()
    loop = inverting() | progress(file=terminal)
    moments = loop.iterate([1, 2, 3])
    for moment in moments:
        if moment.state.iteration == 2:
            break
    moments.close()
    loop.run([1, 2, 3])
    return terminal.left  # and nothing of the loop is left for the next test


def test_the_bar_of_a_run_that_is_dropped_is_gone_behind_the_next_run() -> None:
    assert left_by_a_run_that_is_dropped_and_one_more() == []


def test_it_shows_the_place_of_a_resumed_run() -> None:
    loop, terminal = inverting(), Terminal()
    half = next(m.state for m in loop.iterate([1, 2, 3]) if m.state.batches == 2)
    (loop | progress(file=terminal)).resume(half, [1, 2, 3])
    assert any("epoch 1/1" in screen for screen in terminal.screens)


def test_data_of_unknown_length_is_counted() -> None:
    terminal = Terminal()
    (inverting() | progress(file=terminal)).run(unsized())
    assert "epoch 1/1: 0 batches [00:00, ? batches/s]" in terminal.screens


@pytest.mark.parametrize("file", [io.StringIO(), Bare()], ids=["paper", "bare"])
def test_where_there_is_no_terminal_there_is_a_line_for_each_epoch(file: Any) -> None:
    loop = inverting() | mean("loss") | mean("whole", over=Events.COMPLETED)
    loop = loop | progress("loss", file=file) | progress(file=file)
    loop.run([1, 2, 3], max_epochs=2)
    assert (file.text if isinstance(file, Bare) else file.getvalue()) == (
        "epoch 1/2  iteration 3  loss 3.667\n"
        "epoch 1/2  iteration 3\n"
        "epoch 2/2  iteration 6  loss 3.667\n"
        "epoch 2/2  iteration 6\n"
    )
    assert not isinstance(file, Bare) or file.flushed == 4


def test_a_run_of_iterations_has_no_number_of_epochs() -> None:
    paper = io.StringIO()
    (inverting() | progress(file=paper)).run([1, 2, 3], max_iters=4)
    assert paper.getvalue() == "epoch 1  iteration 3\nepoch 2  iteration 4\n"


def test_lines_go_on_where_a_run_does() -> None:
    paper = io.StringIO()
    loop = inverting() | mean("loss") | progress("loss", file=paper)
    half = next(m.state for m in loop.iterate([1, 2, 3], max_epochs=2) if m.state.batches == 2)
    assert paper.getvalue() == ""
    loop.resume(half, [1, 2, 3])
    assert paper.getvalue() == (
        "epoch 1/2  iteration 3  loss 3.667\nepoch 2/2  iteration 6  loss 3.667\n"
    )


def test_a_metric_that_is_not_set_yet_is_left_out() -> None:
    paper = io.StringIO()
    loop = inverting() | mean("loss", over=Events.EPOCH_COMPLETED(every=2))
    (loop | progress("loss", file=paper)).run([1, 2, 3], max_epochs=2)
    assert paper.getvalue() == "epoch 1/2  iteration 3\nepoch 2/2  iteration 6  loss 3.667\n"


def test_a_run_that_fails_says_how_far_it_came() -> None:
    paper = io.StringIO()
    with pytest.raises(ZeroDivisionError):
        (inverting() | progress(file=paper)).run([1, 2, 0], max_epochs=2)
    assert paper.getvalue() == "epoch 1/2  iteration 3\n"


@pytest.mark.parametrize("kind", [BareTerminal, Notebook, OwnNotebook])
def test_on_a_bare_terminal_and_in_a_notebook_there_is_a_bar(kind: type[Bare]) -> None:
    file = kind()
    loop = inverting() | mean("loss") | progress("loss", file=file)
    loop.run([1, 2, 3])
    assert "epoch 1/1:   0%|" in file.text
    assert file.text.endswith("\repoch 1/1  iteration 3  loss 3.667\n")


def test_where_the_file_is_closed_the_run_goes_on() -> None:
    for file in (io.StringIO(), Terminal()):
        file.close()
        assert (inverting() | progress(file=file)).run([1, 2]).output == 3


def test_without_a_standard_error_stream_nothing_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    assert (inverting() | progress()).run([1, 2]).output == 3


def test_it_is_drawn_on_the_standard_error_stream_of_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop, papers = inverting() | progress(), [io.StringIO(), io.StringIO()]
    for paper in papers:
        monkeypatch.setattr(sys, "stderr", paper)
        loop.run([1, 2])
    assert [paper.getvalue() for paper in papers] == ["epoch 1/1  iteration 2\n"] * 2


def test_a_terminal_that_goes_away_does_not_end_the_run() -> None:
    for metrics in ((), ("loss",)):
        loop = inverting() | mean("loss") | progress(*metrics, file=BrokenTerminal())
        assert loop.run([1, 2]).output == 3


@pytest.mark.parametrize("place", ["isatty", "write", "terminal write"])
@pytest.mark.parametrize("error", [OSError(), ValueError(), RuntimeError(), UnicodeError()])
def test_no_error_of_the_output_ends_the_run(place: str, error: Exception) -> None:
    file = Failing(place, error)
    loop = inverting() | mean("loss") | progress("loss", file=file)
    final = loop.run([1, 2], max_epochs=2)
    assert (final.iteration, final.metrics["loss"]) == (4, 4.5)


def test_an_encoding_that_lacks_the_bar_does_not_end_the_run() -> None:
    class Ascii(io.TextIOWrapper):
        @override
        def isatty(self) -> bool:
            return True

    binary = io.BytesIO()
    loop = inverting() | mean("loss") | progress("loss", file=Ascii(binary, encoding="ascii"))
    assert loop.run([1, 2]).output == 3
    assert b"epoch 1/1  iteration 2  loss 4.5\n" in binary.getvalue()


def test_no_thread_is_left_behind() -> None:
    before = set(threading.enumerate())
    (inverting() | progress(file=Terminal())).run([1, 2])
    assert set(threading.enumerate()) == before


@pytest.mark.parametrize("kind", [io.StringIO, Terminal])
def test_each_run_has_a_bar_of_its_own(kind: type[io.StringIO]) -> None:
    """Two runs of one loop in turns show what each shows alone."""
    alone, both = kind(), kind()
    loop = inverting() | mean("loss") | progress("loss", file=alone)
    for data in ([1, 2, 3], [1, 1, 1]):
        loop.run(data, max_epochs=2)

    loop = inverting() | mean("loss") | progress("loss", file=both)
    runs = [loop.iterate(data, max_epochs=2) for data in ([1, 2, 3], [1, 1, 1])]
    for _ in zip(*runs, strict=True):
        pass

    def lines(file: io.StringIO) -> list[str]:
        return sorted(re.findall(r"epoch ./2  iteration \d  loss \S+$", file.getvalue(), re.M))

    assert lines(both) == lines(alone)
    assert len(lines(both)) == 4


def test_a_run_within_a_handler_of_a_run_has_its_own() -> None:
    paper = io.StringIO()
    loop = inverting() | mean("loss") | progress("loss", file=paper)

    def again(state: State[int, int]) -> State[int, int]:
        loop.run([6])
        return state

    loop.on(Events.ITERATION_COMPLETED(once=2), again).run([1, 2, 3])
    assert paper.getvalue() == (
        "epoch 1/1  iteration 1  loss 1\nepoch 1/1  iteration 3  loss 3.667\n"
    )


def test_the_line_of_a_run_within_a_handler_of_a_run_is_apart_from_the_bar_of_that() -> None:
    terminal = Terminal()
    inner = inverting() | mean("loss") | progress("loss", file=terminal)
    (inverting() | evaluation(inner, [6]) | progress("val_loss", file=terminal)).run([1, 2, 3])
    assert terminal.left == ["epoch 1/1  iteration 1  loss 1", "epoch 1/1  iteration 3  val_loss 1"]


def test_runs_leave_nothing_in_the_feature() -> None:
    terminal = Terminal()
    feature = progress(file=terminal)
    loop = inverting() | feature
    loop.run([1, 2])
    with pytest.raises(ZeroDivisionError):
        loop.run([0])
    list(loop.iterate([1, 2]))
    assert not feature._screens


def test_it_changes_no_state_and_no_moment() -> None:
    plain = list((inverting() | mean("loss")).iterate([1, 2, 3], max_epochs=2))
    shown = inverting() | mean("loss") | progress("loss", file=Terminal())
    assert list(shown.iterate([1, 2, 3], max_epochs=2)) == plain


def test_within_a_run_it_copies_and_pickles_without_its_bar() -> None:
    loop = inverting() | progress()
    moments = loop.iterate([1, 2])
    next(moments), next(moments)
    for again in (copy.deepcopy(loop), pickle.loads(pickle.dumps(loop))):
        assert again == loop
        assert again.run([1, 2]).output == 3
    list(moments)


def test_without_tqdm_the_error_names_the_extra() -> None:
    program = """
import sys
sys.modules["tqdm"] = None
from fengine.features import progress
try:
    progress()
except ModuleNotFoundError as error:
    print(error)
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "pip install 'fengine[progress]'" in done.stdout
