"""Points of several classes in the plane, and bars."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from scratch.viz import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def class_scatter(
    points: Any, labels: Any, class_names: Sequence[str] | None = None, *, title: str = "",
    axis_names: tuple[str, str] = ("x₁", "x₂"),
) -> Figure:  # fmt: skip
    """Points in the plane; a class has its colour, its marker, and its name written where its points' median lies.

    Shapes: points (n, 2), labels (n,) whole numbers from 0. Raises ValueError for others.
    """
    points, labels = style.as_array(points), style.as_array(labels)
    if points.ndim != 2 or points.shape[1] != 2 or not len(points) or labels.shape != (len(points),):
        raise ValueError(f"class_scatter expected points (n, 2) and labels (n,), got {points.shape} and {labels.shape}")
    if labels.dtype.kind not in "iu" or labels.min() < 0:
        raise ValueError("class_scatter expected labels that are whole numbers of at least 0")
    names = style.classes(max(int(labels.max()) + 1, len(class_names or ())), class_names)
    page, axes = style.figure(panel=(6.4, 5.4))
    plane = axes[0, 0]
    for k, name in enumerate(names):
        mine = points[labels == k]
        if not len(mine):
            continue
        plane.scatter(*mine.T, s=12, marker=style.MARKERS[k % 9], color=style.COLOURS[k % 8], alpha=0.6, linewidths=0,
                      label=name)  # fmt: skip
        ground = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": style.COLOURS[k % 8], "alpha": 0.9}
        plane.text(*np.median(mine, axis=0), name, fontsize=style.SMALL, ha="center", va="center", bbox=ground)
    style.label(plane, title, *axis_names)
    style.legend(page, handles=plane.get_legend_handles_labels()[0], loc="outside right upper", handlelength=1.4)
    return page


def bars(
    values: Any, *, title: str = "", x: str = "", y: str = "", reference: tuple[float, str] | None = None
) -> Figure:
    """A bar for each number, in the given order; reference: (height, name) of a dashed line.

    Shapes: values (n,), finite. Raises ValueError for others.
    """
    values = np.asarray(style.as_array(values), np.float64)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise ValueError(f"bars expected finite values (n,), got shape {values.shape}")
    page, axes = style.figure(panel=(6.4, 3.2))
    axes[0, 0].bar(np.arange(len(values)), values, color=style.BLUE, width=0.8)
    axes[0, 0].locator_params(axis="x", integer=True)
    if reference is not None:
        axes[0, 0].axhline(reference[0], color=style.VERMILLION, linestyle="--", linewidth=1.4, label=reference[1])
        style.legend(axes[0, 0])
    style.label(axes[0, 0], title, x, y)
    return page
