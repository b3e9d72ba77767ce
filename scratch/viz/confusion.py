"""The confusion matrix: which class is taken for which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from scratch.viz import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def confusion(matrix: Any, class_names: Sequence[str] | None = None, title: str = "") -> Figure:
    """Counts in the cells, coloured by the share of their row: entry (i, j) counts class i taken for class j.

    The colour shows errors of rare classes as clearly as those of frequent ones; the number stays the count.
    Shapes: matrix (k, k) of counts. Raises ValueError for another shape, for counts that are negative or not whole, and
    for more than 40 classes.
    """
    counts = style.as_array(matrix)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or not 1 <= len(counts) <= 40:
        raise ValueError(f"confusion expected a (k, k) matrix of 1 to 40 classes, got shape {counts.shape}")
    if not np.all(np.isfinite(counts)) or np.any(counts < 0) or np.any(counts != np.round(counts)):
        raise ValueError("confusion expected counts: whole numbers of at least 0")
    k, names = len(counts), style.classes(len(counts), class_names)
    rows = counts.sum(axis=1, keepdims=True)
    share = counts / np.maximum(rows, 1)

    side = max(4.0, 0.46 * k + 1.6)
    page, axes = style.figure(panel=(side + 1.0, side))
    cells = axes[0, 0]
    image = cells.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for (i, j), count in np.ndenumerate(counts):
        if count:
            colour = "white" if share[i, j] > 0.55 else "black"  # where "Blues" turns dark
            size = style.SMALL if count < 10_000 or k < 5 else style.SMALL - 2
            cells.text(j, i, f"{int(count)}", ha="center", va="center", color=colour, fontsize=size)
    cells.grid(False)
    long = max(len(name) for name in names) > 3
    cells.set_xticks(
        range(k), names, rotation=45 if long else 0, ha="right" if long else "center", rotation_mode="anchor"
    )
    cells.set_yticks(range(k), names)
    total = int(counts.sum())
    right = f"{int(np.trace(counts))} of {total} right ({np.trace(counts) / total:.1%})" if total else "no examples"
    style.label(cells, f"{title}: {right}" if title else right, "predicted class", "true class")
    bar = page.colorbar(image, ax=cells, fraction=0.045, pad=0.02)
    bar.set_label("share of the true class", fontsize=style.TEXT)
    bar.ax.tick_params(labelsize=style.SMALL)
    return page
