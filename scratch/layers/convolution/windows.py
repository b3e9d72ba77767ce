"""The fast convolution of any kernel: windows read where they lie, instead of columns copied for each of them.

im2col copies every number kh · kw times. Here it is copied kh times: *slab* (h, w) holds the kh pixels above each
other that row h of the output needs in column w,

    slabs[h, w] = (x[h, w], x[h + 1, w], …, x[h + kh − 1, w])          kh · C numbers

Slabs of one row lie one after the other, so the window of output (h, w), all its kh · kw · C numbers, is simply the
memory from slab (h, w) to slab (h, w + kw − 1). As a matrix of windows this has rows that overlap, which no matrix
library accepts; but every kw-th window starts where the last one ends. So the windows of columns w = r, r + kw,
r + 2 kw, … are a matrix without a copy, for each r below kw (the *phase*), and kw products make the output:

    y[r::kw] = windows[r::kw] · weight                        (…, kh · kw · C) (kh · kw · C, O) → (…, O)

Rows of the image are joined: the zeros after one row are the zeros before the next. The few windows that cross over
from one row into the next are computed too, and left out afterwards. With a stride s, windows start s slabs apart and
⌈kw / s⌉ phases suffice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np

from scratch.blocks import cut, workspace
from scratch.layers.convolution.geometry import Padding, Pair, output_sizes

BLOCK = 2**19  # numbers in a block's slabs and outputs together: few long calls, as in winograd.py
UNPACKED = 10**6  # multiplications: smaller products OpenBLAS does at once, without copying the factors first


class Windows:
    """Where the slabs and windows of a convolution's input lie, for blocks of images."""

    def __init__(
        self, shape: Sequence[int], channels_out: int, kernel: Pair, stride: Pair, padding: Padding, dilation: int
    ):
        (self.N, self.C, self.H, self.W), self.O = shape, channels_out
        (self.kh, self.kw), (self.sh, self.sw), self.dh = kernel, stride, dilation
        (self.top, _), (self.left, right) = padding
        self.Ho, self.Wo = output_sizes((self.H, self.W), kernel, stride, padding, (dilation, 1))
        self.starts = max(self.Wo, -(-(self.W + max(self.left, right)) // self.sw))  # of windows in one row of slabs
        self.phases = -(-self.kw // self.sw)
        slabs = self.Ho * self.starts * self.sw
        self.blocks = cut(self.N, BLOCK // (slabs * self.kh * self.C + self.Ho * self.starts * self.O))
        self.images = self.blocks[0].stop
        # Windows of one phase, in `pieces` of `rows`, rounded up; what lies beyond the last window is never looked at.
        windows = -(-self.images * self.Ho * self.starts // self.phases)
        self.pieces = pieces(windows, self.kh * self.kw * self.C * self.O)
        self.rows = -(-windows // self.pieces)
        self.all = self.pieces * self.rows * self.phases
        self.room = self.all * self.sw + self.kw

    def moves(self) -> Iterator[tuple[tuple, tuple]]:
        """What is copied: (where to in the slabs (n, Ho, columns, kh), where from in the pixels (n, H, W))."""
        for i in range(self.kh):
            above = i * self.dh - self.top  # the input's row at the output's row 0
            first = max(0, -(above // self.sh))
            last = min(self.Ho, (self.H - 1 - above) // self.sh + 1)
            if last > first:
                rows = slice(above + first * self.sh, above + (last - 1) * self.sh + 1, self.sh)
                there = (slice(None), slice(first, last), slice(self.left, self.left + self.W), i)
                yield there, (slice(None), rows)

    def places(self, slabs: np.ndarray) -> np.ndarray:
        """The slabs of all images of a block, pixel by pixel: (images, Ho, columns, kh), over the same memory."""
        used = pixels(slabs.reshape(-1, self.C))[: self.images * self.Ho * self.starts * self.sw * self.kh]
        return used.reshape(self.images, self.Ho, -1, self.kh)

    def matrices(self, slabs: np.ndarray) -> np.ndarray:
        """The windows of each phase as matrices, (phases, pieces, rows, kw · kh · C), over the slabs' memory."""
        slab, item = self.kh * self.C, slabs.itemsize
        start = self.sw * slab * item  # from one window to the next
        shape = (self.phases, self.pieces, self.rows, self.kw * slab)
        strides = (start, self.rows * self.phases * start, self.phases * start, item)
        return np.lib.stride_tricks.as_strided(slabs, shape, strides)

    def outputs(self, y: np.ndarray) -> np.ndarray:
        """The rows of y (all windows, O) by phase, (phases, pieces, rows, O), over the same memory."""
        return y.reshape(self.pieces, self.rows, self.phases, self.O).transpose(2, 0, 1, 3)

    def image(self, y: np.ndarray) -> np.ndarray:
        """The rows of y (all windows, O) as pixels of images (images, Ho, Wo), without windows that cross over."""
        used = pixels(y)[: self.images * self.Ho * self.starts]
        return used.reshape(self.images, self.Ho, self.starts)[:, :, : self.Wo]


windows_of = lru_cache(maxsize=256)(Windows)  # the same layers come again in every step


def convolve(x: np.ndarray, weight: np.ndarray, stride: Pair, padding: Padding, dilation: int, y: np.ndarray) -> None:
    """Write the convolution into y (N, H', W', O).  x (N, C, H, W), weight (O, C, kh, kw). Dilation along H only."""
    O, C, kh, kw = weight.shape
    g = windows_of(x.shape, O, (kh, kw), stride, padding, dilation)
    matrix = weight.transpose(3, 2, 1, 0).reshape(-1, O)  # (kw · kh · C, O), in the order of a window's memory
    slabs, out = zeros("slabs", (g.room * kh * C,), x.dtype), workspace("outputs", (g.all, O), x.dtype)
    places, image, windows, outputs = g.places(slabs), g.image(out), g.matrices(slabs), g.outputs(out)
    source, target, moves = image_pixels(x), pixels(y), list(g.moves())
    for block in g.blocks:
        n = block.stop - block.start
        for there, here in moves:
            places[:n][there] = source[block][here]
        np.matmul(windows, matrix, out=outputs)
        target[block] = image[:n]


def weight_gradient(
    x: np.ndarray, dy: np.ndarray, kernel: Pair, stride: Pair, padding: Padding, dilation: int
) -> np.ndarray:
    """dW = Σ over the windows of windowᵀ dy.  Shapes: x (N, C, H, W), dy (N, O, H', W') → (O, C, kh, kw)"""
    C, O, (kh, kw) = x.shape[1], dy.shape[1], kernel
    g = windows_of(x.shape, O, kernel, stride, padding, dilation)
    slabs, outputs = zeros("slabs", (g.room * kh * C,), x.dtype), zeros("outputs", (g.all, O), x.dtype)
    places, image = g.places(slabs), g.image(outputs)
    windows = g.matrices(slabs).reshape(g.phases, -1, kw * kh * C).swapaxes(1, 2)
    dy_there = g.outputs(outputs).reshape(g.phases, -1, O)
    source, given, moves = image_pixels(x), image_pixels(dy), list(g.moves())
    total = np.zeros((g.phases, kw * kh * C, O), x.dtype)
    part = workspace("part", total.shape, x.dtype)
    for block in g.blocks:
        n = block.stop - block.start
        for there, here in moves:
            places[:n][there] = source[block][here]
        image[:n] = given[block]
        outputs[n * g.Ho * g.starts :] = 0  # a last block of fewer images
        total += np.matmul(windows, dy_there, out=part)
    return np.ascontiguousarray(total.sum(axis=0).reshape(kw, kh, C, O).transpose(3, 2, 1, 0))


def pieces(rows: int, multiplications: int) -> int:
    """Into how many products of as many rows to cut one, at so many multiplications a row: 1 if they would be short."""
    most = UNPACKED // multiplications
    return -(-rows // most) if most >= 32 else 1


# -- pixels ------------------------------------------------------------------------------------------------------


def zeros(name: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """A workspace of zeros."""
    room = workspace(name, shape, dtype)
    room.fill(0)
    return room


def image_pixels(x: np.ndarray) -> np.ndarray:
    """Images (N, C, H, W) as pixels (N, H, W); copied only if the channels are not last in memory."""
    x = x.transpose(0, 2, 3, 1)
    return pixels(x if x.shape[-1] == 1 or x.strides[-1] == x.itemsize else np.ascontiguousarray(x))


def pixels(x: np.ndarray) -> np.ndarray:
    """(…, C) as (…), every element a pixel with all its channels: NumPy copies those twice as fast as short rows."""
    if x.shape[-1] == 1:
        return x[..., 0]
    return x.view(np.dtype((np.void, x.shape[-1] * x.itemsize)))[..., 0]
