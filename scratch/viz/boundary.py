"""What a classifier says everywhere in the plane: its decision boundary, still or as training moves it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scratch.tensor import Array
from scratch.viz import style
from scratch.viz.films import MAX_GIF, write_film

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def decision_boundary(
    predict: Callable[[Array], Any] | Any, points: Any, labels: Any, *, class_names: Sequence[str] | None = None,
    title: str = "", axis_names: tuple[str, str] = ("x₁", "x₂"), resolution: int = 160,
) -> Figure:  # fmt: skip
    """Class probabilities over the plane, the boundary between the two likeliest classes, and the points.

    Each place is coloured by the mean of the classes' colours, weighted by their probabilities: saturated where the
    classifier is sure, mixed where it is not. The black line is where the two largest probabilities are equal.

    Args: predict: array (m, 2) → probabilities (m, k), or (m,) for the probability of class 1 of two; or these
        probabilities, already computed at `boundary_grid(points, resolution)`.
        points: (n, 2). labels: (n,) integers from 0 to k − 1; a class's marker tells it apart as well as its colour.
    Raises ValueError for other shapes, and for predictions that are no probabilities.
    """
    points, labels = _checked(points, labels)
    p = _probabilities(predict, points, labels, resolution)
    page, axes = style.figure(panel=(6.0, 5.0))
    _draw(page, axes[0, 0], p, points, labels, style.classes(p.shape[1], class_names), axis_names)
    axes[0, 0].set_title(title, fontsize=style.TITLE, loc="left")
    return page


def boundary_animation(
    frames: Iterable[tuple[int, float, Any]], points: Any, labels: Any, path: str | os.PathLike, *,
    class_names: Sequence[str] | None = None, axis_names: tuple[str, str] = ("x₁", "x₂"), resolution: int = 100,
    seconds: float = 0.15, hold: float = 2.0, limit: int = MAX_GIF,
) -> tuple[Path, Path]:  # fmt: skip
    """Training as a film of decision boundaries: writes `path` (.gif) and its last frame as .png; → both paths.

    Args: frames: (step, loss, predict) one after the other, `predict` as for `decision_boundary`. They are read as they
        come, so a generator may train between them; a list needs probabilities, or a predict that does not change.
        seconds: how long a frame stands. hold: how long the last one does. limit: bytes of the GIF; the picture gets
        smaller until it fits.
    Raises ValueError for no frames, for a path without .gif, and for a film that does not fit.
    """
    target = Path(path)
    if target.suffix.lower() != ".gif":
        raise ValueError(f"boundary_animation expected a path ending in .gif, got {target.name!r}")
    points, labels = _checked(points, labels)
    film = [
        (f"step {step:,}, loss {loss:.3g}", _probabilities(predict, points, labels, resolution).astype(np.float32))
        for step, loss, predict in frames
    ]
    if not film:
        raise ValueError("boundary_animation expected at least one frame, got none")
    names = style.classes(film[0][1].shape[1], class_names)
    page, axes = style.figure(panel=(5.6, 4.6))
    plane = axes[0, 0]
    drawn = _draw(page, plane, film[0][1], points, labels, names, axis_names)

    def show(k: int) -> None:
        nonlocal drawn
        plane.set_title(film[k][0], fontsize=style.TITLE, loc="left")
        for artist in drawn:
            artist.remove()
        drawn = _shade(plane, film[k][1], points, levels=24)

    show(0)
    return write_film(page, show, len(film), target, seconds, hold, limit)


def boundary_grid(points: Any, resolution: int = 160) -> Array:
    """Where a boundary is computed: a grid around `points`, row by row from the bottom, shape (resolution², 2)."""
    points = style.as_array(points)
    (left, right), (bottom, top) = _extent(points)
    x, y = np.meshgrid(np.linspace(left, right, resolution), np.linspace(bottom, top, resolution))
    grid = np.stack([x.ravel(), y.ravel()], axis=1)
    return grid.astype(points.dtype) if points.dtype.kind == "f" else grid


def _draw(
    page: Figure, axes: Any, p: Array, points: Array, labels: Array, names: list[str], axis_names: tuple[str, str]
) -> list:
    """The whole picture; → the artists that depend on the probabilities."""
    drawn = _shade(axes, p, points)
    size = float(np.clip(9000 / len(points), 20, 44))
    for k, name in enumerate(names):
        mine = points[labels == k]
        axes.scatter(
            mine[:, 0], mine[:, 1], s=size, marker=style.MARKERS[k % 9], color=style.COLOURS[k % 8],
            edgecolors="white" if k % 8 != 7 else "black", linewidths=0.6, label=name, zorder=3,
        )  # fmt: skip
    axes.plot([], [], color="black", linewidth=1.4, label="boundary")
    axes.grid(False)
    axes.locator_params(nbins=6)
    axes.set_aspect("equal")
    axes.set_xlim(_extent(points)[0])
    axes.set_ylim(_extent(points)[1])
    style.label(axes, x=axis_names[0], y=axis_names[1])
    # Outside as a legend of the page: only so does the layout give it room.
    style.legend(page, handles=axes.get_legend_handles_labels()[0], title="true class", title_fontsize=style.SMALL,
                 loc="outside right upper", handlelength=1.4)  # fmt: skip
    return drawn


def _shade(axes: Any, p: Array, points: Array, levels: int = 48) -> list:
    """Probability shading and the boundary; the grid's values stand at the centres of the pixels."""
    from matplotlib.colors import to_rgb

    side, k = round(len(p) ** 0.5), p.shape[1]
    colours = np.array([to_rgb(style.COLOURS[i % 8]) for i in range(k)])
    mixed = 1 - 0.5 * (1 - p @ colours)  # half way to white
    mixed = np.round(mixed * levels) / levels  # few colours make small files
    (left, right), (bottom, top) = _extent(points)
    dx, dy = (right - left) / (side - 1) / 2, (top - bottom) / (side - 1) / 2
    image = axes.imshow(
        np.clip(mixed, 0, 1).reshape(side, side, 3), origin="lower", interpolation="nearest", zorder=0,
        extent=(left - dx, right + dx, bottom - dy, top + dy), aspect="equal",
    )  # fmt: skip
    x, y = np.linspace(left, right, side), np.linspace(bottom, top, side)
    drawn = [image]
    for i in range(k):
        # how far class i is ahead of the best other one: zero on its boundary
        ahead = (p[:, i] - np.delete(p, i, axis=1).max(axis=1)).reshape(side, side)
        if ahead.min() < 0 < ahead.max() and (i or k > 2):
            drawn.append(axes.contour(x, y, ahead, levels=[0.0], colors="black", linewidths=1.4, zorder=2))
    return drawn


def _extent(points: Array, margin: float = 0.12) -> tuple[tuple[float, float], tuple[float, float]]:
    """((left, right), (bottom, top)): the points' range and a margin of the longer side."""
    low, high = points.min(axis=0).astype(float), points.max(axis=0).astype(float)
    extra = margin * (float((high - low).max()) or 1.0)
    return (float(low[0]) - extra, float(high[0]) + extra), (float(low[1]) - extra, float(high[1]) + extra)


def _checked(points: Any, labels: Any) -> tuple[Array, Array]:
    points, labels = style.as_array(points), style.as_array(labels)
    if points.ndim != 2 or points.shape[1] != 2 or not len(points):
        raise ValueError(f"a boundary expected points of shape (n, 2), got {points.shape}")
    if labels.shape != (len(points),) or labels.dtype.kind not in "iu" or labels.min() < 0:
        raise ValueError(f"a boundary expected {len(points)} integer labels of at least 0, one a point, "
                         f"got shape {labels.shape}, dtype {labels.dtype}")  # fmt: skip
    return points, labels


def _probabilities(predict: Any, points: Array, labels: Array, resolution: int) -> Array:
    """(resolution², k), checked."""
    grid = boundary_grid(points, resolution)
    p = style.as_array(predict(grid) if callable(predict) else predict)
    if p.ndim == 1 or (p.ndim == 2 and p.shape[1] == 1):
        p = np.stack([1 - p.ravel(), p.ravel()], axis=1)
    if p.ndim != 2 or len(p) != len(grid):
        raise ValueError(f"predict expected to return probabilities of shape ({len(grid)}, k), got {p.shape}")
    if not (np.all(p >= -1e-6) and np.allclose(p.sum(axis=1), 1, atol=5e-3)):
        raise ValueError(
            "predict returned rows that are no probabilities (from 0 to 1, sum 1): apply softmax or sigmoid"
        )
    if labels.max() >= p.shape[1]:
        raise ValueError(f"labels reach {labels.max()}, but predict knows {p.shape[1]} classes")
    return p
