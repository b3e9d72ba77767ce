"""Dropout: noise that keeps units from relying on one another."""

from __future__ import annotations

from typing import Any

import numpy as np

from scratch.activations.elementwise import floating
from scratch.module import Module
from scratch.random import generator
from scratch.tensor import Tensor, record


def dropout(x: Any, p: float = 0.5, training: bool = True) -> Tensor:
    """y = x · m / (1 − p), each mᵢ 0 with probability p, else 1  (Srivastava et al. 2014, inverted: E y = x)

        ∂L/∂x = dy · m / (1 − p)

    Shapes: any → the same. Not training: x itself. The noise comes from `scratch.random.generator()`, one generator a
    call. Raises ValueError for p outside 0 … 1, and for an x that does not hold floating-point numbers.
    """
    x = floating("dropout", x)
    check_probability("dropout", p)
    if not training or p == 0:
        return x
    return _times(x, noise(x.shape, p, x.dtype))


def dropout2d(x: Any, p: float = 0.5, training: bool = True) -> Tensor:
    """y = x · m / (1 − p), each m_nc, for a whole channel, 0 with probability p, else 1  (Tompson et al. 2015)

    Neighbouring pixels tell the same, so that dropping single ones would hide little.
    Shapes: (N, C, H, W) → the same. Otherwise, noise and errors included, as `dropout`.
    """
    x = floating("dropout2d", x)
    check_probability("dropout2d", p)
    if x.ndim != 4:
        raise ValueError(f"dropout2d expected shape (N, C, H, W), got {x.shape}")
    if not training or p == 0:
        return x
    return _times(x, noise((*x.shape[:2], 1, 1), p, x.dtype))


def noise(shape: tuple[int, ...], p: float, dtype: Any) -> np.ndarray:
    """m / (1 − p): 0 with probability p, else 1 / (1 − p)."""
    return np.multiply(_keep(shape, 1 - p), 1 / (1 - p) if p < 1 else 0.0, dtype=dtype)


def _times(x: Tensor, mask: np.ndarray) -> Tensor:
    def backward(dy):
        return (dy * mask,)

    return record(x.data * mask, (x,), backward)


class Dropout(Module):
    """Each element set to 0 with probability p while training, the others divided by 1 − p.

    Shapes: any → the same. Raises ValueError for p outside 0 … 1.
    """

    def __init__(self, p: float = 0.5):
        check_probability(type(self).__name__, p)
        self.p = float(p)

    def forward(self, x: Any) -> Tensor:
        return dropout(x, self.p, self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}"


class Dropout2d(Dropout):
    """Each channel of each image set to 0 with probability p while training, the others divided by 1 − p.

    Shapes: (N, C, H, W) → the same. Raises ValueError for other ranks, and for p outside 0 … 1.
    """

    def forward(self, x: Any) -> Tensor:
        if np.ndim(x) != 4:
            raise ValueError(f"{self!r} expected shape (N, C, H, W), got {np.shape(x)}")
        return dropout2d(x, self.p, self.training)


def _keep(shape: tuple[int, ...], probability: float) -> np.ndarray:
    """Booleans that are True with this probability, to within 2⁻¹⁷.

    16 random bits decide an element: a 64-bit draw serves four of them, so that this takes a third of the time of
    comparing uniform float32 numbers.
    """
    n = int(np.prod(shape))
    bits = generator().bit_generator.random_raw((n + 3) // 4).view(np.uint16)[:n]
    return (bits < round(probability * 2**16)).reshape(shape)


def check_probability(who: str, p: float) -> None:
    if not 0 <= p <= 1:
        raise ValueError(f"{who} expected a probability from 0 to 1, got {p}")
