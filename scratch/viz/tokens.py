"""Pictures of guesses: which token stands where, and how sure a model is of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from scratch.viz import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIGNS = {ord("\n"): "↵", ord(" "): "␣"}


def token_grid(
    tokens: Sequence[Sequence[str]], p: Any, row_labels: Sequence[str], column_labels: Sequence[str], *,
    right: Any = None, title: str = "", rows: str = "", columns: str = "",
) -> Figure:  # fmt: skip
    """A token in each cell, on a ground that is the darker the more probable it is; a frame where it is right.

    Args: tokens: R rows of T. p: (R, T), from 0 to 1. right: (R, T) bool, which cells get a frame.
        rows, columns: names of the axes.
    Raises ValueError for shapes or labels that do not fit together, and for p outside 0 … 1.
    """
    p = np.asarray(style.as_array(p), dtype=np.float64)
    if p.ndim != 2 or not p.size or not ((p >= 0) & (p <= 1 + 1e-6)).all():
        raise ValueError(f"token_grid expected probabilities (R, T) from 0 to 1, got shape {p.shape}")
    right = np.zeros(p.shape, bool) if right is None else np.asarray(right, bool)
    if p.shape != right.shape or p.shape != (len(row_labels), len(column_labels)):
        raise ValueError(f"token_grid expected {p.shape[0]} row and {p.shape[1]} column labels and as many cells for "
                         f"`right`, got {len(row_labels)}, {len(column_labels)} and {right.shape}")  # fmt: skip
    if [len(row) for row in tokens] != [p.shape[1]] * p.shape[0]:
        raise ValueError(f"token_grid expected tokens for all {p.shape} cells")
    R, T = p.shape
    page, axes = style.figure(panel=(0.29 * T + 1.5, 0.3 * R + 1.3))
    panel = axes[0, 0]
    panel.grid(False)
    panel.imshow(p, cmap="magma_r", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    for i, j in np.ndindex(R, T):
        panel.text(j, i, shown(tokens[i][j]), ha="center", va="center", fontsize=style.SMALL,
                   color="white" if p[i, j] > 0.5 else style.BLACK)  # fmt: skip
        if right[i, j]:
            _frame(panel, i, j)
    panel.set_xticks(range(T), [shown(each) for each in column_labels])
    panel.set_yticks(range(R), row_labels)
    panel.tick_params(length=0)
    frames = "; framed: right" if right.any() else ""
    told = f"{title}\nprobability from 0 (pale) to 1 (dark){frames}".strip()
    panel.set_title(told, fontsize=style.TEXT, loc="left")
    panel.set_xlabel(columns, fontsize=style.TEXT)
    panel.set_ylabel(rows, fontsize=style.TEXT)
    return page


def shown(token: str) -> str:
    """A token so that it can be seen: a space and the end of a line as signs."""
    return token.translate(SIGNS)


def _frame(panel: Any, i: int, j: int) -> None:
    from matplotlib.patches import Rectangle

    panel.add_patch(Rectangle((j - 0.45, i - 0.45), 0.9, 0.9, fill=False, edgecolor=style.SKY, linewidth=1.8))
