"""The denoisers in PyTorch, told independently, with the same names of parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F


class TimeEmbedding(nn.Module):
    def __init__(self, dim: int):
        super().__init__()
        self.dim = dim
        self.first, self.second = nn.Linear(dim, dim), nn.Linear(dim, dim)

    def forward(self, t: torch.Tensor) -> torch.Tensor:
        speeds = 10000.0 ** (-torch.arange(0, self.dim, 2, dtype=torch.float64) / self.dim)
        angles = t[:, None].double() * speeds
        waves = torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)
        return self.second(F.silu(self.first(waves.to(self.first.weight.dtype))))


class MLPDenoiser(nn.Module):
    def __init__(self, features: int = 2, hidden: int = 128, layers: int = 3):
        super().__init__()
        self.time = TimeEmbedding(hidden)
        self.into = nn.Linear(features, hidden)
        for name in ("wide", "told", "back"):
            setattr(self, name, nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(layers)))
        self.out = nn.Linear(hidden, features)

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        e = F.silu(self.time(t))
        h = self.into(x)
        for wide, told, back in zip(self.wide, self.told, self.back, strict=True):
            h = h + back(F.silu(wide(h) + told(e)))
        return self.out(F.silu(h))


class ResidualBlock(nn.Module):
    def __init__(self, channels: int, out: int, dim: int, groups: int):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(groups, channels), nn.Conv2d(channels, out, 3, padding=1)
        self.told = nn.Linear(dim, out)
        self.norm2, self.conv2 = nn.GroupNorm(groups, out), nn.Conv2d(out, out, 3, padding=1)
        self.skip = nn.Identity() if channels == out else nn.Conv2d(channels, out, 1)

    def forward(self, x: torch.Tensor, e: torch.Tensor) -> torch.Tensor:
        h = self.conv1(F.silu(self.norm1(x))) + self.told(e)[:, :, None, None]
        return self.skip(x) + self.conv2(F.silu(self.norm2(h)))


class PixelAttention(nn.Module):
    def __init__(self, channels: int, heads: int, groups: int):
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(groups, channels)
        self.qkv, self.out = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(tokens).chunk(3, dim=-1))
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return x + self.out(y).transpose(1, 2).unflatten(-1, x.shape[2:])


class Level(nn.Module):
    def __init__(self, inputs: Sequence[int], out: int, heads: int, dim: int, groups: int):
        super().__init__()
        self.blocks = nn.ModuleList(ResidualBlock(n, out, dim, groups) for n in inputs)
        self.attention = nn.ModuleList(PixelAttention(out, heads, groups) if heads else nn.Identity() for _ in inputs)


class UNet(nn.Module):
    def __init__(
        self, channels: int = 1, widths: Sequence[int] = (32, 64, 128), blocks: int = 2, classes: int = 0,
        heads: int = 4, groups: int = 8,
    ):  # fmt: skip
        super().__init__()
        dim, n = 4 * widths[0], len(widths)
        at = [heads if i == n - 1 else 0 for i in range(n)]
        self.time = TimeEmbedding(dim)
        self.label = nn.Embedding(classes + 1, dim) if classes else None
        self.into = nn.Conv2d(channels, widths[0], 3, padding=1)
        self.down = nn.ModuleList(Level([w] * blocks, w, a, dim, groups) for w, a in zip(widths, at, strict=True))
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 3, 2, 1) for a, b in zip(widths[:-1], widths[1:], strict=True))
        self.middle = nn.ModuleList(Level([widths[-1]], widths[-1], a, dim, groups) for a in (heads, 0))
        self.up = nn.ModuleList(
            Level([2 * w] * blocks, w, a, dim, groups) for w, a in zip(widths[::-1], at[::-1], strict=True)
        )
        self.grow = nn.ModuleList(
            nn.Conv2d(b, a, 3, 1, 1) for a, b in zip(widths[-2::-1], widths[:0:-1], strict=True)
        )
        self.norm, self.out = nn.GroupNorm(groups, widths[0]), nn.Conv2d(widths[0], channels, 3, padding=1)

    def forward(self, x: torch.Tensor, t: torch.Tensor, labels: Any = None) -> torch.Tensor:
        e = self.time(t) if self.label is None else self.time(t) + self.label(labels)
        e, x, copies = F.silu(e), self.into(x), []
        for i, level in enumerate(self.down):
            x = self.shrink[i - 1](x) if i else x
            for block, attention in zip(level.blocks, level.attention, strict=True):
                x = attention(block(x, e))
                copies.append(x)
        for level in self.middle:
            x = level.attention[0](level.blocks[0](x, e))
        for i, level in enumerate(self.up):
            x = self.grow[i - 1](F.interpolate(x, scale_factor=2)) if i else x
            for block, attention in zip(level.blocks, level.attention, strict=True):
                x = attention(block(torch.cat([x, copies.pop()], dim=1), e))
        return self.out(F.silu(self.norm(x)))


class Block(nn.Module):
    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.wide, self.narrow = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.told = nn.Linear(dim, 6 * dim)

    def forward(self, h: torch.Tensor, e: torch.Tensor) -> torch.Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.told(e)[:, None].chunk(6, dim=-1)
        y = F.layer_norm(h, h.shape[-1:]) * (1 + scale1) + shift1
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(y).chunk(3, dim=-1))
        h = h + gate1 * self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        y = F.layer_norm(h, h.shape[-1:]) * (1 + scale2) + shift2
        return h + gate2 * self.narrow(F.gelu(self.wide(y), approximate="tanh"))


class DiT(nn.Module):
    def __init__(self, channels: int, size: int, patch: int, dim: int, depth: int, heads: int, classes: int):
        super().__init__()
        self.patch, numbers = patch, channels * patch * patch
        self.time = TimeEmbedding(dim)
        self.label = nn.Embedding(classes + 1, dim)
        self.into = nn.Linear(numbers, dim)
        self.blocks = nn.ModuleList(Block(dim, heads) for _ in range(depth))
        self.told, self.out = nn.Linear(dim, 2 * dim), nn.Linear(dim, numbers)
        speeds = 10000.0 ** (-torch.arange(0, dim // 2, 2, dtype=torch.float64) / (dim // 2))
        angles = torch.arange(size // patch)[:, None] * speeds
        rows = torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)
        n = len(rows)
        self.positions = torch.cat([rows[:, None].expand(n, n, -1), rows[None].expand(n, n, -1)], dim=-1).flatten(0, 1)

    def forward(self, x: torch.Tensor, t: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        e = F.silu(self.time(t) + self.label(labels))
        patches = F.unfold(x, self.patch, stride=self.patch).transpose(1, 2)
        h = self.into(patches) + self.positions.to(x)
        for block in self.blocks:
            h = block(h, e)
        shift, scale = self.told(e)[:, None].chunk(2, dim=-1)
        y = self.out(F.layer_norm(h, h.shape[-1:]) * (1 + scale) + shift)
        return F.fold(y.transpose(1, 2), x.shape[2:], self.patch, stride=self.patch)
