"""Curves become a PNG file, without a trace in pyplot."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest

from fengine.features import save_curves

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def size(path: Path) -> tuple[int, int]:
    header = path.read_bytes()[:24]
    assert header.startswith(SIGNATURE)
    return int.from_bytes(header[16:20], "big"), int.from_bytes(header[20:24], "big")


def test_a_curve_more_is_a_panel_more(tmp_path: Path) -> None:
    one, two = tmp_path / "one.png", tmp_path / "two.png"
    save_curves(one, {"loss": [2.0, 1.0]}, title="One")
    save_curves(two, {"loss": [2.0, 1.0], "accuracy (%)": [50.0, 75.0]}, title="Two", marked=2)
    assert size(one)[0] == size(two)[0]
    assert size(one)[1] < size(two)[1]


def test_numbers_that_are_none_and_a_single_epoch_can_be_drawn(tmp_path: Path) -> None:
    save_curves(tmp_path / "a.png", {"loss": [math.nan]}, title="Nothing", marked=1)
    assert size(tmp_path / "a.png")


@pytest.mark.parametrize("curves", [{}, {"loss": []}])
def test_nothing_to_draw_is_refused(curves: dict[str, list[float]], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing to draw"):
        save_curves(tmp_path / "a.png", curves, title="Nothing")


def test_pyplot_stays_out_of_it(tmp_path: Path) -> None:
    program = f"""
import sys
from pathlib import Path
from fengine.features import save_curves
save_curves(Path({str(tmp_path / "a.png")!r}), {{"loss": [1.0]}}, title="Apart")
assert "matplotlib.pyplot" not in sys.modules
sys.modules["matplotlib.figure"] = None
try:
    save_curves(Path("b.png"), {{"loss": [1.0]}}, title="Apart")
except ModuleNotFoundError as error:
    print(error)
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "pip install 'fengine[plots]'" in done.stdout
