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
from collections.abc import Sequence
from fractions import Fraction
from functools import cache

import numpy as np

from scratch.blocks import added, cut, over, workspace
from scratch.layers.convolution.geometry import Padding, Pair
from scratch.layers.convolution.windows import BLOCK, UNPACKED, joined, pixels, zeros

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
        self.blocks = cut(self.N, BLOCK // (self.points * self.column * (self.C + self.O) // 2))
        windows = -(-self.blocks[0].stop * self.column // self.kh)
        self.pieces = -(-windows * self.kh * self.C * self.O // UNPACKED)
        self.rows = -(-windows // self.pieces)
        self.all = self.pieces * self.rows * self.kh
        self.room = self.all + self.kh
        self.dtype = dtype

    def transform(self, x: np.ndarray) -> np.ndarray:
        """B d for every tile of a block's images (n, C, H, W).  → (points, room · C)"""
        d = zeros("inputs", self.points * self.room, self.C, self.dtype).reshape(self.points, self.room, self.C)
        places = pixels(d[:, : len(x) * self.column].reshape(self.points, len(x), -1, self.C).transpose(0, 3, 1, 2))
        places = places.reshape(self.points, len(x), self.tiles, self.height)
        x = pixels(x).transpose(0, 2, 1)  # (n, W, H)
        for j in range(self.points):
            before = j - self.left  # the input's column at place j of tile 0
            first = max(0, -(before // M))
            last = min(self.tiles, (self.W - 1 - before) // M + 1)
            if last > first:
                columns = slice(before + first * M, before + (last - 1) * M + 1, M)
                places[j, :, first:last, self.top : self.top + self.H] = x[:, columns]
        out = workspace("transformed", (self.points, self.room * self.C), self.dtype)
        return np.matmul(self.B, d.reshape(self.points, -1), out=out)

    def windows(self, transformed: np.ndarray, r: int) -> np.ndarray:
        """The windows of phase r down the columns, (points, pieces, rows, kh · C), over the same memory."""
        pixel = self.C * transformed.itemsize
        return np.lib.stride_tricks.as_strided(
            transformed[:, r * self.C :],
            (self.points, self.pieces, self.rows, self.kh * self.C),
            (transformed.strides[0], self.rows * self.kh * pixel, self.kh * pixel, transformed.itemsize),
        )

    def phase(self, y: np.ndarray, r: int) -> np.ndarray:
        """The rows of y (points, all, O) that belong to phase r, as (points, pieces, rows, O)."""
        return y[:, r :: self.kh].reshape(self.points, self.pieces, self.rows, self.O)

    def images(self, z: np.ndarray, n: int) -> np.ndarray:
        """z (M, all · O) as n images by output in the tile, (M, n, Ho, tiles, O)."""
        z = z[:, : n * self.column * self.O].reshape(M, n, self.tiles, self.height, self.O)
        return z[:, :, :, : self.Ho].transpose(0, 1, 3, 2, 4)

    def used(self, q: int) -> int:
        """How many tiles have an output q that is within the image."""
        return -(-(self.Wo - q) // M)


def convolve(x: np.ndarray, weight: np.ndarray, padding: Padding) -> np.ndarray:
    """y (N, O, H', W'), its channels last in memory. Stride 1, no dilation, no groups."""
    O, C, kh, kw = weight.shape
    g = Tiles(x.shape, O, (kh, kw), padding, x.dtype)
    matrix = (g.G @ weight.transpose(3, 2, 1, 0).reshape(kw, -1)).reshape(g.points, 1, kh * C, O)
    y = np.empty((g.N, g.Ho, g.Wo, O), x.dtype)

    def run(blocks: Sequence[slice]) -> None:
        products = workspace("products", (g.points, g.all, O), x.dtype)
        z = workspace("outputs", (M, g.all * O), x.dtype)
        for block in blocks:
            transformed = g.transform(x[block])
            for r in range(kh):
                np.matmul(g.windows(transformed, r), matrix, out=g.phase(products, r))
            np.matmul(g.A.T, products.reshape(g.points, -1), out=z)
            images = g.images(z, len(x[block]))
            for q in range(min(M, g.Wo)):
                joined(y[block, :, q::M])[...] = joined(images[q, :, :, : g.used(q)])

    over(g.blocks, run)
    return y.transpose(0, 3, 1, 2)


def weight_gradient(x: np.ndarray, dy: np.ndarray, kernel: Pair, padding: Padding) -> np.ndarray:
    """dW = Gᵀ [Σ over the tiles of (B d)ᵀ (A dy)].  Shapes: x (N, C, H, W), dy (N, O, H', W') → (O, C, kh, kw)"""
    C, O, (kh, kw) = x.shape[1], dy.shape[1], kernel
    g = Tiles(x.shape, O, kernel, padding, x.dtype)

    def run(blocks: Sequence[slice]) -> np.ndarray:
        z = zeros("outputs", M * g.all, O, x.dtype).reshape(M, -1)
        products = workspace("products", (g.points, g.all, O), x.dtype)
        total = np.zeros((g.points, kh * C, O), x.dtype)
        part = workspace("part", total.shape, x.dtype)
        for block in blocks:
            n = len(x[block])
            transformed = g.transform(x[block])
            images, rows = g.images(z, n), dy[block].transpose(0, 2, 3, 1)
            for q in range(min(M, g.Wo)):
                images[q, :, :, : g.used(q)] = rows[:, :, q::M]
            z[:, n * g.column * O :] = 0  # a last block of fewer images
            np.matmul(g.A, z, out=products.reshape(g.points, -1))
            for r in range(kh):
                windows = g.windows(transformed, r).reshape(g.points, -1, kh * C)
                total += np.matmul(windows.swapaxes(1, 2), products[:, r::kh], out=part)
        return total

    total = added(over(g.blocks, run))
    return np.ascontiguousarray((g.G.T @ total.reshape(g.points, -1)).reshape(kw, kh, C, O).transpose(3, 2, 1, 0))
