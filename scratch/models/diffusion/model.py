"""Denoisers: what is the noise in x_t? A small perceptron for points in the plane, a U-Net for images.

    x (B, C, H, W) ─ Conv 3×3 ─┬─ R R ──────────────── copy ──────────────► join ─ R R ─ norm, SiLU, Conv ─► as x
                               ▼ Conv 3×3, stride 2                          ▲ ×2, Conv 3×3
                               ├─ R R ──────────────── copy ──────────────► join ─ R R
                               ▼                                             ▲
                               └─ RA RA ─── copy ───► middle: RA R ───► join ─ RA RA

    R   residual block, told the time (and the class): GroupNorm, SiLU, Conv, + time, GroupNorm, SiLU, Conv
    A   self-attention over all pixels, at the lowest resolution, where there are few

drawn for three widths and two blocks a level. Every copy goes to the block on the other side that has its size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from scratch import concatenate
from scratch.activations import silu
from scratch.layers import Conv2d, Dropout, Embedding, GroupNorm, Identity, Linear, interpolate, packed_attention
from scratch.layers.positions.sinusoidal import clocks
from scratch.module import Module
from scratch.tensor import Tensor, as_tensor


class TimeEmbedding(Module):
    """t → Linear(silu(Linear(sines and cosines of t)))  (Ho et al. 2020, appendix B).  Shapes: (B,) → (B, dim)"""

    def __init__(self, dim: int):
        self.dim = dim
        self.first, self.second = Linear(dim, dim), Linear(dim, dim)

    def forward(self, t: Any) -> Tensor:
        waves = clocks(np.asarray(t), self.dim, dtype=self.first.weight.dtype)
        return self.second(silu(self.first(Tensor(waves))))


class MLPDenoiser(Module):
    """A denoiser for points: every hidden layer adds what it makes of the point and the time to what came before.

        h = W_in x + b        h ← h + W₂ silu(W₁ h + W_t e(t))  for each layer        out = W_out silu(h) + b

    Shapes: x (B, features), t (B,) → (B, features).
    """

    def __init__(self, features: int = 2, hidden: int = 128, layers: int = 3):
        self.features = features
        self.time = TimeEmbedding(hidden)
        self.into = Linear(features, hidden)
        self.wide = [Linear(hidden, hidden) for _ in range(layers)]
        self.told = [Linear(hidden, hidden) for _ in range(layers)]
        self.back = [Linear(hidden, hidden) for _ in range(layers)]
        self.out = zero(Linear(hidden, features))

    def forward(self, x: Any, t: Any) -> Tensor:
        x = as_tensor(x)
        if x.ndim != 2 or x.shape[1] != self.features:
            raise ValueError(f"MLPDenoiser expected x of shape (B, {self.features}), got {x.shape}")
        t = checked_times("MLPDenoiser", t, len(x))
        e = silu(self.time(t[:1] if (t == t[0]).all() else t))  # in sampling all points share a time: one row will do
        h = self.into(x)
        for wide, told, back in zip(self.wide, self.told, self.back, strict=True):
            h = h + back(silu(wide(h) + told(e)))
        return self.out(silu(h))


class ResidualBlock(Module):
    """y = skip(x) + Conv(silu(norm(Conv(silu(norm(x))) + W e)))  (Ho et al. 2020, after He et al. 2016)

    e is the time (and class) of each image, the same for all its pixels; skip is a 1×1 convolution where the number of
    channels changes. The last convolution begins at 0, so that every block begins as its skip.
    Shapes: x (B, channels, H, W), e (B, dim) → (B, out, H, W).
    """

    def __init__(self, channels: int, out: int, dim: int, groups: int, dropout: float):
        self.norm1, self.conv1 = GroupNorm(groups, channels), Conv2d(channels, out, 3, padding=1)
        self.told = Linear(dim, out)
        self.norm2, self.conv2 = GroupNorm(groups, out), zero(Conv2d(out, out, 3, padding=1))
        self.dropout = Dropout(dropout)
        self.skip = Identity() if channels == out else Conv2d(channels, out, 1)

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        h = self.conv1(silu(self.norm1(x)))
        h = h + self.told(e).reshape(len(x), -1, 1, 1)
        h = self.conv2(self.dropout(silu(self.norm2(h))))
        return self.skip(x) + h


class PixelAttention(Module):
    """y = x + W attention(norm(x)): every pixel looks at all pixels of its image.  Shapes: (B, C, H, W) → the same

    W begins at 0. Pixels are tokens: (B, C, H, W) read as (B, H·W, C), which costs nothing with the channels last.
    """

    def __init__(self, channels: int, heads: int, groups: int):
        self.heads = heads
        self.norm = GroupNorm(groups, channels)
        self.qkv, self.out = Linear(channels, 3 * channels), zero(Linear(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        B, C, H, W = x.shape
        tokens = self.norm(x).transpose(0, 2, 3, 1).reshape(B, H * W, C)
        y = self.out(packed_attention(self.qkv(tokens), num_heads=self.heads))
        return x + y.reshape(B, H, W, C).transpose(0, 3, 1, 2)


class Level(Module):
    """The residual blocks of one size, each followed by attention where `heads` is not 0."""

    def __init__(self, inputs: Sequence[int], out: int, heads: int, dim: int, groups: int, dropout: float):
        self.blocks = [ResidualBlock(n, out, dim, groups, dropout) for n in inputs]
        self.attention = [PixelAttention(out, heads, groups) if heads else Identity() for _ in inputs]

    def down(self, x: Tensor, e: Tensor) -> list[Tensor]:
        """What each block makes; the last is what goes on."""
        copies = []
        for block, attention in zip(self.blocks, self.attention, strict=True):
            x = attention(block(x, e))
            copies.append(x)
        return copies

    def up(self, x: Tensor, copies: list[Tensor], e: Tensor) -> Tensor:
        """Each block joins what comes from below with the copy of its counterpart, the last first."""
        for block, attention in zip(self.blocks, self.attention, strict=True):
            x = attention(block(concatenate([x, copies.pop()], axis=1), e))
        return x


class UNet(Module):
    """ε̂(x_t, t) or ε̂(x_t, t, class) for images  (Ho et al. 2020, appendix B; Ronneberger et al. 2015)

    Departures: a copy from every block, none from the first convolution and the halvings, so that both sides have the
    same number of blocks; and attention in all blocks of the lowest resolution, whatever its size.

    Args: widths: channels at each resolution, halved from one to the next. blocks: residual blocks a level and side.
        classes: how many there are, 0 for a model without; class number `no_class` = classes stands for none.
        heads: of the attention at the lowest resolution, 0 for none. groups: of every GroupNorm.
    Shapes: x (B, channels, H, W), t (B,), labels (B,) → (B, channels, H, W), H and W multiples of 2^(levels − 1).
    Raises ValueError for other images, times and labels.
    """

    def __init__(
        self, channels: int = 1, widths: Sequence[int] = (32, 64, 128), blocks: int = 2, classes: int = 0,
        heads: int = 4, groups: int = 8, dropout: float = 0.0,
    ):  # fmt: skip
        self.channels, self.levels, self.no_class = channels, len(widths), classes
        dim, top, low = 4 * widths[0], widths[0], widths[-1]
        shared = (dim, groups, dropout)
        heads_at = [0] * (len(widths) - 1) + [heads]
        self.time = TimeEmbedding(dim)
        self.label = Embedding(classes + 1, dim) if classes else None
        self.into = Conv2d(channels, top, 3, padding=1)
        self.down = [Level([w] * blocks, w, h, *shared) for w, h in zip(widths, heads_at, strict=True)]
        self.shrink = [Conv2d(n, m, 3, stride=2, padding=1) for n, m in zip(widths[:-1], widths[1:], strict=True)]
        self.middle = [Level([low], low, heads, *shared), Level([low], low, 0, *shared)]
        self.up = [Level([2 * w] * blocks, w, h, *shared) for w, h in zip(widths, heads_at, strict=True)][::-1]
        self.grow = [Conv2d(m, n, 3, padding=1) for n, m in zip(widths[:-1], widths[1:], strict=True)][::-1]
        self.norm, self.out = GroupNorm(groups, top), zero(Conv2d(top, channels, 3, padding=1))

    def forward(self, x: Any, t: Any, labels: Any = None) -> Tensor:
        x = self._images(x)
        e = silu(self._told(t, labels, len(x)))
        x = self.into(x)
        copies = []
        for i, down in enumerate(self.down):
            copies.append(down.down(self.shrink[i - 1](x) if i else x, e))
            x = copies[-1][-1]
        for middle in self.middle:
            x = middle.down(x, e)[-1]
        for i, up in enumerate(self.up):
            x = up.up(self.grow[i - 1](interpolate(x, scale_factor=2)) if i else x, copies.pop(), e)
        return self.out(silu(self.norm(x)))

    def _told(self, t: Any, labels: Any, rows: int) -> Tensor:
        """What every block is told: the time and, where there are classes, the class.  Shapes: (B,) → (B, dim)"""
        e = self.time(checked_times("UNet", t, rows))
        if (labels is None) != (self.label is None):
            asked = "labels (none is given as no_class)" if labels is None else "no labels: it was built with classes=0"
            raise ValueError(f"UNet expected {asked}")
        if self.label is None:
            return e
        if np.shape(labels) != (rows,):
            raise ValueError(f"UNet expected one label for each of {rows} images, got shape {np.shape(labels)}")
        return e + self.label(labels)

    def _images(self, x: Any) -> Tensor:
        x, factor = as_tensor(x), 2 ** (self.levels - 1)
        if x.ndim != 4 or x.shape[1] != self.channels or any(n == 0 or n % factor for n in x.shape[2:]):
            raise ValueError(
                f"UNet of {self.levels} levels expected x of shape (B, {self.channels}, H, W) with H and W multiples "
                f"of {factor}, got {x.shape}"
            )
        return x


def zero(module: Any) -> Any:
    """The layer with all its weights set to 0: what it adds begins as nothing."""
    for parameter in module.parameters():
        parameter.data[...] = 0
    return module


def checked_times(who: str, t: Any, rows: int) -> np.ndarray:
    """t as (B,). Raises ValueError for another shape, and for one time where each row needs its own."""
    t = t.data if isinstance(t, Tensor) else np.asarray(t)
    if t.shape != (rows,):
        raise ValueError(f"{who} expected a time for each of {rows} rows, shape ({rows},), got shape {t.shape}")
    return t
