"""What a trained Vision Transformer does, and what is to be seen inside it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scratch import viz
from scratch.activations import softmax
from scratch.data import Dataset, Splits
from scratch.models.vit import inside
from scratch.models.vit.masked import MaskedAutoencoder, drawing, random_masks
from scratch.models.vit.model import VisionTransformer
from scratch.tensor import Array
from scratch.training import confusion_matrix, predict
from scratch.viz.style import COLOURS, MARKERS, label, legend, picture_axes

SIDE = 3  # images a side of a montage


def draw_all(
    folder: Path, log: Sequence[Mapping[str, Any]], model: VisionTransformer, data: Splits, pretrain: int = 0
) -> list[Path]:
    """Draw everything into the run folder and return the files; `pretrain` steps of the log are without labels."""
    name, classes = data.train.name, data.train.classes
    figures = {
        "curves": viz.loss_curves(
            [line for line in log if line["step"] >= pretrain], title=f"{name}: training and validation loss",
            loss_label="cross-entropy (nats)", panels=("validation_accuracy",),
            reference=(math.log(classes), f"ln {classes}"),
        ),
        **figures_of(model, data.test),
    }  # fmt: skip
    if pretrain:
        mean_image = float(data.train.inputs.var(axis=0).mean())
        figures["pretraining"] = viz.loss_curves(
            [line for line in log if line["step"] < pretrain], title=f"{name}: hidden patches, drawn",
            loss_label="mean squared error", reference=(mean_image, "the mean image, not moved"),
        )  # fmt: skip
    return [viz.save(figure, folder / f"{name}.png") for name, figure in figures.items()]


def figures_of(model: VisionTransformer, test: Dataset) -> dict[str, Any]:
    """Where the answers come from, heads, positions, filters, distances, the confusion matrix and mistakes."""
    p = probabilities(model, test.inputs)
    example = int(np.argmax(test.targets == test.classes // 2))
    figures = {
        "rollout": draw_rollout(model, test),
        "positions": draw_positions(model),
        "distance": draw_distance(model, test.inputs[:100]),
        "filters": viz.first_layer_weights(inside.patch_filters(model), title="patches: principal components"),
        "confusion": viz.confusion(confusion_matrix(test.targets, p.argmax(axis=1), test.classes), test.class_names),
        "mistakes": viz.worst_mistakes(test.inputs, test.targets, p, class_names=test.class_names),
    }
    if model.cls_token is not None:
        figures["heads"] = draw_heads(model, test.inputs[example : example + 1])
    return figures


def draw_rollout(model: VisionTransformer, test: Dataset) -> Any:
    """Which patches the answer comes from, for one image of each of the first nine classes."""
    rows = np.unique(test.targets, return_index=True)[1][: SIDE**2]
    images = test.inputs[rows]
    heats = {}
    if model.cls_token is not None:
        last = inside.class_attention(model, images)[-1].mean(axis=1)
        heats["class token, last block"] = montage(shares(last))
    heats["rollout through all blocks"] = montage(shares(inside.seen(model, images)))
    return viz.heat_maps(montage(images.mean(axis=1)), heats, title=f"{test.name}: where the answers come from",
                         label="share of the image's largest value")  # fmt: skip


def draw_heads(model: VisionTransformer, image: Array) -> Any:
    """Where the class token looks in one image: a row for each block, a column for each head."""
    maps = inside.class_attention(model, image)[:, 0]
    depth, heads, h, w = maps.shape
    p = model.patch_embed.patch_size
    shown = np.repeat(np.repeat(maps, p, axis=2), p, axis=3).reshape(depth * heads, h * p, w * p)
    titles = [f"{i + 1}.{j + 1}: {maps[i, j].sum():.0%}".replace("%", " %") for i in range(depth) for j in range(heads)]
    grey = image[0].mean(axis=0)
    shown = 0.35 * grey / (np.abs(grey).max() or 1) + 0.65 * shown / shown.max(axis=(1, 2), keepdims=True)
    return viz.image_grid(shown, titles, columns=heads, limits=(0, 1),
                          title="class token: block.head,\nand what it gives to the patches")  # fmt: skip


def draw_positions(model: VisionTransformer) -> Any:
    """How like the position of each patch those of the others are, a small map for each, in the place of the patch."""
    similarity = inside.position_similarity(model)
    h, w = model.patch_embed.grid
    board = np.full((h * (h + 1) - 1, w * (w + 1) - 1), np.nan)  # maps side by side, one empty cell between them
    for i, j in np.ndindex(h, w):
        board[i * (h + 1) : i * (h + 1) + h, j * (w + 1) : j * (w + 1) + w] = similarity[i, j]
    page, axes = viz.figure(panel=(5.2, 4.2))
    drawn = axes[0, 0].imshow(board, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
    own = np.array([(j * (w + 2), i * (h + 2)) for i, j in np.ndindex(h, w)])
    axes[0, 0].plot(*own.T, linestyle="none", marker="o", color="white", markersize=4 if h * w < 30 else 2)
    picture_axes(axes[0, 0])
    label(axes[0, 0], "positions: each map has its patch (white dot) and all others")
    page.colorbar(drawn, ax=axes[0, 0], fraction=0.04, pad=0.02).set_label("cosine")
    return page


def draw_distance(model: VisionTransformer, images: Array) -> Any:
    """How far each head looks, block by block, beside looking evenly everywhere."""
    distances = inside.attention_distance(model, images)
    depth, heads = distances.shape
    page, axes = viz.figure(panel=(5.2, 3.2))
    for j in range(heads):
        axes[0, 0].plot(range(1, depth + 1), distances[:, j], linestyle="none", marker=MARKERS[j % len(MARKERS)],
                        color=COLOURS[j % len(COLOURS)], label=f"head {j + 1}")  # fmt: skip
    axes[0, 0].axhline(evenly(model), color="black", linewidth=1, linestyle=":", label="evenly everywhere")
    axes[0, 0].set_xticks(range(1, depth + 1))
    axes[0, 0].set_ylim(0, 1.1 * max(distances.max(), evenly(model)))
    label(axes[0, 0], "how far heads look", "block", "mean distance (pixels)")
    legend(axes[0, 0], ncols=2, loc="lower right")
    return page


def evenly(model: VisionTransformer) -> float:
    """The mean distance of two patches, in pixels."""
    h, w = model.patch_embed.grid
    i, j = np.divmod(np.arange(h * w), w)
    return float(np.hypot(i[:, None] - i, j[:, None] - j).mean() * model.patch_embed.patch_size)


def draw_pretrained(folder: Path, model: MaskedAutoencoder, images: Dataset, hidden: float) -> Path:
    """`draw_hidden` into the run folder: at the end of pre-training, for labels will change the encoder."""
    return viz.save(draw_hidden(model, images, hidden), folder / "drawing.png")


def draw_hidden(model: MaskedAutoencoder, images: Dataset, hidden: float, count: int = 6) -> Any:
    """Images in columns: the whole, what the encoder saw, and what was drawn around it."""
    x = images.inputs[:count]
    h, w = model.encoder.patch_embed.grid
    keep, hide = random_masks(len(x), h * w, hidden, np.random.default_rng(0))
    with inside.looking(model):
        seen, whole = drawing(model, x, keep, hide)
    rows = np.concatenate([x, np.nan_to_num(seen, nan=0.5), whole]).mean(axis=1)
    return viz.image_grid(rows, columns=len(x), limits=(0, 1),
                          title=f"{images.name}: image, what is seen of it, what is drawn")  # fmt: skip


def shares(heats: Array) -> Array:
    """Each map as shares of its largest value, (n, h, w)."""
    return heats / np.maximum(heats.max(axis=(1, 2), keepdims=True), 1e-12)


def montage(images: Array) -> Array:
    """Up to 9 images (n, H, W) in rows of three, one picture (3H, 3W); where there are fewer, the rest is 0."""
    n, height, width = images.shape
    cells = np.zeros((SIDE**2, height, width), images.dtype)
    cells[:n] = images
    return cells.reshape(SIDE, SIDE, height, width).swapaxes(1, 2).reshape(SIDE * height, SIDE * width)


def probabilities(model: VisionTransformer, inputs: Array) -> Array:
    """softmax(logits).  Shapes: (N, c, H, W) → (N, classes)"""
    return softmax(predict(model, inputs), dim=1).data
