"""Finer and coarser images: by repeating, by straight lines between pixels, by trading channels for pixels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from scratch.activations.elementwise import floating
from scratch.half import in_float32
from scratch.layers.pooling.windows import ordered_as
from scratch.module import Module
from scratch.tensor import Array, Tensor, record


def interpolate(
    input: Any, size: Any = None, scale_factor: Any = None, mode: str = "nearest", align_corners: bool | None = None
) -> Tensor:
    """The image at H' × W' points: `size`, or ⌊scale_factor · (H, W)⌋; one number stands for both axes.

    nearest: y[o] = x[⌊o / scale⌋] along each axis.
    bilinear: y = A x Bᵀ and ∂L/∂x = Aᵀ dy B, where each row of A (H', H) and of B (W', W) holds the two weights of a
        straight line between neighbours. Point o lies at (o + ½) / scale − ½ (pixels are squares, and the images' edges
        meet), or with align_corners at o · (H − 1) / (H' − 1) (pixels are points, and the outermost ones meet).
    scale: the given factor, else H' / H; as in PyTorch also H' / H where that is 1, and with nearest 2.
    Shapes: (N, C, H, W) → (N, C, H', W').
    Raises ValueError for another rank, for other modes, and unless one of size and scale_factor is given, not both.
    """
    return _interpolate("interpolate", input, size, scale_factor, mode, align_corners)


def _interpolate(who: str, input: Any, size: Any, scale_factor: Any, mode: str, align_corners: bool | None) -> Tensor:
    _check_mode(who, mode, align_corners)
    x = _images(who, input)
    out, scales = _output(who, x, size, scale_factor)
    plain = (1,) if mode == "bilinear" else (1, 2)
    axes = [(n, m, m / n if m / n in plain else scale) for n, m, scale in zip(x.shape[2:], out, scales, strict=True)]
    if mode == "bilinear":
        A, B = (_straight_lines(n, m, scale, bool(align_corners)).astype(x.dtype) for n, m, scale in axes)
        return _bilinear(x, A, B)
    if all(m % n == 0 and scale == m / n for n, m, scale in axes):
        return _repeated(x, out[0] // x.shape[2], out[1] // x.shape[3])
    return _nearest(x, *(_nearest_sources(n, m, scale) for n, m, scale in axes))


@in_float32
def _repeated(x: Tensor, kh: int, kw: int) -> Tensor:
    """Nearest by whole factors: each pixel becomes a block of kh × kw;  ∂L/∂x = the sum of dy over the block"""
    N, C, H, W = x.shape
    y = np.empty_like(x.data, shape=(N, C, H * kh, W * kw))
    wide = y[:, :, ::kh]
    for j in range(kw):
        wide[..., j::kw] = x.data
    for i in range(1, kh):
        y[:, :, i::kh] = wide

    def backward(dy):
        dy = ordered_as(y, dy)
        rows = dy[:, :, ::kh]
        for i in range(1, kh):
            rows = rows + dy[:, :, i::kh]
        dx = rows[..., ::kw]
        for j in range(1, kw):
            dx = dx + rows[..., j::kw]
        return (dx,)

    return record(y, (x,), backward)


@in_float32
def _nearest(x: Tensor, rows: Array, columns: Array) -> Tensor:
    """y[o, p] = x[rows[o], columns[p]];  ∂L/∂x = Σ dy over the points that read it: a product with zeros and ones"""
    y = np.empty_like(x.data, shape=(*x.shape[:2], len(rows), len(columns)))
    y[...] = x.data[:, :, rows[:, None], columns]

    def backward(dy):
        A, B = (
            (sources[:, None] == np.arange(n)).astype(dy.dtype)
            for sources, n in zip((rows, columns), x.shape[2:], strict=True)
        )
        return (_along_width(_along_height(ordered_as(y, dy), A.T), B.T),)

    return record(y, (x,), backward)


@in_float32
def _bilinear(x: Tensor, A: Array, B: Array) -> Tensor:
    """y = A x Bᵀ for each image and channel,  ∂L/∂x = Aᵀ dy B"""
    y = _along_width(_along_height(x.data, A), B)

    def backward(dy):
        return (_along_width(_along_height(ordered_as(y, dy), A.T), B.T),)

    return record(y, (x,), backward)


def _along_height(x: Array, A: Array) -> Array:
    """y[n, c, o, w] = Σₕ A[o, h] x[n, c, h, w], in x's order in memory: with channels last, rows are W · C numbers."""
    if _channels_last(x):
        N, C, H, W = x.shape
        rows = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).reshape(N, H, W * C)
        return (A @ rows).reshape(N, len(A), W, C).transpose(0, 3, 1, 2)
    return A @ x


def _along_width(x: Array, B: Array) -> Array:
    """y[n, c, h, o] = Σ_w B[o, w] x[n, c, h, w], in x's order in memory."""
    if _channels_last(x):
        return (B @ x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    return x @ B.T


def _channels_last(x: Array) -> bool:
    return x.strides[1] <= x.strides[3]


def _straight_lines(n: int, out: int, scale: float, align_corners: bool) -> Array:
    """Row o holds the weights of x for point o: 1 − d and d for the pixels before and behind it, at distance d."""
    o = np.arange(out)
    if align_corners:
        place = o * ((n - 1) / max(out - 1, 1))
    else:
        place = np.maximum((o + 0.5) / scale - 0.5, 0)  # the half pixel before the first takes its value
    before = place.astype(int)
    behind = np.minimum(before + 1, n - 1)
    d = place - before
    weights = np.zeros((out, n))
    weights[o, before] += 1 - d
    weights[o, behind] += d  # the last pixel has none behind it: both weights are its own
    return weights


def _nearest_sources(n: int, out: int, scale: float) -> Array:
    """⌊o / scale⌋ in float32, in which PyTorch computes it and rounds it (0.999… may become 1)."""
    places = np.arange(out, dtype=np.float32) * np.float32(1 / scale)
    return np.minimum(places.astype(int), n - 1)


def pixel_shuffle(input: Any, upscale_factor: int) -> Tensor:
    """y[c, h r + i, w r + j] = x[c r² + i r + j, h, w]: r² channels become a block of r × r pixels  (Shi et al. 2016)

    Shapes: (N, C r², H, W) → (N, C, H r, W r). Raises ValueError for channels that r² does not divide.
    """
    x, r = _images("PixelShuffle", input), _factor("PixelShuffle", "upscale_factor", upscale_factor)
    if x.shape[1] % (r * r):
        raise ValueError(f"PixelShuffle expected a multiple of {r}² channels in (N, C, H, W), got {x.shape}")

    def backward(dy):
        return (_to_channels(dy, r, x.data),)

    return record(_to_pixels(x.data, r, x.data), (x,), backward)


def pixel_unshuffle(input: Any, downscale_factor: int) -> Tensor:
    """y[c r² + i r + j, h, w] = x[c, h r + i, w r + j]: a block of r × r pixels becomes r² channels

    Shapes: (N, C, H r, W r) → (N, C r², H, W). Raises ValueError for a height or width that r does not divide.
    """
    x, r = _images("PixelUnshuffle", input), _factor("PixelUnshuffle", "downscale_factor", downscale_factor)
    if x.shape[2] % r or x.shape[3] % r:
        raise ValueError(f"PixelUnshuffle expected H and W divisible by {r} in (N, C, H, W), got {x.shape}")

    def backward(dy):
        return (_to_pixels(dy, r, x.data),)

    return record(_to_channels(x.data, r, x.data), (x,), backward)


def _to_pixels(x: Array, r: int, like: Array) -> Array:
    """(N, C r², H, W) → (N, C, H r, W r), in the order in memory of `like`."""
    N, C, H, W = x.shape
    y = np.empty_like(like, shape=(N, C // (r * r), H * r, W * r))
    for i in range(r):
        for j in range(r):
            y[:, :, i::r, j::r] = x[:, i * r + j :: r * r]
    return y


def _to_channels(x: Array, r: int, like: Array) -> Array:
    """(N, C, H r, W r) → (N, C r², H, W), in the order in memory of `like`."""
    N, C, H, W = x.shape
    y = np.empty_like(like, shape=(N, C * r * r, H // r, W // r))
    for i in range(r):
        for j in range(r):
            y[:, i * r + j :: r * r] = x[:, :, i::r, j::r]
    return y


# -- what a user gives -------------------------------------------------------------------------------------------


def _images(who: str, x: Any) -> Tensor:
    x = floating(who, x)
    if x.ndim != 4 or 0 in x.shape[1:]:
        raise ValueError(f"{who} expected shape (N, C, H, W) with no axis of length 0 but N, got {x.shape}")
    return x


def _factor(who: str, name: str, r: Any) -> int:
    if not isinstance(r, (int, np.integer)) or r < 1:
        raise ValueError(f"{who} expected {name} to be a whole number of at least 1, got {r!r}")
    return int(r)


def _check_mode(who: str, mode: str, align_corners: bool | None) -> None:
    if mode not in ("nearest", "bilinear"):
        raise ValueError(f"{who} expected mode 'nearest' or 'bilinear', got {mode!r}")
    if mode == "nearest" and align_corners is not None:
        raise ValueError(f"{who} expected align_corners with mode 'bilinear' only, got {align_corners} with 'nearest'")


def _both(who: str, name: str, value: Any) -> tuple[Any, Any]:
    """One number for both axes, or one for each."""
    pair = (value, value) if np.ndim(value) == 0 else tuple(value)
    kinds = (int, np.integer) if name == "size" else (int, float, np.integer, np.floating)
    if len(pair) != 2 or any(not isinstance(v, kinds) or not v > 0 for v in pair):
        raise ValueError(f"{who} expected {name} as one or two numbers above 0, for H and W, got {value!r}")
    return pair


def _output(who: str, x: Tensor, size: Any, scale_factor: Any) -> tuple[list[int], list[float]]:
    """H' and W', and by how much each axis is stretched."""
    if (size is None) == (scale_factor is None):
        raise ValueError(f"{who} expected either size or scale_factor, got {size} and {scale_factor}")
    if size is not None:
        out = [int(m) for m in _both(who, "size", size)]
        return out, [m / n for n, m in zip(x.shape[2:], out, strict=True)]
    scales = [float(scale) for scale in _both(who, "scale_factor", scale_factor)]
    out = [math.floor(n * scale) for n, scale in zip(x.shape[2:], scales, strict=True)]
    if 0 in out:
        raise ValueError(f"{who} expected at least one pixel each way, got scale_factor {scale_factor} for {x.shape}")
    return out, scales


class Upsample(Module):
    """The image on a finer grid; see `interpolate`, whose arguments and errors these are.

    Shapes: (N, C, H, W) → (N, C, H', W').
    """

    def __init__(
        self,
        size: Any = None,
        scale_factor: Any = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
    ):
        _check_mode("Upsample", mode, align_corners)
        self.size = size
        self.scale_factor = scale_factor
        self.mode = mode
        self.align_corners = align_corners

    def forward(self, input: Any) -> Tensor:
        return _interpolate("Upsample", input, self.size, self.scale_factor, self.mode, self.align_corners)

    def extra_repr(self) -> str:
        names = ("size", "scale_factor", "mode", "align_corners")
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in names if getattr(self, name) is not None)


class PixelShuffle(Module):
    """r² channels become a block of r × r pixels; see `pixel_shuffle`.

    Shapes: (N, C r², H, W) → (N, C, H r, W r). Raises ValueError for channels that r² does not divide.
    """

    def __init__(self, upscale_factor: int):
        self.upscale_factor = _factor("PixelShuffle", "upscale_factor", upscale_factor)

    def forward(self, input: Any) -> Tensor:
        return pixel_shuffle(input, self.upscale_factor)

    def extra_repr(self) -> str:
        return f"upscale_factor={self.upscale_factor}"


class PixelUnshuffle(Module):
    """A block of r × r pixels becomes r² channels; see `pixel_unshuffle`.

    Shapes: (N, C, H r, W r) → (N, C r², H, W). Raises ValueError for a height or width that r does not divide.
    """

    def __init__(self, downscale_factor: int):
        self.downscale_factor = _factor("PixelUnshuffle", "downscale_factor", downscale_factor)

    def forward(self, input: Any) -> Tensor:
        return pixel_unshuffle(input, self.downscale_factor)

    def extra_repr(self) -> str:
        return f"downscale_factor={self.downscale_factor}"
