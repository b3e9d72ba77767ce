"""GELU, and the tail of the normal distribution that it is made of."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from scratch.activations.elementwise import floating
from scratch.half import in_float32
from scratch.tensor import Array, Tensor, record


@in_float32
def gelu(x: Any, approximate: str = "none") -> Tensor:
    """y = x Φ(x),  dy/dx = Φ(x) + x φ(x)  (Hendrycks and Gimpel 2016), with φ and Φ the standard normal's density and
    distribution function: φ(x) = e^(−x²/2) / √(2π), Φ(x) = ½ (1 + erf(x/√2)).

    `approximate="tanh"` is GPT-2's form, see `_gelu_tanh`. Raises ValueError for another name.
    """
    x = floating("gelu", x)
    if approximate == "tanh":
        return _gelu_tanh(x)
    if approximate != "none":
        raise ValueError(f"gelu expected approximate='none' or 'tanh', got {approximate!r}")
    tail, bell = normal_tail(x.data)
    cdf = np.abs(np.subtract(x.data > 0, tail, out=tail), out=tail)  # Φ = Q(|x|) below 0, 1 − Q(|x|) above
    y = x.data * cdf

    def backward(dy):
        dx = bell * (1 / math.sqrt(2 * math.pi))
        dx *= x.data
        dx += cdf
        dx *= dy
        return (dx,)

    return record(y, (x,), backward)


def _gelu_tanh(x: Tensor) -> Tensor:
    """y = x h,  h = ½ (1 + tanh u),  u = c (x + a x³),  c = √(2/π),  a = 0.044715

    dh/dx = ½ (1 − tanh² u) u′ = 2 h (1 − h) u′,  u′ = c (1 + 3a x²);  dy/dx = h + 2 y (1 − h) u′
    """
    c, a = math.sqrt(2 / math.pi), 0.044715
    h = np.multiply(x.data, x.data, out=np.empty_like(x.data))
    h *= c * a
    h += c
    h *= x.data
    np.tanh(h, out=h)
    h += 1
    h *= 0.5
    y = x.data * h

    def backward(dy):
        dx = x.data * x.data
        dx *= 6 * c * a
        dx += 2 * c
        dx *= y
        dx *= 1 - h
        dx += h
        dx *= dy
        return (dx,)

    return record(y, (x,), backward)


# The tail of the normal distribution: Q(a) = P(X > a) = e^(−a²/2) M(a). M, up to √(2π) Mills' ratio, falls gently from
# ½ to 1/(a √(2π)), so one quotient of polynomials with positive coefficients (nothing cancels) serves all a ≥ 0. They
# were fitted for this file in 60-digit arithmetic, by least squares reweighted towards equal errors (Lawson 1961).
# Coefficients run from a⁰ upward.
MILLS_32 = (
    (0.499999989, 0.325606102, 0.099783038, 0.01261905203),
    (1.0, 1.449095242, 0.855793167, 0.249407272, 0.03166010059),
)
MILLS_64 = (
    (
        0.5, 0.77497752796865247, 0.59419631723742552, 0.28943974011830464, 0.097747373187662818,
        0.023637073644462163, 0.0040924172939409849, 4.908645903795562e-4, 3.7294555895698723e-5,
        1.387483811307935e-6,
    ),
    (
        1.0, 2.3478396167401605, 2.5616976159134593, 1.7148601693130242, 0.78234138528823967, 0.25508751948026603,
        0.06047281679817458, 0.010351652477781272, 0.0012338929676100683, 9.348358829585144e-5,
        3.4779061520274496e-6,
    ),
)  # fmt: skip


FAR = 39.0  # where e^(−a²/2) has become 0 in float64; larger a would only overflow in the polynomials
# Elements that are worked on at a time, so that the temporaries stay near the cache. With 16,384 the calls were so
# short that two threads spent half of their time on handing Python's lock to each other (1.8 ms for 196,608; now 0.65).
BLOCK = 131072


def normal_tail(x: Array) -> tuple[Array, Array]:
    """Q(|x|) = ½ erfc(|x|/√2), and e^(−x²/2) beside it; NumPy has no erf.

    Relative error against math.erfc, measured: in float64 5e-15 for |x| ≤ 5, 4e-14 for |x| ≤ 14 (the rounding of
    x²/2, times x²/2); in float32 6e-7 for |x| ≤ 4, 1e-5 for |x| ≤ 8. Absolute: 2e-16 and 1.3e-7.
    """
    above, below = MILLS_64 if x.dtype == np.float64 else MILLS_32
    tail, bell = np.empty(x.shape, x.dtype), np.empty(x.shape, x.dtype)
    xs, tails, bells = x.reshape(-1), tail.reshape(-1), bell.reshape(-1)
    far = np.full(min(x.size, BLOCK), FAR, x.dtype)
    for start in range(0, x.size, BLOCK):
        block = slice(start, start + BLOCK)
        a, e = np.abs(xs[block]), bells[block]
        np.minimum(a, far[: a.size], out=a)
        np.multiply(a, a, out=e)
        e *= -0.5
        np.exp(e, out=e)
        q = _polynomial(above, a)
        q /= _polynomial(below, a)
        np.multiply(q, e, out=tails[block])
    return tail, bell


def _polynomial(coefficients: tuple[float, ...], x: Array) -> Array:
    """c₀ + c₁ x + c₂ x² + … by Horner's rule"""
    y = x * coefficients[-1]
    for c in coefficients[-2:0:-1]:
        y += c
        y *= x
    y += coefficients[0]
    return y
