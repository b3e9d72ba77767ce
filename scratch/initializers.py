"""Initial weights: one formula each, drawn so that signals neither fade nor explode from layer to layer.

With a weight of shape (out, in), y = W x has Var y = in · Var W · Var x, and going back
Var dx = out · Var W · Var dy. Xavier keeps both near 1, He keeps the first through ReLU, which halves the power.
A convolution's weight (out, in, k, …) counts in · k · … and out · k · … inputs and outputs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any

import numpy as np

from scratch.random import generator
from scratch.scope import Scope

# What a non-linearity does to the scale of a signal of variance 1 (PyTorch's table, torch.nn.init.calculate_gain).
GAINS = {"linear": 1.0, "sigmoid": 1.0, "tanh": 5 / 3, "relu": math.sqrt(2.0), "selu": 3 / 4}
GAINS |= {f"conv{transposed}{axes}d": 1.0 for transposed in ("", "_transpose") for axes in (1, 2, 3)}



class _Zeros:
    """Zeros in place of draws, at most `most` numbers in all."""

    def __init__(self, most: float):
        self.most, self.left = most, most

    def __call__(self, shape: Sequence[int], dtype: Any) -> np.ndarray:
        self.left -= math.prod(shape)
        if self.left < 0:
            raise ValueError(f"an array {tuple(shape)} makes the network larger than its weights can be: expected at "
                             f"most {self.most} numbers")  # fmt: skip
        return np.zeros(tuple(shape), dtype)


_zeros: ContextVar[_Zeros | None] = ContextVar("zeros", default=None)


def undrawn(most: float = math.inf) -> Scope:
    """Inside the block the initializers give zeros, at no cost: for a network whose weights come from a file.

    They raise ValueError, before the memory is taken, once they are asked for more than `most` numbers in all.
    """
    return Scope(_zeros, lambda: _Zeros(most))


def uniform(shape: Sequence[int], low: float = 0.0, high: float = 1.0, dtype: Any = np.float32) -> np.ndarray:
    """Numbers from U(low, high)."""
    if (zeros := _zeros.get()) is not None:
        return zeros(shape, dtype)
    return generator().uniform(low, high, tuple(shape)).astype(dtype)


def normal(shape: Sequence[int], mean: float = 0.0, std: float = 1.0, dtype: Any = np.float32) -> np.ndarray:
    """Numbers from N(mean, std²)."""
    if (zeros := _zeros.get()) is not None:
        return zeros(shape, dtype)
    return generator().normal(mean, std, tuple(shape)).astype(dtype)


def truncated_normal(
    shape: Sequence[int],
    mean: float = 0.0,
    std: float = 1.0,
    low: float = -2.0,
    high: float = 2.0,
    dtype: Any = np.float32,
) -> np.ndarray:
    """Numbers from N(mean, std²), drawn again where they fall outside low … high; PyTorch's trunc_normal_

    The bounds are values, not multiples of std: with PyTorch's defaults and std 0.02, next to nothing is cut off.
    Raises ValueError for bounds that hold less than a hundredth of the distribution.
    """
    inside = (math.erf((high - mean) / (std * math.sqrt(2))) - math.erf((low - mean) / (std * math.sqrt(2)))) / 2
    if not inside >= 0.01:
        raise ValueError(f"truncated_normal: only {inside:.2g} of N({mean}, {std}²) lies between {low} and {high}")
    if (zeros := _zeros.get()) is not None:
        return zeros(shape, dtype)
    rng = generator()
    x = rng.normal(mean, std, tuple(shape))
    while (outside := (x < low) | (x > high)).any():
        x[outside] = rng.normal(mean, std, int(outside.sum()))
    return x.astype(dtype)


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor by which weights before this non-linearity are widened; `param` is leaky ReLU's slope (0.01).

    Raises ValueError for an unknown name.
    """
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        return math.sqrt(2 / (1 + slope * slope))
    if nonlinearity not in GAINS:
        known = ", ".join(sorted([*GAINS, "leaky_relu"]))
        raise ValueError(f"calculate_gain expected one of {known}, got {nonlinearity!r}")
    return GAINS[nonlinearity]


def fans(shape: Sequence[int]) -> tuple[int, int]:
    """(inputs, outputs) that one unit of a weight (out, in, kernel…) is connected to. ValueError below two axes."""
    if len(shape) < 2:
        raise ValueError(f"expected a weight (out, in, ...) of at least two axes, got shape {tuple(shape)}")
    kernel = math.prod(shape[2:])
    return shape[1] * kernel, shape[0] * kernel


def xavier_uniform(shape: Sequence[int], gain: float = 1.0, dtype: Any = np.float32) -> np.ndarray:
    """U(−a, a), a = gain √(6 / (in + out))  (Glorot and Bengio 2010, eq. 16)"""
    bound = gain * math.sqrt(6 / sum(fans(shape)))
    return uniform(shape, -bound, bound, dtype)


def xavier_normal(shape: Sequence[int], gain: float = 1.0, dtype: Any = np.float32) -> np.ndarray:
    """N(0, σ²), σ = gain √(2 / (in + out))  (Glorot and Bengio 2010, eq. 12)"""
    return normal(shape, 0.0, gain * math.sqrt(2 / sum(fans(shape))), dtype)


def he_uniform(
    shape: Sequence[int],
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    dtype: Any = np.float32,
) -> np.ndarray:
    """U(−b, b), b = √3 σ with σ of `he_normal`  (He et al. 2015); PyTorch's kaiming_uniform_"""
    bound = math.sqrt(3.0) * _he_std(shape, a, mode, nonlinearity)
    return uniform(shape, -bound, bound, dtype)


def he_normal(
    shape: Sequence[int],
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    dtype: Any = np.float32,
) -> np.ndarray:
    """N(0, σ²), σ = gain / √fan, gain = √(2 / (1 + a²))  (He et al. 2015, eq. 15); PyTorch's kaiming_normal_

    Args: a: slope of a leaky ReLU behind the layer. mode: "fan_in" keeps the forward signal, "fan_out" the gradient.
    """
    return normal(shape, 0.0, _he_std(shape, a, mode, nonlinearity), dtype)


def orthogonal(shape: Sequence[int], gain: float = 1.0, dtype: Any = np.float32) -> np.ndarray:
    """gain · Q with orthonormal rows, or columns where there are fewer  (Saxe et al. 2014)

    Q comes from the QR decomposition of a normal matrix, columns signed so that R's diagonal is positive: only then
    is Q uniform over all orthogonal matrices (Mezzadri 2007).
    """
    fans(shape)
    rows, columns = shape[0], math.prod(shape[1:])
    a = generator().standard_normal((max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(a)
    q = q * np.sign(np.diag(r))
    q = q if rows >= columns else q.T
    return np.ascontiguousarray(gain * q, dtype=dtype).reshape(tuple(shape))


def _he_std(shape: Sequence[int], a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"mode must be 'fan_in' or 'fan_out', got {mode!r}")
    return calculate_gain(nonlinearity, a) / math.sqrt(fans(shape)[mode == "fan_out"])
