"""Fewer multiplications: four outputs in a row of a 3-wide kernel from six products instead of twelve.

Outputs y and kernel g of one row, seen as polynomials, multiply; a product of polynomials is known by its values at
enough points; and a value costs one multiplication. That is the algorithm of Toom (1963) and Cook (1966), which
Winograd (1980) turned around, from products to convolutions, and Lavin and Gray (2016) brought to networks:

    y = Aᵀ [(G g) ⊙ (B d)]          m outputs from the m + k − 1 inputs d and the k weights g of a row

B, G and A are small constant matrices. Summing over the input channels and the kernel's rows comes before Aᵀ, so
the ⊙ becomes a matrix product for each of the m + k − 1 points, over kh · C numbers: with k = 3 and m = 4 half the
multiplications of the definition. Only rows are treated so, not both axes: two axes would save another third, and lose
digits. Down the columns a window is kh pixels that lie one below the other in the memory of a tile column, and phases
make matrices of them without a copy, as in windows.py.

The gradient with respect to g follows from the formula, which is linear in g:  dg = Gᵀ [(B d) ⊙ (A dy)].
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import cache

import numpy as np

from scratch.blocks import added, cut, over, workspace
from scratch.layers.convolution.geometry import Padding, Pair
from scratch.layers.convolution.windows import UNPACKED, image_pixels, pixels, zeros

BLOCK = 2**19  # numbers in the inputs and products of a block: few long calls, since two threads hand Python on slowly
M = 4  # outputs of a tile
POINTS = tuple(Fraction(z) for z in ("0", "1", "-1", "1/2", "-2", "2", "-1/2"))  # in this order few digits are lost


@cache
def matrices(m: int, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A (p, m), B (p, p) and G (p, k), p = m + k − 1:  Aᵀ [(G g) ⊙ (B d)] is the correlation of d with g

    Values at p − 1 points a, and the leading coefficient as the value at infinity. Row i of A and of G holds the powers
    of aᵢ, of G divided by fᵢ = Π over j ≠ i of (aᵢ − aⱼ); row i of B the coefficients of Π over j ≠ i of (z − aⱼ).
    """
    a, p = POINTS[: m + k - 2], m + k - 1
    A = [[z**j for j in range(m)] for z in a] + [[j == m - 1 for j in range(m)]]
    f = [math.prod((z - w for w in a if w != z), start=Fraction(1)) for z in a]
    G = [[z**j / fz for j in range(k)] for z, fz in zip(a, f, strict=True)] + [[j == k - 1 for j in range(k)]]
    B = [_coefficients([w for w in a if w != z]) + [0] for z in a] + [_coefficients(a)]
    return tuple(np.array(matrix, dtype=np.float64).reshape(p, -1) for matrix in (A, B, G))  # type: ignore[return-value]


def _coefficients(roots: Sequence[Fraction]) -> list[Fraction]:
    """Of Π (z − root), the lowest first."""
    c = [Fraction(1)]
    for root in roots:
        c = [(c[i - 1] if i else 0) - root * (c[i] if i < len(c) else 0) for i in range(len(c) + 1)]
    return c


class Tiles:
    """Where the tiles of a convolution lie. Memory order: (point, image, tile column, row, channel)."""

    def __init__(self, shape: Sequence[int], channels_out: int, kernel: Pair, padding: Padding, dtype: np.dtype):
        (self.N, self.C, self.H, self.W), self.O = shape, channels_out
        self.kh, self.kw = kernel
        (self.top, bottom), (self.left, right) = padding
        self.Ho, self.Wo = self.H + self.top + bottom - self.kh + 1, self.W + self.left + right - self.kw + 1
        self.A, self.B, self.G = (matrix.astype(dtype) for matrix in matrices(M, self.kw))
        self.points, self.tiles = M + self.kw - 1, -(-self.Wo // M)
        self.height = max(self.Ho, self.H + max(self.top, bottom))
        self.column = self.tiles * self.height  # pixels of one image for each point
        self.blocks = cut(self.N, BLOCK // (self.points * self.column * (self.C + self.O)))
        self.images = self.blocks[0].stop
        windows = -(-self.images * self.column // self.kh)
        self.pieces = -(-windows * self.kh * self.C * self.O // UNPACKED)
        self.rows = -(-windows // self.pieces)
        self.all = self.pieces * self.rows * self.kh
        self.room = self.all + self.kh

    def moves(self) -> Iterator[tuple[tuple, tuple]]:
        """What is copied: (where to in the tiles (points, n, tiles, rows), where from in the pixels (n, W, H))."""
        for j in range(self.points):
            before = j - self.left  # the input's column at place j of tile 0
            first = max(0, -(before // M))
            last = min(self.tiles, (self.W - 1 - before) // M + 1)
            if last > first:
                columns = slice(before + first * M, before + (last - 1) * M + 1, M)
                there = (j, slice(None), slice(first, last), slice(self.top, self.top + self.H))
                yield there, (slice(None), columns)

    def places(self, d: np.ndarray, points: int, channels: int) -> np.ndarray:
        """The pixels of d (points, room · channels), as (points, images, tiles, height), over the same memory."""
        used = pixels(d.reshape(points, -1, channels))[:, : self.images * self.column]
        return used.reshape(points, self.images, self.tiles, self.height)

    def windows(self, transformed: np.ndarray) -> list[np.ndarray]:
        """The windows down the columns of each phase, (points, pieces, rows, kh · C), over the same memory."""
        pixel, item = self.C * transformed.itemsize, transformed.itemsize
        shape = (self.points, self.pieces, self.rows, self.kh * self.C)
        strides = (transformed.strides[0], self.rows * self.kh * pixel, self.kh * pixel, item)
        starts = (transformed[:, r * self.C :] for r in range(self.kh))
        return [np.lib.stride_tricks.as_strided(start, shape, strides) for start in starts]

    def phases(self, y: np.ndarray) -> list[np.ndarray]:
        """The rows of y (points, all, O) that belong to each phase, as (points, pieces, rows, O)."""
        return [y[:, r :: self.kh].reshape(self.points, self.pieces, self.rows, self.O) for r in range(self.kh)]

    def outputs(self) -> Iterator[tuple[tuple, tuple]]:
        """Which places of the tiles (M, n, tiles, rows) are which of the output's pixels (n, Wo, Ho)."""
        for q in range(min(M, self.Wo)):
            tiles = -(-(self.Wo - q) // M)
            yield (q, slice(None), slice(tiles), slice(self.Ho)), (slice(None), slice(q, None, M))


def convolve(x: np.ndarray, weight: np.ndarray, padding: Padding) -> np.ndarray:
    """y (N, O, H', W'), its channels last in memory. Stride 1, no dilation, no groups."""
    O, C, kh, kw = weight.shape
    g = Tiles(x.shape, O, (kh, kw), padding, x.dtype)
    matrix = (g.G @ weight.transpose(3, 2, 1, 0).reshape(kw, -1)).reshape(g.points, 1, kh * C, O)
    y = np.empty((g.N, g.Ho, g.Wo, O), x.dtype)
    source, target = image_pixels(x).swapaxes(1, 2), pixels(y).swapaxes(1, 2)
    inputs, outputs = list(g.moves()), list(g.outputs())

    def run(blocks: Sequence[slice]) -> None:
        d, transformed = _inputs(g, x.dtype)
        products = workspace("products", (g.points, g.all, O), x.dtype)
        z = workspace("outputs", (M, g.all * O), x.dtype)
        tiles, results = g.places(d, g.points, C), g.places(z, M, O)
        pairs = list(zip(g.windows(transformed), g.phases(products), strict=True))
        for block in blocks:
            n = block.stop - block.start
            for there, here in inputs:
                tiles[:, :n][there] = source[block][here]
            np.matmul(g.B, d, out=transformed)
            for windows, out in pairs:
                np.matmul(windows, matrix, out=out)
            np.matmul(g.A.T, products.reshape(g.points, -1), out=z)
            for there, here in outputs:
                target[block][here] = results[:, :n][there]

    over(g.blocks, run)
    return y.transpose(0, 3, 1, 2)


def weight_gradient(x: np.ndarray, dy: np.ndarray, kernel: Pair, padding: Padding) -> np.ndarray:
    """dW = Gᵀ [Σ over the tiles of (B d)ᵀ (A dy)].  Shapes: x (N, C, H, W), dy (N, O, H', W') → (O, C, kh, kw)"""
    C, O, (kh, kw) = x.shape[1], dy.shape[1], kernel
    g = Tiles(x.shape, O, kernel, padding, x.dtype)
    source, given = image_pixels(x).swapaxes(1, 2), image_pixels(dy).swapaxes(1, 2)
    inputs, outputs = list(g.moves()), list(g.outputs())

    def run(blocks: Sequence[slice]) -> np.ndarray:
        d, transformed = _inputs(g, x.dtype)
        products = workspace("products", (g.points, g.all, O), x.dtype)
        z = zeros("outputs", (M, g.all * O), x.dtype)
        tiles, results = g.places(d, g.points, C), g.places(z, M, O)
        total = np.zeros((g.points, kh * C, O), x.dtype)
        part = workspace("part", total.shape, x.dtype)
        pairs = [(windows.reshape(g.points, -1, kh * C).swapaxes(1, 2), products[:, r::kh])
                 for r, windows in enumerate(g.windows(transformed))]  # fmt: skip
        for block in blocks:
            n = block.stop - block.start
            for there, here in inputs:
                tiles[:, :n][there] = source[block][here]
            np.matmul(g.B, d, out=transformed)
            for there, here in outputs:
                results[:, :n][there] = given[block][here]
            z[:, n * g.column * O :] = 0  # a last block of fewer images
            np.matmul(g.A, z, out=products.reshape(g.points, -1))
            for windows, dy_there in pairs:
                total += np.matmul(windows, dy_there, out=part)
        return total

    total = added(over(g.blocks, run))
    return np.ascontiguousarray((g.G.T @ total.reshape(g.points, -1)).reshape(kw, kh, C, O).transpose(3, 2, 1, 0))


def _inputs(g: Tiles, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Room for the tiles of a block, with zeros around the images, and for what B makes of them."""
    shape = (g.points, g.room * g.C)
    return zeros("inputs", shape, dtype), workspace("transformed", shape, dtype)
