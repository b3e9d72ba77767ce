"""Activations: functions of each element, and softmax. Each is one operation with its derivative right below.

Plain functions with PyTorch's arguments first; then, for `Sequential`, classes of PyTorch's names. All keep the
input's shape and dtype, and stay finite, without a warning, for inputs of ±1e4. A function that needs a
floating-point input raises ValueError for another.

Three habits are for speed alone. A bound is an array, not a number: NumPy's `maximum` of two arrays is vectorised,
that of an array and a number is not (4 times slower). A choice is a product with a mask, not `np.where`, whose
branch the processor cannot predict (4 to 18 times slower on random signs). And one array is made, then worked on in
place: fresh memory costs more than the arithmetic. (It is made by `empty_like` where `out=` follows, since NumPy's
operators turn an array without axes into a number.)
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from scratch.module import Module
from scratch.tensor import Array, Tensor, as_tensor, record

# -- pieces of straight lines ------------------------------------------------------------------------------------


def relu(x: Any) -> Tensor:
    """y = max(x, 0),  dy/dx = 1 where x > 0, else 0  (Nair and Hinton 2010)"""
    x = as_tensor(x)
    y = np.zeros_like(x.data)
    np.maximum(x.data, y, out=y)

    def backward(dy):
        return (dy * (y > 0),)

    return record(y, (x,), backward)


def leaky_relu(x: Any, negative_slope: float = 0.01) -> Tensor:
    """y = x where x > 0, else a x;  dy/dx = 1 where x > 0, else a  (Maas et al. 2013; a = negative_slope)"""
    x, a = _floating(x, "leaky_relu"), float(negative_slope)
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
    y = np.zeros_like(x.data)
    np.maximum(x.data, y, out=y)
    np.minimum(y, np.full_like(y, 6), out=y)

    def backward(dy):
        return (dy * ((y > 0) & (y < 6)),)

    return record(y, (x,), backward)


# -- built of exponentials ---------------------------------------------------------------------------------------


def sigmoid(x: Any) -> Tensor:
    """y = σ(x) = 1 / (1 + e⁻ˣ),  dy/dx = y (1 − y)"""
    x = _floating(x, "sigmoid")
    y = _sigmoid(x.data)

    def backward(dy):
        dx = 1 - y
        dx *= y
        dx *= dy
        return (dx,)

    return record(y, (x,), backward)


def tanh(x: Any) -> Tensor:
    """y = tanh x,  dy/dx = 1 − y²"""
    x = _floating(x, "tanh")
    y = np.tanh(x.data)

    def backward(dy):
        dx = y * y
        dx *= -1
        dx += 1
        dx *= dy
        return (dx,)

    return record(y, (x,), backward)


def silu(x: Any) -> Tensor:
    """y = x σ(x),  dy/dx = σ + x σ (1 − σ) = σ + y (1 − σ)  (Elfwing et al. 2017; also called swish)"""
    x = _floating(x, "silu")
    s = _sigmoid(x.data)
    y = x.data * s

    def backward(dy):
        dx = 1 - s
        dx *= y
        dx += s
        dx *= dy
        return (dx,)

    return record(y, (x,), backward)


def elu(x: Any, alpha: float = 1.0) -> Tensor:
    """y = max(x, 0) + n,  n = α (e^min(x, 0) − 1);  dy/dx = 1 where x > 0, else α eˣ = n + α  (Clevert et al. 2016)"""
    x, alpha = _floating(x, "elu"), float(alpha)
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


def softplus(x: Any, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """y = ln(1 + e^βx) / β = max(x, 0) + ln(1 + e^−|βx|) / β,  dy/dx = σ(βx) = 1 − e^−βy

    Above βx > threshold it is y = x, dy/dx = 1, as in PyTorch. The second form of y cannot overflow.
    """
    x, beta = _floating(x, "softplus"), float(beta)
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


# -- GELU --------------------------------------------------------------------------------------------------------


def gelu(x: Any, approximate: str = "none") -> Tensor:
    """y = x Φ(x),  dy/dx = Φ(x) + x φ(x)  (Hendrycks and Gimpel 2016), with φ and Φ the standard normal's density and
    distribution function: φ(x) = e^(−x²/2) / √(2π), Φ(x) = ½ (1 + erf(x/√2)).

    `approximate="tanh"` is GPT-2's form, see `_gelu_tanh`. Raises ValueError for another name.
    """
    x = _floating(x, "gelu")
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
BLOCK = 16384  # elements that are worked on at a time, so that the temporaries stay in the cache


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


# -- softmax -----------------------------------------------------------------------------------------------------


def softmax(x: Any, dim: int) -> Tensor:
    """yᵢ = e^xᵢ / Σⱼ e^xⱼ along `dim`,  ∂L/∂xᵢ = yᵢ (dyᵢ − Σⱼ dyⱼ yⱼ)

    The same for x − c with any number c. The largest x of all is the cheapest c that cannot overflow; where a row
    lies so far below it that its sum would lose digits, c is each row's own maximum.
    """
    x = _floating(x, "softmax", dim)
    y = x.data - x.data.max(initial=-math.inf)
    np.exp(y, out=y)
    total = _sum(y, dim)
    if not (total > 1e-12).all():
        y = x.data - x.data.max(axis=dim, keepdims=True)
        np.exp(y, out=y)
        total = _sum(y, dim)
    y /= total

    def backward(dy):
        dx = dy - _dot(dy, y, dim)
        dx *= y
        return (dx,)

    return record(y, (x,), backward)


def log_softmax(x: Any, dim: int) -> Tensor:
    """y = x − ln Σⱼ e^xⱼ along `dim`,  ∂L/∂xᵢ = dyᵢ − e^yᵢ Σⱼ dyⱼ"""
    x = _floating(x, "log_softmax", dim)
    y = x.data - x.data.max(axis=dim, keepdims=True)
    y -= np.log(_sum(np.exp(y), dim))

    def backward(dy):
        dx = np.exp(y)
        dx *= -_sum(dy, dim)
        dx += dy
        return (dx,)

    return record(y, (x,), backward)


# -- what they share ---------------------------------------------------------------------------------------------


def _sigmoid(x: Array) -> Array:
    with np.errstate(over="ignore"):  # e⁻ˣ = ∞ gives 1/∞ = 0, which is right
        y = np.negative(x, out=np.empty_like(x))
        np.exp(y, out=y)
    y += 1
    return np.divide(1, y, out=y)


def _sum(x: Array, dim: int) -> Array:
    """Σ x over one axis, which stays as 1; over short rows einsum's loop is three times as fast as `sum`."""
    if dim in (-1, x.ndim - 1):
        return np.einsum("...i->...", x)[..., None]
    return x.sum(axis=dim, keepdims=True)


def _dot(a: Array, b: Array, dim: int) -> Array:
    """Σ a b over one axis, which stays as 1."""
    if dim in (-1, a.ndim - 1):
        return np.vecdot(a, b)[..., None]
    return (a * b).sum(axis=dim, keepdims=True)


def _floating(x: Any, name: str, dim: int | None = None) -> Tensor:
    x = as_tensor(x)
    if x.dtype.kind != "f":
        raise ValueError(f"{name} expected a floating-point tensor, got dtype {x.dtype}")
    if dim is not None and not -x.ndim <= dim < x.ndim:
        raise ValueError(f"{name}: dim {dim} is out of range for shape {x.shape}")
    return x


# -- the same as modules -----------------------------------------------------------------------------------------


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
