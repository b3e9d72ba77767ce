"""Pictures of points in the plane: sets beside each other, and arrows at places."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from scratch.tensor import Array
from scratch.viz import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 2000  # points of a set that are drawn, the first ones: more would hide each other
Limits = tuple[tuple[float, float], tuple[float, float]]


def clouds(
    sets: Sequence[Any], titles: Sequence[str], *, columns: int | None = None, limits: Limits | None = None,
    title: str = "", panel: float = 2.5,
) -> Figure:  # fmt: skip
    """Sets of points, a panel each, all over the same range; of a set at most its first 2,000 points.

    Args: sets: each (n, 2). limits: ((left, right), (bottom, top)); by default those of all points drawn.
    Raises ValueError for other shapes, and for titles that are not one a set.
    """
    drawn = [checked(points)[:MOST] for points in sets]
    page, panels = _panels(len(drawn), titles, columns, limits or extent(np.concatenate(drawn)), title, panel)
    for axes, points in zip(panels, drawn, strict=True):
        scatter(axes, points)
    return page


def arrows(
    places: Any, vectors: Any, titles: Sequence[str], *, points: Any = None, columns: int | None = None,
    title: str = "", panel: float = 2.9,
) -> Figure:  # fmt: skip
    """Vectors at places of the plane, a panel a set of vectors; in each panel the longest is drawn 1.5 cells long.

    Args: places: (P, 2), a square grid. vectors: (K, P, 2). points: (n, 2), drawn pale below, in every panel.
    Raises ValueError for other shapes.
    """
    places, vectors = checked(places), style.as_array(vectors)
    if vectors.ndim != 3 or vectors.shape[1:] != places.shape:
        raise ValueError(f"arrows expected vectors (K, {len(places)}, 2) at {len(places)} places, got {vectors.shape}")
    page, panels = _panels(len(vectors), titles, columns, extent(places, 0.02), title, panel)
    cell = np.ptp(places[:, 0]) / max(1, math.isqrt(len(places)) - 1)
    for axes, each in zip(panels, vectors, strict=True):
        if points is not None:
            scatter(axes, checked(points)[:MOST], style.SKY, 0.35)
        longest = float(np.hypot(*each.T).max()) or 1.0
        axes.quiver(*places.T, *(1.5 * cell * each / longest).T, angles="xy", scale_units="xy", scale=1, width=0.005,
                    color=style.BLACK, zorder=3)  # fmt: skip
    return page


def scatter(axes: Any, points: Array, colour: str = style.BLUE, opacity: float = 0.5) -> Any:
    """Small dots, smaller the more there are."""
    size = float(np.clip(2500 / max(1, len(points)), 1.5, 16))
    return axes.scatter(*points.T, s=size, color=colour, alpha=opacity, linewidths=0)


def checked(points: Any) -> Array:
    """As (n, 2). Raises ValueError for other shapes."""
    points = style.as_array(points)
    if points.ndim != 2 or points.shape[1] != 2 or not len(points):
        raise ValueError(f"expected points of shape (n, 2), got {points.shape}")
    return points


def extent(points: Array, margin: float = 0.06) -> Limits:
    """The range of both coordinates and a margin of the longer side."""
    low, high = points.min(axis=0).astype(float), points.max(axis=0).astype(float)
    extra = margin * (float((high - low).max()) or 1.0)
    return (float(low[0]) - extra, float(high[0]) + extra), (float(low[1]) - extra, float(high[1]) + extra)


def _panels(
    count: int, titles: Sequence[str], columns: int | None, limits: Limits, title: str, panel: float
) -> tuple[Figure, list[Any]]:
    """A page with a square panel for each title, its unit as long on both axes."""
    if len(titles) != count or not count:
        raise ValueError(f"expected one title for each of {count} panels, at least one, got {len(titles)}")
    columns = style.columns_for(count, columns)
    rows = math.ceil(count / columns)
    page, axes = style.figure(rows, columns, panel=(panel, panel + 0.25), sharex=True, sharey=True)
    for each, name in zip(axes.flat, titles, strict=False):
        each.set_aspect("equal")
        each.set_xlim(limits[0])
        each.set_ylim(limits[1])
        each.locator_params(nbins=5)
        each.set_title(name, fontsize=style.TEXT, loc="left")
    for each in axes.flat[count:]:
        each.set_visible(False)
    if title:
        page.suptitle(title, fontsize=style.TITLE, x=0.01, ha="left")
    return page, list(axes.flat[:count])
