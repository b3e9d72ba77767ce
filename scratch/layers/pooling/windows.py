"""Where the windows lie along one axis, and how they are read without a loop over them.

A window of size k reaches its input in k steps. Step t of *all* windows is one view of the input (start t, every
stride-th element) beside one view of the output. So pooling is a loop over the k steps, each on whole arrays, and an
image is pooled along its width, then along its height: the largest, or the sum, of a rectangle is that of its rows'.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from scratch.activations.elementwise import floating
from scratch.tensor import Array, Tensor

BLOCK = 1 << 20  # bytes; with 1 MB of second-level cache, 2 ** 18 to 2 ** 20 are alike, one block a quarter slower
Index = slice | Array
Size = int | tuple[int, ...] | list[int]


@dataclass(frozen=True)
class Windows:
    """The windows along an axis of n elements.

    steps: (outputs, inputs), in the order of the inputs: those windows which have a step t, and the element that each
        of them finds there. No input is named twice in one step.
    apart: no input lies in two windows.
    tiled: apart, and every input lies in one.
    counts: how many elements each window has; padding counts where it is asked to.
    """

    n: int
    out: int
    steps: list[tuple[Index, Index]]
    apart: bool
    tiled: bool
    counts: Array


def sliding(
    n: int,
    k: int,
    stride: int,
    padding: int = 0,
    dilation: int = 1,
    ceil_mode: bool = False,
    count_padding: bool = True,
) -> Windows:
    """Window o reads x[o · stride − padding + t · dilation] for the steps t = 0 … k − 1; outside of x is padding.

    out = ⌊(n + 2 padding − dilation (k − 1) − 1) / stride⌋ + 1, or ⌈·⌉ in ceil_mode, where the last window is dropped
    if it would start in the padding on the right.
    """
    reach = dilation * (k - 1) + 1
    free = n + 2 * padding - reach
    out = (-(-free // stride) if ceil_mode else free // stride) + 1
    if (out - 1) * stride >= n + padding:  # never without ceil_mode
        out -= 1
    steps: list[tuple[Index, Index]] = []
    for t in range(k):
        offset = t * dilation - padding  # the place of window 0
        first = max(0, -(offset // stride))
        last = min(out - 1, (n - 1 - offset) // stride)
        if first <= last:
            start = first * stride + offset
            stop = last * stride + offset + 1
            steps.append((slice(first, last + 1), slice(start, stop, stride)))
    starts = np.arange(out) * stride - padding
    ends = np.minimum(starts + k, n + padding)  # average pooling, which alone counts, has no dilation
    counts = ends - starts if count_padding else np.minimum(ends, n) - np.maximum(starts, 0)
    apart = stride >= reach or out == 1
    tiled = stride == k and dilation == 1 and padding == 0 and out * k == n
    return Windows(n, out, steps, apart, tiled, counts)


def adaptive(n: int, out: int) -> Windows:
    """`out` windows over all of x: window o reads from ⌊o n / out⌋ up to, not including, ⌈(o + 1) n / out⌉."""
    if out and n % out == 0:
        return sliding(n, n // out, n // out)
    o = np.arange(out)
    starts, ends = o * n // out, -(-(o + 1) * n // out)
    turn = o - np.searchsorted(starts, starts)  # windows with one start, of which there are where out > n, take turns
    steps: list[tuple[Index, Index]] = []
    for t in range(int((ends - starts).max(initial=0))):
        for now in range(int(turn.max(initial=-1)) + 1):
            outputs = np.flatnonzero((starts + t < ends) & (turn == now))
            if outputs.size:
                steps.append((outputs, starts[outputs] + t))
    return Windows(n, out, steps, False, False, ends - starts)


def at(axis: int, index: Index) -> tuple[Any, ...]:
    """x[at(axis, index)]: `index` along a negative `axis`, all of the others."""
    return (Ellipsis, index, *[slice(None)] * (-1 - axis))


def read(x: Array, axis: int, inputs: Index) -> Array:
    """x[at(axis, inputs)], as a copy where its rows are short: NumPy computes slowly on rows of few channels."""
    pixels = _pixels(x) if axis == -1 else None
    if pixels is None:
        return x[at(axis, inputs)]
    part = np.ascontiguousarray(pixels[..., inputs])
    return part.view(x.dtype).reshape(*part.shape, x.shape[1]).transpose(0, 3, 1, 2)


def write(x: Array, axis: int, inputs: Index, value: Array) -> None:
    """x[at(axis, inputs)] = value"""
    pixels, values = (_pixels(x), _pixels(value)) if axis == -1 else (None, None)
    if pixels is None or values is None:
        x[at(axis, inputs)] = value
    else:
        pixels[..., inputs] = values


def _pixels(x: Array) -> Array | None:
    """(N, C, H, W), channels last, as (N, H, W) elements without a type, each the bytes of one pixel's C numbers.

    Such elements are copied as a whole, 2 to 3 times faster than C numbers each; None where that can't be or gains
    nothing: another order in memory, or pixels of more than 128 bytes.
    """
    if x.ndim != 4:
        return None
    last = x.transpose(0, 2, 3, 1)
    width = x.shape[1] * x.itemsize
    return last.view(f"V{width}")[..., 0] if last.flags.c_contiguous and width <= 128 else None


def whole(windows: Windows, index: Index) -> bool:
    """Whether these outputs are all the windows, so that a step may begin what the others continue."""
    return isinstance(index, slice) and index == slice(0, windows.out)


def ordered_as(y: Array, dy: Array) -> Array:
    """dy in y's order in memory, so that what meets both runs through memory once; itself if it is already."""
    if dy.strides == y.strides:
        return dy
    ordered = np.empty_like(y)
    ordered[...] = dy
    return ordered


def blocks(x: Array) -> list[slice]:
    """The first axis in parts of about BLOCK bytes, which stay in the second-level cache while they are worked on."""
    images = max(1, BLOCK * len(x) // max(x.nbytes, 1))
    return [slice(first, first + images) for first in range(0, len(x), images)]


# -- what a user gives -------------------------------------------------------------------------------------------

LAYOUTS = {1: "(N, C, L) or (C, L)", 2: "(N, C, H, W) or (C, H, W)"}


def images(who: str, x: Any, axes: int) -> Tensor:
    """x with `axes` axes to pool over behind its channels; ValueError for another rank."""
    x = floating(who, x)
    if x.ndim not in (axes + 1, axes + 2):
        raise ValueError(f"{who} expected shape {LAYOUTS[axes]}, got {x.shape}")
    if 0 in x.shape[1:]:
        raise ValueError(f"{who} expected {LAYOUTS[axes]} with no axis of length 0 but N, got {x.shape}")
    return x


def sizes(who: str, name: str, value: Size, axes: int, least: int) -> tuple[int, ...]:
    """A number for each axis, from one number or several; ValueError for another count or one below `least`."""
    each = (value,) if isinstance(value, (int, float, np.number)) else tuple(value)
    each = each * axes if len(each) == 1 else each
    if len(each) != axes or any(not isinstance(v, (int, np.integer)) or v < least for v in each):
        raise ValueError(f"{who}: {name} expected one or {axes} whole numbers of at least {least}, got {value!r}")
    return tuple(int(v) for v in each)


def windows_of(
    who: str,
    x: Tensor,
    axes: int,
    kernel_size: Size,
    stride: Size | None,
    padding: Size,
    dilation: Size = 1,
    ceil_mode: bool = False,
    count_padding: bool = True,
) -> list[Windows]:
    """The windows along each of the last `axes` axes. Raises ValueError where padding or a kernel is too large."""
    kernel = sizes(who, "kernel_size", kernel_size, axes, 1)
    step = kernel if stride is None or stride == () or stride == [] else sizes(who, "stride", stride, axes, 1)
    pad = sizes(who, "padding", padding, axes, 0)
    spread = sizes(who, "dilation", dilation, axes, 1)
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, spread, strict=True)]
    if any(2 * p > r for p, r in zip(pad, reach, strict=True)):
        raise ValueError(f"{who} expected padding of at most half the kernel {kernel_size}, got {padding}")
    found = []
    for n, k, s, p, d in zip(x.shape[-axes:], kernel, step, pad, spread, strict=True):
        windows = sliding(n, k, s, p, d, ceil_mode, count_padding)
        if windows.out < 1:
            raise ValueError(
                f"{who} expected a kernel that fits into the padded input: kernel_size {kernel_size}, dilation "
                f"{dilation} and padding {padding} leave no window in shape {x.shape}"
            )
        found.append(windows)
    return found


def output_sizes(who: str, x: Tensor, output_size: Any, axes: int) -> list[Windows]:
    """Adaptive windows along each of the last `axes` axes; None keeps the input's size."""
    given = (output_size,) if output_size is None or isinstance(output_size, (int, np.integer)) else tuple(output_size)
    given = given * axes if len(given) == 1 else given
    if len(given) != axes:
        raise ValueError(f"{who}: output_size expected one or {axes} sizes, got {output_size!r}")
    wanted = [n if out is None else out for n, out in zip(x.shape[-axes:], given, strict=True)]
    lengths = sizes(who, "output_size", wanted, axes, 0)
    return [adaptive(n, out) for n, out in zip(x.shape[-axes:], lengths, strict=True)]
