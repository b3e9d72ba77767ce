"""What a trained convolutional network does, and what is to be seen inside it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scratch import viz
from scratch.activations import softmax
from scratch.data import Dataset, Splits
from scratch.layers import interpolate
from scratch.models.cnn import inside
from scratch.models.cnn.adversarial import fgsm
from scratch.module import Module
from scratch.tensor import Tensor
from scratch.training import confusion_matrix, intersection_over_union, predict

SIDE = 3  # images a side of a montage
EPSILON = 0.1  # how far a pixel is changed to mislead the network, where white is 1


def draw_all(folder: Path, log: Sequence[Mapping[str, Any]], model: Module, data: Splits) -> list[Path]:
    """Draw everything into the run folder and return the files."""
    classes = data.train.classes
    curves = viz.loss_curves(
        log, title=f"{data.train.name}: training and validation loss", loss_label="cross-entropy (nats)",
        panels=("validation_accuracy",), reference=(math.log(classes), f"ln {classes}"),
    )  # fmt: skip
    drawn = [viz.save(curves, folder / "curves.png")]
    figures = (figures_of_classes if data.test.targets.ndim == 1 else figures_of_masks)(model, data.test)
    return drawn + [viz.save(figure, folder / f"{name}.png") for name, figure in figures.items()]


def figures_of_classes(model: Module, test: Dataset) -> dict[str, Any]:
    """First filters, feature maps, where the answers lie, the confusion matrix, mistakes, and images that mislead."""
    p = probabilities(model, test.inputs)
    matrix = confusion_matrix(test.targets, p.argmax(axis=1), test.classes)
    example = int(np.argmax(test.targets == test.classes // 2))
    return {
        "filters": viz.first_layer_weights(inside.filters(model), title="first convolution"),
        "feature_maps": draw_maps(model, test, example),
        "where": draw_where(model, test, p.argmax(axis=1)),
        "confusion": viz.confusion(matrix, test.class_names),
        "mistakes": viz.worst_mistakes(test.inputs, test.targets, p, class_names=test.class_names),
        "adversarial": draw_adversarial(model, test, p),
    }


def figures_of_masks(model: Module, test: Dataset) -> dict[str, Any]:
    """Six images with the mask that is true and the one predicted, the worst of all first; and feature maps."""
    labels = predict(model, test.inputs).argmax(axis=1)
    shares = np.array([mean_iou(t, p, test.classes) for t, p in zip(test.targets, labels, strict=True)])
    worst = int(shares.argmin())
    rows = [worst, *(i for i in range(6) if i != worst)][:6]
    title = f"{test.name}: first the worst of {len(test)} test images (mean IoU {100 * shares[worst]:.1f} %)"
    masks = viz.segmentation(test.inputs[rows], test.targets[rows], labels[rows], test.class_names, title=title)
    return {"masks": masks, "feature_maps": draw_maps(model, test, rows[1])}


def draw_maps(model: Module, test: Dataset, i: int) -> Any:
    """What the network makes of test image i, a row for each size that the maps pass through."""
    maps = {name or "logits": values for name, values in stages(model, test.inputs[i : i + 1]).items()}
    return viz.feature_map_rows(maps, image=test.inputs[i], title=f"{test.name}: a test image, stage by stage")


def stages(model: Module, image: np.ndarray) -> dict[str, np.ndarray]:
    """The last maps of each size on the way, of more than one pixel; found without names, so for any model.

    Shapes: image (1, C, H, W) → {name of the module: (1, channels, h, w)}, "" for the model itself.
    """
    last: dict[str, np.ndarray] = {}
    for name, maps in inside.feature_maps(model, image).items():
        if maps.shape[2:] == (1, 1):
            continue
        if last and next(reversed(last.values())).shape[2:] == maps.shape[2:]:
            last.popitem()
        last[name] = maps
    return last


def draw_where(model: Module, test: Dataset, predictions: np.ndarray) -> Any:
    """Where the evidence lies for what was predicted, for one image of each of the first nine classes."""
    rows = np.unique(test.targets, return_index=True)[1][: SIDE**2]
    images = test.inputs[rows]
    layer = next(reversed(stages(model, images[:1]))).split(" (")[0]  # Grad-CAM takes a module's last output anyway
    cams, gradients = [], []
    for x, k in zip(images, predictions[rows], strict=True):
        cam = inside.grad_cam(model, x, int(k), layer)[None, None]
        cams.append(interpolate(Tensor(cam), size=x.shape[1:], mode="bilinear").data[0, 0])
        gradients.append(inside.saliency(model, x, int(k)))
    heats = {"Grad-CAM, last maps": montage(shares(cams)), "saliency": montage(shares(gradients))}
    return viz.heat_maps(montage(images.mean(axis=1)), heats, title=f"{test.name}: where the answers lie",
                         label="share of the image's largest value")  # fmt: skip


def draw_adversarial(model: Module, test: Dataset, p: np.ndarray) -> Any:
    """Three test images before and after one step that raises the loss, of those that it misleads if there are any."""
    right = np.flatnonzero(p.argmax(axis=1) == test.targets)[:100]
    rows = right if len(right) else np.arange(min(100, len(test)))
    moved = fgsm(model, test.inputs[rows], test.targets[rows], EPSILON, limits=(0, 1))
    after = probabilities(model, moved)
    order = np.argsort(after.argmax(axis=1) == test.targets[rows], kind="stable")[:SIDE]
    names = test.class_names or tuple(map(str, range(test.classes)))
    words = [[f"{names[k.argmax()]}, {100 * k.max():.0f} %" for k in q] for q in (p[rows[order]], after[order])]
    title = f"{test.name}: every pixel changed by at most {EPSILON:g}"
    return viz.adversarial_pairs(test.inputs[rows[order]], moved[order], *words, title=title)


def shares(heats: Sequence[np.ndarray]) -> np.ndarray:
    """Each map as shares of its largest value."""
    return np.stack([heat / (heat.max() or 1) for heat in heats])


def montage(images: np.ndarray) -> np.ndarray:
    """Up to 9 images (n, H, W) in rows of three, one picture (3H, 3W); where there are fewer, the rest is 0."""
    n, height, width = images.shape
    cells = np.zeros((SIDE**2, height, width), images.dtype)
    cells[:n] = images
    return cells.reshape(SIDE, SIDE, height, width).swapaxes(1, 2).reshape(SIDE * height, SIDE * width)


def mean_iou(targets: np.ndarray, labels: np.ndarray, classes: int) -> float:
    """Intersection over union, as a mean over the classes that occur."""
    return float(np.nanmean(intersection_over_union(targets, labels, classes)))


def probabilities(model: Module, inputs: np.ndarray) -> np.ndarray:
    """softmax(logits) over the classes.  Shapes: (N, C, H, W) → (N, classes, …)"""
    return softmax(predict(model, inputs), dim=1).data
