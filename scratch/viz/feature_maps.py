"""Pictures of what a convolutional network looks for and finds: filters, and the maps of one stage after the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from scratch.tensor import Array
from scratch.viz import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GAP = 0.12  # between two maps, of a map's width


def filter_grid(weight: Any, *, outputs: int = 16, inputs: int = 8, title: str = "") -> Figure:
    """A convolution's filters: a row for each output, in it the pattern it looks for in each input, on one scale.

    Red raises the output, blue lowers it. For a first layer on grey or colour images see `first_layer_weights`.
    Args: weight: (out, in, kh, kw). outputs, inputs: how many to show at most, the first ones.
    Raises ValueError for other shapes and for weights that are not finite.
    """
    kernels = style.as_array(weight)
    if kernels.ndim != 4 or not kernels.size or not np.isfinite(kernels).all():
        raise ValueError(f"filter_grid expected finite weights of shape (out, in, kh, kw), got {kernels.shape}")
    shown = kernels[:outputs, :inputs]
    rows, columns, height, width = shown.shape
    largest = float(np.abs(shown).max()) or 1.0
    tall = height / width
    cell = min(0.62, 7.5 / columns)
    size = (cell * columns * (1 + GAP) + 1.9, cell * rows * (tall + GAP) + 0.8)
    page, axes = style.figure(panel=(max(size[0], 0.085 * len(title) + 0.5), size[1]))
    board = axes[0, 0]
    _board(board, columns * (1 + GAP), rows * (tall + GAP))
    for i in range(rows):
        for j in range(columns):
            drawn = _map(board, shown[i, j], j * (1 + GAP), i * (tall + GAP), tall, "RdBu_r", (-largest, largest))
    _counted(board, "input", len(kernels[0]), columns, "output", len(kernels), rows)
    board.set_title(title, fontsize=style.TITLE, loc="left")
    bar = page.colorbar(drawn, ax=board, fraction=0.04, pad=0.02)
    bar.set_label("weight", fontsize=style.TEXT)
    bar.ax.tick_params(labelsize=style.SMALL)
    return page


def feature_map_rows(
    maps: Mapping[str, Any], *, count: int = 8, image: Any = None, title: str = "", strongest: bool = True
) -> Figure:
    """The maps of one image, a row for each stage: from many pixels and few maps to few pixels and many maps.

    White is the least value of a row and dark the greatest, so maps can be compared within a row.
    Args: maps: {name of the stage: (channels, h, w) or (1, channels, h, w)}. count: maps a row, those that vary most,
        or if not `strongest`, the first ones. image: (H, W), (1, H, W) or (3, H, W), shown on top.
    Raises ValueError where there are no maps or of other shapes.
    """
    stages = {name: _one(name, values) for name, values in maps.items()}
    if not stages:
        raise ValueError("feature_map_rows expected the maps of at least one stage")
    extra = 0 if image is None else 1
    page, axes = style.figure(len(stages) + extra, 1, panel=(0.95 * count * (1 + GAP) + 0.2, 1.32))
    if image is not None:
        _board(axes[0, 0], count * (1 + GAP), 1)
        draw_image(axes[0, 0], image, (0, 1, 1, 0))
        axes[0, 0].set_title("image", fontsize=style.TEXT, loc="left")
    for row, (name, values) in zip(axes[extra:, 0], stages.items(), strict=True):
        chosen = _strongest(values, count) if strongest else np.arange(min(count, len(values)))
        channels, height, width = values.shape
        tall = height / width
        _board(row, count * (1 + GAP), tall)
        limits = float(values[chosen].min()), float(values[chosen].max())
        for place, channel in enumerate(chosen):
            _map(row, values[channel], place * (1 + GAP), 0, tall, "Greys", limits)
            row.text(
                place * (1 + GAP) + 0.5, tall + 0.02, f"{channel}", ha="center", va="top", fontsize=style.SMALL - 1
            )
        what = f"{len(chosen)} of {channels} maps, {height}×{width}, {limits[0]:.2g} (white) to {limits[1]:.2g}"
        row.set_title(f"{name}: {what}", fontsize=style.TEXT, loc="left")
    page.suptitle(title, fontsize=style.TITLE, x=0.01, ha="left")
    return page


def draw_image(
    axes: Any, image: Any, extent: tuple[float, float, float, float] | None = None, grey: bool = False
) -> tuple[int, int]:
    """One image in the axes, grey from its least to its greatest value, colours likewise; → (H, W).

    `grey` takes the colours' mean, so that what is drawn over it has colours of its own.

    Shapes: (H, W), (1, H, W), (3, H, W) or (H, W, 3), the last two as colour. Raises ValueError for others.
    """
    pixels = style.as_array(image)
    pixels = pixels[0] if pixels.ndim == 4 and len(pixels) == 1 else pixels
    if pixels.ndim == 3 and pixels.shape[0] in (1, 3):
        pixels = pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, -1)
    if not (pixels.ndim == 2 or pixels.ndim == 3 and pixels.shape[2] == 3) or not pixels.size:
        raise ValueError(f"expected an image (H, W), (1, H, W), (3, H, W) or (H, W, 3), got {np.shape(image)}")
    low, high = (0, 255) if pixels.dtype == np.uint8 else (float(pixels.min()), float(pixels.max()))
    if pixels.ndim == 3 and grey:
        pixels = pixels.mean(axis=2)
    if pixels.ndim == 3:
        pixels = np.clip((pixels - low) / ((high - low) or 1), 0, 1)
    height, width = pixels.shape[:2]
    extent = extent or (0, width, height, 0)
    axes.imshow(pixels, cmap="gray", vmin=low, vmax=high, extent=extent, interpolation="nearest")
    return height, width


def _board(axes: Any, width: float, height: float) -> None:
    style.picture_axes(axes)
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.set_anchor("NW")


def _map(axes: Any, values: Array, x: float, y: float, tall: float, cmap: str, limits: tuple[float, float]) -> Any:
    return axes.imshow(
        values, cmap=cmap, vmin=limits[0], vmax=limits[1], extent=(x, x + 1, y + tall, y), interpolation="nearest"
    )


def _counted(axes: Any, across: str, columns: int, shown_columns: int, down: str, rows: int, shown_rows: int) -> None:
    """What the two directions are, and how much of them is shown."""
    axes.set_axis_on()
    axes.spines[:].set_visible(False)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlabel(f"{across} →  ({shown_columns} of {columns})", fontsize=style.TEXT, loc="left")
    axes.set_ylabel(f"← {down}  ({shown_rows} of {rows})", fontsize=style.TEXT, loc="top")


def _one(name: str, values: Any) -> Array:
    array = style.as_array(values)
    array = array[0] if array.ndim == 4 and len(array) == 1 else array
    if array.ndim != 3 or not array.size:
        raise ValueError(f"feature_map_rows expected {name} to be (channels, h, w), got {np.shape(values)}")
    return array


def _strongest(values: Array, count: int) -> Array:
    """The channels that vary most over the image, in their order; the rest are often all zero."""
    return np.sort(np.argsort(-values.std(axis=(1, 2)), kind="stable")[:count])
