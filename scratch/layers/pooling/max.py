"""Max pooling: the largest value of each window passes, and its gradient goes back to where it was found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from scratch.layers.pooling.windows import (
    Size,
    Windows,
    at,
    blocks,
    images,
    ordered_as,
    output_sizes,
    read,
    whole,
    windows_of,
    write,
)
from scratch.module import Module
from scratch.tensor import Array, Tensor, record


def max_pool2d(
    input: Any,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """y = largest x of each window;  dy goes to that x, to the first in reading order where several are largest

    stride: by default kernel_size. padding: counts as −∞, at most half the kernel. ceil_mode: a last window may hang
    over the edge. return_indices: also the places h · W + w of the winners, as an array of integers.
    Shapes: (N, C, H, W) → (N, C, H', W'), H' = ⌊(H + 2 padding − dilation (k − 1) − 1) / stride⌋ + 1, or without N.
    Raises ValueError for another rank, too much padding, and a kernel larger than the padded input.
    """
    x = images("MaxPool2d", input, 2)
    return _max(x, windows_of("MaxPool2d", x, 2, kernel_size, stride, padding, dilation, ceil_mode), return_indices)


def max_pool1d(
    input: Any,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """`max_pool2d` along one axis. Shapes: (N, C, L) → (N, C, L'), or without N."""
    x = images("MaxPool1d", input, 1)
    return _max(x, windows_of("MaxPool1d", x, 1, kernel_size, stride, padding, dilation, ceil_mode), return_indices)


def adaptive_max_pool2d(input: Any, output_size: Any, return_indices: bool = False) -> Any:
    """y = largest x of each of output_size windows that cover the image evenly; None keeps an axis as it is.

    Window o of H' reads the rows from ⌊o H / H'⌋ up to ⌈(o + 1) H / H'⌉; where H' does not divide H they overlap.
    Shapes: (N, C, H, W) → (N, C, H', W'), or without N. Raises ValueError for another rank and negative sizes.
    """
    x = images("AdaptiveMaxPool2d", input, 2)
    return _max(x, output_sizes("AdaptiveMaxPool2d", x, output_size, 2), return_indices)


def _max(x: Tensor, windows: list[Windows], return_indices: bool) -> Any:
    """Along the width, then along the height: the first row that holds the largest, and the first of them in it."""
    stages = [x.data]
    for axis, along in zip((-1, -2), reversed(windows), strict=False):
        stages.append(_largest(stages[-1], axis, along))

    def backward(dy):
        dx, dy = np.empty_like(x.data), ordered_as(stages[-1], dy)
        for some in blocks(x.data):
            gradient = dy[some]
            for axis in range(-len(windows), 0):
                out = dx[some] if axis == -1 else np.empty_like(stages[-1 - axis][some])
                gradient = _to_winners(gradient, stages[-1 - axis][some], stages[-axis][some], axis, windows[axis], out)
        return (dx,)

    y = record(stages[-1], (x,), backward)
    return (y, _places(stages, windows)) if return_indices else y


def _largest(x: Array, axis: int, windows: Windows) -> Array:
    """The largest of each window along one axis; y keeps x's order in memory."""
    shape = list(x.shape)
    shape[axis] = windows.out
    y = np.empty_like(x, shape=shape)
    full = [inputs for outputs, inputs in windows.steps if whole(windows, outputs)]
    rest = [step for step in windows.steps if not whole(windows, step[0])]
    if full:  # the first two make y, for writing it once more would cost as much as comparing
        np.maximum(read(x, axis, full[0]), read(x, axis, full[1 % len(full)]), out=y)
    else:
        y.fill(-np.inf)
    for inputs in full[2:]:
        np.maximum(y, read(x, axis, inputs), out=y)
    for outputs, inputs in rest:
        y[at(axis, outputs)] = np.maximum(y[at(axis, outputs)], x[at(axis, inputs)])
    return y


def _to_winners(dy: Array, x: Array, y: Array, axis: int, windows: Windows, dx: Array) -> Array:
    """dy where x was its window's largest y. What the first such x has taken is gone for the others: ties need no mask.

    Overlapping windows add up.
    """
    if np.isnan(y.max(initial=-np.inf)):  # which is equal to nothing
        return _to_chosen(dy, _chosen(x, y, axis, windows), axis, windows, dx)
    if not windows.tiled:
        dx.fill(0)
    left = dy
    for t, (outputs, inputs) in enumerate(windows.steps, start=1):
        here = at(axis, outputs)
        if t == len(windows.steps) and windows.tiled:
            write(dx, axis, inputs, left)  # nobody else was the largest
            break
        taken = (read(x, axis, inputs) == y[here]).astype(dy.dtype)
        taken *= left[here]
        if windows.apart:
            write(dx, axis, inputs, taken)
        else:
            dx[at(axis, inputs)] += taken
        if whole(windows, outputs):
            left = left - taken
        else:
            left = left.copy("K")
            left[here] -= taken
    return dx


def _to_chosen(dy: Array, chosen: Array, axis: int, windows: Windows, dx: Array) -> Array:
    """The same by the step in which each window found its winner: slower, and right for NaN."""
    dx.fill(0)
    for t, (outputs, inputs) in enumerate(windows.steps):
        here = at(axis, outputs)
        dx[at(axis, inputs)] += np.where(chosen[here] == t, dy[here], 0)
    return dx


def _chosen(x: Array, y: Array, axis: int, windows: Windows) -> Array:
    """The step in which each window finds its y: the first that holds it, or, as in PyTorch, the last NaN."""
    chosen = np.full(y.shape, -1)
    for t, (outputs, inputs) in enumerate(windows.steps):
        here, value = at(axis, outputs), x[at(axis, inputs)]
        wins = ((value == y[here]) & (chosen[here] < 0)) | np.isnan(value)
        chosen[here] = np.where(wins, t, chosen[here])
    return chosen


def _places(stages: list[Array], windows: list[Windows]) -> Array:
    """h · W + w of each window's winner, as PyTorch numbers them within one channel."""
    columns = _winners(stages[0], stages[1], -1, windows[-1])
    if len(windows) == 1:
        return columns
    rows = _winners(stages[1], stages[2], -2, windows[-2])
    return rows * stages[0].shape[-1] + np.take_along_axis(columns, rows, axis=-2)


def _winners(x: Array, y: Array, axis: int, windows: Windows) -> Array:
    """The index along the axis of each window's winner."""
    winners, chosen = np.zeros(y.shape, np.int64), _chosen(x, y, axis, windows)
    for t, (outputs, inputs) in enumerate(windows.steps):
        here, index = at(axis, outputs), np.arange(windows.n)[inputs].reshape(-1, *[1] * (-1 - axis))
        winners[here] = np.where(chosen[here] == t, index, winners[here])
    return winners


class MaxPool(Module):
    """The arguments of max pooling, with PyTorch's order and defaults; subclasses say over how many axes."""

    function: Callable[..., Any]

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        dilation: Size = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ):
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.dilation = dilation
        self.return_indices = return_indices
        self.ceil_mode = ceil_mode

    def forward(self, input: Any) -> Any:
        return self.function(
            input, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode, self.return_indices
        )

    def extra_repr(self) -> str:
        names = ("kernel_size", "stride", "padding", "dilation", "return_indices", "ceil_mode")
        return ", ".join(f"{name}={getattr(self, name)}" for name in names)


class MaxPool2d(MaxPool):
    """The largest value of each window; see `max_pool2d`.

    Shapes: (N, C, H, W) → (N, C, H', W'), or without N. Raises ValueError for another rank, and as `max_pool2d`.
    """

    function = staticmethod(max_pool2d)


class MaxPool1d(MaxPool):
    """The largest value of each window along one axis. Shapes: (N, C, L) → (N, C, L'), or without N."""

    function = staticmethod(max_pool1d)


class AdaptiveMaxPool2d(Module):
    """The largest value of each of output_size windows that cover the image; see `adaptive_max_pool2d`.

    Shapes: (N, C, H, W) → (N, C, H', W'), or without N. Raises ValueError for another rank.
    """

    def __init__(self, output_size: Any, return_indices: bool = False):
        self.output_size = output_size
        self.return_indices = return_indices

    def forward(self, input: Any) -> Any:
        return adaptive_max_pool2d(input, self.output_size, self.return_indices)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}, return_indices={self.return_indices}"
