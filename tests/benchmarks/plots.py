"""The picture: what training costs over a loop by hand, and how costs grow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.benchmarks.sections import MICRO, Bars, Lines
from tests.benchmarks.systems import ALL

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS: Final = 4
# One colour for each system, in every panel; of Okabe and Ito, told apart by the colour-blind.
COLOURS: Final = dict(
    zip(
        ALL,
        ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"),
        strict=True,
    )
)


def draw(panels: Sequence[Bars | Lines], file: Path) -> None:
    """Draw the panels into a PNG."""
    from matplotlib.figure import Figure

    rows = -(-len(panels) // COLUMNS)
    figure = Figure(figsize=(3.4 * COLUMNS, 3.0 * rows), dpi=100, layout="constrained")
    grid = figure.subplots(rows, COLUMNS, squeeze=False).flatten().tolist()
    for axes, panel in zip(grid, panels, strict=False):
        if isinstance(panel, Bars):
            _bars(axes, panel)
        else:
            _lines(axes, panel)
    for axes in grid[len(panels) :]:
        axes.axis("off")
    figure.savefig(file, format="png")


def _bars(axes: Axes, panel: Bars) -> None:
    shown = {name: spread for name, spread in panel.values.items() if name in COLOURS}
    names = list(shown)
    middles = [max(spread.median, 0.0) for spread in shown.values()]
    axes.barh(names, middles, color=[COLOURS[name] for name in names])
    for place, spread in enumerate(shown.values()):
        axes.annotate(
            f"{spread.median:.1f}",
            (max(spread.median, 0.0), place),
            xytext=(3, 0),
            textcoords="offset points",
            va="center",
            fontsize=7,
        )
    axes.set_xlim(0, 1.2 * max(middles))
    axes.invert_yaxis()
    axes.set_title(panel.title, fontsize=10)
    axes.set_xlabel(panel.unit, fontsize=8)
    axes.tick_params(labelsize=7)


def _lines(axes: Axes, panel: Lines) -> None:
    for name, spreads in panel.values.items():
        sizes = list(spreads)
        low, median, high = (
            [getattr(spread, which) * MICRO for spread in spreads.values()]
            for which in ("low", "median", "high")
        )
        axes.plot(sizes, median, marker=".", color=COLOURS[name], label=name)
        axes.fill_between(sizes, low, high, color=COLOURS[name], alpha=0.2, linewidth=0)
    axes.set_xscale("symlog", linthresh=1)
    if panel.flat:
        axes.set_ylim(bottom=0)
    else:
        axes.set_yscale("log")
    axes.set_title(panel.title, fontsize=10)
    axes.set_ylabel(panel.unit, fontsize=8)
    axes.tick_params(labelsize=7)
    axes.legend(fontsize=6)
