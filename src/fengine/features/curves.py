"""Plots: curves over the epochs of a run, as a PNG file.

Drawing is an effect: use it after a run, or in a `tap`. It needs matplotlib, of the extra `plots`,
which is imported when something is drawn. Figures are made directly, so neither a window system nor
the figures of pyplot are touched.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from fengine.writers.log_files import write_whole


def save_curves(
    path: Path, curves: Mapping[str, Sequence[float]], *, title: str, marked: int | None = None
) -> None:
    """Draw curves below each other, one number an epoch, and write them to a PNG file.

    Args:
        path: the file to write; one that is there is replaced as a whole.
        curves: the numbers from epoch 1 on, under the label of their axis.
        title: what stands above all.
        marked: the epoch to mark in each, such as the best one.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
        ValueError: there is no curve, or no number in one.
        OSError: the file cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_curves(Path(folder, "a.png"), {"loss": [2.0, 1.0]}, title="Training", marked=2)
    ...     Path(folder, "a.png").read_bytes()[1:4]
    b'PNG'
    """
    if not curves or not all(curves.values()):
        raise ValueError(f"there is nothing to draw in {curves!r}; give at least one number each")
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
    except ModuleNotFoundError as missing:
        raise ModuleNotFoundError(
            "a plot needs matplotlib; install it with: pip install 'fengine[plots]'"
        ) from missing

    figure = Figure(figsize=(7, 0.8 + 2.6 * len(curves)), layout="constrained")
    figure.suptitle(title)
    panels = figure.subplots(len(curves), sharex=True, squeeze=False)[:, 0]
    for panel, (label, values) in zip(panels, curves.items(), strict=True):
        epochs = range(1, len(values) + 1)
        panel.plot(epochs, values, marker=".", color="tab:blue")
        panel.set_ylabel(label)
        panel.grid(alpha=0.3)
        if marked is not None:
            best = values[marked - 1]
            panel.axvline(marked, color="tab:orange", linestyle="--")
            panel.plot(
                marked, best, marker="o", color="tab:orange", label=f"epoch {marked}: {best:.4g}"
            )
            panel.legend()
    panels[-1].set_xlabel("epoch")
    longest = max(map(len, curves.values()), default=1)
    panels[-1].set_xlim(0.5, max(longest, 1) + 0.5)
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=150)
    write_whole(Path(path), content.getvalue())
