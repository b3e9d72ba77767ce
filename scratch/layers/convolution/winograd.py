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
from functools import cache, lru_cache
from itertools import groupby

import numpy as np

from scratch.blocks import cut, workspace
from scratch.layers.convolution.geometry import Padding, Pair
from scratch.layers.convolution.windows import image_pixels, pieces, pixels, zeros

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
        self.pieces = pieces(windows, self.kh * self.C * self.O)
        self.rows = -(-windows // self.pieces)
        self.all = self.pieces * self.rows * self.kh
        self.room = self.all + self.kh

    def rooms(self, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For a block's tiles, zeros around the images; for what B makes of them; and for the products."""
        shape = (self.points, self.room * self.C)
        products = workspace("products", (self.points, self.all, self.O), dtype)
        return zeros("inputs", shape, dtype), workspace("transformed", shape, dtype), products

    def inputs(self, x: np.ndarray, d: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """What is copied before a block: pairs of places (j, images, tiles, H) in d and pixels (j, N, tiles, H) of x.

        Place j of tile t reads the image's column t · M + j − left. Tiles that lie within the image are one pair; those
        at its borders have fewer places.
        """
        places = self.places(d, self.C)[..., self.top : self.top + self.H]
        ends = [(max(0, self.left - t * M), min(self.points, self.W + self.left - t * M)) for t in range(self.tiles)]
        pairs = []
        for (j, end), group in groupby(range(self.tiles), key=lambda t: ends[t]):
            tiles = list(group)
            if end > j:
                columns = self.columns(image_pixels(x), tiles[0] * M + j - self.left, end - j, len(tiles))
                pairs.append((places[j:end, :, tiles[0] : tiles[-1] + 1], columns))
        return pairs

    def outputs(self, y: np.ndarray, z: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """What is copied after a block: pairs of places (q, images, tiles, Ho) in z and pixels of y (N, Wo, Ho)."""
        places, full, rest = self.places(z, self.O)[..., : self.Ho], *divmod(self.Wo, M)
        pairs = []
        if full:
            pairs.append((places[:, :, :full], self.columns(y, 0, M, full)))
        if rest:
            pairs.append((places[:rest, :, full:], self.columns(y, full * M, rest, 1)))
        return pairs

    @staticmethod
    def columns(image: np.ndarray, first: int, places: int, tiles: int) -> np.ndarray:
        """Columns first + t · M + j of images (N, H, W), seen as (j, N, t, H)."""
        n, h, w = image.strides
        shape = (places, image.shape[0], tiles, image.shape[1])
        return np.lib.stride_tricks.as_strided(image[:, :, first:], shape, (w, n, M * w, h))

    def places(self, d: np.ndarray, channels: int) -> np.ndarray:
        """The pixels of d (…, room · channels), as (…, images, tiles, height), over the same memory."""
        used = pixels(d.reshape(len(d), -1, channels))[:, : self.images * self.column]
        return used.reshape(len(d), self.images, self.tiles, self.height)

    def windows(self, transformed: np.ndarray) -> np.ndarray:
        """The windows down the columns, by phase: (kh, points, pieces, rows, kh · C), over the same memory."""
        pixel, item = self.C * transformed.itemsize, transformed.itemsize
        shape = (self.kh, self.points, self.pieces, self.rows, self.kh * self.C)
        strides = (pixel, transformed.strides[0], self.rows * self.kh * pixel, self.kh * pixel, item)
        return np.lib.stride_tricks.as_strided(transformed, shape, strides)

    def shifted(self, transformed: np.ndarray) -> np.ndarray:
        """What weight i of a column meets, (kh, points, all, C): pixels from the i-th one on, over the same memory."""
        pixel, item = self.C * transformed.itemsize, transformed.itemsize
        shape, strides = (self.kh, self.points, self.all, self.C), (pixel, transformed.strides[0], pixel, item)
        return np.lib.stride_tricks.as_strided(transformed, shape, strides)

    def phases(self, products: np.ndarray) -> np.ndarray:
        """Rows (points, all, O) by phase: (kh, points, pieces, rows, O), over the same memory."""
        rows = products.reshape(self.points, self.pieces, self.rows, self.kh, self.O)
        return rows.transpose(3, 0, 1, 2, 4)


tiles_of = lru_cache(maxsize=256)(Tiles)  # the same layers come again in every step


def convolve(x: np.ndarray, weight: np.ndarray, padding: Padding, y: np.ndarray) -> None:
    """Write the convolution into y (N, H', W', O).  x (N, C, H, W), weight (O, C, kh, kw). Stride 1, no dilation."""
    O, C, kh, kw = weight.shape
    g = tiles_of(x.shape, O, (kh, kw), padding, x.dtype)
    matrix = (g.G @ weight.transpose(3, 2, 1, 0).reshape(kw, -1)).reshape(g.points, 1, kh * C, O)
    d, transformed, products = g.rooms(x.dtype)
    z = workspace("outputs", (M, g.all * O), x.dtype)
    inputs, outputs = g.inputs(x, d), g.outputs(pixels(y), z)
    windows, results = g.windows(transformed), g.phases(products)
    for block in g.blocks:
        n = block.stop - block.start
        for places, image in inputs:
            places[:, :n] = image[:, block]
        np.matmul(g.B, d, out=transformed)
        np.matmul(windows, matrix, out=results)
        np.matmul(g.A.T, products.reshape(g.points, -1), out=z)
        for places, image in outputs:
            image[:, block] = places[:, :n]


def weight_gradient(x: np.ndarray, dy: np.ndarray, kernel: Pair, padding: Padding) -> np.ndarray:
    """dW = Gᵀ [Σ over the tiles of (B d)ᵀ (A dy)].  Shapes: x (N, C, H, W), dy (N, O, H', W') → (O, C, kh, kw)"""
    C, O, (kh, kw) = x.shape[1], dy.shape[1], kernel
    g = tiles_of(x.shape, O, kernel, padding, x.dtype)
    d, transformed, products = g.rooms(x.dtype)
    z = zeros("outputs", (M, g.all * O), x.dtype)
    inputs, outputs = g.inputs(x, d), g.outputs(image_pixels(dy), z)
    met = g.shifted(transformed).swapaxes(2, 3)
    total = np.zeros((kh, g.points, C, O), x.dtype)
    part = workspace("part", total.shape, x.dtype)
    for block in g.blocks:
        n = block.stop - block.start
        for places, image in inputs:
            places[:, :n] = image[:, block]
        np.matmul(g.B, d, out=transformed)
        for places, image in outputs:
            places[:, :n] = image[:, block]
        z[:, n * g.column * O :] = 0  # a last block of fewer images
        np.matmul(g.A, z, out=products.reshape(g.points, -1))
        total += np.matmul(met, products, out=part)
    by_point = total.swapaxes(0, 1).reshape(g.points, -1)
    return np.ascontiguousarray((g.G.T @ by_point).reshape(kw, kh, C, O).transpose(3, 2, 1, 0))
