"""Depthwise convolution: each channel has a kernel of its own and sees no other, so no matrix product is in it.

    y[h, w, c] = Σ over i and j of W[c, i, j] · x[h · stride + i, w · stride + j, c]

The kernel's kh · kw numbers are taken one after the other, each times a shifted copy of the whole image, as rows of
all columns and channels together so that NumPy's inner loops are long. A few images at a time, which stay in the
processor's cache from the first weight to the last.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scratch.blocks import added, cut, over, workspace
from scratch.layers.convolution.geometry import Padding, Pair, output_sizes

BLOCK = 2**16  # numbers in a block's padded images and outputs together


def fits(channels: int, weight: Sequence[int], dilation: Pair, groups: int) -> bool:
    """Whether every channel is a group with one output channel."""
    return groups > 1 and groups == channels == weight[0] and dilation == (1, 1)


class _Images:
    """Padded images of a block, and the shifted views of them that meet each weight."""

    def __init__(self, shape: Sequence[int], kernel: Pair, stride: Pair, padding: Padding):
        (self.N, self.C, self.H, self.W), self.kernel, self.stride = shape, kernel, stride
        (self.top, bottom), (self.left, right) = padding
        self.Ho, self.Wo = output_sizes(shape[2:], kernel, stride, padding, (1, 1))
        self.padded = (self.H + self.top + bottom, self.W + self.left + right, self.C)
        per_image = self.padded[0] * self.padded[1] * self.C + 2 * self.Ho * self.Wo * self.C
        self.blocks = cut(self.N, BLOCK // per_image)
        self.images = self.blocks[0].stop

    def room(self, dtype: np.dtype) -> np.ndarray:
        room = workspace("padded", (self.images, *self.padded), dtype)
        room.fill(0)
        return room

    def inside(self, padded: np.ndarray) -> np.ndarray:
        """Where the image itself lies, (n, H, W, C)."""
        return padded[:, self.top : self.top + self.H, self.left : self.left + self.W]

    def shifted(self, padded: np.ndarray, i: int, j: int) -> np.ndarray:
        """What weight (i, j) meets: (n, H', W' · C) at stride 1 along W, else (n, H', W', C)."""
        sh, sw = self.stride
        view = padded[:, i : i + (self.Ho - 1) * sh + 1 : sh, j : j + (self.Wo - 1) * sw + 1 : sw]
        return view.reshape(*view.shape[:2], -1) if sw == 1 else view

    def row(self, values: np.ndarray) -> np.ndarray:
        """One number a channel (C,), in the shape that meets `shifted`."""
        return np.tile(values, self.Wo) if self.stride[1] == 1 else values

    def like_shifted(self, y: np.ndarray) -> np.ndarray:
        """(n, H', W', C) in the shape of `shifted`."""
        return y.reshape(*y.shape[:2], -1) if self.stride[1] == 1 else y


def convolve(x: np.ndarray, weight: np.ndarray, stride: Pair, padding: Padding) -> np.ndarray:
    """y (N, C, H', W'), its channels last in memory.  Shapes: x (N, C, H, W), weight (C, 1, kh, kw)"""
    kh, kw = weight.shape[2:]
    g = _Images(x.shape, (kh, kw), stride, padding)
    y = np.empty((g.N, g.Ho, g.Wo, g.C), x.dtype)
    rows = {(i, j): g.row(weight[:, 0, i, j]) for i in range(kh) for j in range(kw)}

    def run(blocks: Sequence[slice]) -> None:
        padded, product = g.room(x.dtype), workspace("product", (g.images, g.Ho, g.Wo, g.C), x.dtype)
        for block in blocks:
            n = len(x[block])
            g.inside(padded[:n])[...] = x[block].transpose(0, 2, 3, 1)
            out, term = g.like_shifted(y[block]), g.like_shifted(product[:n])
            for (i, j), row in rows.items():
                if (i, j) == (0, 0):
                    np.multiply(g.shifted(padded[:n], i, j), row, out=out)
                else:
                    out += np.multiply(g.shifted(padded[:n], i, j), row, out=term)

    over(g.blocks, run)
    return y.transpose(0, 3, 1, 2)


def weight_gradient(x: np.ndarray, dy: np.ndarray, kernel: Pair, stride: Pair, padding: Padding) -> np.ndarray:
    """dW[c, i, j] = Σ over n, h, w of dy[n, c, h, w] · x shifted by (i, j).  → (C, 1, kh, kw)"""
    g = _Images(x.shape, kernel, stride, padding)

    def run(blocks: Sequence[slice]) -> np.ndarray:
        padded, given = g.room(x.dtype), workspace("given", (g.images, g.Ho, g.Wo, g.C), x.dtype)
        product = workspace("product", given.shape, x.dtype)
        total = np.zeros((*kernel, g.C), x.dtype)
        for block in blocks:
            n = len(x[block])
            g.inside(padded[:n])[...] = x[block].transpose(0, 2, 3, 1)
            given[:n] = dy[block].transpose(0, 2, 3, 1)
            term, factor = g.like_shifted(product[:n]), g.like_shifted(given[:n])
            for i in range(kernel[0]):
                for j in range(kernel[1]):
                    np.multiply(g.shifted(padded[:n], i, j), factor, out=term)
                    total[i, j] += product[:n].reshape(n * g.Ho, -1).sum(axis=0).reshape(g.Wo, g.C).sum(axis=0)
        return total

    return np.ascontiguousarray(added(over(g.blocks, run)).transpose(2, 0, 1)[:, None])
