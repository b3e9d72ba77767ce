"""Pictures of attention: who looks at whom, one panel a head, and how one head comes to its weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from textwrap import fill
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
    told = [fill(line, int(12 * across * panel[0])) for line in (title, f"weights from 0 (pale) to 1 (dark){marks}")]
    page.suptitle("\n".join(told).strip(), fontsize=style.TEXT, x=0.01, ha="left")
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
            axes.text(s, t, f"{w:.2f}".replace("0.", "."), ha="center", va="center", fontsize=8, color=colour)
    else:
        largest = weights.argmax(axis=1)
        axes.plot(largest, range(len(largest)), linestyle="none", marker="o", markersize=5, markerfacecolor="none",
                  markeredgecolor=style.SKY, markeredgewidth=1.2)  # fmt: skip


def attention_steps(
    queries: Any, keys: Any, row_labels: Sequence[str], column_labels: Sequence[str], *, allowed: Any = None,
    title: str = "",
) -> Figure:  # fmt: skip
    """How a head comes to its weights, number by number: Q Kᵀ, scaled by 1/√hd, masked, softmax along each row.

    Args: queries: (T, hd). keys: (S, hd). row_labels, column_labels: T and S of them, at most 10.
        allowed: (T, S), True where a key may be seen; all by default.
    Raises ValueError for other shapes, a query that may see no key, and labels that are not as many.
    """
    Q, K = (np.asarray(style.as_array(x), dtype=np.float64) for x in (queries, keys))
    if Q.ndim != 2 or K.ndim != 2 or Q.shape[1] != K.shape[1] or not 1 <= min(len(Q), len(K)):
        raise ValueError(f"attention_steps expected queries (T, hd) and keys (S, hd), got {Q.shape} and {K.shape}")
    seen = np.ones((len(Q), len(K)), bool) if allowed is None else np.asarray(allowed, dtype=bool)
    if seen.shape != (len(Q), len(K)) or not seen.any(axis=1).all():
        raise ValueError(f"attention_steps expected a mask {len(Q), len(K)} with a key for every query")
    if (len(row_labels), len(column_labels)) != seen.shape or max(seen.shape) > NUMBERS:
        raise ValueError(f"attention_steps expected {len(Q)} row and {len(K)} column labels, at most {NUMBERS}, "
                         f"got {len(row_labels)} and {len(column_labels)}")  # fmt: skip
    hd = Q.shape[1]
    products = Q @ K.T
    masked = np.where(seen, products / math.sqrt(hd), -math.inf)
    e = np.exp(masked - masked.max(axis=1, keepdims=True))
    steps = {"1  scores Q Kᵀ": products, f"2  scale: divided by √{hd}": products / math.sqrt(hd),
             "3  mask: −∞ where forbidden": masked}  # fmt: skip
    page, axes = style.figure(2, 2, panel=(0.52 * len(K) + 0.9, 0.5 * len(Q) + 0.8))
    for each, (name, scores) in zip(axes.flat, steps.items(), strict=False):
        _scores(each, scores, row_labels, column_labels)
        each.set_title(name, fontsize=style.TEXT, loc="left")
    _map(axes[1, 1], e / e.sum(axis=1, keepdims=True), row_labels, column_labels)
    axes[1, 1].set_title("4  softmax: each row sums to 1", fontsize=style.TEXT, loc="left")
    for i in range(2):
        axes[1, i].set_xlabel("key", fontsize=style.SMALL)
        axes[i, 0].set_ylabel("query", fontsize=style.SMALL)
    page.suptitle(title, fontsize=style.TITLE, x=0.01, ha="left")
    return page


def _scores(axes: Any, scores: Any, row_labels: Sequence[str], column_labels: Sequence[str]) -> None:
    """Numbers of either sign, red above 0 and blue below, each written out; −∞ is grey."""
    finite = np.isfinite(scores)
    reach = max(np.abs(scores[finite]).max(), 1e-9)
    axes.grid(False)
    axes.set_facecolor(style.PALE)
    axes.imshow(np.ma.masked_where(~finite, scores), cmap="RdBu_r", vmin=-reach, vmax=reach, aspect="equal",
                interpolation="nearest")  # fmt: skip
    axes.set_xticks(range(len(column_labels)), column_labels, va="baseline")
    axes.tick_params(axis="x", pad=12)
    axes.set_yticks(range(len(row_labels)), row_labels)
    axes.tick_params(length=0, labelsize=style.SMALL - 1)
    for (t, s), score in np.ndenumerate(scores):
        told = f"{round(score, 1) + 0.0:.1f}".replace("-", "−") if finite[t, s] else "−∞"
        colour = "white" if finite[t, s] and abs(score) > 0.6 * reach else style.BLACK
        axes.text(s, t, told, ha="center", va="center", fontsize=8, color=colour)
