"""Group norm: statistics of one example and a group of its channels, for images in batches too small for batch norm."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from scratch.activations.elementwise import floating
from scratch.half import in_float32
from scratch.layers.normalization.layer import affine
from scratch.layers.normalization.rows import rows_of
from scratch.module import Module
from scratch.tensor import Parameter, Tensor, record


def group_norm(
    x: Any, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """y = w x̂ + b,  x̂ = (x − μ) / σ,  σ = √(var + eps), μ and var of a group of channels  (Wu and He 2018)

    One group is a layer norm over all of (C, *), C groups are the instance norm. For a group of m numbers, g = w dy:

        ∂L/∂x = (g − mean g − x̂ · mean(g x̂)) / σ        ∂L/∂w = Σ dy x̂        ∂L/∂b = Σ dy

    w and b are the same for a whole channel, so every sum is taken per channel first: Σ g = Σ over channels of w Σ dy.
    Shapes: x (N, C, *), weight and bias (C,) → as x. Raises ValueError for channels that the groups do not divide.
    """
    x = floating("group_norm", x)
    _check("group_norm", x, num_groups)
    weight, bias = affine("group_norm", weight, bias, (x.shape[1],), x)
    return norm_by_group(x, num_groups, weight, bias, float(eps))[0]


@in_float32
def norm_by_group(x: Tensor, G: int, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, np.ndarray, np.ndarray]:
    """`group_norm`; also μ and var (biased) of each group, repeated for its channels: (N, C)."""
    N, C = x.shape[:2]
    m = C // G * math.prod(x.shape[2:])
    rows, w = rows_of(x.data, by_example=True), weight.data
    spread, values = rows.spread, rows.view(x.data)

    def over_group(sums):
        """Sums of the channels (N, C) → the mean over a channel's group, (N, C)."""
        return np.repeat(sums.reshape(N, G, C // G).sum(axis=2) / m, C // G, axis=1)

    mean = over_group(rows.sum(values))
    y = values - spread(mean)
    var = over_group(rows.dot(y, y))
    sigma = np.sqrt(var + eps)
    y *= spread(w / sigma)
    y += spread(bias.data)

    def backward(dy):
        dy = rows.view(dy)
        dx = values - spread(mean)
        sum_dy, sum_dy_x_hat = rows.sum(dy), rows.dot(dy, dx) / sigma
        dw = sum_dy_x_hat.sum(axis=0) if weight.requires_grad else None
        db = sum_dy.sum(axis=0) if bias.requires_grad else None
        if not x.requires_grad:
            return None, dw, db
        dx *= spread(over_group(w * sum_dy_x_hat) / (sigma * sigma))
        dx += spread(over_group(w * sum_dy) / sigma)
        np.subtract(dy * spread(w / sigma), dx, out=dx)
        return rows.restore(dx), dw, db

    return record(rows.restore(y), (x, weight, bias), backward), mean, var


class GroupNorm(Module):
    """Groups of channels brought to mean 0 and variance 1, then each channel scaled (by 1) and shifted (by 0).

    Shapes: (N, num_channels, *) → the same. Raises ValueError for other channels, and if the groups don't divide them.
    """

    def __init__(
        self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True, *, bias: bool = True
    ):
        if num_groups < 1 or num_channels < 1 or num_channels % num_groups:
            raise ValueError(f"GroupNorm expected num_groups to divide {num_channels} channels, got {num_groups}")
        self.num_groups = num_groups
        self.num_channels = num_channels
        self.eps = float(eps)
        self.affine = affine
        self.weight = Parameter(np.ones(num_channels, np.float32)) if affine else None
        self.bias = Parameter(np.zeros(num_channels, np.float32)) if affine and bias else None

    def forward(self, x: Any) -> Tensor:
        if np.ndim(x) < 2 or np.shape(x)[1] != self.num_channels:
            raise ValueError(f"{self!r} expected shape (N, {self.num_channels}, *), got {np.shape(x)}")
        return group_norm(x, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        rest = f"affine={self.affine}, bias={self.bias is not None}"
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, {rest}"


def _check(who: str, x: Tensor, num_groups: int) -> None:
    if x.ndim < 2 or num_groups < 1 or x.shape[1] % num_groups:
        raise ValueError(f"{who} expected (N, C, *) with C divisible by {num_groups} groups, got {x.shape}")
