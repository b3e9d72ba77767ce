"""Pictures of attention: who looks at whom, one panel a head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from scratch.viz import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NUMBERS = 10  # so many rows and columns at most leave room for numbers


def attention_maps(
    weights: Any, row_labels: Sequence[str], column_labels: Sequence[str], *, title: str = "",
    titles: Sequence[str] | None = None, rows: str = "query", columns: str = "key",
) -> Figure:  # fmt: skip
    """One panel a head: row t shows with which weights place t looks at the places of the columns, white 0, dark 1.

    Small maps carry the numbers; in larger ones a ring marks the largest weight of each row.
    Args: weights: (nh, T, S), or (T, S) for a single map. row_labels, column_labels: T and S of them.
        titles: of the panels, "head 1" … by default. rows, columns: names of the axes.
    Raises ValueError for other shapes, labels that are not as many, and numbers outside 0 … 1.
    """
    maps = np.asarray(style.as_array(weights), dtype=np.float64)
    maps = maps[None] if maps.ndim == 2 else maps
    if maps.ndim != 3 or not maps.size or not ((maps >= 0) & (maps <= 1 + 1e-6)).all():
        raise ValueError(f"attention_maps expected weights (nh, T, S) from 0 to 1, got shape {maps.shape}")
    nh, T, S = maps.shape
    if len(row_labels) != T or len(column_labels) != S:
        raise ValueError(f"attention_maps expected {T} row and {S} column labels, "
                         f"got {len(row_labels)} and {len(column_labels)}")  # fmt: skip
    names = [f"head {i + 1}" for i in range(nh)] if titles is None else list(titles)
    across = style.columns_for(nh, 4 if nh > 4 else nh)
    down = -(-nh // across)
    panel = (min(max(0.22 * S + 0.9, 2.4), 7.5), min(max(0.22 * T + 0.9, 2.2), 7.5))
    page, axes = style.figure(down, across, panel=panel)
    for i, each in enumerate(axes.flat):
        each.set_visible(i < nh)
        if i < nh:
            _map(each, maps[i], row_labels, column_labels)
            each.set_title(names[i], fontsize=style.TEXT, loc="left")
            each.set_xlabel(columns if i + across >= nh else "", fontsize=style.SMALL)
            each.set_ylabel(rows if i % across == 0 else "", fontsize=style.SMALL)
    marks = "" if max(T, S) <= NUMBERS else "; ring: the largest of a row"
    page.suptitle(f"{title}\nweights from 0 (pale) to 1 (dark){marks}".strip(), fontsize=style.TEXT, x=0.01, ha="left")
    return page


def _map(axes: Any, weights: Any, row_labels: Sequence[str], column_labels: Sequence[str]) -> None:
    axes.grid(False)
    axes.imshow(weights, cmap="magma_r", vmin=0, vmax=1, aspect="equal", interpolation="nearest")
    axes.set_xticks(range(len(column_labels)), column_labels, va="baseline")
    axes.tick_params(axis="x", pad=12)
    axes.set_yticks(range(len(row_labels)), row_labels)
    axes.tick_params(length=0, labelsize=style.SMALL - 1)
    if max(weights.shape) <= NUMBERS:
        for (t, s), w in np.ndenumerate(weights):
            colour = "white" if w > 0.5 else style.BLACK
            axes.text(s, t, f"{w:.2f}".replace("0.", "."), ha="center", va="center", fontsize=7, color=colour)
    else:
        largest = weights.argmax(axis=1)
        axes.plot(largest, range(len(largest)), linestyle="none", marker="o", markersize=5, markerfacecolor="none",
                  markeredgecolor=style.SKY, markeredgewidth=1.2)  # fmt: skip
