"""The form that the layers use: which way a convolution is computed, and what its gradients have to do with it.

| convolution | computed by |
|---|---|
| 3 wide or 5 wide, stride 1, enough channels | winograd.py: half the multiplications |
| depthwise (a group for each channel) | depthwise.py: element by element |
| kernel 1 × 1, no padding | pointwise.py: one matrix product |
| other groups | each group by itself |
| dilated along the width | im2col.py, in blocks |
| all others | windows.py |

Arrays are (N, C, H, W) in shape, of any strides; results have their channels last in memory. Arguments as in plain.py.
Outside of shards the images of a batch are shared out over the cores, once for each of the three functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar

import numpy as np

from scratch.blocks import added, cut, over
from scratch.layers.convolution import depthwise, im2col, pointwise, windows, winograd
from scratch.layers.convolution.geometry import Padding, Pair, output_sizes
from scratch.parallel import threads
from scratch.scope import Scope

_exact_zeros: ContextVar[bool] = ContextVar("exact_zeros", default=False)
SMALL = 2**16  # numbers in the output of a convolution that is not worth waking another thread for
COLUMNS = 2**18  # numbers in one block of columns, where im2col is used


def exact_zeros() -> Scope:
    """Inside the block an output is 0 where all that it is made of is 0.

    winograd.py rounds four outputs together and leaves some 1e-7 of a neighbour there, which matters to nobody but who
    asks which pixels have any influence at all.
    """
    return Scope(_exact_zeros, lambda: True)


def convolve(
    x: np.ndarray, weight: np.ndarray, stride: Pair, padding: Padding, dilation: Pair, groups: int
) -> np.ndarray:
    """y (N, O, H', W') of x (N, C, H, W) and weight (O, C/groups, kh, kw)"""
    dtype = np.result_type(x, weight)
    x, weight = x.astype(dtype, copy=False), weight.astype(dtype, copy=False)
    sizes = output_sizes(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    y = np.empty((len(x), *sizes, weight.shape[0]), dtype)
    over(_images(y), lambda rows: _convolve(x[rows], weight, stride, padding, dilation, groups, y[rows]))
    return y.transpose(0, 3, 1, 2)


def weight_gradient(
    x: np.ndarray, dy: np.ndarray, kernel_size: Pair, stride: Pair, padding: Padding, dilation: Pair, groups: int
) -> np.ndarray:
    """∂L/∂W (O, C/groups, kh, kw)"""
    dtype = np.result_type(x, dy)
    x, dy = x.astype(dtype, copy=False), dy.astype(dtype, copy=False)
    arguments = (kernel_size, stride, padding, dilation, groups)
    parts = over(_images(dy), lambda rows: _weight_gradient(x[rows], dy[rows], *arguments))
    return added(parts) if parts else np.zeros((dy.shape[1], x.shape[1] // groups, *kernel_size), dtype)


def input_gradient(
    dy: np.ndarray,
    weight: np.ndarray,
    input_shape: tuple[int, ...],
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
) -> np.ndarray:
    """∂L/∂x (N, C, H, W), and the transposed convolution's forward

    At stride 1 a convolution of dy with the flipped kernel, in and out channels exchanged. At stride s, the pixels
    p = a, a + s, a + 2 s, … of dx see every s-th weight only, and are for each a below s a convolution at stride 1 with
    those: no zeros are put between the numbers of dy.
    """
    dtype = np.result_type(dy, weight)
    dy, weight = dy.astype(dtype, copy=False), weight.astype(dtype, copy=False)
    flipped = _exchanged(weight, groups)[:, :, ::-1, ::-1]
    if any(s > 1 and d > 1 for s, d in zip(stride, dilation, strict=True)):
        dy, stride = _spread(dy, stride), (1, 1)  # dilated and strided: with zeros between after all
    N, C, H, W = input_shape
    rest = stride != (1, 1)  # a stride beyond the kernel leaves pixels out, which stay 0
    dx = (np.zeros if rest else np.empty)((N, H, W, C), dtype)
    firsts = [
        (a, b)
        for a in _met(H, weight.shape[2], stride[0], padding[0])
        for b in _met(W, weight.shape[3], stride[1], padding[1])
    ]

    def part(rows: slice) -> None:
        for a, b in firsts:
            pixels = dx[rows, a :: stride[0], b :: stride[1]]
            _lattice(dy[rows], flipped, (a, b), stride, padding, dilation, groups, pixels)

    over(_images(dx), part)
    return dx.transpose(0, 3, 1, 2)


def _images(y: np.ndarray) -> list[slice]:
    """The images of a batch in one part for each thread; in one where there is little to do."""
    return cut(len(y), len(y) if y.size < SMALL else -(-len(y) // threads()))


def _lattice(
    dy: np.ndarray,
    flipped: np.ndarray,
    first: Pair,
    step: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
    dx: np.ndarray,
) -> None:
    """The pixels first, first + step, … of the input gradient, along each axis, into dx (N, H', W', C).

    Pixel p = step · q + first of dx meets, of the kernel, the weights i = i₀ + step · m with
    i₀ = (first + before) mod step, and of dy the numbers q + e − m with e = (first + before − i₀) / step.
    """
    kernel: list[slice] = []
    sides: list[Pair] = []
    for axis in range(2):
        k, s, before = flipped.shape[2 + axis], step[axis], first[axis] + padding[axis][0]
        taken = range(before % s, k, s)
        kernel.append(slice(k - 1 - taken[-1], None, s))  # `flipped` counts from the kernel's end
        span = dilation[axis] * (len(taken) - 1)
        start = span - before // s
        sides.append((start, dx.shape[1 + axis] + span - dy.shape[2 + axis] - start))
    dy, rest = _cropped(dy, sides)
    _convolve(dy, flipped[:, :, kernel[0], kernel[1]], (1, 1), rest, dilation, groups, dx)


def _met(size: int, kernel: int, step: int, padding: Pair) -> list[int]:
    """Which of the first `step` pixels of an axis meet any weight, and with them every step-th pixel after."""
    return [first for first in range(min(step, size)) if (first + padding[0]) % step < kernel]


def _cropped(x: np.ndarray, sides: Sequence[Pair]) -> tuple[np.ndarray, Padding]:
    """x (N, C, H, W) and the padding without what is negative in it, which takes rows and columns away."""
    kept: list[slice] = []
    rest: list[Pair] = []
    for n, (before, after) in zip(x.shape[2:], sides, strict=True):
        start, stop = max(0, -before), n - max(0, -after)
        kept.append(slice(start, max(start, stop)))
        # Where nothing of x is left, all is padding.
        rest.append((max(0, before), max(0, after)) if start < stop else (n + before + after, 0))
    return x[:, :, kept[0], kept[1]], (rest[0], rest[1])


def _exchanged(weight: np.ndarray, groups: int) -> np.ndarray:
    """(O, C/groups, kh, kw) → (C, O/groups, kh, kw), group by group."""
    O, C, kh, kw = weight.shape
    return weight.reshape(groups, O // groups, C, kh, kw).swapaxes(1, 2).reshape(groups * C, O // groups, kh, kw)


def _spread(dy: np.ndarray, stride: Pair) -> np.ndarray:
    """dy with stride − 1 zeros between its numbers."""
    N, C, H, W = dy.shape
    spread = np.zeros((N, (H - 1) * stride[0] + 1, (W - 1) * stride[1] + 1, C), dy.dtype).transpose(0, 3, 1, 2)
    spread[:, :, :: stride[0], :: stride[1]] = dy
    return spread


# -- which way ---------------------------------------------------------------------------------------------------


def _convolve(
    x: np.ndarray,
    weight: np.ndarray,
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
    y: np.ndarray,
) -> None:
    """Into y (N, H', W', O), whose channels lie next to each other."""
    if depthwise.fits(x.shape[1], weight.shape[0], dilation, groups):
        depthwise.convolve(x, weight, stride, padding, y)
    elif groups > 1:
        for c, o in _groups(x.shape[1], weight.shape[0], groups):
            _convolve(x[:, c], weight[o], stride, padding, dilation, 1, y[..., o])
    elif pointwise.fits(weight.shape[2:], padding):
        pointwise.convolve(x, weight, stride, y)
    elif _dilated(weight.shape[2:], dilation):
        _convolve_by_columns(x, weight, stride, padding, dilation, y)
    elif _halved(x.shape[1], weight.shape[0], weight.shape[2:], stride, dilation):
        winograd.convolve(x, weight, padding, y)
    else:
        windows.convolve(x, weight, stride, padding, dilation[0], y)


def _weight_gradient(
    x: np.ndarray, dy: np.ndarray, kernel: Pair, stride: Pair, padding: Padding, dilation: Pair, groups: int
) -> np.ndarray:
    C, O = x.shape[1], dy.shape[1]
    if depthwise.fits(C, O, dilation, groups):
        return depthwise.weight_gradient(x, dy, kernel, stride, padding)
    if groups > 1:
        parts = [
            _weight_gradient(x[:, c], dy[:, o], kernel, stride, padding, dilation, 1) for c, o in _groups(C, O, groups)
        ]
        return np.concatenate(parts)
    if pointwise.fits(kernel, padding):
        return pointwise.weight_gradient(x, dy, stride)
    if _dilated(kernel, dilation):
        return _weight_gradient_by_columns(x, dy, kernel, stride, padding, dilation)
    if _halved(C, O, kernel, stride, dilation):
        return winograd.weight_gradient(x, dy, kernel, padding)
    return windows.weight_gradient(x, dy, kernel, stride, padding, dilation[0])


def _halved(C: int, O: int, kernel: Sequence[int], stride: Pair, dilation: Pair) -> bool:
    """Whether the multiplications saved are worth the transforms."""
    if _exact_zeros.get():
        return False
    return kernel[1] in (3, 5) and stride == (1, 1) and dilation == (1, 1) and C * O >= 256 and min(C, O) >= 8


def _dilated(kernel: Sequence[int], dilation: Pair) -> bool:
    return dilation[1] > 1 and kernel[1] > 1


def _groups(C: int, O: int, groups: int) -> list[tuple[slice, slice]]:
    """The input and output channels of each group."""
    c, o = C // groups, O // groups
    return [(slice(g * c, (g + 1) * c), slice(g * o, (g + 1) * o)) for g in range(groups)]


def _convolve_by_columns(
    x: np.ndarray, weight: np.ndarray, stride: Pair, padding: Padding, dilation: Pair, y: np.ndarray
) -> None:
    for block in cut(len(x), COLUMNS // (weight[0].size * y.shape[1] * y.shape[2])):
        y[block] = im2col.convolve(x[block], weight, stride, padding, dilation, 1).transpose(0, 2, 3, 1)


def _weight_gradient_by_columns(
    x: np.ndarray, dy: np.ndarray, kernel: Pair, stride: Pair, padding: Padding, dilation: Pair
) -> np.ndarray:
    columns = x.shape[1] * kernel[0] * kernel[1] * dy.shape[2] * dy.shape[3]
    parts = (
        im2col.weight_gradient(x[block], dy[block], kernel, stride, padding, dilation, 1)
        for block in cut(len(x), COLUMNS // columns)
    )
    return sum(parts, np.zeros((dy.shape[1], x.shape[1], *kernel), x.dtype))
