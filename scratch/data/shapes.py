"""Shapes: drawn images for segmentation, whose masks are known exactly, since they follow from the geometry.

Lengths are in image widths, x to the right and y down; the centre of pixel (i, j) of an image of S × S pixels is
x = (j + ½) / S, y = (i + ½) / S, and a pixel belongs to a shape if its centre does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np

from scratch.data.dataset import Dataset, Splits, split
from scratch.data.order import checked_seed, is_whole

CLASSES = ("background", "circle", "rectangle", "triangle")
BLOCK = 256  # images painted at a time


@dataclass(frozen=True)
class Scenes:
    """What is to be drawn in n images, up to k shapes in each; the later ones cover the earlier ones.

    kinds (n, k): the class of each shape, 0 for none. centres (n, k, 2): x and y. radii (n, k): of the circle about it.
    corners (n, k, 3): a triangle's, as angles on that circle; a rectangle's first corner is at the first angle, and
    the second angle says how long it is. colours (n, k, channels); backgrounds (n, 3, channels): a level, and how it
    changes with x and y.
    """

    kinds: np.ndarray
    centres: np.ndarray
    radii: np.ndarray
    corners: np.ndarray
    colours: np.ndarray
    backgrounds: np.ndarray

    def __getitem__(self, part: slice) -> Scenes:
        return Scenes(*(getattr(self, field.name)[part] for field in fields(self)))


def load_shapes(
    count: int = 1000, seed: int = 0, size: int = 48, channels: int = 1, shapes: int = 4, noise: float = 0.05
) -> Splits:
    """`count` images of one to `shapes` circles, rectangles and triangles: 70 % to train, 10 % and 20 % held out.

    Each shape is at least 0.2 lighter or darker than the background, in every channel; `noise` is the standard
    deviation of what is added to each pixel, after which values are cut off at 0 and 1. All follows from the seed.
    Shapes: inputs float32 (N, channels, size, size), targets int64 (N, size, size), numbers of `CLASSES`.
    Raises ValueError for fewer than 10 images, other channels than 1 and 3, and sizes below 8.
    """
    for name, value, least in (("count", count, 10), ("size", size, 8), ("shapes", shapes, 1)):
        if not is_whole(value) or value < least:
            raise ValueError(f"load_shapes expected {name} to be a whole number from {least}, got {value!r}")
    if channels not in (1, 3):
        raise ValueError(f"load_shapes expected 1 channel (grey) or 3 (red, green, blue), got {channels!r}")
    if not 0 <= noise < math.inf:
        raise ValueError(f"load_shapes expected a standard deviation from 0 as noise, got {noise!r}")
    rng = np.random.default_rng(checked_seed(seed))
    scenes = draw_scenes(count, shapes, channels, rng)
    images, masks = paint(scenes, size)
    if noise:
        images += np.float32(noise) * rng.standard_normal(images.shape, np.float32)
    np.clip(images, 0, 1, out=images)
    return split(Dataset("shapes", images, masks, CLASSES), count // 10, count // 5, seed)


def draw_scenes(n: int, shapes: int, channels: int, rng: np.random.Generator) -> Scenes:
    """n scenes of 1 … `shapes` shapes, all numbers alike, as are the classes; each lies within the image, for what is
    left of one at the border could be a part of several."""
    kinds = rng.integers(1, len(CLASSES), (n, shapes))
    kinds[np.arange(shapes) >= rng.integers(1, shapes + 1, (n, 1))] = 0
    third = 2 * math.pi / 3
    corners = rng.uniform(0, 2 * math.pi, (n, shapes, 1)) + [0, third, 2 * third]
    corners[..., 1:] += rng.uniform(-0.5, 0.5, (n, shapes, 2))
    backgrounds = np.concatenate(
        [rng.uniform(0.4, 0.6, (n, 1, channels)), rng.uniform(-0.1, 0.1, (n, 2, channels))], axis=1
    )
    radii = rng.uniform(0.12, 0.3, (n, shapes))
    side = np.where(rng.random((n, shapes, channels)) < 0.5, -1, 1)
    return Scenes(
        kinds,
        centres=radii[..., None] + (1 - 2 * radii[..., None]) * rng.random((n, shapes, 2)),
        radii=radii,
        corners=corners,
        colours=backgrounds[:, :1] + side * rng.uniform(0.3, 0.4, (n, shapes, channels)),
        backgrounds=backgrounds,
    )


def paint(scenes: Scenes, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The scenes without noise, float32 (n, channels, size, size), and their masks, int64 (n, size, size)."""
    n, _, channels = scenes.colours.shape
    images, masks = np.empty((n, channels, size, size), np.float32), np.zeros((n, size, size), np.int64)
    at = (np.arange(size, dtype=np.float32) + 0.5) / size
    for start in range(0, n, BLOCK):
        part = slice(start, start + BLOCK)
        _paint_block(scenes[part], at, images[part], masks[part])
    return images, masks


def _paint_block(scenes: Scenes, at: np.ndarray, images: np.ndarray, masks: np.ndarray) -> None:
    level, across, down = np.moveaxis(scenes.backgrounds, 1, 0).astype(np.float32)[..., None, None]
    images[...] = level + across * (at - 0.5) + down * (at[:, None] - 0.5)
    for k in range(scenes.kinds.shape[1]):  # in drawing order
        for kind, inside in INSIDE.items():
            rows = np.flatnonzero(scenes.kinds[:, k] == kind)
            x, y = (at - scenes.centres[rows, k, axis, None] for axis in (0, 1))
            radii, corners = scenes.radii[rows, k, None, None], scenes.corners[rows, k, :, None, None]
            covered = inside(x[:, None, :], y[:, :, None], radii, corners)
            masks[rows] = np.where(covered, kind, masks[rows])
            colours = scenes.colours[rows, k, :, None, None].astype(np.float32)
            images[rows] = np.where(covered[:, None], colours, images[rows])


# Which pixels a shape covers. x (n, 1, S) and y (n, S, 1) are measured from its centre, its radius is (n, 1, 1).


def _in_circle(x: np.ndarray, y: np.ndarray, radius: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """x² + y² ≤ r²"""
    return x * x + y * y <= radius * radius


def _in_rectangle(x: np.ndarray, y: np.ndarray, radius: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """|u| ≤ r cos β, |v| ≤ r sin β in axes u, v turned so that the corners lie on the circle; 2β is between them."""
    first, second, _ = np.moveaxis(corners, 1, 0)
    beta = (second - first) / 2
    turn = first + beta
    u, v = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    return (np.abs(u) <= radius * np.cos(beta)) & (np.abs(v) <= radius * np.sin(beta))


def _in_triangle(x: np.ndarray, y: np.ndarray, radius: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """On the inner side of all three edges: the edge from angle α to γ is x cos m + y sin m = r cos((γ − α) / 2), where
    m = (α + γ) / 2 is the direction in which it lies."""
    covered = np.ones((1, 1, 1), bool)
    for alpha, gamma in ((0, 1), (1, 2), (2, 0)):
        start, end = corners[:, alpha], corners[:, gamma] + (2 * math.pi if gamma == 0 else 0)
        middle = (start + end) / 2
        covered = covered & (x * np.cos(middle) + y * np.sin(middle) <= radius * np.cos((end - start) / 2))
    return covered


INSIDE = {1: _in_circle, 2: _in_rectangle, 3: _in_triangle}
