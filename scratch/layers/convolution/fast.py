"""The form that the layers use: images block by block, in channels-last memory.

Arrays are (N, C, H, W) in shape, of any strides; results have their channels last in memory. Arguments as in plain.py.
The input gradient of a strided convolution and the transposed convolution are the same function, `input_gradient`.
"""

from __future__ import annotations

import numpy as np

from scratch.layers.convolution import im2col
from scratch.layers.convolution.geometry import Padding, Pair, output_sizes

BLOCK = 2**18  # numbers in the columns of one block of images: 1 MB in float32


def convolve(
    x: np.ndarray, weight: np.ndarray, stride: Pair, padding: Padding, dilation: Pair, groups: int
) -> np.ndarray:
    """y (N, O, H', W') of x (N, C, H, W) and weight (O, C/groups, kh, kw)"""
    sizes = output_sizes(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    y = _empty((x.shape[0], weight.shape[0], *sizes), np.result_type(x, weight))
    for block in _blocks(x.shape, weight.shape[2:], sizes):
        y[block] = im2col.convolve(x[block], weight, stride, padding, dilation, groups)
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
    """∂L/∂x (N, C, H, W), and the forward of the transposed convolution"""
    dx = _empty(input_shape, np.result_type(dy, weight))
    for block in _blocks(input_shape, weight.shape[2:], dy.shape[2:]):
        shape = (len(dy[block]), *input_shape[1:])
        dx[block] = im2col.input_gradient(dy[block], weight, shape, stride, padding, dilation, groups)
    return dx


def weight_gradient(
    x: np.ndarray, dy: np.ndarray, kernel_size: Pair, stride: Pair, padding: Padding, dilation: Pair, groups: int
) -> np.ndarray:
    """∂L/∂W (O, C/groups, kh, kw)"""
    dW = np.zeros((dy.shape[1], x.shape[1] // groups, *kernel_size), np.result_type(x, dy))
    for block in _blocks(x.shape, kernel_size, dy.shape[2:]):
        dW += im2col.weight_gradient(x[block], dy[block], kernel_size, stride, padding, dilation, groups)
    return dW


def _empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    N, C, H, W = shape
    return np.empty((N, H, W, C), dtype).transpose(0, 3, 1, 2)


def _blocks(input_shape: tuple[int, ...], kernel: tuple[int, ...], outputs: tuple[int, ...]) -> list[slice]:
    N, C = input_shape[:2]
    images = max(1, BLOCK // max(1, C * kernel[0] * kernel[1] * outputs[0] * outputs[1]))
    return [slice(start, start + images) for start in range(0, N, images)]
