"""The activations as modules of PyTorch's names, for `Sequential`; each only holds its function's options."""

from __future__ import annotations

from typing import Any

from scratch.activations.distributions import log_softmax, softmax
from scratch.activations.elementwise import elu, hardswish, leaky_relu, relu, relu6, sigmoid, silu, softplus, tanh
from scratch.activations.gaussian import gelu
from scratch.module import Module
from scratch.tensor import Tensor


class ReLU(Module):
    """`relu` in a Sequential."""

    def forward(self, x: Any) -> Tensor:
        return relu(x)


class LeakyReLU(Module):
    """`leaky_relu` in a Sequential."""

    def __init__(self, negative_slope: float = 0.01):
        self.negative_slope = negative_slope

    def forward(self, x: Any) -> Tensor:
        return leaky_relu(x, self.negative_slope)

    def extra_repr(self) -> str:
        return f"negative_slope={self.negative_slope}"


class ReLU6(Module):
    """`relu6` in a Sequential."""

    def forward(self, x: Any) -> Tensor:
        return relu6(x)


class Hardswish(Module):
    """`hardswish` in a Sequential."""

    def forward(self, x: Any) -> Tensor:
        return hardswish(x)


class ELU(Module):
    """`elu` in a Sequential."""

    def __init__(self, alpha: float = 1.0):
        self.alpha = alpha

    def forward(self, x: Any) -> Tensor:
        return elu(x, self.alpha)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}"


class Sigmoid(Module):
    """`sigmoid` in a Sequential."""

    def forward(self, x: Any) -> Tensor:
        return sigmoid(x)


class Tanh(Module):
    """`tanh` in a Sequential."""

    def forward(self, x: Any) -> Tensor:
        return tanh(x)


class SiLU(Module):
    """`silu` in a Sequential."""

    def forward(self, x: Any) -> Tensor:
        return silu(x)


class GELU(Module):
    """`gelu` in a Sequential."""

    def __init__(self, approximate: str = "none"):
        if approximate not in ("none", "tanh"):
            raise ValueError(f"GELU expected approximate='none' or 'tanh', got {approximate!r}")
        self.approximate = approximate

    def forward(self, x: Any) -> Tensor:
        return gelu(x, self.approximate)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


class Softplus(Module):
    """`softplus` in a Sequential."""

    def __init__(self, beta: float = 1.0, threshold: float = 20.0):
        self.beta, self.threshold = beta, threshold

    def forward(self, x: Any) -> Tensor:
        return softplus(x, self.beta, self.threshold)

    def extra_repr(self) -> str:
        return f"beta={self.beta}, threshold={self.threshold}"


class Softmax(Module):
    """`softmax` in a Sequential."""

    def __init__(self, dim: int):
        self.dim = dim

    def forward(self, x: Any) -> Tensor:
        return softmax(x, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class LogSoftmax(Module):
    """`log_softmax` in a Sequential."""

    def __init__(self, dim: int):
        self.dim = dim

    def forward(self, x: Any) -> Tensor:
        return log_softmax(x, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"
