"""What a discriminator says everywhere in the plane, and where the generator's points lie: still, or over training."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scratch.tensor import Array
from scratch.viz import style
from scratch.viz.boundary import MAX_GIF, boundary_grid
from scratch.viz.films import as_gif

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEVELS = 16  # shades of the surface: few make small files
FAKE, REAL = 300, 300  # points drawn at most


def critic_surface(
    values: Any, points: Any, fakes: Any, *, title: str = "", label: str = "how real, by the discriminator",
    limits: tuple[float, float] | None = None,
) -> Figure:  # fmt: skip
    """The discriminator's answer over the plane, real points as dots and generated ones as crosses.

    Light is fake and dark is real; the line is half way between the lowest and the highest value.
    Args: values: (side²,), at `critic_grid(points, side)`. points: (n, 2), real. fakes: (m, 2).
        limits: values shown as lightest and darkest; by default the least and the greatest.
    Raises ValueError for other shapes.
    """
    values, points, fakes = _checked(values, points, fakes)
    page, axes = style.figure(panel=(6.2, 4.8))
    surface = _draw(page, axes[0, 0], values, points, fakes, limits or _range([values]))[0]
    bar = page.colorbar(surface, ax=axes[0, 0], fraction=0.05, pad=0.02)
    bar.set_label(label, fontsize=style.TEXT)
    bar.ax.tick_params(labelsize=style.SMALL)
    axes[0, 0].set_title(title, fontsize=style.TITLE, loc="left")
    return page


def critic_animation(
    frames: Iterable[tuple[int, Any, Any]], points: Any, path: str | os.PathLike, *, limits: tuple[float, float] | None,
    seconds: float = 0.15, hold: float = 2.0, limit: int = MAX_GIF,
) -> tuple[Path, Path]:  # fmt: skip
    """Training as a film of surfaces: writes `path` (.gif) and its last frame as .png; → both paths.

    Args: frames: (step, values, fakes), values as for `critic_surface`. limits: of all frames alike; None fits each
        frame to its own range, for critics whose numbers mean nothing but more and less.
        seconds: how long a frame stands. hold: how long the last one does. limit: bytes of the GIF, which gets smaller
        until it fits.
    Raises ValueError for no frames, for a path without .gif, and for a film that does not fit.
    """
    target = Path(path)
    if target.suffix.lower() != ".gif":
        raise ValueError(f"critic_animation expected a path ending in .gif, got {target.name!r}")
    film = [(step, *_checked(values, points, fakes)) for step, values, fakes in frames]
    if not film:
        raise ValueError("critic_animation expected at least one frame, got none")
    dpi = 80.0
    while dpi >= 40:
        data, still = _render(film, limits, seconds, hold, dpi)
        if len(data) <= limit:
            break
        dpi *= min(0.9, 0.95 * (limit / len(data)) ** 0.6)  # bytes grow with about the 1.7th power of the width
    else:
        raise ValueError(f"{len(film)} frames take {len(data):,} bytes as a GIF, more than {limit:,}: give fewer")
    style.write(target, data)
    return target, style.save(still, target.with_suffix(".png"))


def critic_grid(points: Any, side: int = 60) -> Array:
    """Where the surface is computed: a grid around real points, row by row from the bottom, shape (side², 2)."""
    return boundary_grid(points, side)


def _render(
    film: list, limits: tuple[float, float] | None, seconds: float, hold: float, dpi: float
) -> tuple[bytes, Figure]:
    """The GIF's bytes, and the figure of the last frame."""
    page, axes = style.figure(panel=(4.6, 4.4))
    plane = axes[0, 0]
    _, values, points, fakes = film[0]
    drawn = _draw(page, plane, values, points, fakes, limits or _range([values]))
    caption = plane.set_title("step 0", fontsize=style.TITLE, loc="left")
    page.set_dpi(dpi)
    style.settle(page)
    page.set_layout_engine("none")  # the axes stay where they are while titles change

    def changes() -> Iterator[None]:
        nonlocal drawn
        for step, values, points, fakes in film:
            caption.set_text(f"step {step:,}")
            for artist in drawn:
                artist.remove()
            drawn = _draw(page, plane, values, points, fakes, limits or _range([values]), first=False)
            yield

    return as_gif(page, changes(), seconds, hold), page


def _draw(
    page: Figure, axes: Any, values: Array, points: Array, fakes: Array, limits: tuple[float, float],
    first: bool = True,
) -> list:  # fmt: skip
    """The surface, the line at its middle, real and fake points; → the artists, the surface first."""
    from matplotlib import colormaps

    side, (low, high) = round(len(values) ** 0.5), limits
    grid = critic_grid(points, side)
    (left, bottom), (right, top) = grid[0], grid[-1]
    dx, dy = (right - left) / (side - 1) / 2, (top - bottom) / (side - 1) / 2
    board = values.reshape(side, side)
    drawn: list = [axes.imshow(
        board, origin="lower", extent=(left - dx, right + dx, bottom - dy, top + dy), vmin=low, vmax=high,
        cmap=colormaps["Blues"].resampled(LEVELS), interpolation="nearest", aspect="equal", alpha=0.75, zorder=0,
    )]  # fmt: skip
    middle = (low + high) / 2
    if board.min() < middle < board.max():
        x, y = np.linspace(left, right, side), np.linspace(bottom, top, side)
        drawn.append(axes.contour(x, y, board, levels=[middle], colors="black", linewidths=0.9, zorder=1))
    shown = dict(zorder=3, linewidths=0.8)
    drawn.append(axes.scatter(*points[:REAL].T, s=7, color=style.BLACK, marker=".", label="real", **shown))
    drawn.append(axes.scatter(*fakes[:FAKE].T, s=16, color=style.VERMILLION, marker="x", label="generated", **shown))
    if first:
        axes.grid(False)
        axes.set_xlim(left, right)
        axes.set_ylim(bottom, top)
        style.label(axes, x="x₁", y="x₂")
        style.legend(axes, loc="lower center", ncols=2, handlelength=1.0, bbox_to_anchor=(0.5, 0.0))
    return drawn


def _range(values: list[Array]) -> tuple[float, float]:
    low, high = min(float(v.min()) for v in values), max(float(v.max()) for v in values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _checked(values: Any, points: Any, fakes: Any) -> tuple[Array, Array, Array]:
    values, points, fakes = (style.as_array(each) for each in (values, points, fakes))
    values = np.asarray(values, np.float64).reshape(-1)
    if any(each.ndim != 2 or each.shape[1] != 2 or not len(each) for each in (points, fakes)):
        raise ValueError(f"a critic's surface expected points (n, 2) and (m, 2), got {points.shape} and {fakes.shape}")
    if round(len(values) ** 0.5) ** 2 != len(values) or len(values) < 4 or not np.isfinite(values).all():
        raise ValueError(f"a critic's surface expected finite values on a square grid, got {len(values)} of them")
    return values, points, fakes
