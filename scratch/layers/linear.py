"""The affine map: every output is a weighted sum of every input."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from scratch.activations.elementwise import floating
from scratch.blocks import product, products
from scratch.half import in_float32
from scratch.initializers import uniform
from scratch.module import Module
from scratch.sums import column_sums
from scratch.tensor import Parameter, Tensor, record


@in_float32
def linear(x: Any, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """y = x Wᵀ + b

    With N the product of all axes of x but the last, and everything seen as N rows:

        ∂L/∂x = dy W        ∂L/∂W = dyᵀ x        ∂L/∂b = Σ over the rows of dy

    Shapes: x (..., in), weight (out, in), bias (out,) → (..., out). Raises ValueError for an x of another last axis or
    of other than floating-point numbers.
    """
    x, W = floating("linear", x), weight.data
    if x.shape[-1:] != W.shape[1:]:
        raise ValueError(f"linear expected x of shape (..., {W.shape[1]}), got {x.shape}")
    rows = x.data.reshape(-1, W.shape[1])
    y = product(rows, W.T)
    if bias is not None:
        y += bias.data

    def backward(dy):
        dy = dy.reshape(-1, W.shape[0])
        dx = dW = None
        if x.requires_grad and weight.requires_grad:
            dx, dW = products((dy, W), (dy.T, rows))  # on a thread each, if they are large
        elif x.requires_grad:
            dx = product(dy, W)
        elif weight.requires_grad:
            dW = product(dy.T, rows)
        dx = None if dx is None else dx.reshape(x.shape)
        if bias is None:
            return dx, dW
        return dx, dW, column_sums(dy) if bias.requires_grad else None

    parents = (x, weight) if bias is None else (x, weight, bias)
    return record(y.reshape(*x.shape[:-1], W.shape[0]), parents, backward)


class Linear(Module):
    """y = x Wᵀ + b, with W and b drawn from U(−1/√in, 1/√in) as in PyTorch.

    Shapes: (..., in_features) → (..., out_features). Raises ValueError for another last axis.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True):
        if in_features < 1 or out_features < 1:
            raise ValueError(f"Linear expected sizes of at least 1, got {in_features} and {out_features}")
        bound = 1 / math.sqrt(in_features)
        self.in_features = in_features
        self.out_features = out_features
        self.weight = Parameter(uniform((out_features, in_features), -bound, bound))
        self.bias = Parameter(uniform((out_features,), -bound, bound)) if bias else None

    def forward(self, x: Any) -> Tensor:
        if np.shape(x)[-1:] != (self.in_features,):
            raise ValueError(f"{self!r} expected shape (..., {self.in_features}), got {np.shape(x)}")
        return linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
