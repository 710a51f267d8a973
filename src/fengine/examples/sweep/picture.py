"""The picture: the curves of all networks, coloured by their learning rates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fengine.examples.sweep.sizes import Sizes
from fengine.examples.sweep.sweeping import Swept

LOWEST = 80  # percent; what is below is of no interest


def save_picture(path: Path, sizes: Sizes, swept: Swept, evolved: Swept | None) -> None:
    """Draw a sweep, and a population if there is one, and write them to a PNG file."""
    shown = [("A network for each learning rate and seed", swept)]
    if evolved is not None:
        shown.append(("A population: the worst half copies the best", evolved))
    colours = ScalarMappable(LogNorm(sizes.slowest, sizes.fastest), "viridis")
    figure = Figure(figsize=(5.2 * len(shown) + 1, 4), layout="constrained")
    panels = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for panel, (title, found) in zip(panels, shown, strict=True):
        _draw(panel, found, colours)
        panel.set_title(title)
        panel.set_xlabel("epoch")
        panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("held-out accuracy (%)")
    panels[0].set_ylim(LOWEST, 100)
    figure.colorbar(colours, ax=panels, label="learning rate")
    figure.savefig(path, format="png", dpi=150)


def _draw(panel: Any, found: Swept, colours: ScalarMappable) -> None:
    """Draw a line for each network; a piece of it has the colour of its learning rate."""
    accuracies, rates = found.curves.accuracies, found.curves.rates
    colour_of: Any = colours.to_rgba  # it takes numbers, and says that it takes arrays alone
    for number in range(len(accuracies[0])):
        values = [100 * epoch[number] for epoch in accuracies]
        for epoch in range(1, len(values)):
            colour = colour_of(rates[epoch][number])
            panel.plot([epoch, epoch + 1], values[epoch - 1 : epoch + 1], color=colour, lw=1)
    last, best = len(accuracies), 100 * accuracies[-1][found.best]
    label = f"the best: {best:.2f} %, learning rate {rates[-1][found.best]:.2g}"
    panel.plot(last, best, marker="o", color="tab:red", linestyle="", label=label)
    panel.legend(loc="lower right")
