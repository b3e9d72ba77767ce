"""DiT: a Transformer for a denoiser  (Peebles and Xie 2023)

What is different from the U-Net in `model.py`:

    the image is cut into patches, each of which becomes a token; there is one resolution, and there are no copies
    positions are sines in both directions, added once
    convolutions give way to self-attention between the patches and a perceptron for each
    the time and class are not added: they scale and shift what every norm gives out, and gate what every part adds

        e → (shift, scale, gate) for attention and for the perceptron               six vectors, 0 at first
        h ← h + gate₁ · attention((1 + scale₁) · norm(h) + shift₁)
        h ← h + gate₂ · mlp((1 + scale₂) · norm(h) + shift₂)

so that every block begins as the identity ("adaLN-zero").
"""

from __future__ import annotations

from typing import Any

import numpy as np

from scratch.activations import gelu, silu
from scratch.layers import Embedding, LayerNorm, Linear, packed_attention
from scratch.layers.positions.sinusoidal import clocks
from scratch.models.diffusion.model import TimeEmbedding, checked_times, zero
from scratch.module import Module
from scratch.tensor import Tensor, as_tensor


class Block(Module):
    """Attention between the patches and a perceptron for each, told by e.  Shapes: h (B, P, C), e (B, C) → (B, P, C)"""

    def __init__(self, dim: int, heads: int, wider: int = 4):
        self.heads = heads
        self.norm1 = LayerNorm(dim, elementwise_affine=False)
        self.norm2 = LayerNorm(dim, elementwise_affine=False)
        self.qkv, self.out = Linear(dim, 3 * dim), Linear(dim, dim)
        self.wide, self.narrow = Linear(dim, wider * dim), Linear(wider * dim, dim)
        self.told = zero(Linear(dim, 6 * dim))

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        B, _, C = h.shape
        told = self.told(e).reshape(B, 6, 1, C)
        shift1, scale1, gate1, shift2, scale2, gate2 = (told[:, i] for i in range(6))
        y = (1 + scale1) * self.norm1(h) + shift1
        h = h + gate1 * self.out(packed_attention(self.qkv(y), num_heads=self.heads))
        y = (1 + scale2) * self.norm2(h) + shift2
        return h + gate2 * self.narrow(gelu(self.wide(y), approximate="tanh"))


class DiT(Module):
    """ε̂(x_t, t[, class]) by a Transformer over patches.

    Shapes: x (B, channels, size, size), t (B,), labels (B,) → (B, channels, size, size).
    Raises ValueError for other images, and for a size that the patches do not divide.
    """

    def __init__(
        self, channels: int = 1, size: int = 28, patch: int = 4, dim: int = 96, depth: int = 4, heads: int = 4,
        classes: int = 0,
    ):  # fmt: skip
        if size % patch:
            raise ValueError(f"DiT expected patches that divide the image, got {patch} and {size}")
        self.channels, self.size, self.patch, self.no_class = channels, size, patch, classes
        numbers = channels * patch * patch
        self.time = TimeEmbedding(dim)
        self.label = Embedding(classes + 1, dim) if classes else None
        self.into = Linear(numbers, dim)
        self.blocks = [Block(dim, heads) for _ in range(depth)]
        self.norm, self.told = LayerNorm(dim, elementwise_affine=False), zero(Linear(dim, 2 * dim))
        self.out = zero(Linear(dim, numbers))
        rows = clocks(np.arange(size // patch), dim // 2, dtype=np.float64)
        n = len(rows)
        self.positions = np.concatenate([np.repeat(rows, n, axis=0), np.tile(rows, (n, 1))], axis=1)

    def forward(self, x: Any, t: Any, labels: Any = None) -> Tensor:
        x = as_tensor(x)
        if x.shape[1:] != (self.channels, self.size, self.size):
            raise ValueError(f"DiT expected x of shape (B, {self.channels}, {self.size}, {self.size}), got {x.shape}")
        if (labels is None) != (self.label is None):
            raise ValueError(f"DiT expected {'labels' if labels is None else 'no labels'}")
        e = self.time(checked_times("DiT", t, len(x)))
        e = silu(e if self.label is None else e + self.label(labels))
        h = self.into(self.cut(x)) + self.positions.astype(x.dtype)
        for block in self.blocks:
            h = block(h, e)
        shift, scale = (part.reshape(len(x), 1, -1) for part in halves(self.told(e)))
        return self.joined(self.out((1 + scale) * self.norm(h) + shift))

    def cut(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, patches, numbers of a patch), row by row."""
        B, C, n, p = len(x), self.channels, self.size // self.patch, self.patch
        return x.reshape(B, C, n, p, n, p).transpose(0, 2, 4, 1, 3, 5).reshape(B, n * n, C * p * p)

    def joined(self, patches: Tensor) -> Tensor:
        """The inverse of `cut`."""
        B, C, n, p = len(patches), self.channels, self.size // self.patch, self.patch
        return patches.reshape(B, n, n, C, p, p).transpose(0, 3, 1, 4, 2, 5).reshape(B, C, n * p, n * p)


def halves(x: Tensor) -> tuple[Tensor, Tensor]:
    """(B, 2C) → (B, C) twice."""
    C = x.shape[1] // 2
    return x[:, :C], x[:, C:]
