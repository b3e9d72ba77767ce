"""Pictures of things that follow each other: values along a text, curves beside each other, a path in the plane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from scratch.viz import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIGNS = {"\n": "¶", " ": "·"}  # what can't be seen otherwise
MOST = 120  # so many characters can be read below an axis


def traces(text: str, values: Mapping[str, Any], *, title: str = "") -> Figure:
    """One panel a quantity, its value at each character of the text, which stands below; ¶ is a line's end, · a space.

    Args: values: name → (T,), T the length of the text, from 1 to 120. Raises ValueError for other lengths.
    """
    rows = {name: np.asarray(style.as_array(each), np.float64) for name, each in values.items()}
    if not rows or not 1 <= len(text) <= MOST or any(row.shape != (len(text),) for row in rows.values()):
        shapes = {name: row.shape for name, row in rows.items()}
        raise ValueError(f"traces expected one value for each of 1 to {MOST} characters, got {len(text)} and {shapes}")
    page, axes = style.figure(len(rows), 1, panel=(max(3.0, 0.115 * len(text) + 1.2), 1.25), sharex=True)
    place = np.arange(len(text))
    for i, (axis, (name, row)) in enumerate(zip(axes[:, 0], rows.items(), strict=True)):
        axis.axhline(0, color=style.GREY, linewidth=0.6)
        axis.plot(place, row, color=style.COLOURS[i % 7], marker=style.MARKERS[i % 9], markersize=3, linewidth=1.2)
        axis.set_ylabel(name, fontsize=style.SMALL, rotation=0, ha="right", va="center")
        for end in np.flatnonzero(np.array(list(text)) == "\n"):
            axis.axvline(end + 0.5, color=style.GREY, linewidth=0.8, linestyle=":")
    axes[-1, 0].set_xticks(place, [SIGNS.get(c, c) for c in text])
    axes[-1, 0].tick_params(axis="x", length=0, labelsize=style.SMALL - 1)
    axes[-1, 0].set_xlim(-1, len(text))
    axes[0, 0].set_title(title, fontsize=style.TITLE, loc="left")
    return page


def lines(
    x: Any, values: Mapping[str, Any], *, title: str = "", x_label: str = "", y_label: str = "", log_y: bool = False,
    size: tuple[float, float] = (7.2, 3.8),
) -> Figure:  # fmt: skip
    """Curves over the same places, each with its colour, dash and marker.

    Args: x: (n,). values: name → (n,); NaN breaks a line. Raises ValueError for other lengths, and for none.
    """
    x = np.asarray(x)
    curves = {name: np.asarray(style.as_array(each), np.float64) for name, each in values.items()}
    if not curves or x.ndim != 1 or any(curve.shape != x.shape for curve in curves.values()):
        shapes = {name: curve.shape for name, curve in curves.items()}
        raise ValueError(f"lines expected curves of the shape of x, {x.shape}, got {shapes}")
    page, axes = style.figure(1, 1, panel=size)
    for i, (name, curve) in enumerate(curves.items()):
        cue = {"linestyle": style.DASHES[i % 5], "marker": style.MARKERS[i % 9], "markevery": max(1, len(x) // 14)}
        axes[0, 0].plot(x, curve, color=style.COLOURS[i % 7], linewidth=1.6, markersize=4, label=name, **cue)
    if log_y:
        axes[0, 0].set_yscale("log")
    style.label(axes[0, 0], title, x_label, y_label)
    style.legend(axes[0, 0])
    return page


def path(points: Any, labels: Sequence[str], *, title: str = "", x_label: str = "", y_label: str = "") -> Figure:
    """A path in the plane, a label at each of its points; a square is its beginning, an arrow on each leg its way.

    Shapes: points (T, 2), T labels. Raises ValueError for others.
    """
    points = np.asarray(style.as_array(points), np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or len(labels) != len(points) or not len(points):
        raise ValueError(f"path expected points (T, 2) and T labels, got {points.shape} and {len(labels)}")
    page, axes = style.figure(1, 1, panel=(6.4, 5.0))
    axis = axes[0, 0]
    axis.plot(*points.T, color=style.PALE, linewidth=1)
    for a, b in zip(points[:-1], points[1:], strict=True):
        axis.annotate("", (a + b) / 2, a, arrowprops={"arrowstyle": "->", "color": style.SKY, "linewidth": 1})
    axis.plot(*points[0], marker="s", color=style.VERMILLION, markersize=9, linestyle="none")
    for point, text in zip(points, labels, strict=True):
        axis.annotate(SIGNS.get(text, text), point, ha="center", va="center", fontsize=style.TEXT, color=style.BLACK)
    axis.margins(0.08)
    style.label(axis, title, x_label, y_label)
    return page
