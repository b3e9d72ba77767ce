"""Landscapes and spreads: optimisers' paths over a function of two variables, and histograms layer by layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from scratch.tensor import Array
from scratch.viz import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Limits = tuple[tuple[float, float], tuple[float, float]]


def surface_paths(
    function: Callable[[Array, Array], Any], paths: Mapping[str, Any], limits: Limits, *, levels: Any = 20,
    minimum: tuple[float, float] | None = None, title: str = "", axis_names: tuple[str, str] = ("x", "y"),
    resolution: int = 200,
) -> Figure:  # fmt: skip
    """Contour lines of a function of two variables, and the path that each optimiser took over it.

    Lines are spaced evenly in ln(f − min f), so that valleys show as well as walls. The legend gives each path's last
    value, also where the path has left the picture; one that is not finite is named diverged.

    Args: function: f(x, y) on arrays of equal shape. paths: name → (steps, 2), the start first.
        limits: ((left, right), (bottom, top)). levels: how many lines, or their values.
        minimum: where the best point is, if known.
    Raises ValueError for limits in the wrong order and paths of another shape.
    """
    (left, right), (bottom, top) = limits
    routes = {name: _checked(name, path) for name, path in paths.items()}
    if not (left < right and bottom < top):
        raise ValueError(f"limits expected ((left, right), (bottom, top)) in rising order, got {limits}")
    x, y = np.linspace(left, right, resolution), np.linspace(bottom, top, resolution)
    z = np.asarray(function(*np.meshgrid(x, y)), dtype=np.float64)
    if z.shape != (resolution, resolution):
        raise ValueError(
            f"function expected to return shape {(resolution, resolution)} for arrays of it, got {z.shape}"
        )
    page, axes = style.figure(panel=(7.2, 5.2))
    plane = axes[0, 0]
    heights = _levels(z, levels) if np.ndim(levels) == 0 else np.sort(np.asarray(levels, dtype=np.float64))
    _contours(page, plane, x, y, z, heights)
    _starts(plane, routes)
    for i, (name, path) in enumerate(routes.items()):
        _path(plane, i, name, path, function)
    if minimum is not None:
        plane.plot(*minimum, marker="*", markersize=15, color=style.YELLOW, markeredgecolor="black", linestyle="none",
                   zorder=6, label="minimum")  # fmt: skip
    plane.set_xlim(left, right)
    plane.set_ylim(bottom, top)
    plane.grid(False)
    style.label(plane, title, *axis_names)
    if paths or minimum is not None:
        style.legend(plane, loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2, borderaxespad=0)
    return page


def histograms(
    layers: Mapping[str, Any], *, bins: int = 60, limits: tuple[float, float] | None = None, title: str = "",
    value_name: str = "activation", columns: int | None = None,
) -> Figure:  # fmt: skip
    """How the values of each layer spread, all over the same range: signals that vanish or explode show at once.

    Heights are shares of all values in the layer (each panel has its own height axis); above each: mean and standard
    deviation, and the share of values outside the range, if any.

    Args: layers: name → array of any shape. limits: the common range; from the smallest to the largest value if None.
    Raises ValueError for no layer, an empty one, and values that are not finite.
    """
    values = {name: style.as_array(array).ravel().astype(np.float64) for name, array in layers.items()}
    if not values:
        raise ValueError("histograms expected at least one layer, got none")
    for name, each in values.items():
        if not each.size or not np.all(np.isfinite(each)):
            raise ValueError(
                f"layer {name!r} expected finite values, got {'none' if not each.size else 'NaN or infinity'}"
            )
    low, high = limits or (min(each.min() for each in values.values()), max(each.max() for each in values.values()))
    if low == high:
        low, high = low - 0.5, high + 0.5
    rows = math.ceil(len(values) / (columns or 5))
    columns = columns or math.ceil(len(values) / rows)
    page, axes = style.figure(rows, columns, panel=(2.5, 2.5))
    edges = np.linspace(low, high, bins + 1)
    for panel, (name, each) in zip(axes.flat, values.items(), strict=False):
        _histogram(panel, name, each, edges)
    for panel in axes.flat[len(values) :]:
        panel.set_visible(False)
    page.supxlabel(value_name, fontsize=style.TEXT)
    page.supylabel("share of the values", fontsize=style.TEXT)
    if title:
        page.suptitle(title, fontsize=style.TITLE, x=0.01, ha="left")
    return page


def _histogram(axes: Any, name: str, values: Array, edges: Array) -> None:
    counts, _ = np.histogram(values, edges)
    axes.stairs(counts / values.size, edges, fill=True, facecolor=style.SKY, edgecolor=style.BLUE, linewidth=1)
    outside = 1 - counts.sum() / values.size
    note = f"\n{outside:.1%} outside" if outside > 0 else ""
    title = f"{name}\nmean {_mean(values)}, sd {values.std():.2g}{note}"
    axes.set_title(title, fontsize=style.SMALL, loc="left")
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(bottom=0)


def _mean(values: Array) -> str:
    """The mean to a hundredth of the standard deviation: below that it is chance."""
    spread = float(values.std())
    if spread == 0:
        return f"{values.mean():.3g}"
    return f"{round(float(values.mean()), 2 - math.floor(math.log10(spread))) + 0.0:.3g}"


def _levels(z: Array, count: int) -> Array:
    """Heights above the minimum in a geometric series, from the 1 % quantile to the top."""
    finite = z[np.isfinite(z)]
    if not finite.size or finite.min() == finite.max():
        raise ValueError("surface_paths expected a function that is finite and not constant within the limits")
    above = finite - finite.min()
    first = float(np.quantile(above[above > 0], 0.002))
    return finite.min() + np.geomspace(first, above.max(), int(count))[:-1]


def _plain(value: float) -> str:
    """Two significant digits without an exponent: 0.012, 3.4, 1500."""
    return f"{float(f'{value:.2g}'):,.10g}" if 1e-4 <= abs(value) < 1e6 else f"{value:.2g}"


def _contours(page: Figure, axes: Any, x: Array, y: Array, z: Array, heights: Sequence[float] | Array) -> None:
    """Contour lines from dark (low) to light (high), with a bar that gives their values."""
    from matplotlib.colors import BoundaryNorm, ListedColormap

    shades = np.linspace(0.3, 0.8, max(2, len(heights)))
    palette = ListedColormap([(s, s, s) for s in shades])
    edges = np.concatenate([heights, [heights[-1] + (heights[-1] - heights[0] or 1.0)]])
    lines = axes.contour(x, y, z, levels=heights, cmap=palette, norm=BoundaryNorm(edges, len(shades)), linewidths=0.9)
    named = heights[len(heights) // 2 :: 2]  # the low ones lie too close together for numbers
    shown = axes.clabel(lines, levels=named, fmt=_plain, fontsize=style.SMALL - 1, colors=style.GREY, inline=True)
    for text in shown:
        text.set_clip_on(True)


def _checked(name: str, path: Any) -> Array:
    points = style.as_array(path).astype(np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or not len(points):
        raise ValueError(f"path {name!r} expected shape (steps, 2), got {points.shape}")
    return points


def _starts(axes: Any, routes: Mapping[str, Array]) -> None:
    """A ring where paths begin; most races have one start for all."""
    for i, start in enumerate(sorted({tuple(path[0].tolist()) for path in routes.values()})):
        axes.plot(*start, marker="o", markersize=11, markerfacecolor="none", markeredgecolor="black",
                  markeredgewidth=1.6, linestyle="none", zorder=6, label="" if i else "start")  # fmt: skip


def _path(axes: Any, i: int, name: str, path: Array, function: Callable[[Array, Array], Any]) -> None:
    end = float(np.asarray(function(path[-1:, 0], path[-1:, 1])).ravel()[0]) if np.isfinite(path[-1]).all() else np.inf
    result = f"f = {end:.3g}" if np.isfinite(end) else "diverged"
    colour, steps = style.COLOURS[i % 8], len(path) - 1
    axes.plot(
        path[:, 0], path[:, 1], color=colour, linestyle=style.DASHES[i % len(style.DASHES)], linewidth=1.8,
        marker=style.MARKERS[i % 9], markersize=5, markevery=max(1, steps // 10), zorder=4 + 0.01 * i,
        markeredgecolor="white", markeredgewidth=0.5, label=f"{name}: {result} after {steps} steps",
    )  # fmt: skip
