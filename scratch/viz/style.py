"""One look for every picture: colours with a second cue, legible sizes, an opaque page, small files.

The colours are Okabe and Ito's (2008, "Color Universal Design"), told apart by colour-blind readers; still nothing is
said by colour alone: series also differ in dash, marker or hatch. The page is opaque white, so that a picture reads the
same in GitHub's dark theme.

Figures are plain `matplotlib.figure.Figure` objects: no window, no global state, safe in any thread.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scratch.tensor import Array, Tensor
from scratch.weights import atomic_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, VERMILLION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY, BLACK, YELLOW = "#E69F00", "#56B4E9", "#000000", "#F0E442"
COLOURS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, BLACK, YELLOW)  # yellow last: it is faint as a line on white
GREY, PALE = "#595959", "#D9D9D9"

# Nine markers, eight colours: the pair (marker, colour) repeats only after 72 series.
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)), (0, (9, 2, 3, 2)))
HATCHES = ("", "///", "...", "xxx", "\\\\\\", "+++", "ooo", "---")

TITLE, TEXT, SMALL = 12.0, 10.5, 9.5  # points
DPI = 110
MAX_PNG = 200_000  # bytes


def figure(
    rows: int = 1, columns: int = 1, panel: tuple[float, float] = (5.6, 3.6), **options: Any
) -> tuple[Figure, Any]:
    """A white page of rows × columns panels, each `panel` = (width, height) inches; → (Figure, axes (rows, columns)).

    `options` go to `Figure.subplots` (`sharex`, `sharey`, `width_ratios` ...). The figure shows itself in a notebook.
    """
    if rows < 1 or columns < 1:
        raise ValueError(f"figure expected at least one row and one column, got {rows} and {columns}")
    page = blank(columns * panel[0], rows * panel[1], layout="constrained")
    axes = page.subplots(rows, columns, squeeze=False, **options)
    for each in axes.flat:
        each.tick_params(labelsize=SMALL)
        each.grid(True, color="#E6E6E6", linewidth=0.8)
        each.set_axisbelow(True)
        each.spines[["top", "right"]].set_visible(False)
    return page, axes


def blank(width: float, height: float, **options: Any) -> Figure:
    """An empty white figure of width × height inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    page = Figure(figsize=(width, height), dpi=DPI, facecolor="white", **options)
    FigureCanvasAgg(page)
    # IPython shows whatever has this method; without it a figure made outside pyplot prints only its name.
    vars(page)["_repr_png_"] = partial(png, page)
    return page


def label(axes: Any, title: str = "", x: str = "", y: str = "") -> None:
    """Title and axis labels in the sizes of this style."""
    axes.set_title(title, fontsize=TITLE, loc="left")
    axes.set_xlabel(x, fontsize=TEXT)
    axes.set_ylabel(y, fontsize=TEXT)


def legend(axes: Any, **options: Any) -> None:
    """A legend of axes (or of a whole figure) on an opaque ground, so that it reads where it has to stand on data."""
    # "best" named, since matplotlib warns where its own default takes long (many points)
    axes.legend(
        **{"loc": "best", "fontsize": SMALL, "framealpha": 0.92, "edgecolor": PALE, "handlelength": 2.6, **options}
    )


def log_scale(axes: Any) -> None:
    """A logarithmic height axis with plain numbers at 1, 2 and 5 of each decade."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def picture_axes(axes: Any) -> None:
    """Axes for images: equal units, no ticks, no frame, no grid."""
    axes.grid(False)
    axes.set_aspect("equal")
    axes.set_axis_off()


def settle(figure: Figure) -> None:
    """Lay the page out until nothing moves: ticks and equal units change with the room that the layout gives them."""
    before = None
    for _ in range(5):
        figure.draw_without_rendering()
        now = [axes.get_position().bounds for axes in figure.axes]
        if before is not None and np.allclose(before, now, rtol=0, atol=1e-4):
            return
        before = now


@contextmanager
def settled(figure: Figure) -> Iterator[None]:
    """Lay the page out, once, and keep it so while it is drawn: a layout takes longer than a drawing."""
    engine = figure.get_layout_engine()
    if engine is None:
        yield
        return
    settle(figure)
    figure.set_layout_engine("none")
    try:
        yield
    finally:
        figure.set_layout_engine(engine)


def png(figure: Figure, dpi: float = DPI) -> bytes:
    """The figure as a PNG; the same figure gives the same bytes (no date, no version inside)."""
    with settled(figure):
        return _drawn(figure, dpi)


def _drawn(figure: Figure, dpi: float) -> bytes:
    buffer = BytesIO()
    figure.savefig(
        buffer, format="png", dpi=dpi, facecolor="white", bbox_inches=None,
        metadata={"Software": None}, pil_kwargs={"optimize": True},
    )  # fmt: skip
    return buffer.getvalue()


def save(figure: Figure, path: str | os.PathLike, limit: int = MAX_PNG) -> Path:
    """Write the figure as a PNG, making its folder; → the path.

    A file of more than `limit` bytes is drawn again with fewer dots an inch, down to 60: beyond that, a picture of pure
    noise may stay larger. The file is replaced whole, so that a reader never meets half a picture.
    Raises ValueError for another suffix than .png.
    """
    target = Path(path)
    if target.suffix.lower() != ".png":
        raise ValueError(f"save expected a path ending in .png, got {target.name!r}")
    with settled(figure):
        for dpi in (DPI, 90, 75, 60):
            data = _drawn(figure, dpi)
            if len(data) <= limit:
                break
    write(target, data)
    return target


def write(path: Path, data: bytes) -> None:
    """Put `data` at `path`, whole or not at all, in a folder that is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, data)


# -- what the pictures are given ------------------------------------------------------------------------------------


def as_array(values: Any) -> Array:
    """A list, array or Tensor as an array."""
    return values.data if isinstance(values, Tensor) else np.asarray(values)


def classes(count: int, names: Sequence[str] | None) -> list[str]:
    """Names of `count` classes: the given ones, else their numbers. Raises ValueError for another number of names."""
    if names is None:
        return [str(i) for i in range(count)]
    if len(names) != count:
        raise ValueError(f"class_names expected {count} names, got {len(names)}")
    return [str(name) for name in names]


def columns_for(count: int, columns: int | None = None) -> int:
    """Columns of a grid of `count` pictures: the given number, else one that makes it wider than tall, with
    full rows where that can be had."""
    if columns is not None and columns < 1:
        raise ValueError(f"columns expected a number of at least 1, got {columns}")
    if columns is not None:
        return min(count, columns)
    wide = math.sqrt(1.6 * count)
    full = [c for c in range(math.ceil(0.7 * wide), math.floor(1.5 * wide) + 1) if count % c == 0]
    return min(full, key=lambda c: abs(c - wide)) if full else math.ceil(wide)
