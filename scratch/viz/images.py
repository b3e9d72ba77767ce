"""Pictures of images: grids and strips, what a first layer looks for, and the mistakes worth looking at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from scratch.tensor import Array
from scratch.viz import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def image_grid(
    images: Any, titles: Sequence[str] | None = None, columns: int | None = None, *,
    limits: tuple[float, float] | None = None, title: str = "", cell: float = 0.9,
) -> Figure:  # fmt: skip
    """Images in rows, all on one scale: equal values look equal in every cell.

    Args: images: (n, H, W), (n, 1, H, W) grey or (n, 3, H, W) colour. titles: one line above each image.
        columns: images a row; for a strip over time, the number of time steps.
        limits: values shown as black and white; 0 and 255 for integers, else the smallest and largest value given.
        cell: width of one image in inches.
    Raises ValueError for other shapes, and for titles that are not one an image.
    """
    pixels = _pixels(images)
    n = len(pixels)
    if titles is not None and len(titles) != n:
        raise ValueError(f"image_grid expected one title for each of {n} images, got {len(titles)}")
    shown, scale = _scaled(pixels, limits or _limits(pixels))
    return _cells(shown, titles, columns, title, cell, scale)[0]


def first_layer_weights(
    weight: Any, image_shape: tuple[int, ...] | None = None, *, count: int = 64, columns: int | None = None,
    title: str = "",
) -> Figure:  # fmt: skip
    """What each unit of a first layer is sensitive to: its weights in the input's shape, on one scale around zero.

    Red raises the unit's output, blue lowers it, white ignores the pixel. Filters on three colour channels are shown as
    colours instead, grey meaning zero.

    Args: weight: a Linear's (out, in) with `image_shape` (H, W) or (C, H, W), or a convolution's (out, C, kh, kw).
        count: how many units at most, the first ones.
    Raises ValueError for an image_shape that does not have `in` elements, and for channels other than 1 and 3.
    """
    kernels = style.as_array(weight)
    if image_shape is not None:
        if kernels.ndim != 2 or math.prod(image_shape) != kernels.shape[1]:
            raise ValueError(f"first_layer_weights expected (out, {math.prod(image_shape)}) for images of shape "
                             f"{tuple(image_shape)}, got {kernels.shape}")  # fmt: skip
        kernels = kernels.reshape(len(kernels), *image_shape)
    pixels = _pixels(kernels[:count])
    largest = float(np.abs(pixels).max()) or 1.0
    if not math.isfinite(largest):
        raise ValueError("first_layer_weights expected finite weights, got NaN or infinity")
    note = f"first {count} of {len(kernels)} units" if len(kernels) > count else f"{len(kernels)} units"
    title = f"{title} ({note})" if title else note
    if pixels.ndim == 4:
        scaled = 0.5 + 0.5 * pixels / largest
        return _cells(scaled, None, columns, f"{title}; grey = 0, full colour = ±{largest:.3g}", 0.7, {})[0]
    scale = {"cmap": "RdBu_r", "vmin": -largest, "vmax": largest}
    page, axes, drawn = _cells(pixels, None, columns, title, 0.7, scale, beside=1.0)
    bar = page.colorbar(drawn, ax=axes, fraction=0.04, pad=0.02)
    bar.set_label("weight", fontsize=style.TEXT)
    bar.ax.tick_params(labelsize=style.SMALL)
    return page


def worst_mistakes(
    images: Any, labels: Any, probabilities: Any, class_names: Sequence[str] | None = None, *, count: int = 16,
    columns: int | None = None, title: str = "",
) -> Figure:  # fmt: skip
    """The misclassified images that gave their true class the least probability, that is, those of the largest loss.

    Above each: true class → predicted class, and the probability the prediction had.
    Shapes: images (n, H, W) or (n, C, H, W), labels (n,) integers, probabilities (n, k).
    Raises ValueError for lengths that differ and labels outside 0 ... k − 1.
    """
    pixels, targets, p = _pixels(images), style.as_array(labels), style.as_array(probabilities)
    if p.ndim != 2 or targets.shape != (len(p),) or len(pixels) != len(p):
        raise ValueError(f"worst_mistakes expected n images, labels (n,) and probabilities (n, k), got {len(pixels)} "
                         f"images, {targets.shape} and {p.shape}")  # fmt: skip
    if targets.dtype.kind not in "iu" or targets.min() < 0 or targets.max() >= p.shape[1]:
        raise ValueError(f"labels expected integers from 0 to {p.shape[1] - 1}")
    names, predictions = style.classes(p.shape[1], class_names), p.argmax(axis=1)
    (wrong,) = np.nonzero(predictions != targets)
    worst = wrong[np.argsort(p[wrong, targets[wrong]], kind="stable")][:count]
    note = f"{len(wrong)} of {len(p)} wrong"
    if len(wrong) > len(worst):
        note += f", the worst {len(worst)}"
    title = f"{title}: {note}" if title else note
    if not len(worst):
        page = style.blank(4.5, 0.9)
        page.text(0.5, 0.5, title, ha="center", va="center", fontsize=style.TITLE)
        return page
    titles = [f"{names[targets[i]]} → {names[predictions[i]]}\n{_percent(p[i].max())}" for i in worst]
    shown, scale = _scaled(pixels[worst], _limits(pixels))
    cell = max(0.85, 0.082 * max(len(each) for row in titles for each in row.split("\n")))
    return _cells(shown, titles, columns, f"{title}\n(true → predicted, with its probability)", cell, scale)[0]


def _cells(
    pixels: Array, titles: Sequence[str] | None, columns: int | None, title: str, cell: float, scale: dict,
    beside: float = 0.0,
) -> tuple[Any, Any, Any]:  # fmt: skip
    """Images side by side in one pair of axes (one pair each would take seconds); → (figure, axes, last image).

    `beside` keeps as many inches free on the right, for a colour bar.
    """
    n, (height, width) = len(pixels), pixels.shape[1:3]
    columns = style.columns_for(n, columns)
    rows = math.ceil(n / columns)
    # In units of a cell's width: gap between cells, room for titles above each.
    tall, gap = height / width, 0.08
    head = max((each.count("\n") + 1 for each in titles), default=0) * 0.17 / cell if titles is not None else 0.0
    pitch_x, pitch_y = 1 + gap, tall + gap + head
    lines = title.split("\n") if title else []
    page_width = max(cell * (columns * pitch_x - gap) + 0.12 + beside, 0.095 * max(map(len, lines), default=0))
    page, axes = style.figure(panel=(page_width, cell * (rows * pitch_y - gap) + 0.12 + 0.24 * len(lines)))
    board = axes[0, 0]
    style.picture_axes(board)
    for i, picture in enumerate(pixels):
        x, y = i % columns * pitch_x, i // columns * pitch_y + head
        drawn = board.imshow(picture, extent=(x, x + 1, y + tall, y), interpolation="nearest", **scale)
        if titles is not None:
            board.text(x + 0.5, y - 0.03, titles[i], ha="center", va="bottom", fontsize=style.SMALL, linespacing=1.1)
    board.set_xlim(0, columns * pitch_x - gap)
    board.set_ylim(rows * pitch_y - gap, 0)
    board.set_anchor("NW")
    board.set_title(title, fontsize=style.TITLE, loc="left")
    return page, board, drawn


def _pixels(images: Any) -> Array:
    """(n, H, W) for grey, (n, H, W, 3) for colour."""
    pixels = style.as_array(images)
    if pixels.ndim == 4 and pixels.shape[1] in (1, 3) and len(pixels):
        return pixels[:, 0] if pixels.shape[1] == 1 else np.moveaxis(pixels, 1, -1)
    if pixels.ndim != 3 or not pixels.size:
        raise ValueError(
            f"expected at least one image in shape (n, H, W), (n, 1, H, W) or (n, 3, H, W), got {pixels.shape}"
        )
    return pixels


def _limits(pixels: Array) -> tuple[float, float]:
    if pixels.dtype.kind in "iub":
        return 0.0, 255.0 if pixels.max() > 1 else 1.0
    return float(np.nanmin(pixels)), float(np.nanmax(pixels))


def _scaled(pixels: Array, limits: tuple[float, float]) -> tuple[Array, dict[str, Any]]:
    """The images, and how matplotlib is to map them: grey ones by the limits, colours are brought to 0 ... 1 here."""
    low, high = limits
    if not low <= high:
        raise ValueError(f"limits expected (low, high) with low <= high, got {limits}")
    if pixels.ndim == 3:
        return pixels, {"cmap": "gray", "vmin": low, "vmax": high}
    return np.clip((pixels - low) / ((high - low) or 1.0), 0, 1), {}


def _percent(p: float) -> str:
    """A probability in whole per cent, never rounded up to a certainty."""
    return ">99 %" if 0.995 <= p < 1 else f"{p:.0%}".replace("%", " %")
