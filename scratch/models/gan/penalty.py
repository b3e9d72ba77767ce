"""The critic's slope as something to be trained: ∇ₓ D(x), written as a forward computation.

A penalty on the slope asks for the derivative, by the weights, of a derivative by x; the tape differentiates once. But
backpropagation is itself a chain of products that can be written down. For D(x) = W_L a(… a(W₁ x + b₁) …) + b_L,

    ∇ₓ D(x) = W₁ᵀ (s₁ ⊙ W₂ᵀ (s₂ ⊙ … W_Lᵀ 1))        sₗ = a′(hₗ),  hₗ the input of the l-th activation

and with a leaky ReLU the slopes s are 1 or a constant: they jump where h = 0 and do not change elsewhere, so that
their own derivative is 0 almost everywhere. What is left are products of weights, recorded on the tape as operations
like all others, and `backward()` through them gives the exact derivative of the slope. The biases move only the jumps,
and get nothing. A convolution's transpose is the transposed convolution with the same weight.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from scratch.activations import LeakyReLU, ReLU
from scratch.layers import Conv2d, Flatten, Linear, conv_transpose2d
from scratch.module import Module, Sequential
from scratch.tensor import Tensor, no_grad, record

Step = Callable[[Tensor], Tensor]


def input_gradient(net: Sequential, x: Any) -> Tensor:
    """∂ Σ D(x) / ∂x for every row, on the tape: backward() through it reaches the weights.

    Shapes: x (B, …), what `net` takes → the same. Raises ValueError for a layer whose slope changes with the weights
    or that couples rows (batch norm): the form above is not exact for it.
    """
    with no_grad():  # the values only decide the slopes, which are constants
        h, back = Tensor(np.asarray(x.data if isinstance(x, Tensor) else x)), []
        for layer in net:
            back.append(transposed(layer, h))
            h = layer(h)
    g = Tensor(np.ones_like(h.data))
    for step in reversed(back):
        g = step(g)
    return g


def transposed(layer: Module, h: Tensor) -> Step:
    """The map from ∂L/∂(layer's output) to ∂L/∂(its input h), as operations of the tape."""
    if isinstance(layer, Linear):
        return lambda g: g @ layer.weight
    if isinstance(layer, Conv2d) and not isinstance(layer.padding, str):
        return _transposed_convolution(layer, h.shape[2:])
    if isinstance(layer, (ReLU, LeakyReLU)):
        slope = layer.negative_slope if isinstance(layer, LeakyReLU) else 0.0
        slopes = np.where(h.data > 0, 1, slope).astype(h.dtype)
        return lambda g: g * slopes
    if isinstance(layer, Flatten):
        return lambda g: g.reshape(h.shape)
    raise ValueError(
        f"input_gradient expected layers of constant slope (Linear, Conv2d with a number as padding, LeakyReLU, ReLU, "
        f"Flatten), got {layer!r}"
    )


def _transposed_convolution(layer: Conv2d, size: tuple[int, ...]) -> Step:
    """The rows and columns at the far edge that no kernel reached, where stride leaves some, get a slope of 0."""
    reached = [
        (n + 2 * p - d * (k - 1) - 1) // s * s + d * (k - 1) + 1 - 2 * p
        for n, p, d, k, s in zip(size, layer.padding, layer.dilation, layer.kernel_size, layer.stride, strict=True)
    ]
    left = tuple(n - m for n, m in zip(size, reached, strict=True))
    return lambda g: conv_transpose2d(
        g, layer.weight, None, layer.stride, layer.padding, left, layer.groups, layer.dilation
    )


def row_norms(g: Tensor) -> Tensor:
    """n = √Σ g² of each row,  ∂n/∂g = g / n (0 where n = 0, as in PyTorch).  Shapes: (B, …) → (B,)"""
    rows = g.data.reshape(len(g), -1)
    n = np.sqrt((rows * rows).sum(axis=1))

    def backward(dy):
        scale = np.divide(dy, n, out=np.zeros_like(n), where=n > 0)
        return ((scale[:, None] * rows).reshape(g.shape),)

    return record(n, (g,), backward)


def slope(critic: Any, x: Any, labels: Any = None) -> Tensor:
    """∇ₓ D(x) of a discriminator of model.py; where it is told the class too, by x alone.  Shapes: x → the same"""
    with no_grad():
        joined = critic.joined(x, labels)
    g = input_gradient(critic.net, joined)
    return g if g.shape == np.shape(x) else g[:, : np.shape(x)[1]]


def gradient_penalty(critic: Any, x: Any, labels: Any = None) -> Tensor:
    """(‖∇ₓ D(x)‖ − 1)² of each row, two-sided  (Gulrajani et al. 2017, eq. 3).  Shapes: x (B, …) → (B,)

    x lies between real and fake rows, see `between`. A 1-Lipschitz critic that tells two distributions apart best has
    slope 1 almost everywhere on the lines that carry one to the other, hence 1 and not "at most 1".
    """
    off = row_norms(slope(critic, x, labels)) - 1
    return off * off


def r1_penalty(critic: Any, x: Any, labels: Any = None) -> Tensor:
    """½ ‖∇ₓ D(x)‖² of each row of real x  (Mescheder et al. 2018, eq. 9, without γ).  Shapes: x (B, …) → (B,)

    Where the fake data are the real ones, it leaves the discriminator at rest only if it is flat there.
    """
    g = slope(critic, x, labels)
    return 0.5 * (g * g).reshape(len(g), -1).sum(axis=1)


def between(real: np.ndarray, fake: np.ndarray, t: np.ndarray) -> np.ndarray:
    """t x + (1 − t) x̂, for each row a t of its own.  Shapes: (B, …), (B, …), (B,) → (B, …)"""
    t = t.reshape(-1, *[1] * (real.ndim - 1)).astype(real.dtype)
    return t * real + (1 - t) * fake


def clip_weights(critic: Module, limit: float) -> None:
    """Every weight and bias held in −limit … limit  (Arjovsky et al. 2017, algorithm 1, line 7)

    It bounds the slope, but by a number that nobody knows, and pushes the weights to the two bounds.
    """
    for parameter in critic.parameters():
        np.clip(parameter.data, -limit, limit, out=parameter.data)
