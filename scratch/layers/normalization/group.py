"""Group norm: statistics of one example and a group of its channels, for images in batches too small for batch norm."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from scratch.activations.elementwise import floating
from scratch.layers.normalization.layer import affine
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
    N, C, G, eps = x.shape[0], x.shape[1], num_groups, float(eps)
    weight, bias = affine("group_norm", weight, bias, (C,), x)
    w = weight.data.reshape(G, C // G)
    grouped = x.data.reshape(N, G, C // G, math.prod(x.shape[2:]))
    m = grouped.shape[2] * grouped.shape[3]
    mean = np.einsum("ngcl->ng", grouped) / m
    centred = grouped - mean[:, :, None, None]
    sigma = np.sqrt(np.einsum("ngcl,ngcl->ng", centred, centred) / m + eps)[:, :, None]
    y = centred * (w / sigma)[..., None]
    y += bias.data.reshape(G, C // G, 1)

    def backward(dy):
        dy = dy.reshape(grouped.shape)
        sum_dy = np.einsum("ngcl->ngc", dy)
        sum_dy_x_hat = np.einsum("ngcl,ngcl->ngc", dy, centred) / sigma
        dx = None
        if x.requires_grad:
            mean_g = (sum_dy * w).sum(axis=2, keepdims=True) / m
            mean_g_x_hat = (sum_dy_x_hat * w).sum(axis=2, keepdims=True) / m
            dx = dy * (w / sigma)[..., None]
            dx -= (mean_g / sigma)[..., None]
            dx -= centred * (mean_g_x_hat / (sigma * sigma))[..., None]
            dx = dx.reshape(x.shape)
        dw = sum_dy_x_hat.sum(axis=0).reshape(C) if weight.requires_grad else None
        return dx, dw, sum_dy.sum(axis=0).reshape(C) if bias.requires_grad else None

    return record(y.reshape(x.shape), (x, weight, bias), backward)


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
