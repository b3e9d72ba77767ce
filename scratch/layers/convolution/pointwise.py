"""The 1 × 1 convolution: a linear map of each pixel's channels, the same for all pixels, so one matrix product.

y[n, o, h, w] = Σ over c of W[o, c] · x[n, c, h · stride, w · stride]        rows of pixels:  Y = X Wᵀ,  dW = dYᵀ X
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scratch.layers.convolution.geometry import Padding, Pair


def fits(kernel: Sequence[int], padding: Padding) -> bool:
    """Whether every output is made from one pixel."""
    return tuple(kernel) == (1, 1) and not any(map(any, padding))


def convolve(x: np.ndarray, weight: np.ndarray, stride: Pair, y: np.ndarray) -> None:
    """Write the convolution into y (N, H', W', O).  Shapes: x (N, C, H, W), weight (O, C, 1, 1)"""
    rows, matrix = _rows(x[:, :, :: stride[0], :: stride[1]]), weight[:, :, 0, 0].T
    if y.flags.c_contiguous:
        np.matmul(rows, matrix, out=y.reshape(-1, y.shape[3]))
    else:  # some pixels of a larger image
        y[...] = (rows @ matrix).reshape(y.shape)


def weight_gradient(x: np.ndarray, dy: np.ndarray, stride: Pair) -> np.ndarray:
    """dW (O, C, 1, 1)"""
    return (_rows(dy).T @ _rows(x[:, :, :: stride[0], :: stride[1]]))[:, :, None, None]


def _rows(x: np.ndarray) -> np.ndarray:
    """(N, C, H, W) as (N · H · W, C): over the same memory if the channels are last in it."""
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)).reshape(-1, x.shape[1])
