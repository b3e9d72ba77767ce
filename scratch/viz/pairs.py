"""Pictures of an image beside what became of it: adversarial examples, and masks over images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from scratch.viz import style
from scratch.viz.feature_maps import draw_image

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def adversarial_pairs(
    before: Any, after: Any, answers_before: Sequence[str], answers_after: Sequence[str], *, title: str = ""
) -> Figure:
    """A row for each image: as it was, what was added (grey = nothing), as it became; above each what was answered.

    Both images of a row have one scale, all changes together another, which is given.
    Args: before, after: (n, C, H, W) or (n, H, W). answers: one line an image, say "cat 98 %".
    Raises ValueError for shapes or numbers that differ.
    """
    x, y = style.as_array(before), style.as_array(after)
    n = len(x)
    if x.shape != y.shape or x.ndim not in (3, 4) or not n or len(answers_before) != n or len(answers_after) != n:
        raise ValueError(f"adversarial_pairs expected two arrays (n, C, H, W) and n answers each, got {x.shape}, "
                         f"{y.shape}, {len(answers_before)} and {len(answers_after)}")  # fmt: skip
    change = y.astype(np.float64) - x
    largest = float(np.abs(change).max()) or 1.0
    page, axes = style.figure(n, 3, panel=(2.3, 2.3 * x.shape[-2] / x.shape[-1] + 0.3))
    for i, row in enumerate(axes):
        low, high = float(min(x[i].min(), y[i].min())), float(max(x[i].max(), y[i].max()))
        for panel, pixels, words in (
            (row[0], (x[i] - low) / ((high - low) or 1), answers_before[i]),
            (row[1], 0.5 + change[i] / (2 * largest), f"change, at most {np.abs(change[i]).max():.3g}"),
            (row[2], (y[i] - low) / ((high - low) or 1), answers_after[i]),
        ):
            style.picture_axes(panel)
            # 8 bits, so that every panel has the same scale from 0 to 255 whatever values occur
            draw_image(panel, np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8))
            panel.set_title(words, fontsize=style.TEXT, loc="left")
    page.suptitle(title, fontsize=style.TITLE, x=0.01, ha="left")
    return page


def segmentation(
    images: Any, truths: Any, predictions: Any, class_names: Sequence[str] | None = None, *, title: str = ""
) -> Figure:
    """A row for each image: the image, its true mask, the predicted one; what differs is marked with crosses.

    Classes differ by colour and by hatch; class 0, the background, stays white.
    Args: images: (n, H, W), (n, 1, H, W) or (n, 3, H, W). truths, predictions: (n, H, W) of class numbers.
    Raises ValueError for shapes that differ, and for more classes than there are colours.
    """
    x, t, p = style.as_array(images), style.as_array(truths), style.as_array(predictions)
    if t.shape != p.shape or t.ndim != 3 or len(x) != len(t) or x.shape[-2:] != t.shape[1:] or not len(t):
        raise ValueError(f"segmentation expected images (n, C, H, W) and masks (n, H, W), got {x.shape}, {t.shape} and "
                         f"{p.shape}")  # fmt: skip
    count = max(int(t.max()), int(p.max()), 0 if class_names is None else len(class_names) - 1) + 1
    if count > len(style.COLOURS) + 1 or min(t.min(), p.min()) < 0:
        raise ValueError(f"segmentation expected classes from 0 to {len(style.COLOURS)}, got up to {count - 1}")
    names = style.classes(count, class_names)
    page, axes = style.figure(len(t), 3, panel=(2.3, 2.3 * t.shape[1] / t.shape[2] + 0.3))
    for i, row in enumerate(axes):
        for panel in row:
            style.picture_axes(panel)
        draw_image(row[0], x[i])
        _mask(row[1], t[i], count)
        _mask(row[2], p[i], count)
        wrong = np.argwhere(t[i] != p[i])
        row[2].plot(wrong[:, 1] + 0.5, wrong[:, 0] + 0.5, "x", color=style.BLACK, markersize=3, markeredgewidth=0.8)
        right = 1 - len(wrong) / t[i].size
        for panel, words in zip(row, ("image", "truth", f"predicted, {100 * right:.1f} % right"), strict=True):
            panel.set_title(words, fontsize=style.TEXT, loc="left")
    _key(page, names)
    page.suptitle(title, fontsize=style.TITLE, x=0.01, ha="left")
    return page


def _mask(axes: Any, mask: Any, count: int) -> None:
    """Each class in its colour, with its hatch over it, and a frame."""
    from matplotlib.colors import to_rgb
    from matplotlib.patches import Rectangle

    height, width = mask.shape
    palette = np.array([(1.0, 1.0, 1.0), *(to_rgb(colour) for colour in style.COLOURS)])
    axes.imshow(0.35 + 0.65 * palette[mask], extent=(0, width, height, 0), interpolation="nearest")
    for k in range(1, count):
        if (mask == k).any():
            # one frame of ones around nothing else: contourf fills between pixels, so each pixel is drawn as four
            inside = np.kron(mask == k, np.ones((2, 2)))
            x, y = (np.arange(2 * width) + 0.5) / 2, (np.arange(2 * height) + 0.5) / 2
            filled = axes.contourf(x, y, inside, levels=[0.5, 1.5], colors="none", hatches=[_hatch(k)])
            filled.set_edgecolor(style.GREY)
            filled.set_linewidth(0.0)
    axes.add_patch(Rectangle((0, 0), width, height, fill=False, edgecolor=style.GREY, linewidth=0.8))


def _hatch(k: int) -> str:
    return ("///", "...", "\\\\\\", "xxx", "+++", "ooo", "---", "|||")[k - 1]


def _key(page: Any, names: Sequence[str]) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [Patch(facecolor="white", edgecolor=style.GREY, label=names[0])]
    for k, name in enumerate(names[1:], 1):
        patch = Patch(facecolor=style.COLOURS[k - 1], alpha=0.65, hatch=_hatch(k), edgecolor=style.GREY, label=name)
        handles.append(patch)
    handles.append(Line2D([], [], color=style.BLACK, marker="x", linestyle="", markersize=4, label="wrong"))
    page.legend(handles=handles, loc="outside lower left", ncols=min(len(handles), 5), fontsize=style.SMALL,
                edgecolor=style.PALE, handlelength=2.6)  # fmt: skip
