"""Convolution by its definition, as loops: read this first. The tests hold the other tellings against it.

    y[n, o, r, s] = Σ over c, i, j of  W[o, c, i, j] · x[n, first + c, r · stride_h + i · dilation_h − top,
                                                                        s · stride_w + j · dilation_w − left]

with zeros where the position falls outside of x, and `first` the first of the input channels that o's group reads: of
G groups, each has 1/G of the output channels and sees 1/G of the input channels only. (What networks call a convolution
mathematics calls a cross-correlation: the kernel is not flipped.)

Every term is a product W[b] · x[c] that is added to one y[a]. So ∂L/∂x[c] collects W[b] · dy[a], and ∂L/∂W[b] collects
x[c] · dy[a], over the same triples (a, b, c): three functions, one list of terms.

Shapes: x (N, C, H, W), weight (O, C/groups, kh, kw), y and dy (N, O, H', W'). Stride and dilation are pairs, padding is
((top, bottom), (left, right)).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from scratch.layers.convolution.geometry import Padding, Pair, output_sizes

Position = tuple[int, ...]


def terms(
    input_shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    output_shape: tuple[int, ...],
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
) -> Iterator[tuple[Position, Position, Position]]:
    """Every (a, b, c) with a term W[b] · x[c] in y[a]."""
    _, _, H, W = input_shape
    (top, _), (left, _) = padding
    for n, o, r, s in np.ndindex(output_shape):
        group = o // (weight_shape[0] // groups)
        first = group * weight_shape[1]
        for c, i, j in np.ndindex(weight_shape[1:]):
            row = r * stride[0] + i * dilation[0] - top
            column = s * stride[1] + j * dilation[1] - left
            if 0 <= row < H and 0 <= column < W:
                yield (n, o, r, s), (o, c, i, j), (n, first + c, row, column)


def convolve(
    x: np.ndarray, weight: np.ndarray, stride: Pair, padding: Padding, dilation: Pair, groups: int
) -> np.ndarray:
    """y"""
    sizes = output_sizes(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    y = np.zeros((x.shape[0], weight.shape[0], *sizes), np.result_type(x, weight))
    for a, b, c in terms(x.shape, weight.shape, y.shape, stride, padding, dilation, groups):
        y[a] += weight[b] * x[c]
    return y


def input_gradient(
    dy: np.ndarray,
    weight: np.ndarray,
    input_shape: tuple[int, ...],
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
) -> np.ndarray:
    """∂L/∂x"""
    dx = np.zeros(input_shape, np.result_type(dy, weight))
    for a, b, c in terms(input_shape, weight.shape, dy.shape, stride, padding, dilation, groups):
        dx[c] += weight[b] * dy[a]
    return dx


def weight_gradient(
    x: np.ndarray, dy: np.ndarray, kernel_size: Pair, stride: Pair, padding: Padding, dilation: Pair, groups: int
) -> np.ndarray:
    """∂L/∂W"""
    dW = np.zeros((dy.shape[1], x.shape[1] // groups, *kernel_size), np.result_type(x, dy))
    for a, b, c in terms(x.shape, dW.shape, dy.shape, stride, padding, dilation, groups):
        dW[b] += x[c] * dy[a]
    return dW
