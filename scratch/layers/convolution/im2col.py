"""Convolution as one matrix product: every patch that the kernel meets is copied into a column.

    columns = im2col(x)                   (N, C · kh · kw, H' · W')
    y = W columns                         W as a matrix (O, C · kh · kw)
    ∂L/∂columns = Wᵀ dy                   the two gradients of any matrix product, with dy as (N, O, H' · W')
    ∂L/∂W = Σ over N of dy columnsᵀ
    ∂L/∂x = col2im(∂L/∂columns)           a number that was copied into several columns collects all their gradients

Groups are a further axis of the product: each multiplies its own rows of the columns. The price is memory, kh · kw
times that of x, and the time to write and read it; fast.py pays less.

`im2col` and `col2im` are PyTorch's `unfold` and `fold`, and each other's transposes: <im2col(x), z> = <x, col2im(z)>.
Shapes and arguments as in plain.py.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from scratch.layers.convolution.geometry import Padding, Pair, output_sizes


def im2col(x: np.ndarray, kernel: Pair, stride: Pair, padding: Padding, dilation: Pair) -> np.ndarray:
    """The patches of x as columns: (N, C, H, W) → (N, C · kh · kw, H' · W')"""
    spans = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
    windows = sliding_window_view(pad(x, padding), spans, axis=(2, 3))  # (N, C, places, places, span, span), no copy
    windows = windows[:, :, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]
    N, C, rows, columns, kh, kw = windows.shape
    return windows.transpose(0, 1, 4, 5, 2, 3).reshape(N, C * kh * kw, rows * columns)


def col2im(
    columns: np.ndarray, input_shape: tuple[int, ...], kernel: Pair, stride: Pair, padding: Padding, dilation: Pair
) -> np.ndarray:
    """Every column added back to where its patch was: (N, C · kh · kw, H' · W') → (N, C, H, W)

    All patches' weights at (i, j) stand on a grid of steps `stride`, so one strided addition takes them all.
    """
    N, C, H, W = input_shape
    (top, bottom), (left, right) = padding
    rows, cols = output_sizes((H, W), kernel, stride, padding, dilation)
    columns = columns.reshape(N, C, *kernel, rows, cols)
    padded = np.zeros((N, C, top + H + bottom, left + W + right), columns.dtype)
    for i, j in np.ndindex(kernel):
        row, col = i * dilation[0], j * dilation[1]
        down = slice(row, row + stride[0] * rows, stride[0])
        across = slice(col, col + stride[1] * cols, stride[1])
        padded[:, :, down, across] += columns[:, :, i, j]
    return padded[:, :, top : top + H, left : left + W]


def convolve(
    x: np.ndarray, weight: np.ndarray, stride: Pair, padding: Padding, dilation: Pair, groups: int
) -> np.ndarray:
    """y = W columns"""
    N, O = x.shape[0], weight.shape[0]
    columns = _by_group(im2col(x, weight.shape[2:], stride, padding, dilation), groups)
    y = weight.reshape(groups, O // groups, -1) @ columns
    return y.reshape(N, O, *output_sizes(x.shape[2:], weight.shape[2:], stride, padding, dilation))


def input_gradient(
    dy: np.ndarray,
    weight: np.ndarray,
    input_shape: tuple[int, ...],
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
) -> np.ndarray:
    """∂L/∂x = col2im(Wᵀ dy)"""
    matrix = weight.reshape(groups, weight.shape[0] // groups, -1)
    columns = matrix.swapaxes(1, 2) @ _by_group(dy, groups)
    return col2im(columns, input_shape, weight.shape[2:], stride, padding, dilation)


def weight_gradient(
    x: np.ndarray, dy: np.ndarray, kernel_size: Pair, stride: Pair, padding: Padding, dilation: Pair, groups: int
) -> np.ndarray:
    """∂L/∂W = Σ over N of dy columnsᵀ"""
    columns = _by_group(im2col(x, kernel_size, stride, padding, dilation), groups)
    dW = (_by_group(dy, groups) @ columns.swapaxes(2, 3)).sum(axis=0)
    return dW.reshape(dy.shape[1], x.shape[1] // groups, *kernel_size)


def pad(x: np.ndarray, padding: Padding) -> np.ndarray:
    """x (N, C, H, W) with zeros around, or x itself where there are none to add."""
    (top, bottom), (left, right) = padding
    if not (top or bottom or left or right):
        return x
    N, C, H, W = x.shape
    padded = np.zeros((N, C, top + H + bottom, left + W + right), x.dtype)
    padded[:, :, top : top + H, left : left + W] = x
    return padded


def _by_group(a: np.ndarray, groups: int) -> np.ndarray:
    """The channels or rows of the second axis group by group, all after it as one axis: (N, G · K, *) → (N, G, K, L)"""
    return a.reshape(a.shape[0], groups, a.shape[1] // groups, int(np.prod(a.shape[2:])))
