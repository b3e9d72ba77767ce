"""Pictures of where in an image something lies: heat maps over it, and receptive fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from scratch.viz import style
from scratch.viz.feature_maps import draw_image

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def heat_maps(
    image: Any, heats: Mapping[str, Any], *, title: str = "", label: str = "share of the map's largest value"
) -> Figure:
    """The image, then each map over a pale copy of it; a line surrounds what lies above half of the map's largest.

    A map with negative values is drawn in red (for) and blue (against), one without from clear to dark.
    Args: image: (H, W), (1, H, W), (3, H, W) or (H, W, 3). heats: {title: (h, w)} of any size, stretched over it.
    Raises ValueError for maps that are not (h, w) of finite numbers.
    """
    page, axes = style.figure(1, 1 + len(heats), panel=(2.9, 3.4))
    for each in axes.flat:
        style.picture_axes(each)
    height, width = draw_image(axes[0, 0], image)
    axes[0, 0].set_title("image", fontsize=style.TEXT, loc="left")
    for panel, (name, values) in zip(axes[0, 1:], heats.items(), strict=True):
        heat = np.asarray(style.as_array(values), dtype=np.float64)
        if heat.ndim != 2 or not heat.size or not np.isfinite(heat).all():
            raise ValueError(f"heat_maps expected {name} to be (h, w) of finite numbers, got {heat.shape}")
        draw_image(panel, image, grey=True)
        heat = heat / (np.abs(heat).max() or 1.0)
        signed = heat.min() < 0
        colours = {"cmap": "RdBu_r", "vmin": -1, "vmax": 1} if signed else {"cmap": "magma_r", "vmin": 0, "vmax": 1}
        drawn = panel.imshow(heat, extent=(0, width, height, 0), interpolation="bilinear", alpha=0.68, **colours)
        _outline(panel, heat, height, width)
        panel.set_title(name, fontsize=style.TEXT, loc="left")
        bar = page.colorbar(drawn, ax=panel, orientation="horizontal", fraction=0.06, pad=0.03)
        bar.ax.tick_params(labelsize=style.SMALL)
        bar.set_label(label, fontsize=style.SMALL)
    page.suptitle(title, fontsize=style.TITLE, x=0.01, ha="left")
    return page


def receptive_fields(
    effective: Any, size: Sequence[int], *, title: str = "", centre: tuple[float, float] | None = None
) -> Figure:
    """What one unit can see (the dashed frame) and what it does see (the dark bell), and a cut through the middle.

    Args: effective: (H, W), the mean size of the gradient at each pixel. size: (height, width) of the theoretical
        field. centre: its middle (row, column) in pixels; by default the bell's centre of mass.
    Raises ValueError for another shape, or a field that is nowhere positive.
    """
    values = np.asarray(style.as_array(effective), dtype=np.float64)
    if values.ndim != 2 or not values.size or not np.isfinite(values).all() or values.min() < 0 or not values.any():
        raise ValueError(f"receptive_fields expected (H, W) of numbers from 0 up, not all 0, got {values.shape}")
    height, width = values.shape
    share = values / values.max()
    rows, columns = np.arange(height) + 0.5, np.arange(width) + 0.5
    p = values / values.sum()
    row, column = centre or (float(p.sum(axis=1) @ rows), float(p.sum(axis=0) @ columns))
    page, axes = style.figure(1, 2, panel=(4.2, 3.7))
    _field(page, axes[0, 0], share, (row, column), size)
    cut = share[min(int(row), height - 1)]
    graph = axes[0, 1]
    graph.plot(columns, cut, color=style.BLUE, marker="o" if width <= 40 else "", markersize=3.5, label="effective")
    graph.axhline(0.0455, color=style.GREY, linewidth=1, linestyle=(0, (1.5, 1.2)), label="2 σ of a bell (4.55 %)")
    left, right = column - size[1] / 2, column + size[1] / 2
    frame = np.repeat([left, right], 2)
    graph.plot(
        frame, [0, 1, 1, 0], color=style.VERMILLION, linestyle=(0, (5, 1.5)), label=f"theoretical, {size[1]} wide"
    )
    graph.set_xlim(*_near(column, size[1], width))
    graph.set_ylim(0, 1.5)
    graph.set_yticks([0, 0.25, 0.5, 0.75, 1])
    style.label(graph, "a cut through the middle", "column (pixels)", "mean |gradient|, largest = 1")
    style.legend(graph, loc="upper right")
    page.suptitle(title, fontsize=style.TITLE, x=0.01, ha="left")
    return page


def _field(page: Any, axes: Any, share: Any, middle: tuple[float, float], size: Sequence[int]) -> None:
    from matplotlib.patches import Rectangle

    height, width = share.shape
    style.picture_axes(axes)
    axes.set_axis_on()
    axes.tick_params(labelsize=style.SMALL)
    drawn = axes.imshow(share, cmap="magma_r", vmin=0, vmax=1, extent=(0, width, height, 0), interpolation="nearest")
    corner = middle[1] - size[1] / 2, middle[0] - size[0] / 2
    frame = Rectangle(corner, size[1], size[0], fill=False, edgecolor=style.VERMILLION, linewidth=1.8,
                      linestyle=(0, (5, 1.5)))  # fmt: skip
    axes.add_patch(frame)
    axes.set_xlim(*_near(middle[1], size[1], width))
    axes.set_ylim(*_near(middle[0], size[0], height)[::-1])
    style.label(axes, f"{size[0]}×{size[1]} on paper, {_above(share)} counted", "column (pixels)", "row (pixels)")
    bar = page.colorbar(drawn, ax=axes, fraction=0.05, pad=0.02)
    bar.ax.tick_params(labelsize=style.SMALL)


def _near(middle: float, size: int, n: int) -> tuple[float, float]:
    """From and to which pixel to draw: the field with half its size around it, or the whole image if that is less."""
    reach = max(size, 4)
    return max(min(middle - size / 2, 0.0), middle - reach), min(max(middle + size / 2, float(n)), middle + reach)


def _above(share: Any) -> str:
    """Height × width of what lies above 4.55 % of the largest value, as Luo et al. count it."""
    rows, columns = np.nonzero((share > 0.0455).any(axis=1))[0], np.nonzero((share > 0.0455).any(axis=0))[0]
    return f"{rows[-1] - rows[0] + 1}×{columns[-1] - columns[0] + 1}"


def _outline(axes: Any, heat: Any, height: int, width: int) -> None:
    """A line around what is above half of the largest value: the second cue beside the colour."""
    if min(heat.shape) < 2 or heat.max() <= 0.5 or heat.min() >= 0.5:
        return
    h, w = heat.shape
    x, y = (np.arange(w) + 0.5) * width / w, (np.arange(h) + 0.5) * height / h
    axes.contour(x, y, heat, levels=[0.5], colors=[style.BLACK], linewidths=[1.2])
