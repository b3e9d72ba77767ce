"""Spectral normalisation: every weight divided by its largest singular value, so that no layer stretches anything.

W as a matrix (out, everything else) stretches no vector by more than its largest singular value σ, so W/σ is
1-Lipschitz, and so is a chain of such layers with ReLU between them. u and v, the vectors that W stretches most, are
found by iteration, one step in each forward pass, since W moves little from one pass to the next:

    u ← W v / ‖W v‖        v ← Wᵀ u / ‖Wᵀ u‖        σ = uᵀ W v        y = W / σ

With u and v held fixed, σ is linear in W, ∂σ/∂W = u vᵀ, and

    ∂L/∂W = (dy − (Σ dy ⊙ y) u vᵀ) / σ

(the part of dy that would only stretch W is taken out). (Miyato et al. 2018, algorithm 1 and eq. 12)
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np

from scratch.activations.elementwise import floating
from scratch.initializers import normal
from scratch.layers import Conv2d, Linear, conv2d, linear
from scratch.module import Module
from scratch.parallel import in_main_thread
from scratch.tensor import Array, Buffer, Parameter, Tensor, record

Model = TypeVar("Model", bound=Module)


def divided_by_norm(weight: Tensor, u: Array, v: Array) -> Tensor:
    """y = W / σ,  σ = uᵀ W v, with u and v constant.  Shapes: weight (out, …), u (out,), v (the rest,) → as weight"""
    W = weight.data.reshape(len(u), -1)
    sigma = u @ W @ v
    y = W / sigma

    def backward(dy):
        dy = dy.reshape(W.shape)
        dW = dy - (dy * y).sum() * np.outer(u, v)
        return ((dW / sigma).reshape(weight.shape),)

    return record(y.reshape(weight.shape), (weight,), backward)


def power_iteration(W: Array, u: Array, v: Array, times: int, eps: float) -> tuple[Array, Array]:
    """(u, v) after so many steps towards the singular vectors of the largest singular value."""
    for _ in range(times):
        u = unit(W @ v, eps)
        v = unit(W.T @ u, eps)
    return u, v


def unit(x: Array, eps: float) -> Array:
    return x / max(float(np.sqrt(x @ x)), eps)


class SpectralNorm(Module):
    """A Linear or Conv2d whose weight is divided by its largest singular value; PyTorch's state keys and values.

    In training, every forward pass first takes `n_power_iterations` steps; in evaluation u and v stay. Where a step
    is cut into shards, all of them start from the same u and v, which move once, after the step.
    Shapes: the layer's. Raises ValueError for another kind of layer.
    """

    def __init__(self, layer: Linear | Conv2d, n_power_iterations: int = 1, eps: float = 1e-12):
        if not isinstance(layer, (Linear, Conv2d)) or n_power_iterations < 1:
            raise ValueError(
                f"spectral_norm expected a Linear or Conv2d and at least one iteration, got {type(layer).__name__} "
                f"and {n_power_iterations}"
            )
        self.times, self.eps = n_power_iterations, eps
        self.bias = layer.bias
        W = layer.weight.data.reshape(len(layer.weight), -1)
        u, v = (unit(normal((n,), dtype=W.dtype), eps) for n in W.shape)
        u, v = power_iteration(W, u, v, 15, eps)
        vectors = {"_u": Buffer(u), "_v": Buffer(v)}
        self.parametrizations: dict[str, Any] = {"weight": {"original": layer.weight, "0": vectors}}
        geometry = ("stride", "padding", "dilation", "groups")
        self.options = tuple(getattr(layer, name) for name in geometry) if isinstance(layer, Conv2d) else None

    @property
    def weight(self) -> Tensor:
        """W / σ; in training u and v take their step first."""
        weight: Parameter = self.parametrizations["weight"]["original"]
        u, v = self.parametrizations["weight"]["0"].values()
        if not self.training:
            return divided_by_norm(weight, u.data.copy(), v.data.copy())
        moved = power_iteration(weight.data.reshape(len(u), -1), u.data, v.data, self.times, self.eps)

        def keep() -> None:
            u.data[...], v.data[...] = moved

        in_main_thread(keep)
        return divided_by_norm(weight, *moved)

    def forward(self, x: Tensor) -> Tensor:
        x = floating("SpectralNorm", x)
        if self.options is None:
            return linear(x, self.weight, self.bias)
        return conv2d(x, self.weight, self.bias, *self.options)


def spectral_norm(model: Model) -> Model:
    """The model with every Linear and Conv2d inside wrapped in SpectralNorm, in place."""
    for module in list(model.modules()):
        for name, value in list(vars(module).items()):
            if isinstance(value, (Linear, Conv2d)):
                vars(module)[name] = SpectralNorm(value)
    return model
