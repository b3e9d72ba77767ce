"""Films: a figure that changes from frame to frame, as a GIF that stays small, with its last frame as a still."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scratch.viz import planes as plane
from scratch.viz import style
from scratch.viz.images import image_grid

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_GIF = 1_000_000  # bytes


def image_film(
    frames: Any, titles: Sequence[str], path: str | os.PathLike, *, columns: int | None = None,
    limits: tuple[float, float] | None = None, seconds: float = 0.15, hold: float = 2.0, limit: int = MAX_GIF,
) -> tuple[Path, Path]:  # fmt: skip
    """Grey images that change: writes `path` (.gif) and its last frame as .png; → both paths.

    Shapes: frames (K, n, H, W) or (K, n, 1, H, W), a title each. columns and limits as for `image_grid`, seconds, hold
    and limit as for `write_film`.
    """
    frames = style.as_array(frames)
    if frames.ndim == 5 and frames.shape[2] == 1:
        frames = frames[:, :, 0]
    if frames.ndim != 4 or not frames.size or len(titles) != len(frames):
        raise ValueError(f"image_film expected frames (K, n, H, W) and K titles, got {frames.shape}, {len(titles)}")
    limits = limits or (float(frames.min()), float(frames.max()))
    page = image_grid(frames[0], columns=columns, limits=limits, title=titles[0])
    (board,) = page.axes

    def show(k: int) -> None:
        board.set_title(titles[k], fontsize=style.TITLE, loc="left")
        for drawn, image in zip(board.get_images(), frames[k], strict=True):
            drawn.set_data(image)

    return write_film(page, show, len(frames), path, seconds, hold, limit)


def points_film(
    frames: Any, titles: Sequence[str], path: str | os.PathLike, *, limits: plane.Limits | None = None,
    seconds: float = 0.15, hold: float = 2.0, limit: int = MAX_GIF,
) -> tuple[Path, Path]:  # fmt: skip
    """Points that move: writes `path` (.gif) and its last frame as .png; → both paths.

    Shapes: frames (K, n, 2), a title each; of the points at most the first 2,000 are drawn.
    """
    frames = style.as_array(frames)
    if frames.ndim != 3 or not frames.size or len(titles) != len(frames):
        raise ValueError(f"points_film expected frames (K, n, 2) and K titles, got {frames.shape}, {len(titles)}")
    page = plane.clouds([frames[0]], titles[:1], limits=limits or plane.extent(frames.reshape(-1, 2)), panel=4.4)
    (axes,) = page.axes
    (dots,) = axes.collections

    def show(k: int) -> None:
        axes.set_title(titles[k], fontsize=style.TEXT, loc="left")
        dots.set_offsets(frames[k][: plane.MOST])

    return write_film(page, show, len(frames), path, seconds, hold, limit)


def write_film(
    page: Figure, show: Callable[[int], None], count: int, path: str | os.PathLike, seconds: float = 0.15,
    hold: float = 2.0, limit: int = MAX_GIF,
) -> tuple[Path, Path]:  # fmt: skip
    """The figure after show(0), show(1), … show(count − 1) as a GIF, and the last as a PNG beside it; → both paths.

    Args: seconds: how long a frame stands. hold: how long the last one does. limit: bytes; the picture gets smaller
        until it fits.
    Raises ValueError for a path without .gif, for no frames, and for a film that does not fit.
    """
    target = Path(path)
    if target.suffix.lower() != ".gif":
        raise ValueError(f"a film expected a path ending in .gif, got {target.name!r}")
    if count < 1:
        raise ValueError("a film expected at least one frame, got none")
    dpi = 80.0
    while dpi >= 45:
        data = _gif(page, show, count, seconds, hold, dpi)
        if len(data) <= limit:
            break
        dpi *= min(0.9, 0.95 * (limit / len(data)) ** 0.6)  # bytes grow with about the 1.7th power of the width
    else:
        raise ValueError(f"{count} frames take {len(data):,} bytes as a GIF, more than {limit:,}: give fewer frames")
    style.write(target, data)
    return target, style.save(page, target.with_suffix(".png"))


def _gif(page: Figure, show: Callable[[int], None], count: int, seconds: float, hold: float, dpi: float) -> bytes:
    page.set_dpi(dpi)
    if page.get_layout_engine() is not None:
        style.settle(page)
        page.set_layout_engine("none")  # the axes stay where they are while titles change
    return as_gif(page, map(show, range(count)), seconds, hold)


def as_gif(page: Figure, changes: Iterable[object], seconds: float, hold: float) -> bytes:
    """A GIF of the page after each of the changes, in its own dots an inch; the last frame stays for `hold` more."""
    from PIL import Image

    frames = []
    for _ in changes:
        page.canvas.draw()
        frames.append(Image.fromarray(np.asarray(page.canvas.buffer_rgba())).convert("RGB"))  # type: ignore[attr-defined]
    each = 1000 // max(1, round(1 / seconds))  # milliseconds
    times = [each] * (len(frames) - 1) + [each * (1 + round(hold / seconds))]
    file = BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=times, loop=0)
    return file.getvalue()
