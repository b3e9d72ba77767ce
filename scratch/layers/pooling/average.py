"""Average pooling: each window's mean, and every element of it receives the same share of the gradient."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from scratch.half import in_float32
from scratch.layers.pooling.windows import Size, Windows, at, images, output_sizes, read, whole, windows_of, write
from scratch.module import Module
from scratch.tensor import Array, Tensor, record


def avg_pool2d(
    input: Any,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """y = 1/n Σ x of each window;  each x receives dy/n from every window it lies in

    stride: by default kernel_size. padding: zeros, at most half the kernel. ceil_mode: a last window may hang over the
    edge. n: the window's elements, without the padding if not count_include_pad; or divisor_override.
    Shapes: (N, C, H, W) → (N, C, H', W'), H' = ⌊(H + 2 padding − k) / stride⌋ + 1, or without N.
    Raises ValueError for another rank, too much padding, and a kernel larger than the padded input.
    """
    if divisor_override == 0:
        raise ValueError("AvgPool2d expected a divisor_override other than 0")
    x = images("AvgPool2d", input, 2)
    return _mean(
        x, windows_of("AvgPool2d", x, 2, kernel_size, stride, padding, 1, ceil_mode, count_include_pad),
        divisor_override,
    )  # fmt: skip


def avg_pool1d(
    input: Any,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """`avg_pool2d` along one axis. Shapes: (N, C, L) → (N, C, L'), or without N."""
    x = images("AvgPool1d", input, 1)
    return _mean(x, windows_of("AvgPool1d", x, 1, kernel_size, stride, padding, 1, ceil_mode, count_include_pad))


def adaptive_avg_pool2d(input: Any, output_size: Any) -> Tensor:
    """y = mean x of each of output_size windows that cover the image evenly; None keeps an axis as it is.

    Window o of H' reads the rows from ⌊o H / H'⌋ up to ⌈(o + 1) H / H'⌉; where H' does not divide H they overlap.
    Size 1 is the mean of each channel (global average pooling, Lin et al. 2014).
    Shapes: (N, C, H, W) → (N, C, H', W'), or without N. Raises ValueError for another rank and negative sizes.
    """
    x = images("AdaptiveAvgPool2d", input, 2)
    return _mean(x, output_sizes("AdaptiveAvgPool2d", x, output_size, 2))


@in_float32
def _mean(x: Tensor, windows: list[Windows], divisor: int | None = None) -> Tensor:
    """Sums along the height, then along the width, then one division."""
    if all(along.out == 1 and along.tiled for along in windows) and divisor is None:
        return _global_mean(x, len(windows))
    share = _shares(windows, divisor, x.dtype)
    y = x.data
    for axis in range(-len(windows), 0):
        y = _sums(y, axis, windows[axis])
    y *= share

    def backward(dy):
        dx = np.multiply(dy, share, out=np.empty_like(x.data, shape=dy.shape))
        for axis in range(-1, -1 - len(windows), -1):
            dx = _spread(dx, axis, windows[axis])
        return (dx,)

    return record(y, (x,), backward)


def _global_mean(x: Tensor, axes: int) -> Tensor:
    """One window that is the whole image: NumPy sums it at once."""
    over = tuple(range(-axes, 0))
    y = x.data.mean(axis=over, keepdims=True)
    n = math.prod(x.shape[-axes:])

    def backward(dy):
        dx = np.empty_like(x.data)
        dx[...] = dy / n
        return (dx,)

    return record(y, (x,), backward)


def _shares(windows: list[Windows], divisor: int | None, dtype: Any) -> Array:
    """1/n for each window, as an array that broadcasts along the output; one number where all are equal."""
    counts = windows[0].counts if len(windows) == 1 else np.multiply.outer(windows[0].counts, windows[1].counts)
    if divisor is not None:
        counts = np.array(divisor)
    elif counts.size and (counts == counts.flat[0]).all():
        counts = np.array(counts.flat[0])
    return (1 / counts).astype(dtype)


def _sums(x: Array, axis: int, windows: Windows) -> Array:
    """The sum of each window along one axis; y keeps x's order in memory."""
    shape = list(x.shape)
    shape[axis] = windows.out
    y = np.empty_like(x, shape=shape)
    full = [inputs for outputs, inputs in windows.steps if whole(windows, outputs)]
    rest = [step for step in windows.steps if not whole(windows, step[0])]
    if len(full) > 1:  # the first two make y, for writing it once more would cost as much as adding
        np.add(read(x, axis, full[0]), read(x, axis, full[1]), out=y)
    else:
        y[...] = x[at(axis, full[0])] if full else 0
    for inputs in full[2:]:
        y += x[at(axis, inputs)]
    for outputs, inputs in rest:
        y[at(axis, outputs)] += x[at(axis, inputs)]
    return y


def _spread(dy: Array, axis: int, windows: Windows) -> Array:
    """The transpose of `_sums`: dy given to every element of its window."""
    shape = list(dy.shape)
    shape[axis] = windows.n
    dx = np.empty_like(dy, shape=shape)
    if not windows.tiled:
        dx.fill(0)
    for outputs, inputs in windows.steps:
        if windows.apart:
            write(dx, axis, inputs, dy[at(axis, outputs)])
        else:
            dx[at(axis, inputs)] += dy[at(axis, outputs)]
    return dx


class AvgPool2d(Module):
    """The mean of each window; see `avg_pool2d`.

    Shapes: (N, C, H, W) → (N, C, H', W'), or without N. Raises ValueError for another rank, and as `avg_pool2d`.
    """

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ):
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad
        self.divisor_override = divisor_override

    def forward(self, input: Any) -> Tensor:
        return avg_pool2d(
            input, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad,
            self.divisor_override,
        )  # fmt: skip

    def extra_repr(self) -> str:
        names = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
        return ", ".join(f"{name}={getattr(self, name)}" for name in names)


class AvgPool1d(Module):
    """The mean of each window along one axis. Shapes: (N, C, L) → (N, C, L'), or without N."""

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ):
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad

    def forward(self, input: Any) -> Tensor:
        return avg_pool1d(input, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad)

    def extra_repr(self) -> str:
        names = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad")
        return ", ".join(f"{name}={getattr(self, name)}" for name in names)


class AdaptiveAvgPool2d(Module):
    """The mean of each of output_size windows that cover the image; see `adaptive_avg_pool2d`.

    Shapes: (N, C, H, W) → (N, C, H', W'), or without N. Raises ValueError for another rank.
    """

    def __init__(self, output_size: Any):
        self.output_size = output_size

    def forward(self, input: Any) -> Tensor:
        return adaptive_avg_pool2d(input, self.output_size)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"
