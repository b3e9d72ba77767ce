"""Depthwise convolution: each channel has a kernel of its own and sees no other, so no matrix product is in it.

    y[h, w, c] = Σ over i and j of W[c, i, j] · x[h · stride + i, w · stride + j, c]

A window is a view of the padded images, and `einsum` multiplies and adds along rows of all columns and channels
together. It takes a third of the time of NumPy's multiply and add, which go to memory and back twice for each weight.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scratch.blocks import cut, workspace
from scratch.layers.convolution.geometry import Padding, Pair, output_sizes

BLOCK = 2**18  # numbers in a block's padded images


def fits(C: int, O: int, dilation: Pair, groups: int) -> bool:
    """Whether every channel is a group with one output channel."""
    return groups > 1 and groups == C == O and dilation == (1, 1)


class _Images:
    """Padded images of a block, and the windows into them."""

    def __init__(self, shape: Sequence[int], kernel: Pair, stride: Pair, padding: Padding):
        (self.N, self.C, self.H, self.W), self.kernel, self.stride = shape, kernel, stride
        (self.top, bottom), (self.left, right) = padding
        self.Ho, self.Wo = output_sizes(shape[2:], kernel, stride, padding, (1, 1))
        self.padded = (self.H + self.top + bottom, self.W + self.left + right, self.C)
        self.blocks = cut(self.N, BLOCK // (self.padded[0] * self.padded[1] * self.C))
        self.rows = stride[1] == 1  # whether what a weight meets in one row of the image lies in one piece

    def room(self, dtype: np.dtype) -> np.ndarray:
        """Zeros for the padded images of one block, (images, *padded)."""
        room = workspace("padded", (self.blocks[0].stop, *self.padded), dtype)
        room.fill(0)
        return room

    def windows(self, room: np.ndarray) -> np.ndarray:
        """What each weight meets: (kh, kw, images, H', W', C), W' and C as one axis at stride 1."""
        n, h, w, c = room.strides
        (sh, sw), (kh, kw), images = self.stride, self.kernel, len(room)
        shape: tuple[int, ...] = (kh, kw, images, self.Ho)
        strides: tuple[int, ...] = (h, w, n, sh * h)
        shape += (self.Wo * self.C,) if self.rows else (self.Wo, self.C)
        strides += (c,) if self.rows else (sw * w, c)
        return np.lib.stride_tricks.as_strided(room, shape, strides)

    def fill(self, room: np.ndarray, x: np.ndarray) -> None:
        """Copy images (n, C, H, W) to their places; the zeros around them stay."""
        inside = room[: len(x), self.top : self.top + self.H, self.left : self.left + self.W]
        inside[...] = x.transpose(0, 2, 3, 1)


def convolve(x: np.ndarray, weight: np.ndarray, stride: Pair, padding: Padding, y: np.ndarray) -> None:
    """Write the convolution into y (N, H', W', C).  Shapes: x (N, C, H, W), weight (C, 1, kh, kw)"""
    g = _Images(x.shape, weight.shape[2:], stride, padding)
    kernel = np.ascontiguousarray(weight[:, 0].transpose(1, 2, 0))  # (kh, kw, C)
    sums = "ijnhw,ijw->nhw" if g.rows else "ijnhwc,ijc->nhwc"
    kernel = np.tile(kernel, (1, 1, g.Wo)) if g.rows else kernel
    room = g.room(x.dtype)
    windows = g.windows(room)
    for block in g.blocks:
        n = block.stop - block.start
        g.fill(room, x[block])
        if g.rows and y.strides[2] != y.shape[3] * y.itemsize:  # every other column of a larger image
            y[block] = np.einsum(sums, windows[:, :, :n], kernel).reshape(y[block].shape)
        else:
            out = np.reshape(y[block], (n, g.Ho, -1), copy=False) if g.rows else y[block]
            np.einsum(sums, windows[:, :, :n], kernel, out=out)


def weight_gradient(x: np.ndarray, dy: np.ndarray, kernel: Pair, stride: Pair, padding: Padding) -> np.ndarray:
    """dW[c, i, j] = Σ over n, h, w of dy[n, c, h, w] · what weight (i, j) met there.  → (C, 1, kh, kw)"""
    g = _Images(x.shape, kernel, stride, padding)
    given = dy.transpose(0, 2, 3, 1)
    sums = "nhw,nhw->w" if g.rows else "nhwc,nhwc->wc"
    room = g.room(x.dtype)
    windows = g.windows(room)
    total = np.zeros((*kernel, g.Wo, g.C), x.dtype)
    for block in g.blocks:
        n = block.stop - block.start
        g.fill(room, x[block])
        dy_there = np.ascontiguousarray(given[block]).reshape(n, *windows.shape[3:])
        for i in range(kernel[0]):
            for j in range(kernel[1]):
                total[i, j] += np.einsum(sums, windows[i, j, :n], dy_there).reshape(g.Wo, g.C)
    return np.ascontiguousarray(total.sum(axis=2).transpose(2, 0, 1)[:, None])
