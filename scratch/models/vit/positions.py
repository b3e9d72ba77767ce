"""Positions for images of another size: the learned grid of positions, seen as an image and interpolated.

A Vision Transformer has one row of numbers for each patch. A larger image has more patches, so each feature of the rows
is taken as an image of h × w pixels and brought to h' × w' (Dosovitskiy et al. 2021, section 3.2):

    P' = A P Bᵀ,    A (h', h) and B (w', w) hold the weights of the interpolation along each direction

The class token has no place in the image, and keeps its row.
"""

from __future__ import annotations

import copy
from typing import Literal

import numpy as np

from scratch.layers import interpolate
from scratch.models.vit.model import PatchEmbedding, VisionTransformer
from scratch.tensor import Array, Parameter, Tensor

Mode = Literal["bicubic", "bilinear"]


def resize(positions: Array, grid: tuple[int, int], new: tuple[int, int], mode: Mode = "bicubic") -> Array:
    """Positions of a grid of h × w patches brought to h' × w' of them; rows before those of the patches stay.

    bicubic is PyTorch's (a = −0.75, no averaging when it shrinks), as published models use it.
    Shapes: (1, t + h w, C) → (1, t + h' w', C). Raises ValueError for fewer rows than patches, and for other modes.
    """
    if mode not in ("bicubic", "bilinear"):
        raise ValueError(f"resize expected mode 'bicubic' or 'bilinear', got {mode!r}")
    (h, w), before = grid, positions.shape[1] - grid[0] * grid[1]
    if positions.ndim != 3 or before < 0 or min(*grid, *new) < 1:
        raise ValueError(f"resize expected positions (1, at least {h * w}, C) and grids of at least 1 × 1, "
                         f"got {positions.shape}, {grid} and {new}")  # fmt: skip
    image = positions[0, before:].reshape(h, w, -1)
    if mode == "bicubic":
        A, B = (cubic(n, m).astype(positions.dtype) for n, m in zip(grid, new, strict=True))
        image = np.einsum("ah,bw,hwc->abc", A, B, image, optimize=True)
    else:
        image = interpolate(Tensor(image.transpose(2, 0, 1)[None]), size=new, mode="bilinear").data[0]
        image = image.transpose(1, 2, 0)
    return np.concatenate([positions[:, :before], image.reshape(1, new[0] * new[1], -1)], axis=1)


def cubic(n: int, m: int, a: float = -0.75) -> Array:
    """The matrix (m, n) that brings n points to m of them along curves of third degree; every row sums to 1.

    Point i lies at s = (i + ½) n/m − ½ among the old ones and takes from the four around it (Keys 1981)

        k(t) = (a + 2)|t|³ − (a + 3)|t|² + 1  for |t| < 1,    a|t|³ − 5a|t|² + 8a|t| − 4a  for |t| < 2,    0 beyond

    at their distances t; what would lie outside is the outermost point.
    """
    place = (np.arange(m) + 0.5) * n / m - 0.5
    first = np.floor(place).astype(int) - 1
    weights = np.zeros((m, n))
    for j in range(4):
        t = np.abs(place - (first + j))
        near, far = ((a + 2) * t - (a + 3)) * t * t + 1, ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
        np.add.at(weights, (np.arange(m), np.clip(first + j, 0, n - 1)), np.where(t < 1, near, np.where(t < 2, far, 0)))
    return weights


def resized(model: VisionTransformer, image_size: int | tuple[int, int], mode: Mode = "bicubic") -> VisionTransformer:
    """The same model for images of another size: a copy in which only the positions differ.

    Raises ValueError for a size that the patches do not divide.
    """
    old = model.patch_embed
    shape = PatchEmbedding(image_size, old.patch_size, 1, 1)  # for its checks
    other = copy.deepcopy(model)
    other.patch_embed.image_size, other.patch_embed.grid = shape.image_size, shape.grid
    other.pos_embed = Parameter(resize(model.pos_embed.data, old.grid, shape.grid, mode))
    return other
