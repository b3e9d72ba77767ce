"""Activations of each element: pieces of straight lines, then functions built of exponentials.

Three habits are for speed alone. A bound is `clip`'s, both ends given, or an array: NumPy's `clip` and its `maximum` of
two arrays are vectorised, `maximum` of an array and a number is not (3 to 4 times slower). A choice is a product with a
mask, or of bits, not `np.where`, whose branch the processor cannot predict (3 to 70 times slower on random signs). And
one array is made, then worked on in place: fresh memory costs more than the arithmetic. (It is made by `empty_like`
where `out=` follows, since NumPy's operators turn an array without axes into a number.)
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from scratch.half import in_float32
from scratch.tensor import Array, Tensor, as_tensor, record
from scratch.value import kept


def relu(x: Any) -> Tensor:
    """y = max(x, 0),  dy/dx = 1 where x > 0, else 0  (Nair and Hinton 2010)"""
    x = as_tensor(x)
    y = np.clip(x.data, 0, _highest(x), out=np.empty_like(x.data))

    def backward(dy):
        return (kept(dy, y != 0),)

    return record(y, (x,), backward)


def leaky_relu(x: Any, negative_slope: float = 0.01) -> Tensor:
    """y = x where x > 0, else a x;  dy/dx = 1 where x > 0, else a  (Maas et al. 2013; a = negative_slope)"""
    x, a = floating("leaky_relu", x), float(negative_slope)
    y = np.multiply(x.data, a, out=np.empty_like(x.data))
    (np.maximum if a <= 1 else np.minimum)(x.data, y, out=y)  # the steeper line lies above for x > 0 only

    def backward(dy):
        dx = (x.data > 0).astype(dy.dtype)
        dx *= 1 - a
        dx += a
        dx *= dy
        return (dx,)

    return record(y, (x,), backward)


def relu6(x: Any) -> Tensor:
    """y = min(max(x, 0), 6),  dy/dx = 1 where 0 < x < 6, else 0  (Howard et al. 2017)"""
    x = as_tensor(x)
    y = np.clip(x.data, 0, 6, out=np.empty_like(x.data))

    def backward(dy):
        return (kept(dy, (y != 0) & (y != 6)),)

    return record(y, (x,), backward)


@in_float32
def sigmoid(x: Any) -> Tensor:
    """y = σ(x) = 1 / (1 + e⁻ˣ),  dy/dx = y (1 − y)"""
    x = floating("sigmoid", x)
    y = _sigmoid(x.data)

    def backward(dy):
        dx = 1 - y
        dx *= y
        dx *= dy
        return (dx,)

    return record(y, (x,), backward)


@in_float32
def tanh(x: Any) -> Tensor:
    """y = tanh x,  dy/dx = 1 − y²"""
    x = floating("tanh", x)
    y = np.tanh(x.data)

    def backward(dy):
        dx = y * y
        dx *= -1
        dx += 1
        dx *= dy
        return (dx,)

    return record(y, (x,), backward)


@in_float32
def silu(x: Any) -> Tensor:
    """y = x σ(x),  dy/dx = σ + x σ (1 − σ) = σ + y (1 − σ)  (Elfwing et al. 2017; also called swish)"""
    x = floating("silu", x)
    s = _sigmoid(x.data)
    y = x.data * s

    def backward(dy):
        dx = 1 - s
        dx *= y
        dx += s
        dx *= dy
        return (dx,)

    return record(y, (x,), backward)


@in_float32
def hardswish(x: Any) -> Tensor:
    """y = x r / 6,  r = min(max(x + 3, 0), 6);  dy/dx = r / 6 + x / 6 where 0 < r < 6  (Howard et al. 2019)

    Swish with straight lines for the sigmoid. dy/dx jumps by ½ at ±3 and has the outer value there, 0 and 1.
    """
    x = floating("hardswish", x)
    r = np.add(x.data, 3, out=np.empty_like(x.data))
    np.clip(r, 0, 6, out=r)
    y = x.data * r
    y *= 1 / 6

    def backward(dy):
        dx = kept(x.data, (r != 0) & (r != 6))
        dx += r
        dx *= 1 / 6
        dx *= dy
        return (dx,)

    return record(y, (x,), backward)


@in_float32
def elu(x: Any, alpha: float = 1.0) -> Tensor:
    """y = max(x, 0) + n,  n = α (e^min(x, 0) − 1);  dy/dx = 1 where x > 0, else α eˣ = n + α  (Clevert et al. 2016)"""
    x, alpha = floating("elu", x), float(alpha)
    y = np.zeros_like(x.data)
    n = np.minimum(x.data, y, out=np.empty_like(y))
    np.expm1(n, out=n)
    n *= alpha
    np.maximum(x.data, y, out=y)
    y += n

    def backward(dy):
        dx = n + alpha
        if alpha != 1:
            dx += (1 - alpha) * (x.data > 0)
        dx *= dy
        return (dx,)

    return record(y, (x,), backward)


@in_float32
def softplus(x: Any, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """y = ln(1 + e^βx) / β = max(x, 0) + ln(1 + e^−|βx|) / β,  dy/dx = σ(βx) = 1 − e^−βy

    Above βx > threshold it is y = x, dy/dx = 1, as in PyTorch. The second form of y cannot overflow.
    """
    x, beta = floating("softplus", x), float(beta)
    if beta <= 0:
        raise ValueError(f"softplus expected beta > 0, got {beta}")
    y = np.abs(x.data, out=np.empty_like(x.data))
    y *= -beta
    np.exp(y, out=y)
    np.log1p(y, out=y)
    y *= 1 / beta
    y += np.maximum(x.data, np.zeros_like(y))
    straight = x.data > threshold / beta
    if straight.any():
        y = np.where(straight, x.data, y)

    def backward(dy):
        dx = np.expm1(y * -beta)
        dx *= -1
        if straight.any():
            dx = np.where(straight, 1, dx)
        dx *= dy
        return (dx,)

    return record(y, (x,), backward)


def _highest(x: Tensor) -> Any:
    """No bound: ∞, or for whole numbers, which have none, the largest one."""
    return math.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).max


def _sigmoid(x: Array) -> Array:
    with np.errstate(over="ignore"):  # e⁻ˣ = ∞ gives 1/∞ = 0, which is right
        y = np.negative(x, out=np.empty_like(x))
        np.exp(y, out=y)
    y += 1
    return np.divide(1, y, out=y)


def floating(who: Any, x: Any) -> Tensor:
    """x as a tensor; ValueError, naming the function or layer, unless it holds floating-point numbers."""
    x = as_tensor(x)
    if x.dtype.kind != "f":
        raise ValueError(f"{who} expected a floating-point input, got dtype {x.dtype}")
    return x
